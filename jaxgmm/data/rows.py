"""Rows as data for a fit: passed over in chunks, so that memory does not grow with N."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import chex
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import ArrayLike

from jaxgmm.data import draws
from jaxgmm.data.centring import about, centre_of, in_place
from jaxgmm.data.expectation import expectation
from jaxgmm.data.kernels import shares, whitened
from jaxgmm.data.passes import Distances, by_residuals, combine, distances_from, weighted_sum
from jaxgmm.host.arrays import as_floats, as_numbers
from jaxgmm.host.weights import check_weights_held
from jaxgmm.model.columns import Columns
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import DIAGONAL, Moments, Statistic, gather
from jaxgmm.numerics import chunks
from jaxgmm.numerics.trees import register_dataclass


@register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Rows (N, D) with weights (N,).

    A row of weight 0 counts as left out, whatever it holds; the derivative in its weight is that of adding the row, or
    0 where the row's square is not finite. A weight of NaN makes every sum over the rows NaN.

    Attributes:
        x: rows, (N, D), floating-point.
        weights: non-negative, (N,).
        distances: distances of the rows from their mean, where `ready` has measured them.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> rows = jaxgmm.Rows(x, jnp.ones(100))
        >>> bool(jnp.allclose(jaxgmm.log_likelihood(mixture, rows), jaxgmm.log_likelihood(mixture, x)))
        True
    """

    x: Array
    weights: Array
    distances: Distances | None = None

    @property
    def n_features(self) -> int:
        """Number of columns D."""
        return self.x.shape[1]

    def log_joint(self, mixture: Mixture) -> Array:
        """Log π_k + log N(x_i; μ_k, Σ_k), (N, K); −∞ where it is too low for the dtype."""

        def rows(prepared: whitened.Prepared, columns: Array) -> Array:
            seen = whitened.joint(prepared, columns)
            return jnp.where((seen.shrink > 1)[None, :] | seen.lost, -jnp.inf, seen.log_joint).T

        return self._each(mixture, rows)

    def log_components(self, mixture: Mixture) -> Array:
        """Log N(x_i; μ_k, Σ_k), (N, K); −∞ where it is too low for the dtype."""
        each, nowhere = shares.prepare_each(mixture), jnp.zeros_like(mixture.means[0])

        def chunk(x: Array, weights: Array) -> Array:
            return shares.log_components(each, mixture.means, in_place(x, weights, nowhere)[0]).T

        return chunks.each(mixture.means.size, chunk, self.x, self.weights)

    def log_responsibilities(self, mixture: Mixture) -> Array:
        """Log p(k | x_i), (N, K); however far a row is, the exponentials sum to 1."""
        return self._each(mixture, lambda *seen: shares.log_shares(*seen).T)

    def log_prob(self, mixture: Mixture) -> Array:
        """Log p(x_i), (N,)."""
        return self._each(mixture, shares.log_prob)

    def log_likelihood(self, mixture: Mixture) -> Array:
        """Σ wᵢ log p(xᵢ), ()."""
        centre = centre_of(mixture)
        prepared = whitened.prepare(about(mixture, centre))

        def chunk(x: Array, weights: Array) -> Array:
            columns, weights = in_place(x, weights, centre)
            return weighted_sum(weights, shares.log_prob(prepared, columns))

        return self.fold(mixture.means.size, chunk, jnp.add)

    def slopes_of_absent(self, mixture: Mixture) -> Array:
        """Derivatives of the log-likelihood in weights of 0, Σ wᵢ N_k(xᵢ) / p(xᵢ), and 0 for the others, (K,)."""
        centre = centre_of(mixture)
        prepared = whitened.prepare(about(mixture, centre))

        def chunk(x: Array, weights: Array) -> Array:
            columns, weights = in_place(x, weights, centre)
            return jnp.sum(weights[None, :] * shares.slopes_of_absent(prepared, columns), axis=-1)

        return self.fold(mixture.means.size, chunk, jnp.add)

    def moments(self, mixture: Mixture, statistic: Statistic) -> tuple[Moments, Array]:
        """The E-step: moments under the responsibilities of a mixture, and Σ wᵢ log p(xᵢ)."""
        return expectation(statistic, mixture, self.x, self.weights, self.distances)

    def ready(self, columns: Columns) -> Rows:
        """These rows with their distances from the mean measured, once for many passes."""
        return dataclasses.replace(self, distances=distances_from(columns.mean, self.x, self.weights))

    def columns(self) -> Columns:
        """Mass, count, means and variances of the columns, summed about the first row of positive weight."""
        # Without the barrier XLA searches weights of 1, a constant under the caller's jit, for half a minute a million.
        counted = lax.optimization_barrier(lax.stop_gradient(self.weights) != 0)
        origin = lax.stop_gradient(self.x[jnp.argmax(counted)])

        def chunk(x: Array, weights: Array) -> tuple[Moments, Array]:
            points, masses = in_place(x, weights, origin)
            return gather(masses[None], points[None], DIAGONAL), jnp.sum((weights != 0).astype(x.dtype))

        whole, count = self.fold(self.x.shape[1], chunk, combine)
        mass = whole.mass[0]
        variance = whole.scatter[0] / jnp.where(mass > 0, mass, 1.0)
        return Columns(mass=mass, count=count, mean=whole.mean[0] + origin, variance=variance)

    def draw_rows(self, key: Array, most: int) -> Rows:
        """These rows, or where they are more than `most`, so many of them, drawn by weight."""
        if self.x.shape[0] <= most:
            return self
        return Rows(*draws.thinned(key, self.x, self.weights, most))

    def fold(self, width: int, chunk: Callable[..., Any], combine: Callable[..., Any], *others: Array) -> Any:
        """The values of `chunk(x (C, D), weights (C,), ...)` for all chunks, combined; see `chunks.fold`."""
        chex.assert_rank([self.x, self.weights], [2, 1])
        chex.assert_equal_shape_prefix([self.x, self.weights, *others], 1)
        return chunks.fold(width, chunk, combine, self.x, self.weights, *others)

    def _each(self, mixture: Mixture, rows: Callable[[whitened.Prepared, Array], Array]) -> Array:
        """The values of `rows(prepared, columns)` for all rows, (N, ...)."""
        centre = centre_of(mixture)
        prepared = whitened.prepare(about(mixture, centre))

        def chunk(x: Array, weights: Array) -> Array:
            return rows(prepared, in_place(x, weights, centre)[0])

        return chunks.each(mixture.means.size, chunk, self.x, self.weights)


@register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class ResidualRows(Rows):
    """Rows whose passes all use whitened residuals, at whatever cost."""

    def moments(self, mixture: Mixture, statistic: Statistic) -> tuple[Moments, Array]:
        """The E-step: moments under the responsibilities of a mixture, and Σ wᵢ log p(xᵢ)."""
        return by_residuals(statistic, mixture, self.x, self.weights)

    def ready(self, columns: Columns) -> ResidualRows:
        """These rows as they are: residuals need no distances."""
        return self


def as_rows(x: Array, sample_weight: ArrayLike | None = None, name: str = "sample_weight") -> Rows:
    """Rows of an array (N, D) with weights in its dtype: 1 for each row if None; NaN for negative or infinite ones.

    Raises:
        TypeError: if the weights hold no real numbers.
        ValueError: if the weights are not (N,), or are too small for the dtype.
    """
    if sample_weight is None:
        return Rows(x, jnp.ones(x.shape[0], x.dtype))
    given = as_numbers(sample_weight, name)
    if isinstance(given, np.ndarray):
        check_weights_held(given, x.dtype, name)
    weights = as_floats(given, name).astype(x.dtype)
    if weights.shape != x.shape[:1]:
        raise ValueError(f"{name} must have shape ({x.shape[0]},), one for each row, not {weights.shape}")
    return Rows(x, _sound(weights))


def _sound(weights: Array) -> Array:
    """The weights, with NaN for invalid ones: under a trace these cannot be refused, so they make results NaN."""
    return jnp.where((weights >= 0) & (weights < jnp.inf), weights, jnp.nan)
