"""Benchmarks, run by hand: one script a question, each printing a table and writing JSON and a picture."""
