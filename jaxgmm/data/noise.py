"""Errors of known variances or covariances."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxgmm.numerics.factors import cholesky
from jaxgmm.numerics.linalg import product


def variances_of(noise: Any) -> Any:
    """The variances of errors, (N, D), from these or from covariances, (N, D, D), in NumPy or JAX."""
    return noise if noise.ndim == 2 else noise.diagonal(axis1=1, axis2=2)


def errors(normal: Array, noise: Array) -> Array:
    """Errors (N, D) of variances (N, D) or covariances (N, D, D), from standard normal draws; 0 where infinite."""
    if noise.ndim == 2:
        return normal * jnp.sqrt(jnp.where(jnp.isfinite(noise), noise, 0.0))
    variances = variances_of(noise)
    there = jnp.isfinite(variances)
    deviations = jnp.sqrt(jnp.where(there, variances, 0.0))
    unit = jnp.where(deviations > 0, deviations, 1.0)
    held = jnp.where(there[:, :, None] & there[:, None, :], noise, 0.0) / unit[:, :, None] / unit[:, None, :]
    # Of correlations, and raised by their rounding error: a singular covariance has a factor too.
    rounding = float(jnp.finfo(noise.dtype).eps) * noise.shape[1]
    factors = cholesky(held + rounding * jnp.eye(noise.shape[1], dtype=noise.dtype)[None])
    return deviations * product("nij,nj->ni", factors, normal)
