"""Copies of recordings that do not say whose they are: no metadata, random names, masked pixels, the same times."""
