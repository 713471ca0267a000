"""Moments as a commutative monoid: gathered from rows, merged, pooled over components.

Sample weights, chunks, streams and devices are one operation: merge (Chan, Golub & LeVeque 1979).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax.numpy as jnp
from jax import Array, lax

from jaxgmm.model.columns import Columns
from jaxgmm.numerics.linalg import product


class Moments(NamedTuple):
    """Weighted moments of the rows, component by component: a commutative monoid under `merge`.

    Attributes:
        mass: N_k = Σᵢ rᵢₖ wᵢ, (K,).
        mean: weighted means, (K, D).
        scatter: central scatter Σᵢ rᵢₖ wᵢ (xᵢ − mean_k)(xᵢ − mean_k)ᵀ in a family's statistic: dense
            (K, D, D), pooled over components (1, D, D), its diagonal (K, D), or its trace (K,).

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> moments, log_likelihood = jaxgmm.e_step(mixture, x)
        >>> moments.mass.shape, moments.mean.shape, moments.scatter.shape
        ((2,), (2, 2), (2, 2, 2))
    """

    mass: Array
    mean: Array
    scatter: Array


@dataclasses.dataclass(frozen=True)
class Statistic:
    """The part of the scatter that a family needs.

    Attributes:
        name: the name used in messages.
        products: whether products of two different columns are needed, or squares alone.
        reduce: the function from per-component scatter, (K, D, D) or (K, D), to the statistic; of NumPy's in NumPy.
    """

    name: str
    products: bool
    reduce: Callable[[Array], Array]

    def scatter(self, weights: Array, residuals: Array) -> Array:
        """Σ_c weights[k, c] residuals[k, :, c] residuals[k, :, c]ᵀ, reduced."""
        weighted = residuals * weights[:, None, :]
        if self.products:
            return self.reduce(product("kic,kjc->kij", weighted, residuals))
        return self.reduce(jnp.sum(weighted * residuals, axis=-1))

    def of_dense(self, scatter: Array) -> Array:
        """The statistic of dense scatter (K, D, D)."""
        return self.reduce(scatter if self.products else jnp.diagonal(scatter, axis1=-2, axis2=-1))

    def of_diagonal(self, scatter: Array) -> Array:
        """The statistic of diagonal scatter (K, D)."""
        if not self.products:
            return self.reduce(scatter)
        return self.reduce(jnp.where(jnp.eye(scatter.shape[-1], dtype=bool)[None], scatter[:, :, None], 0.0))


def _whole(scatter: Array) -> Array:
    return scatter


def _over_components(scatter: Array) -> Array:
    return scatter.sum(axis=0, keepdims=True)


def _over_columns(scatter: Array) -> Array:
    return scatter.sum(axis=-1)


DENSE = Statistic("dense", True, _whole)
POOLED = Statistic("pooled", True, _over_components)
DIAGONAL = Statistic("diagonal", False, _whole)
SCALAR = Statistic("scalar", False, _over_columns)


def statistic_of(moments: Moments) -> Statistic:
    """The statistic that moments hold, determined by the shape of their scatter."""
    if moments.scatter.ndim == 3:
        shared = moments.scatter.shape[0] == 1 and moments.mass.shape[0] > 1
        return POOLED if shared else DENSE
    return DIAGONAL if moments.scatter.ndim == 2 else SCALAR


def convert(moments: Moments, statistic: Statistic) -> Moments:
    """The moments converted to a statistic that holds less of the scatter.

    Raises:
        ValueError: if the statistic needs what the moments no longer hold.
    """
    held = statistic_of(moments)
    if held == statistic:
        return moments
    if held == DENSE:
        return moments._replace(scatter=statistic.of_dense(moments.scatter))
    if held == DIAGONAL and not statistic.products:
        return moments._replace(scatter=statistic.reduce(moments.scatter))
    raise ValueError(f"moments hold {held.name} scatter, from which no {statistic.name} scatter can be had")


def distinct(moments: Moments, n_distinct: int) -> Array:
    """Scatter of each of n distinct covariances, (n, ...): of each component, or of all where they share one."""
    if n_distinct == moments.scatter.shape[0]:
        return moments.scatter
    return jnp.sum(moments.scatter, axis=0, keepdims=True)


def mass_of_distinct(mass: Array, n_distinct: int) -> Array:
    """Mass of each of n distinct covariances, (n,): of the components, (K,), or of all where they share one."""
    return jnp.sum(mass, keepdims=True) if n_distinct < mass.shape[0] else mass


def gather(weights: Array, points: Array, statistic: Statistic) -> Moments:
    """Moments of points, central to rounding: the mean first, then residuals about it.

    Args:
        weights: non-negative, (K, C).
        points: points for each component, (K, D, C), or (1, D, C) where they are common to all.
        statistic: the part of the scatter to keep.
    """
    chex.assert_rank([weights, points], [2, 3])
    mass = jnp.sum(weights, axis=-1)
    seen = jnp.broadcast_to(points, (weights.shape[0], *points.shape[1:]))
    first = product("kc,kdc->kd", weights, seen)
    mean = first / _nonzero(mass)[:, None]
    return Moments(mass=mass, mean=mean, scatter=statistic.scatter(weights, points - mean[:, :, None]))


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of two sets of rows together; associative and commutative to rounding.

    With δ = mean_b − mean_a: S = S_a + S_b + (N_a N_b / N) δ δᵀ (Chan, Golub & LeVeque 1979).

    Raises:
        ValueError: if they are of different K or D, or hold different statistics of the scatter.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> moments, log_likelihood = jaxgmm.e_step(mixture, x)
        >>> twice = jaxgmm.merge(moments, moments)
        >>> round(float(twice.mass.sum()), 3)
        200.0
    """
    if a.mean.shape != b.mean.shape or a.scatter.shape != b.scatter.shape:
        one, other = (f"{statistic_of(held).name} scatter and {held.mean.shape} means" for held in (a, b))
        raise ValueError(f"moments can be merged where they are of one kind, but one has {one}, the other {other}")
    mass = a.mass + b.mass
    shift = (b.mean - a.mean)[:, :, None]
    share = b.mass / _nonzero(mass)
    between = statistic_of(a).scatter((a.mass * share)[:, None], shift)
    return Moments(mass=mass, mean=a.mean + share[:, None] * shift[:, :, 0], scatter=a.scatter + b.scatter + between)


def pool(moments: Moments, axis_name: str | None = None) -> Moments:
    """The moments of several sets of rows together: over a leading axis, or a named axis of `vmap` or `shard_map`.

    Args:
        moments: with a leading axis on every leaf, or one device's share where `axis_name` is given.
        axis_name: the named axis to merge over.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> parts = jax.vmap(lambda part: jaxgmm.e_step(mixture, part)[0])(x.reshape(4, 25, 2))
        >>> round(float(jaxgmm.pool(parts).mass.sum()), 3)
        100.0
    """
    if axis_name is None:
        mass, mean, scatter = jnp.sum(moments.mass, axis=0), moments.mean, jnp.sum(moments.scatter, axis=0)
        pooled = jnp.sum(moments.mass[:, :, None] * mean, axis=0) / _nonzero(mass)[:, None]
        shifts = jnp.moveaxis(mean - pooled[None], 0, -1)
        like = Moments(mass, pooled, scatter)
        between = statistic_of(like).scatter(moments.mass.T, shifts)
        return like._replace(scatter=scatter + between)
    mass = lax.psum(moments.mass, axis_name)
    pooled = lax.psum(moments.mass[:, None] * moments.mean, axis_name) / _nonzero(mass)[:, None]
    shift = (moments.mean - pooled)[:, :, None]
    between = statistic_of(moments).scatter(moments.mass[:, None], shift)
    return Moments(mass=mass, mean=pooled, scatter=lax.psum(moments.scatter + between, axis_name))


def total(moments: Moments) -> Moments:
    """Moments of all components as one, K = 1, in the same statistic."""
    held = statistic_of(moments)
    mass = jnp.sum(moments.mass, keepdims=True)
    mean = jnp.sum(moments.mass[:, None] * moments.mean, axis=0, keepdims=True) / _nonzero(mass)[:, None]
    shifts = (moments.mean - mean).T[None]
    between = held.scatter(moments.mass[None], shifts)
    return Moments(mass=mass, mean=mean, scatter=jnp.sum(moments.scatter, axis=0, keepdims=True) + between)


def spread(moments: Moments) -> Array:
    """Σ_k diag S_k, (D,); scalar scatter is shared out evenly over the columns."""
    n_features = moments.mean.shape[-1]
    if moments.scatter.ndim == 1:
        return jnp.broadcast_to(jnp.sum(moments.scatter) / n_features, (n_features,))
    summed = jnp.sum(moments.scatter, axis=0)
    return jnp.diagonal(summed) if moments.scatter.ndim == 3 else summed


def columns_of(moments: Moments) -> Columns:
    """The columns as a whole, as far as moments tell: scalar scatter gives all columns one variance."""
    whole = total(moments)
    mass = whole.mass[0]
    return Columns(mass=mass, count=mass, mean=whole.mean[0], variance=spread(whole) / _nonzero(mass))


def _nonzero(mass: Array) -> Array:
    return jnp.where(mass > 0, mass, 1.0)
