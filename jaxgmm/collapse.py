"""Whether a fit degenerated: components without rows, covariances on the prior's floor."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxgmm._types import Mixture
from jaxgmm.factors import eigenvalues
from jaxgmm.priors import Penalty


def n_collapsed(mixture: Mixture, penalty: Penalty, n_components: ArrayLike | None = None) -> Array:
    """Number of ways in which a mixture has collapsed, (); 0 for a healthy one.

    Counted are components with less mass than one row of average weight; directions in which a covariance is
    the prior's but for a hundredth; and directions in which it is singular to rounding.

    Args:
        mixture: the mixture.
        penalty: the prior it was fitted under, with the columns of its data.
        n_components: how many components there were at the start, the others being spare; None is all.
    """
    n_features = mixture.n_features
    columns = penalty.columns
    eps = float(jnp.finfo(columns.mean.dtype).eps)
    mass = columns.mass * mixture.weights
    asked = mixture.n_components if n_components is None else n_components
    vanished = (mass * columns.count < 0.999 * columns.mass) & (jnp.arange(mixture.n_components) < asked)

    n_covariances = mixture.covs.count
    per_covariance = jnp.sum(mass, keepdims=True) if n_covariances < mass.shape[0] else mass
    floor = penalty.mass / jnp.where(per_covariance > 0, per_covariance + penalty.mass, 1.0)
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
        singular = spectrum <= 3 * n_features * eps
    on_floor = relative <= 1.01 * floor[:, None]
    directions = jnp.sum(on_floor | singular, axis=-1) + jnp.sum(unresolved, axis=-1)
    return jnp.sum(vanished) + jnp.sum(jnp.where(per_covariance > 0, directions, 0))
