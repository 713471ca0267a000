"""Slots: components that stand by with log-weight −∞, so that one program serves several K."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm.model.mixture import Mixture


def with_spares(mixture: Mixture, n_slots: int) -> Mixture:
    """The same mixture with spare components up to `n_slots`: copies of the last with log-weight −∞."""
    spare = max(0, n_slots - mixture.n_components)

    def padded(leaf: Array) -> Array:
        return jnp.concatenate([leaf, jnp.repeat(leaf[-1:], spare, axis=0)])

    log_weights = jnp.pad(mixture.log_weights, (0, spare), constant_values=-jnp.inf)
    # Of one component the count of covariances does not tell whether others would share its own.
    n_padded = mixture.n_components + spare
    own = mixture.family.factors_shape(n_padded, mixture.n_features)[0] == n_padded
    covs = jax.tree.map(padded, mixture.covs) if own else mixture.covs
    return Mixture(log_weights, padded(mixture.means), covs, mixture.family)


def without_spares(mixture: Mixture, n_components: int) -> Mixture:
    """The first components of a mixture, the others being spare."""
    own = mixture.covs.count == mixture.n_components
    covs = jax.tree.map(lambda leaf: leaf[:n_components], mixture.covs) if own else mixture.covs
    return Mixture(mixture.log_weights[:n_components], mixture.means[:n_components], covs, mixture.family)
