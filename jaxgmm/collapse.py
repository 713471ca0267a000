"""Whether a fit degenerated: components without rows, covariances on the prior's floor."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxgmm._types import Mixture
from jaxgmm.priors import Penalty


def n_collapsed(mixture: Mixture, penalty: Penalty, n_components: ArrayLike | None = None) -> Array:
    """Number of ways in which a mixture has collapsed, (); 0 for a healthy one.

    Counted are components with less mass than one row of average weight; directions in which more than
    half of a covariance is the prior's; and directions in which it is singular to rounding.

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

    covariances = mixture.covs.dense(n_features)
    per_covariance = jnp.sum(mass, keepdims=True) if covariances.shape[0] < mass.shape[0] else mass
    floor = penalty.mass / (per_covariance + penalty.mass)
    unit = jnp.sqrt(columns.unit())
    relative = jnp.linalg.eigvalsh(covariances / unit[None, :, None] / unit[None, None, :])
    on_floor = relative <= 2 * floor[:, None]

    variances = jnp.diagonal(covariances, axis1=-2, axis2=-1)
    unresolved = variances <= 4 * columns.resolution()[None, :]
    deviations = jnp.sqrt(variances)
    correlation = covariances / deviations[:, :, None] / deviations[:, None, :]
    singular = jnp.linalg.eigvalsh(correlation) <= 3 * n_features * eps

    directions = jnp.sum(on_floor | singular, axis=-1) + jnp.sum(unresolved, axis=-1)
    return jnp.sum(vanished) + jnp.sum(jnp.where(per_covariance > 0, directions, 0))
