"""Benchmark, judges, evidence audit."""
