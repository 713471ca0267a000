"""A prior as an objective sees it: pseudo-rows and their scatter."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxgmm.model.columns import Columns
from jaxgmm.model.mixture import Mixture


class Penalty(NamedTuple):
    """A prior, prepared: pseudo-rows that every distinct covariance sees.

    log prior(θ) = −½ Σ_j [tr(Q Σ_j⁻¹) + λ log|Σ_j|] over the distinct covariances Σ_j of components that
    are there, with weights above 0.

    Attributes:
        mass: λ, the number of pseudo-rows, ().
        scatter: diagonal of Q, (D,).
        columns: the columns it was prepared from.
        floor_is_fine: whether a covariance may rest on the prior's, ().
    """

    mass: Array
    scatter: Array
    columns: Columns
    floor_is_fine: Any = False

    def floor(self, mass: Array) -> Array:
        """The share of V that is left to covariances of such masses, λ / (N_k + λ), where their rows do not spread."""
        return self.mass / jnp.where(mass > 0, mass + self.mass, 1.0)

    def log_prob(self, mixture: Mixture) -> Array:
        """Log prior(θ), ()."""
        terms = self.mass * mixture.covs.log_det(mixture.n_features)
        terms = terms + mixture.covs.trace_solve(self.scatter[None, :])
        if mixture.covs.count == mixture.n_components:
            terms = jnp.where(mixture.log_weights > -jnp.inf, terms, 0.0)
        return -0.5 * jnp.sum(terms)
