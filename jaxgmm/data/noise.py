"""Errors of known variances or covariances."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxgmm.numerics.factors import cholesky
from jaxgmm.numerics.linalg import product


def variances_of(noise: Array) -> Array:
    """The variances of errors, (N, D), from these or from covariances, (N, D, D)."""
    return noise if noise.ndim == 2 else jnp.diagonal(noise, axis1=1, axis2=2)


def errors(normal: Array, noise: Array) -> Array:
    """Errors (N, D) of variances (N, D) or covariances (N, D, D), from standard normal draws; 0 where infinite."""
    if noise.ndim == 2:
        return normal * jnp.sqrt(jnp.where(jnp.isfinite(noise), noise, 0.0))
    variances = variances_of(noise)
    there = jnp.isfinite(variances)
    noise = jnp.where(there[:, :, None] & there[:, None, :], noise, 0.0)
    scale = jnp.max(jnp.where(there, variances, 0.0), axis=1)
    floor = float(jnp.finfo(noise.dtype).eps) * noise.shape[1] * jnp.where(scale > 0, scale, 1.0)
    padded = noise + floor[:, None, None] * jnp.eye(noise.shape[1], dtype=noise.dtype)[None]
    return product("nij,nj->ni", cholesky(padded), normal)
