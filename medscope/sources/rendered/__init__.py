"""Procedures drawn by a program: a source whose ground truth is exact."""
