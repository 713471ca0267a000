"""Whether a fit degenerated: components without rows, covariances on the prior's floor."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxgmm._linalg import product
from jaxgmm._types import Mixture
from jaxgmm.factors import eigenvalues
from jaxgmm.priors import Penalty

LEAST_ROWS = 0.999
"""Rows of average weight below which a component has vanished: one, but for rounding."""

_NEAR_FLOOR = 1.01
"""How far above the prior's floor a variance counts as on it."""

_LOW_FLOOR = 1e-6
"""Floor, as a share of a column's variance, below which no row but those on it weighs anything to a component there."""

_SHARPENINGS = 3
"""Products with Σ⁻¹ that find its largest eigenvalue: where Σ is singular, it stands far above the others."""


def n_collapsed(mixture: Mixture, penalty: Penalty, n_components: ArrayLike | None = None) -> Array:
    """Number of ways in which a mixture has collapsed, (); 0 for a healthy one.

    Counted are components with less mass than one row of average weight; directions in which a covariance is
    the prior's but for a hundredth, where that is not fine; and directions in which it is singular to rounding.

    Args:
        mixture: the mixture.
        penalty: the prior it was fitted under, with the columns of its data.
        n_components: how many components there were at the start, the others being spare; None is all.
    """
    n_features = mixture.n_features
    columns = penalty.columns
    mass = columns.mass * mixture.weights
    asked = mixture.n_components if n_components is None else n_components
    vanished = (mass * columns.count < LEAST_ROWS * columns.mass) & (jnp.arange(mixture.n_components) < asked)

    n_covariances = mixture.covs.count
    per_covariance = _per_covariance(mass, n_covariances)
    deviations = jnp.broadcast_to(mixture.covs.deviations(), (n_covariances, n_features))
    unresolved = deviations**2 <= 4 * columns.resolution()[None, :]
    relative = (deviations / jnp.sqrt(columns.unit())[None, :]) ** 2
    singular = jnp.zeros_like(unresolved)
    if mixture.covs.mixes:
        covariances = mixture.covs.dense(n_features)
        unit = jnp.sqrt(columns.unit())
        scaled = covariances / unit[None, :, None] / unit[None, None, :]
        correlation = covariances / deviations[:, :, None] / deviations[:, None, :]
        relative, spectrum = eigenvalues(jnp.stack([scaled, correlation]))
        singular = spectrum <= _singular(mixture)
    on_floor = relative <= _NEAR_FLOOR * penalty.floor(per_covariance)[:, None]
    counted = jnp.where(penalty.floor_is_fine, singular & ~on_floor, on_floor | singular)
    unresolved = unresolved & ~jnp.asarray(penalty.floor_is_fine)
    directions = jnp.sum(counted, axis=-1) + jnp.sum(unresolved, axis=-1)
    return jnp.sum(vanished) + jnp.sum(jnp.where(per_covariance > 0, directions, 0))


def collapsed_for_good(mixture: Mixture, penalty: Penalty) -> Array:
    """Whether a component is so flat that none comes back from there, ().

    It is flat where its correlation is singular to rounding, or its spread in columns that vary is on a floor next to
    nothing: of a row off it, however near, its density has fallen by thousands of nats, so that it keeps the rows that
    it has, and they keep it flat. What `n_collapsed` counts besides may pass: a component too light may grow, one on a
    floor that is not low may rise, and in a constant column all are flat and the others go on. Cheaper, too: by no
    spectrum, so that it can be asked at every step.
    """
    columns, covs, n_features = penalty.columns, mixture.covs, mixture.n_features
    per_covariance = _per_covariance(columns.mass * mixture.weights, covs.count)
    floor = _NEAR_FLOOR * penalty.floor(per_covariance)
    floor = jnp.where(floor <= _LOW_FLOOR, floor, 0.0)
    varies = columns.variance > columns.resolution()
    deviations = jnp.broadcast_to(covs.deviations(), (covs.count, n_features))
    unit = jnp.sqrt(columns.unit())
    if covs.mixes:
        scales = jnp.where(varies[None, None, :], jnp.stack([jnp.broadcast_to(unit, deviations.shape), deviations]), 0)
        flattest = 1 / _largest_eigenvalue(covs.inverse()[None] * scales[:, :, None, :])
        flat = (flattest[0] <= floor) | (flattest[1] <= _singular(mixture))
    else:
        least = jnp.maximum(floor[:, None] * columns.unit()[None, :], 4 * columns.resolution()[None, :])
        flat = jnp.any((deviations**2 <= least) & varies[None, :], axis=-1)
    return jnp.any(flat & (per_covariance > 0)) & ~jnp.asarray(penalty.floor_is_fine)


def _largest_eigenvalue(roots: Array) -> Array:
    """Of AᵀA for A (..., D, D), by the power method from A's longest row; never more than it is."""
    lengths = jnp.sum(roots**2, axis=-1, keepdims=True)
    vector = jnp.sum(jnp.where(lengths == jnp.max(lengths, axis=-2, keepdims=True), roots, 0.0), axis=-2)
    for _ in range(_SHARPENINGS):
        vector = vector / jnp.sqrt(jnp.sum(vector**2, axis=-1, keepdims=True))
        image = product("...ij,...j->...i", roots, vector)
        vector = product("...ij,...i->...j", roots, image)
    return jnp.sum(image**2, axis=-1)


def _singular(mixture: Mixture) -> float:
    """The least eigenvalue of a correlation matrix that rounding leaves any meaning."""
    return 3 * mixture.n_features * float(jnp.finfo(mixture.means.dtype).eps)


def _per_covariance(mass: Array, n_covariances: int) -> Array:
    return jnp.sum(mass, keepdims=True) if n_covariances < mass.shape[0] else mass
