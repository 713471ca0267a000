"""Rows taken a chunk at a time, where they lie: no padded or reshaped copy of the data is made.

The last chunk reaches back over rows that were seen before, so that all chunks have one size; those rows
count with weight zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

_ELEMENTS = 1 << 18
"""Numbers in a chunk's largest temporary: about 1 MiB in float32, the size of an L2 cache."""


class Sum(NamedTuple):
    """A sum over many chunks, off by about one rounding however many there are (Kahan 1965).

    Attributes:
        value: the sum.
        excess: by how much rounding has made it too large so far, of the same shape.
    """

    value: Array
    excess: Array

    @staticmethod
    def zeros(shape: tuple[int, ...], dtype: Any) -> Sum:
        """The sum of nothing."""
        return Sum(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def plus(self, term: Array) -> Sum:
        """The sum with one term more."""
        due = term - self.excess
        value = self.value + due
        excess = (value - self.value) - due
        # What is infinite stays so, and has no rounding.
        return Sum(value, jnp.where(jnp.isfinite(excess), excess, 0.0))


def divide(n_rows: int, most: int) -> tuple[int, int]:
    """Number of chunks and their size, for chunks of at most about `most` rows."""
    n_chunks = max(1, -(-n_rows // most))
    if n_chunks == 1:
        return 1, n_rows
    # A multiple of 16 keeps vector loads aligned.
    size = -(-n_rows // (16 * n_chunks)) * 16
    return -(-n_rows // size), size


def most_rows(width: int) -> int:
    """Rows to a chunk whose largest temporary holds `width` numbers for each row."""
    return int(np.clip(_ELEMENTS // width, 64, 1 << 15))


def window(index: Array | int, size: int, n_rows: int) -> tuple[Array, Array]:
    """Where chunk `index` starts, (), and which of its rows no chunk before has held, (size,)."""
    due = jnp.asarray(index, jnp.int32) * size
    start = jnp.minimum(due, n_rows - size)
    return start, start + lax.iota(jnp.int32, size) >= due


def fold(
    width: int, chunk: Callable[..., Any], combine: Callable[..., Any], x: Array, weights: Array, *others: Array
) -> Any:
    """Combine what `chunk(x (C, D), weights (C,), ...)` gives over all chunks.

    The backward pass recomputes each chunk, so that its memory does not grow with N either.

    Args:
        width: numbers that a row takes in the chunk's largest temporary.
        chunk: gives a pytree for the rows of one chunk.
        combine: of two such pytrees makes one; associative.
        x: rows, (N, D).
        weights: (N,).
        *others: more arrays with a leading axis N, chunked alike and handed to `chunk`.
    """
    n_rows = x.shape[0]
    n_chunks, size = divide(n_rows, most_rows(width))
    if n_chunks == 1:
        return chunk(x, weights, *others)

    def one(index: Array | int) -> Any:
        start, fresh = window(index, size, n_rows)
        rows, weight, *more = (lax.dynamic_slice_in_dim(array, start, size) for array in (x, weights, *others))
        return chunk(rows, jnp.where(fresh, weight, 0.0), *more)

    again = jax.checkpoint(one)  # pyright: ignore[reportPrivateImportUsage]
    indices = jnp.arange(1, n_chunks)
    return lax.scan(lambda carry, index: (combine(carry, again(index)), None), again(0), indices)[0]


def each(width: int, chunk: Callable[..., Array], x: Array, weights: Array) -> Array:
    """What `chunk(x (C, D), weights (C,))`, (C, ...), gives for each row, (N, ...)."""
    n_rows = x.shape[0]
    n_chunks, size = divide(n_rows, most_rows(width))
    if n_chunks == 1:
        return chunk(x, weights)

    def one(index: Array) -> Array:
        start, _ = window(index, size, n_rows)
        return chunk(lax.dynamic_slice_in_dim(x, start, size), lax.dynamic_slice_in_dim(weights, start, size))

    again = jax.checkpoint(one)  # pyright: ignore[reportPrivateImportUsage]
    out = lax.map(again, jnp.arange(n_chunks))
    whole = out[:-1].reshape(-1, *out.shape[2:])
    return jnp.concatenate([whole, out[-1, size - (n_rows - whole.shape[0]) :]])
