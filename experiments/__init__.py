"""Runnable studies and benchmarks, on real data."""
