"""Numerics: linear algebra, factors of covariances, rows in chunks. Nothing here knows a mixture."""
