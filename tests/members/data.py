"""Three kinds of data that the package does not have, written from the protocol alone."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.data.rows import Rows
from jaxgmm.model.columns import Columns
from jaxgmm.model.moments import DIAGONAL, Moments, gather, merge, spread
from jaxgmm.numerics.trees import register_dataclass


@jax.jit
def columns_of_rows(rows):
    """Columns of plain rows, as moments of one component."""
    whole = gather(rows.weights[None], rows.x.T[None], DIAGONAL)
    return whole, jnp.sum(rows.weights > 0).astype(rows.x.dtype)


def merged(parts):
    """Columns of all parts together."""
    return merged_columns([columns_of_rows(part) for part in parts])


@jax.jit
def merged_columns(parts):
    (whole, count), *others = parts
    for moments, more in others:
        whole, count = merge(whole, moments), count + more
    return Columns(mass=whole.mass[0], count=count, mean=whole.mean[0], variance=spread(whole) / whole.mass[0])


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Halves:
    """Rows in two parts, as a compiled program sees them; it tells no number of a single row."""

    first: Rows
    second: Rows

    @property
    def n_features(self):
        return self.first.n_features

    def columns(self):
        return merged([self.first, self.second])

    def ready(self, columns):
        return self

    def moments(self, mixture, statistic):
        one, other = (part.moments(mixture, statistic) for part in (self.first, self.second))
        return merge(one[0], other[0]), one[1] + other[1]

    def log_likelihood(self, mixture):
        return self.first.log_likelihood(mixture) + self.second.log_likelihood(mixture)

    def draw_rows(self, key, most):
        both = Rows(*(jnp.concatenate(arrays) for arrays in ((self.first.x, self.second.x), self._weights())))
        return both.draw_rows(key, most)

    def _weights(self):
        return self.first.weights, self.second.weights


class Blocks:
    """Blocks of rows on the host, read one after another at every pass: no pytree, so nothing compiled can hold it."""

    def __init__(self, x, weights, n_blocks):
        self._blocks = list(zip(np.array_split(x, n_blocks), np.array_split(weights, n_blocks), strict=True))
        self.n_features = x.shape[1]
        self.n_passes = 0

    def __iter__(self):
        for x, weights in self._blocks:
            yield Rows(jnp.asarray(x), jnp.asarray(weights))

    def columns(self):
        return merged(self)

    def ready(self, columns):
        return self

    def moments(self, mixture, statistic):
        self.n_passes += 1
        return _merged_moments([_of_block(block, mixture, statistic) for block in self])

    def log_likelihood(self, mixture):
        return sum(_log_likelihood(block, mixture) for block in self)

    def draw_rows(self, key, most):
        x, weights = (np.concatenate(arrays) for arrays in zip(*self._blocks, strict=True))
        return Rows(jnp.asarray(x), jnp.asarray(weights)).draw_rows(key, most)


@jax.jit
def _log_likelihood(block, mixture):
    return block.log_likelihood(mixture)


@jax.jit
def _merged_moments(parts):
    (moments, value), *others = parts
    for more, further in others:
        moments, value = merge(moments, more), value + further
    return Moments(*moments), value


_of_block = jax.jit(lambda block, mixture, statistic: block.moments(mixture, statistic), static_argnums=2)


@register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Coded:
    """Rows kept in a byte a number: x = origin + step · code."""

    codes: jax.Array  # int8, (N, D)
    origin: jax.Array  # (D,)
    step: jax.Array  # (D,)
    weights: jax.Array  # (N,)
    distances: Any = None

    @classmethod
    def of(cls, x, weights):
        low, high = x.min(axis=0), x.max(axis=0)
        step = (high - low) / 254
        codes = np.round((x - low) / step) - 127
        arrays = codes.astype(np.int8), low + 127 * step, step, weights
        return cls(*(jnp.asarray(array) for array in arrays))

    @property
    def rows(self):
        codes = self.codes.astype(self.step.dtype)
        x = self.origin[None] + self.step[None] * codes
        return Rows(x, self.weights, self.distances)

    @property
    def n_features(self):
        return self.codes.shape[1]

    def columns(self):
        return self.rows.columns()

    def ready(self, columns):
        distances = self.rows.ready(columns).distances
        return dataclasses.replace(self, distances=distances)

    def moments(self, mixture, statistic):
        return self.rows.moments(mixture, statistic)

    def log_likelihood(self, mixture):
        return self.rows.log_likelihood(mixture)

    def draw_rows(self, key, most):
        return self.rows.draw_rows(key, most)

    def log_responsibilities(self, mixture):
        return self.rows.log_responsibilities(mixture)

    @property
    def x(self):
        return self.rows.x

    def fold(self, width, chunk, combine, *others):
        return self.rows.fold(width, chunk, combine, *others)
