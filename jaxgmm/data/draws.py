"""Random draws of rows by the inverse CDF of their weights: rows of weight 0 change no draw."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgmm.numerics.linalg import varying_as

MOST_ROWS = 1 << 16
"""The most rows that starts and explanations are computed from: of larger data so many are drawn, by weight."""


def thinned(key: Array, x: Array, weights: Array, most: int) -> tuple[Array, Array]:
    """So many rows and weights, drawn systematically: one for each equal share of the mass (Madow & Madow 1944)."""
    # The running maximum keeps the sums monotone, and leaves no share to a row without weight.
    cumulative = lax.cummax(jnp.where(weights != 0, jnp.cumsum(weights), 0.0))
    shift = jax.random.uniform(key, (), weights.dtype)
    shares = (jnp.arange(most, dtype=weights.dtype) + shift) / most
    rows = jnp.searchsorted(cumulative, _target(shares, cumulative[-1]), side="right")
    # A heavy row holds several shares: it stands once, with all their mass.
    first, beyond = (jnp.searchsorted(rows, rows, side=side) for side in ("left", "right"))
    n_shares = jnp.where(first == jnp.arange(most, dtype=first.dtype), beyond - first, 0)
    return x[rows], n_shares.astype(weights.dtype) * (cumulative[-1] / most)


def index(uniform: Array, mass: Array) -> Array:
    """The index of the entry whose share of the total mass contains `uniform`, in [0, 1), by inverse CDF.

    A parallel sum rounds each entry in its own way, so only entries with mass are compared: one without is never drawn.
    A binary search would compare fewer, but needs their running maximum, which takes longer to compile.
    """
    cumulative = jnp.where(mass != 0, jnp.cumsum(mass), 0.0)
    return jnp.argmax(cumulative > _target(uniform, jnp.max(cumulative)))


def _target(uniform: Array, total: Array) -> Array:
    """The cumulative mass that a uniform number stands for, always below the total."""
    return jnp.minimum(uniform, 1 - float(jnp.finfo(total.dtype).eps)) * total


def different_rows(key: Array, weights: Array, n_draws: int) -> Array:
    """Indices of different rows, (n_draws,), drawn one by one with probabilities in proportion to their weights."""
    uniforms = jax.random.uniform(key, (n_draws,), weights.dtype)

    def draw(left: Array, uniform: Array) -> tuple[Array, Array]:
        drawn = index(uniform, left)
        return left.at[drawn].set(0.0), drawn

    return lax.scan(draw, varying_as(weights, uniforms[0]), uniforms)[1]
