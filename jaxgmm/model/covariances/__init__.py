"""Representations of covariances: what density, sampling and algebra know."""
