"""Spare components, of log-weight −∞, with which one compiled program serves several K."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.model.covariances.protocol import Covariances
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import POOLED, Moments, Statistic


def with_spares(mixture: Mixture, n_slots: int) -> Mixture:
    """A mixture filled up on the host to `n_slots` components with spare ones, copies of the last of log-weight −∞."""
    spare = max(0, n_slots - mixture.n_components)

    def padded(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        return np.concatenate([leaf, np.repeat(leaf[-1:], spare, axis=0)])

    log_weights: Any = np.pad(np.asarray(mixture.log_weights), (0, spare), constant_values=-np.inf)
    # Of one component the count of covariances does not tell whether others would share its own.
    n_padded = mixture.n_components + spare
    own = mixture.family.factors_shape(n_padded, mixture.n_features)[0] == n_padded
    covs = jax.tree.map(padded, mixture.covs) if own else mixture.covs
    return jax.device_put(Mixture(log_weights, padded(mixture.means), covs, mixture.family))


def choose_covariances(chosen: Array, one: Covariances, other: Covariances) -> Covariances:
    """Covariances of `one` where chosen, (n,), and of `other` elsewhere; `one` may hold 1 that stands for all n."""

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(chosen.reshape(-1, *[1] * (b.ndim - 1)), a, b)

    return jax.tree.map(choose, one, other)


def present(mixture: Mixture) -> Array:
    """Which of the distinct covariances are of a component that is there, of a weight above 0, (n,)."""
    there = mixture.log_weights > -jnp.inf
    return there if mixture.covs.count == there.shape[0] else jnp.any(there, keepdims=True)


def without_spares(mixture: Mixture, n_components: int) -> Mixture:
    """A mixture without its spare components, those from `n_components` on."""
    own = mixture.covs.count == mixture.n_components
    covs = jax.tree.map(lambda leaf: leaf[:n_components], mixture.covs) if own else mixture.covs
    return Mixture(mixture.log_weights[:n_components], mixture.means[:n_components], covs, mixture.family)


def moments_with_spares(moments: Moments, n_spare: int, statistic: Statistic) -> Moments:
    """Stacked moments, in NumPy, with spare components at the end, without rows; scatter that all share stays."""

    def padded(leaf: Any) -> Any:
        return np.pad(leaf, [(0, 0), (0, n_spare), *[(0, 0)] * (leaf.ndim - 2)])

    scatter = moments.scatter if statistic == POOLED else padded(moments.scatter)
    return Moments(padded(moments.mass), padded(moments.mean), scatter)
