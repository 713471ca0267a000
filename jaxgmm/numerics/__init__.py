"""Numerics: linear algebra, factors of covariances, rows in chunks; independent of mixtures."""
