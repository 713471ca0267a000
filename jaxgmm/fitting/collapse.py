"""Whether a fit degenerated: components without rows, covariances on the prior's floor."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxgmm.host.arrays import Names, column_label, is_traced
from jaxgmm.model.columns import Columns
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import mass_of_distinct
from jaxgmm.model.priors.penalty import Penalty, Prior
from jaxgmm.numerics.factors import eigenvalues
from jaxgmm.numerics.linalg import product

LEAST_ROWS = 0.999
"""The mass, in rows of average weight, below which a component has vanished: one, less rounding."""

_NEAR_FLOOR = 1.01
"""The factor by which a variance may exceed the prior's floor and still count as lying on it."""

_LOW_FLOOR = 1e-6
"""The floor, as a share of a column's variance, below which a component on it attracts no other rows."""


class Spectrum(NamedTuple):
    """Variances of each of n distinct covariances along its principal directions.

    Attributes:
        relative: variances along the principal directions, columns in units of their standard deviations, (n, D).
        singular: whether the correlation matrix is singular to rounding in each of its principal directions, (n, D).
        unresolved: whether each column's variance is too small to tell from rounding of the data, (n, D).
    """

    relative: Array
    singular: Array
    unresolved: Array

    def degenerate(self) -> Array:
        """The number of directions in which each covariance is rounding error only, (n,)."""
        return jnp.sum(self.singular, axis=-1) + jnp.sum(self.unresolved, axis=-1)


def spectrum_of(mixture: Mixture, columns: Columns) -> Spectrum:
    """The spectrum of each distinct covariance, relative to the variances of the data's columns."""
    n_features = mixture.n_features
    deviations = jnp.broadcast_to(mixture.covs.deviations(), (mixture.covs.count, n_features))
    unresolved = deviations**2 <= 4 * columns.resolution()[None, :]
    relative = (deviations / jnp.sqrt(columns.unit())[None, :]) ** 2
    singular = jnp.zeros_like(unresolved)
    if mixture.covs.mixes:
        covariances = mixture.covs.dense()
        unit = jnp.sqrt(columns.unit())
        scaled = covariances / unit[None, :, None] / unit[None, None, :]
        correlation = covariances / deviations[:, :, None] / deviations[:, None, :]
        relative, spectrum = eigenvalues(jnp.stack([scaled, correlation]))
        singular = spectrum <= _singular(mixture)
    return Spectrum(relative, singular, unresolved)


def mass_per_covariance(mixture: Mixture, columns: Columns) -> Array:
    """The total mass of the components that use each distinct covariance, (n,)."""
    return mass_of_distinct(columns.mass * mixture.weights, mixture.covs.count)


def n_collapsed(mixture: Mixture, columns: Columns, penalty: Penalty, n_components: ArrayLike | None = None) -> Array:
    """The number of degenerate components and covariance directions in a mixture, (); 0 unless it has collapsed.

    It counts components with less mass than one row of average weight; directions in which a covariance is within a
    hundredth of the prior's floor, unless `floor_is_fine`; and directions in which it is singular to rounding.

    Args:
        mixture: the mixture.
        columns: what is known of its data's columns.
        penalty: the prior it was fitted under.
        n_components: the number of components at the start, further ones being spare; None is all.
    """
    mass = columns.mass * mixture.weights
    asked = mixture.n_components if n_components is None else n_components
    vanished = (mass * columns.count < LEAST_ROWS * columns.mass) & (jnp.arange(mixture.n_components) < asked)
    per_covariance = mass_per_covariance(mixture, columns)
    seen = spectrum_of(mixture, columns)
    on_floor = seen.relative <= _floor(per_covariance, columns, penalty)[:, None]
    counted = jnp.where(penalty.floor_is_fine, seen.singular & ~on_floor, on_floor | seen.singular)
    unresolved = seen.unresolved & ~jnp.asarray(penalty.floor_is_fine)
    directions = jnp.sum(counted, axis=-1) + jnp.sum(unresolved, axis=-1)
    return jnp.sum(vanished) + jnp.sum(jnp.where(per_covariance > 0, directions, 0))


def _floor(per_covariance: Array, columns: Columns, penalty: Penalty) -> Array:
    """The variances, (n,), up to which a covariance counts as lying on the prior's floor.

    What is missing of a flat column is filled in by the covariance itself, and says nothing against the prior: the
    floor is that of the mass in which the column was observed.
    """
    return _NEAR_FLOOR * penalty.floor(per_covariance * columns.least_observed())


def collapsed_for_good(mixture: Mixture, columns: Columns, penalty: Penalty) -> Array:
    """Whether a component is so flat that further steps cannot widen it again, ().

    A component is flat where its correlation matrix is singular to rounding, or its variance in columns that vary lies
    on a very low floor. Its log-density is then lower by thousands of nats at any row off it, however near, so that it
    keeps its rows, and they keep it flat. Other collapses that `n_collapsed` counts may pass: a component of little
    mass may grow, one on a higher floor may widen, and in a constant column every component is flat. Unlike
    `n_collapsed` this needs no spectrum, so that it is cheap enough for every step.
    """
    covs, n_features = mixture.covs, mixture.n_features
    per_covariance = mass_per_covariance(mixture, columns)
    floor = _floor(per_covariance, columns, penalty)
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
    """A lower bound of the largest eigenvalue λ of A Aᵀ for A (..., D, D): Σλ⁴/Σλ³, close where it is far above all."""
    gram = product("...ij,...kj->...ik", roots, roots)
    whole = jnp.trace(gram, axis1=-2, axis2=-1)
    gram = gram / whole[..., None, None]
    square = product("...ij,...jk->...ik", gram, gram)
    return whole * jnp.sum(square**2, axis=(-2, -1)) / jnp.sum(square * gram, axis=(-2, -1))


def _singular(mixture: Mixture) -> float:
    """The eigenvalue of a correlation matrix below which it is rounding error only."""
    return 3 * mixture.n_features * float(jnp.finfo(mixture.means.dtype).eps)


class Faults(NamedTuple):
    """Where the covariances of an M-step are rounding error only.

    Attributes:
        degenerate: the number of such directions of each covariance, 0 for one without mass, (n,).
        unresolved: whether each column's variance is too small to tell from rounding of the data, (n, D).
    """

    degenerate: Array
    unresolved: Array


def unless_singular(mixture: Mixture, columns: Columns) -> tuple[Mixture, Faults]:
    """The mixture with NaN for covariances that are singular to rounding, and the `Faults` that say where."""
    seen = spectrum_of(*lax.stop_gradient((mixture, columns)))
    degenerate = jnp.where(mass_per_covariance(mixture, columns) > 0, seen.degenerate(), 0)

    def spoil(leaf: Array) -> Array:
        return jnp.where((degenerate > 0).reshape(-1, *[1] * (leaf.ndim - 1)), jnp.nan, leaf)

    covs = jax.tree.map(spoil, mixture.covs)
    return dataclasses.replace(mixture, covs=covs), Faults(degenerate, seen.unresolved)


def check_not_singular(faults: Faults, n_components: int, prior: Prior | None, names: Names | None = None) -> None:
    """Raise where the covariances are concrete and one is singular to rounding.

    Raises:
        ValueError: the message names the component, the column if a single one is the cause, and the remedy.
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
