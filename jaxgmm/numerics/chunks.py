"""Passes over rows in chunks, without a padded or reshaped copy of the data.

All chunks have one size. The last therefore begins before the end of the one before it, and the rows that both hold
have weight 0 in the last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

_ELEMENTS = 1 << 18
"""The most numbers in a chunk's largest temporary: about 1 MiB in float32, the size of an L2 cache."""


class Sum(NamedTuple):
    """A compensated sum, whose error is about one rounding however many terms there are (Kahan 1965).

    Attributes:
        value: the sum.
        excess: the amount by which rounding has made it too large so far, of the same shape.
    """

    value: Array
    excess: Array

    @staticmethod
    def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> Sum:
        """An empty sum."""
        return Sum(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def plus(self, term: Array) -> Sum:
        """The sum with one more term."""
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
    """The number of rows in a chunk whose largest temporary holds `width` numbers for each row."""
    return int(np.clip(_ELEMENTS // width, 64, 1 << 15))


def window(index: Array | int, size: int, n_rows: int) -> tuple[Array, Array]:
    """The first row of chunk `index`, (), and whether each of its rows is new, in no earlier chunk, (size,)."""
    due = jnp.asarray(index, jnp.int32) * size
    start = jnp.minimum(due, n_rows - size)
    return start, start + lax.iota(jnp.int32, size) >= due


def fold(
    width: int, chunk: Callable[..., Any], combine: Callable[..., Any], x: Array, weights: Array, *others: Array
) -> Any:
    """The values of `chunk(x (C, D), weights (C,), ...)` for all chunks, combined.

    The backward pass recomputes each chunk, so that its memory does not grow with N either.

    Args:
        width: numbers that a row takes in the chunk's largest temporary.
        chunk: a function from the rows of one chunk to a pytree.
        combine: an associative function from two such pytrees to one.
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


def each(width: int, chunk: Callable[..., Array], x: Array, weights: Array, *others: Array) -> Array:
    """The values of `chunk(x (C, D), weights (C,), ...)`, (C, ...), for all rows, (N, ...); see `fold`."""
    n_rows = x.shape[0]
    n_chunks, size = divide(n_rows, most_rows(width))
    if n_chunks == 1:
        return chunk(x, weights, *others)

    def one(index: Array) -> Array:
        start, _ = window(index, size, n_rows)
        return chunk(*(lax.dynamic_slice_in_dim(array, start, size) for array in (x, weights, *others)))

    again = jax.checkpoint(one)  # pyright: ignore[reportPrivateImportUsage]
    out = lax.map(again, jnp.arange(n_chunks))
    whole = out[:-1].reshape(-1, *out.shape[2:])
    return jnp.concatenate([whole, out[-1, size - (n_rows - whole.shape[0]) :]])
