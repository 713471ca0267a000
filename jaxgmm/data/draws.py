"""Draws of rows by inverse CDF over their weights: rows of weight zero change none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxgmm.data.rows import Rows
from jaxgmm.numerics.linalg import varying_as

MOST_ROWS = 1 << 16
"""Rows that a start looks at: of larger data, as many are drawn, and each restart draws its own."""


def thinned(key: Array, data: Rows) -> Rows:
    """`MOST_ROWS` rows, drawn systematically: one for each equal share of the mass (Madow & Madow 1944)."""
    # The running maximum keeps the sums monotone, and leaves no share to a row without weight.
    cumulative = lax.cummax(jnp.where(data.weights != 0, jnp.cumsum(data.weights), 0.0))
    shift = jax.random.uniform(key, (), data.x.dtype)
    shares = (jnp.arange(MOST_ROWS, dtype=data.x.dtype) + shift) / MOST_ROWS
    rows = jnp.searchsorted(cumulative, _target(shares, cumulative[-1]), side="right")
    # A heavy row holds several shares: it stands once, with all their mass.
    first, beyond = (jnp.searchsorted(rows, rows, side=side) for side in ("left", "right"))
    n_shares = jnp.where(first == jnp.arange(MOST_ROWS, dtype=first.dtype), beyond - first, 0)
    return Rows(data.x[rows], n_shares.astype(data.x.dtype) * (cumulative[-1] / MOST_ROWS))


def index(uniform: Array, mass: Array) -> Array:
    """The index whose share of the mass holds `uniform` in [0, 1), by inverse CDF.

    A parallel sum rounds each entry in its own way: only rows with mass are compared, so that none without has a
    share. A search would look at fewer, but needs their running maximum, which takes longer to compile.
    """
    cumulative = jnp.where(mass != 0, jnp.cumsum(mass), 0.0)
    return jnp.argmax(cumulative > _target(uniform, jnp.max(cumulative)))


def _target(uniform: Array, total: Array) -> Array:
    """A share of the whole, always below it."""
    return jnp.minimum(uniform, 1 - float(jnp.finfo(total.dtype).eps)) * total


def different_rows(key: Array, weights: Array, n_draws: int) -> Array:
    """Indices of different rows, (n_draws,), each drawn with probability in proportion to its weight."""
    uniforms = jax.random.uniform(key, (n_draws,), weights.dtype)

    def draw(left: Array, uniform: Array) -> tuple[Array, Array]:
        drawn = index(uniform, left)
        return left.at[drawn].set(0.0), drawn

    return lax.scan(draw, varying_as(weights, uniforms[0]), uniforms)[1]


def nested(
    draw: Callable[..., Array], key: Array, n_rows: int, most_columns: int, n_columns: ArrayLike, dtype: Any
) -> Array:
    """Draws (n_rows, most_columns) whose first `n_columns` columns are what `draw(key, (n_rows, n_columns))` gives.

    So spare components change no start, by any key of which `nests` says that a longer draw begins as a shorter one.
    """
    flat = draw(key, (max(n_rows * most_columns, 1),), dtype)
    places = jnp.arange(n_rows)[:, None] * n_columns + jnp.arange(most_columns)[None, :]
    return flat[jnp.minimum(places, len(flat) - 1)]


def nests(key: Array) -> bool:
    """Whether a longer draw by a key begins as a shorter one does."""
    partitionable = getattr(jax.config, "jax_threefry_partitionable", True)
    return partitionable and str(jax.random.key_impl(key)) == "threefry2x32"
