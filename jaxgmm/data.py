"""How the data reach us: `Rows`, passed over in chunks, so that memory does not grow with N."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxgmm import kernels
from jaxgmm._types import Columns, Mixture, Moments
from jaxgmm.checks import as_floats, as_numbers, check_rows, float_dtype
from jaxgmm.moments import DIAGONAL, Statistic, gather, merge

_CHUNK_ELEMENTS = 1 << 18
"""Numbers in a chunk's largest temporary, (K, D, C): about 1 MiB in float32, the size of an L2 cache."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Plain rows with weights.

    A row of weight zero counts as left out, whatever it holds.

    Attributes:
        x: rows, (N, D).
        weights: non-negative, (N,).
    """

    x: Array
    weights: Array

    @property
    def n_features(self) -> int:
        """Number of columns D."""
        return self.x.shape[1]

    def log_joint(self, mixture: Mixture) -> Array:
        """Log π_k + log N(x_i; μ_k, Σ_k), (N, K); −∞ where it is too far to be represented."""

        def rows(seen: kernels.Joint) -> Array:
            return jnp.where((seen.shrink > 1)[None, :], -jnp.inf, seen.log_joint).T

        return self._map(mixture, rows)

    def log_responsibilities(self, mixture: Mixture) -> Array:
        """Log p(k | x_i), (N, K); of a far row, the nearest component's is 0."""
        return self._map(mixture, lambda seen: jax.nn.log_softmax(seen.log_joint, axis=0).T)

    def log_prob(self, mixture: Mixture) -> Array:
        """Log p(x_i), (N,)."""
        return self._map(mixture, _log_prob)

    def log_likelihood(self, mixture: Mixture) -> Array:
        """Σ wᵢ log p(xᵢ), ()."""
        centre, prepared = _prepare(mixture)

        def chunk(x: Array, weights: Array) -> Array:
            seen = kernels.joint(prepared, _centred(x, weights, centre))
            return _weighted_sum(weights, _log_prob(seen))

        return self.fold(_width(mixture), chunk, jnp.add)

    def moments(self, mixture: Mixture, statistic: Statistic) -> tuple[Moments, Array]:
        """The E-step: moments under the responsibilities of a mixture, and Σ wᵢ log p(xᵢ)."""
        centre, prepared = _prepare(mixture)

        def chunk(x: Array, weights: Array) -> tuple[Moments, Array]:
            seen = kernels.joint(prepared, _centred(x, weights, centre))
            # One exponential serves both the responsibilities and the log-likelihood.
            highest = lax.stop_gradient(jnp.max(seen.log_joint, axis=0))
            exponential = jnp.exp(seen.log_joint - highest[None, :])
            normaliser = jnp.sum(exponential, axis=0)
            responsibilities = exponential * (weights / normaliser)[None, :]
            log_prob = _unless_far(jnp.log(normaliser) + highest, seen.shrink)
            return kernels.moments(prepared, seen, responsibilities, statistic), _weighted_sum(weights, log_prob)

        def combine(a: tuple[Moments, Array], b: tuple[Moments, Array]) -> tuple[Moments, Array]:
            return merge(a[0], b[0]), a[1] + b[1]

        whitened, log_likelihood = self.fold(_width(mixture), chunk, combine)
        gathered = kernels.colour(prepared, whitened, statistic)
        return gathered._replace(mean=gathered.mean + centre[None, :]), log_likelihood

    def columns(self) -> Columns:
        """Mass, count, means and variances of the columns, about the first row that counts."""
        origin = lax.stop_gradient(self.x[jnp.argmax(self.weights > 0)])

        def chunk(x: Array, weights: Array) -> tuple[Moments, Array]:
            points = _centred(x, weights, origin)[None]
            return gather(weights[None], points, DIAGONAL), jnp.sum((weights > 0).astype(x.dtype))

        def combine(a: tuple[Moments, Array], b: tuple[Moments, Array]) -> tuple[Moments, Array]:
            return merge(a[0], b[0]), a[1] + b[1]

        whole, count = self.fold(self.x.shape[1], chunk, combine)
        mass = whole.mass[0]
        variance = whole.scatter[0] / jnp.where(mass > 0, mass, 1.0)
        return Columns(mass=mass, count=count, mean=whole.mean[0] + origin, variance=variance)

    def fold(self, width: int, chunk: Callable[..., Any], combine: Callable[..., Any], *others: Array) -> Any:
        """Combine what `chunk(x (C, D), weights (C,), ...)` gives over all chunks.

        The backward pass recomputes each chunk, so that its memory does not grow with N either.

        Args:
            width: numbers that a row takes in the chunk's largest temporary.
            chunk: gives a pytree for the rows of one chunk.
            combine: of two such pytrees makes one; associative.
            *others: more arrays with a leading axis N, chunked alike and handed to `chunk`.
        """
        chunks = self._chunks(width, *others)
        if chunks[0].shape[0] == 1:
            return chunk(*(array[0] for array in chunks))
        again = jax.checkpoint(chunk)  # pyright: ignore[reportPrivateImportUsage]
        first = again(*(array[0] for array in chunks))
        rest = tuple(array[1:] for array in chunks)
        return lax.scan(lambda carry, rows: (combine(carry, again(*rows)), None), first, rest)[0]

    def _map(self, mixture: Mixture, rows: Callable[[kernels.Joint], Array]) -> Array:
        """What `rows(joint)` gives for each row, (N, ...)."""
        centre, prepared = _prepare(mixture)

        def chunk(x: Array, weights: Array) -> Array:
            return rows(kernels.joint(prepared, _centred(x, weights, centre)))

        x, weights = self._chunks(_width(mixture))
        if x.shape[0] == 1:
            return chunk(x[0], weights[0])
        again = jax.checkpoint(chunk)  # pyright: ignore[reportPrivateImportUsage]
        out = lax.map(lambda chunk_rows: again(*chunk_rows), (x, weights))
        return out.reshape(-1, *out.shape[2:])[: self.x.shape[0]]

    def _chunks(self, width: int, *others: Array) -> tuple[Array, ...]:
        """Equal chunks, (n, C, D) and (n, C); rows of weight zero fill the last."""
        chex.assert_rank([self.x, self.weights], [2, 1])
        chex.assert_equal_shape_prefix([self.x, self.weights, *others], 1)
        n_rows = self.x.shape[0]
        most = int(np.clip(_CHUNK_ELEMENTS // width, 64, 1 << 15))
        n_chunks = max(1, -(-n_rows // most))
        size = -(-n_rows // n_chunks)
        padding = n_chunks * size - n_rows

        def split(array: Array) -> Array:
            if padding:
                array = jnp.pad(array, ((0, padding), *[(0, 0)] * (array.ndim - 1)))
            return array.reshape(n_chunks, size, *array.shape[1:])

        return tuple(split(array) for array in (self.x, self.weights, *others))


def _width(mixture: Mixture) -> int:
    return mixture.n_components * mixture.n_features


def _prepare(mixture: Mixture) -> tuple[Array, kernels.Prepared]:
    """The mixture's own mean, to centre each pass on, and the mixture about it."""
    present = jnp.isfinite(mixture.log_weights)[:, None]
    centre = jnp.sum(jnp.where(present, jnp.exp(mixture.log_weights)[:, None] * mixture.means, 0.0), axis=0)
    centre = lax.stop_gradient(centre)
    return centre, kernels.prepare(dataclasses.replace(mixture, means=mixture.means - centre[None, :]))


def _centred(x: Array, weights: Array, centre: Array) -> Array:
    """Rows as columns about a centre, (D, C); rows without weight lie on it."""
    return jnp.where((weights > 0)[None, :], x.T - centre[:, None], 0.0)


def _log_prob(seen: kernels.Joint) -> Array:
    return _unless_far(jax.nn.logsumexp(seen.log_joint, axis=0), seen.shrink)


def _unless_far(log_prob: Array, shrink: Array) -> Array:
    """Log p, but −∞ for a row that `joint` had to draw in."""
    return jnp.where(shrink > 1, -jnp.inf, log_prob)


def _weighted_sum(weights: Array, log_prob: Array) -> Array:
    counted = weights > 0
    return jnp.sum(jnp.where(counted, weights * jnp.where(counted, log_prob, 0.0), 0.0))


def as_data(mixture: Mixture, x: Any, sample_weight: Any = None) -> tuple[Mixture, Any]:
    """A mixture and data in one dtype, the wider; `Data` passes as it is.

    Raises:
        TypeError: if x or the weights hold no real numbers.
        ValueError: if x is not (N, D) with the mixture's D, or the weights are not (N,).
    """
    if hasattr(x, "moments") and hasattr(x, "log_joint"):
        if sample_weight is not None:
            raise ValueError("sample_weight must be None where x is a Data, which holds its own weights")
        if x.n_features != mixture.n_features:
            raise ValueError(f"x has {x.n_features} columns, but the mixture has {mixture.n_features}")
        return mixture, x
    mixture, rows = as_points(mixture, x)
    check_rows(rows)
    return mixture, as_rows(rows, sample_weight)


def as_points(mixture: Mixture, x: Any) -> tuple[Mixture, Array]:
    """A mixture and points (..., D) in one dtype, the wider.

    Raises:
        TypeError: if x holds no real numbers.
        ValueError: if the last axis is not the mixture's D.
    """
    x = as_numbers(x, "x")
    dtype = float_dtype(x, mixture.means)
    if x.ndim == 0 or x.shape[-1] != mixture.n_features:
        found = f"{x.shape[-1]} columns" if x.ndim else "no columns"
        raise ValueError(f"x has {found} (shape {x.shape}), but the mixture has {mixture.n_features}")
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), mixture), jnp.asarray(x, dtype)


def as_rows(x: Array, sample_weight: Any = None) -> Rows:
    """Rows of an array (N, D) with weights in its dtype; None is 1 for each row.

    Raises:
        TypeError: if the weights hold no real numbers.
        ValueError: if the weights are not (N,).
    """
    if sample_weight is None:
        return Rows(x, jnp.ones(x.shape[0], x.dtype))
    weights = as_floats(sample_weight, "sample_weight").astype(x.dtype)
    if weights.shape != x.shape[:1]:
        raise ValueError(f"sample_weight must have shape ({x.shape[0]},), one for each row, not {weights.shape}")
    return Rows(x, weights)
