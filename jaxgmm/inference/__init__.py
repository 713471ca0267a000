"""Inference: what a fit says of the truth, and how it depends on the rows."""
