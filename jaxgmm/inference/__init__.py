"""Inference: standard errors, the bootstrap, influence, and fits as functions of their data."""
