"""Families: constraints on the covariances."""
