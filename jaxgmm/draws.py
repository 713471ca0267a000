"""Draws of rows by inverse CDF over their weights: rows of weight zero change none."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgmm._linalg import varying_as
from jaxgmm.data import Rows

MOST_ROWS = 1 << 16
"""Rows that a start looks at: of larger data, as many are drawn, and each restart draws its own."""


def thinned(key: Array, data: Rows) -> Rows:
    """`MOST_ROWS` rows, drawn systematically: one for each equal share of the mass (Madow & Madow 1944)."""
    cumulative = _cumulative(data.weights)
    shift = jax.random.uniform(key, (), data.x.dtype)
    shares = (jnp.arange(MOST_ROWS, dtype=data.x.dtype) + shift) / MOST_ROWS
    rows = _find(shares, cumulative)
    # A heavy row holds several shares: it stands once, with all their mass.
    first, beyond = (jnp.searchsorted(rows, rows, side=side) for side in ("left", "right"))
    n_shares = jnp.where(first == jnp.arange(MOST_ROWS, dtype=first.dtype), beyond - first, 0)
    return Rows(data.x[rows], n_shares.astype(data.x.dtype) * (cumulative[-1] / MOST_ROWS))


def index(uniform: Array, mass: Array) -> Array:
    """The index whose share of the mass holds `uniform` in [0, 1), by inverse CDF.

    A parallel sum rounds each entry in its own way: the running maximum over rows with mass keeps the CDF
    monotone, and leaves no share to a row without.
    """
    return _find(uniform, _cumulative(mass))


def _cumulative(mass: Array) -> Array:
    return lax.cummax(jnp.where(mass != 0, jnp.cumsum(mass), 0.0))


def _find(uniform: Array, cumulative: Array) -> Array:
    below = 1 - float(jnp.finfo(cumulative.dtype).eps)
    target = jnp.minimum(uniform, below) * cumulative[-1]
    return jnp.minimum(jnp.searchsorted(cumulative, target, side="right"), cumulative.shape[0] - 1)


def different_rows(key: Array, weights: Array, n_draws: int) -> Array:
    """Indices of different rows, (n_draws,), each drawn with probability in proportion to its weight."""
    uniforms = jax.random.uniform(key, (n_draws,), weights.dtype)

    def draw(left: Array, uniform: Array) -> tuple[Array, Array]:
        drawn = index(uniform, left)
        return left.at[drawn].set(0.0), drawn

    return lax.scan(draw, varying_as(weights, uniforms[0]), uniforms)[1]
