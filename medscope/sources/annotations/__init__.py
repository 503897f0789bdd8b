"""Annotation formats: readers of many, writers of those in which clinicians review."""
