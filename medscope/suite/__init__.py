"""ClinVideoSuite: captions, questions with evidence, and trajectories made by a teacher that really calls the tools."""
