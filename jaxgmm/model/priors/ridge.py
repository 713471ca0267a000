"""The ridge prior, which keeps covariances from collapsing."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jaxgmm.model.columns import Columns
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, distinct, mass_of_distinct, statistic_of
from jaxgmm.model.priors.penalty import Masses, Penalty, Prior
from jaxgmm.numerics.trees import register_dataclass


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Ridge:
    """A prior that keeps covariances from collapsing and fits from diverging.

    log prior = −(λ/2) Σ_j [tr(V Σ_j⁻¹) + log|Σ_j|] over the distinct covariances, with λ = s·Σw and V the
    diagonal of the columns' variances (1 for a constant column). The M-step is then exactly
    Σ_k = (S_k + λV) / (N_k + λ): a component that loses its rows moves to V, the likelihood is bounded
    (the penalty has the form of Chen & Tan 2009), and the fit scales with the data. It widens a
    variance σ² by about s·(V/σ²)·N/N_k.

    A covariance of N_k rows that do not spread in some column j rests on a floor there, the variance
    λV_j / (N_k + λ), in the column's units about s·V_j·N/N_k. Such a fit counts as collapsed: with the default strength
    its likelihood says no more than that the floor is low. Where components without spread are meant, as a
    flat segment of an image is, choose the floor, for a deviation of σ in a column of deviation S and a share π of the
    rows s = π (σ/S)², and say that it is fine.

    Attributes:
        strength: s; None picks 1e-12 in float32 and 1e-20 in float64.
        floor_is_fine: whether a component may rest on the floor without being `COLLAPSED`; static.

    Example:
        >>> x = [[0.0, 0.0], [4.0, 4.0]]
        >>> mixture = jaxgmm.from_responsibilities(x, np.eye(2), prior=jaxgmm.Ridge(0.5))
        >>> print(np.asarray(mixture.covariances[0]).round(3))
        [[2. 0.]
         [0. 2.]]
    """

    strength: Any = None
    floor_is_fine: bool = dataclasses.field(default=False, metadata={"static": True})

    def settle(self, dtype: DTypeLike) -> Ridge:
        """The prior with its strength as an array, so that all strengths share one compiled program."""
        strength = self.strength
        if strength is None:
            strength = 1e-20 if dtype == jnp.float64 else 1e-12
        held = strength.astype(dtype) if isinstance(strength, Array) else np.asarray(strength, dtype)
        return dataclasses.replace(self, strength=held)

    def prepare(self, columns: Columns) -> Penalty:
        """The penalty of this prior for data with given columns."""
        mass = self.settle(columns.mean.dtype).strength * columns.mass
        return PseudoRows(mass, mass * columns.unit(), jnp.asarray(self.floor_is_fine))


class PseudoRows(NamedTuple):
    """Pseudo-rows without a place: every distinct covariance sees them, no weight and no mean does.

    log prior(θ) = −½ Σ_j [tr(Q Σ_j⁻¹) + λ log|Σ_j|] over the distinct covariances Σ_j of components that
    are there, with weights above 0.

    Attributes:
        mass: λ, the number of pseudo-rows, ().
        scatter: diagonal of Q, (D,).
        floor_is_fine: whether a covariance may rest on the prior's, ().
    """

    mass: Array
    scatter: Array
    floor_is_fine: Any = False

    def masses(self, mass: Array, n_distinct: int) -> Masses:
        """N_k for weights and means, N_j + λ for covariances."""
        return Masses(mass, mass, mass_of_distinct(mass, n_distinct) + self.mass)

    def added(self, moments: Moments, n_distinct: int) -> tuple[Masses, Moments]:
        """Moments of the distinct covariances, S_j + Q of N_j + λ rows; means as they are."""
        masses, scatter = self.masses(moments.mass, n_distinct), distinct(moments, n_distinct)
        of_rows = statistic_of(moments).of_diagonal(self.scatter[None, :])
        return masses, Moments(masses.covariances, moments.mean, scatter + of_rows)

    def with_rows(self, mass: Array, scatter: Array) -> PseudoRows:
        """λ and Q with more pseudo-rows."""
        return self._replace(mass=self.mass + mass, scatter=self.scatter + scatter)

    def floor(self, mass: Array) -> Array:
        """The share of V that is left to covariances of such masses, λ / (N_k + λ), where their rows do not spread."""
        return self.mass / jnp.where(mass > 0, mass + self.mass, 1.0)

    def log_prob(self, mixture: Mixture) -> Array:
        """Log prior(θ), ()."""
        terms = self.mass * mixture.covs.log_det()
        terms = terms + mixture.covs.trace_solve(self.scatter[None, :])
        if mixture.covs.count == mixture.n_components:
            terms = jnp.where(mixture.log_weights > -jnp.inf, terms, 0.0)
        return -0.5 * jnp.sum(terms)


def settle(prior: Prior | None, dtype: DTypeLike) -> Prior:
    """A prior ready to be traced; None, maximum likelihood, is `Ridge` of strength 0."""
    return (Ridge(0.0) if prior is None else prior).settle(dtype)


def prepare(prior: Prior | None, columns: Columns) -> Penalty:
    """The penalty of a prior, or of None."""
    return settle(prior, columns.mean.dtype).prepare(columns)
