"""Whether a fit degenerated: components without rows, covariances on the prior's floor."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxgmm.host.arrays import Names, column_label, is_traced
from jaxgmm.model.columns import Columns
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.priors.penalty import Penalty
from jaxgmm.numerics.factors import eigenvalues
from jaxgmm.numerics.linalg import product

LEAST_ROWS = 0.999
"""Rows of average weight below which a component has vanished: one, but for rounding."""

_NEAR_FLOOR = 1.01
"""How far above the prior's floor a variance counts as on it."""

_LOW_FLOOR = 1e-6
"""Floor, as a share of a column's variance, below which no row but those on it weighs anything to a component there."""

_SHARPENINGS = 3
"""Products with Σ⁻¹ that find its largest eigenvalue: where Σ is singular, it stands far above the others."""


class Spectrum(NamedTuple):
    """What the directions of each of n distinct covariances come to.

    Attributes:
        relative: variances along the principal directions, the columns in units of their deviations, (n, D).
        singular: principal directions of the correlation in which it is singular to rounding, (n, D).
        unresolved: columns whose variance rounding of the data hides, (n, D).
    """

    relative: Array
    singular: Array
    unresolved: Array

    def degenerate(self) -> Array:
        """In how many directions each covariance is what rounding made of it, (n,)."""
        return jnp.sum(self.singular, axis=-1) + jnp.sum(self.unresolved, axis=-1)


def spectrum_of(mixture: Mixture, columns: Columns) -> Spectrum:
    """The spectrum of each distinct covariance, for data of which the columns are known."""
    n_features = mixture.n_features
    deviations = jnp.broadcast_to(mixture.covs.deviations(), (mixture.covs.count, n_features))
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
    return Spectrum(relative, singular, unresolved)


def mass_per_covariance(mixture: Mixture, columns: Columns) -> Array:
    """The mass of the components that each distinct covariance is of, (n,)."""
    mass = columns.mass * mixture.weights
    return jnp.sum(mass, keepdims=True) if mixture.covs.count < mass.shape[0] else mass


def n_collapsed(mixture: Mixture, penalty: Penalty, n_components: ArrayLike | None = None) -> Array:
    """Number of ways in which a mixture has collapsed, (); 0 for a healthy one.

    Counted are components with less mass than one row of average weight; directions in which a covariance is
    the prior's but for a hundredth, where that is not fine; and directions in which it is singular to rounding.

    Args:
        mixture: the mixture.
        penalty: the prior it was fitted under, with the columns of its data.
        n_components: how many components there were at the start, the others being spare; None is all.
    """
    columns = penalty.columns
    mass = columns.mass * mixture.weights
    asked = mixture.n_components if n_components is None else n_components
    vanished = (mass * columns.count < LEAST_ROWS * columns.mass) & (jnp.arange(mixture.n_components) < asked)
    per_covariance = mass_per_covariance(mixture, columns)
    seen = spectrum_of(mixture, columns)
    on_floor = seen.relative <= _NEAR_FLOOR * penalty.floor(per_covariance)[:, None]
    counted = jnp.where(penalty.floor_is_fine, seen.singular & ~on_floor, on_floor | seen.singular)
    unresolved = seen.unresolved & ~jnp.asarray(penalty.floor_is_fine)
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
    per_covariance = mass_per_covariance(mixture, columns)
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


class Faults(NamedTuple):
    """Where the covariances of an M-step are what rounding made of them, not the rows or the prior.

    Attributes:
        degenerate: in how many directions, 0 for a covariance of no mass, (n,).
        unresolved: columns whose variance rounding of the data hides, (n, D).
    """

    degenerate: Array
    unresolved: Array


def unless_singular(mixture: Mixture, columns: Columns) -> tuple[Mixture, Faults]:
    """A mixture with NaN for covariances that are singular to rounding, and where those are."""
    seen = spectrum_of(*lax.stop_gradient((mixture, columns)))
    degenerate = jnp.where(mass_per_covariance(mixture, columns) > 0, seen.degenerate(), 0)

    def spoil(leaf: Array) -> Array:
        return jnp.where((degenerate > 0).reshape(-1, *[1] * (leaf.ndim - 1)), jnp.nan, leaf)

    covs = jax.tree.map(spoil, mixture.covs)
    return dataclasses.replace(mixture, covs=covs), Faults(degenerate, seen.unresolved)


def check_not_singular(faults: Faults, n_components: int, prior: Any, names: Names | None = None) -> None:
    """Ask, where faults are concrete, that there are none.

    Raises:
        ValueError: naming the component, the column where one alone is to blame, and the remedy.
    """
    if is_traced(faults) or not (directions := np.asarray(faults.degenerate)).any():
        return
    k = int(np.flatnonzero(directions)[0])
    shared = len(directions) < n_components
    whose = "the covariance that all components share" if shared else f"the covariance of component {k}"
    constant = np.flatnonzero(np.asarray(faults.unresolved)[k])
    if constant.size:
        why = f"{column_label(int(constant[0]), names)} is constant in it to rounding"
    else:
        n_features = np.asarray(faults.unresolved).shape[1]
        why = f"it has a spread in only {max(0, n_features - directions[k])} of {n_features} directions"
    remedy = "a prior such as prior=jaxgmm.Ridge(1e-3)" if prior is None else f"a stronger prior than {prior!r}"
    raise ValueError(
        f"{whose} is singular, so that its density has no bound: {why}. Give {remedy}, a covariance_type of fewer "
        f"parameters, or fewer columns"
    )
