"""Small dense linear algebra that the rest relies on."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

HIGHEST = lax.Precision.HIGHEST


def safe_cholesky(matrices: Array, floor: Array) -> Array:
    """Cholesky factors of symmetric matrices that may be singular to rounding.

    The factor is taken of the correlation matrix, so that it succeeds at any scale. Variances below
    `floor` are raised to it. Where the correlation is singular to rounding, 2·D·eps is added to its
    diagonal, about what its own rounding amounts to.

    Args:
        matrices: symmetric, (..., D, D).
        floor: smallest variances to keep, (D,).

    Returns:
        Lower triangular factors, (..., D, D); NaN where a matrix holds one.
    """
    n_features = matrices.shape[-1]
    diagonal = jnp.diagonal(matrices, axis1=-2, axis2=-1)
    scale = jnp.sqrt(jnp.maximum(diagonal, jnp.broadcast_to(floor, diagonal.shape)))
    eye = jnp.broadcast_to(jnp.eye(n_features, dtype=bool), matrices.shape)
    correlation = matrices / scale[..., :, None] / scale[..., None, :]
    correlation = jnp.where(eye, 1.0, correlation)
    attempt = lax.linalg.cholesky(lax.stop_gradient(correlation), symmetrize_input=False)
    failed = ~jnp.all(jnp.isfinite(attempt), axis=(-2, -1), keepdims=True)
    jitter = 2 * n_features * float(jnp.finfo(matrices.dtype).eps)
    correlation = jnp.where(eye & failed, 1.0 + jitter, correlation)
    return lax.linalg.cholesky(correlation, symmetrize_input=False) * scale[..., :, None]


def inverse_lower(factors: Array) -> Array:
    """Inverses of lower triangular matrices, (..., D, D)."""
    eye = jnp.broadcast_to(jnp.eye(factors.shape[-1], dtype=factors.dtype), factors.shape)
    return lax.linalg.triangular_solve(factors, eye, left_side=True, lower=True)


def product(equation: str, *operands: Array) -> Array:
    """`jnp.einsum` at full precision: TF32 would lose three digits on a GPU."""
    return jnp.einsum(equation, *operands, precision=HIGHEST)


def lower_factor(rows: Array) -> Array:
    """Lower triangular L, (..., d, d), with L Lᵀ = rows rowsᵀ, by a QR factorisation.

    Args:
        rows: (..., d, D), d ≤ D.
    """
    upper = jnp.linalg.qr(jnp.swapaxes(rows, -2, -1), mode="r")
    lower = jnp.swapaxes(upper, -2, -1)
    sign = jnp.where(jnp.diagonal(lower, axis1=-2, axis2=-1) < 0, -1.0, 1.0).astype(rows.dtype)
    return lower * sign[..., None, :]


def excess(ratio: Array) -> Array:
    """½(t² − 1 − 2 log t), the divergence between two scales, exact near t = 1."""
    e = ratio - 1
    return 0.5 * e**2 + (e - jnp.log1p(e))


def finite(tree) -> Array:
    """Whether every number in a pytree is finite, ()."""
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(leaves))


def varying_as(tree: Any, anchor: Array) -> Any:
    """The same numbers, told to vary over a mesh as `anchor` () does.

    Under `shard_map` a loop's carry must vary over the same axes before and after, and constants vary over none.
    """
    return jax.tree.map(lambda leaf: jnp.where(anchor == anchor, leaf, leaf), tree)
