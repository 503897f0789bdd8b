"""ClinVideoSuite in the forms of other tools."""
