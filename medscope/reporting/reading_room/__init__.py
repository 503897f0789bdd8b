"""The parts of explore.ipynb: the videos that can be chosen, the readings of an answer, the corrections of a reader."""
