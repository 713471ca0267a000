"""Mixtures from plain arrays, and from mixtures of other families."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxgmm._protocols import Family
from jaxgmm._types import Mixture, Moments
from jaxgmm.arrays import as_floats, float_dtype, is_traced
from jaxgmm.checks import check_mixture
from jaxgmm.families import family_of
from jaxgmm.maximisation import maximise
from jaxgmm.moments import POOLED, columns_of, convert
from jaxgmm.priors import prepare
from jaxgmm.zero_weights import log_weight


def make_mixture(
    weights: ArrayLike, means: ArrayLike, covariances: ArrayLike, *, covariance_type: Any = "full"
) -> Mixture:
    """Build a mixture from plain arrays, and validate them.

    Args:
        weights: π_k, (K,), non-negative, with sum 1.
        means: μ_k, (K, D).
        covariances: in scikit-learn's shape: "full" (K, D, D), "tied" (D, D), "diag" (K, D), "spherical" (K,).
        covariance_type: a name or a family.

    Returns:
        The mixture. Under a trace values are not checked, and bad ones give NaN.

    Raises:
        TypeError: if an argument holds no real numbers.
        ValueError: if shapes do not match, weights are negative or do not sum to 1, or a covariance is not
            symmetric or not positive definite; the component is named.
    """
    family = family_of(covariance_type)
    dtype = _common_dtype(weights, means, covariances)
    weights, means = (as_floats(value, name).astype(dtype) for value, name in ((weights, "weights"), (means, "means")))
    covariances = as_floats(covariances, "covariances").astype(weights.dtype)
    if means.ndim != 2 or 0 in means.shape:
        raise ValueError(f"means must have shape (K, D), not {means.shape}")
    n_components, n_features = means.shape
    if weights.shape != (n_components,):
        raise ValueError(f"weights must have shape ({n_components},), one for each of means, not {weights.shape}")
    expected = family.shape(n_components, n_features)
    if covariances.shape != expected:
        raise ValueError(f"covariances of type {family.name!r} must have shape {expected}, not {covariances.shape}")
    concrete = not is_traced(weights, means, covariances)
    if concrete:
        _check_values(np.asarray(weights), np.asarray(means), np.asarray(covariances), family)
    mixture = _assemble(weights, means.astype(weights.dtype), covariances, family)
    factors = np.asarray(jax.tree.leaves(mixture.covs)[0]) if concrete else np.zeros(0)
    if not np.isfinite(factors).all():
        k = np.argwhere(~np.isfinite(factors))[0][0]
        raise ValueError(f"covariances must be positive definite, but component {k} is not in {weights.dtype}")
    return mixture


def _assemble(weights: Array, means: Array, covariances: Array, family: Family) -> Mixture:
    log_weights = log_weight(weights / jnp.sum(weights))
    return Mixture(log_weights, means, family.from_array(covariances), family)


def project(mixture: Mixture, covariance_type: Any) -> Mixture:
    """The nearest mixture of another family, by the M-step's own rule.

    It minimises Σ_k π_k KL(N(μ_k, Σ_k) ‖ N(μ_k, Σ'_k)) over the family: "tied" averages the covariances with
    their weights, "diag" keeps the variances, "spherical" averages them.

    Args:
        mixture: the mixture.
        covariance_type: a name or a family.

    Returns:
        A mixture with the same weights and means.

    Raises:
        TypeError: if the mixture is none.
        ValueError: if the family is not known.
    """
    check_mixture(mixture)
    family = family_of(covariance_type)
    return mixture if family == mixture.family else _project(mixture, family)


@functools.partial(jax.jit, static_argnums=1)
def _project(mixture: Mixture, family: Family) -> Mixture:
    mass = mixture.weights
    # Components without weight keep their own covariance, in the new family: mass cancels per component. They have no
    # part in a common one.
    least = 0.0 if family.statistic == POOLED else float(jnp.finfo(mass.dtype).eps) ** 2
    alone = jnp.where(mass > 0, mass, least)
    moments = Moments(alone, mixture.means, alone[:, None, None] * mixture.covariances)
    moments = convert(moments, family.statistic)
    # No data, no rounding of theirs: variances as small as the dtype holds are kept.
    columns = columns_of(moments)
    columns = columns._replace(mean=jnp.zeros_like(columns.mean), variance=jnp.zeros_like(columns.variance))
    projected = maximise(moments, family, prepare(None, columns))
    return Mixture(mixture.log_weights, mixture.means, projected.covs, family)


def with_spares(mixture: Mixture, n_slots: int) -> Mixture:
    """The same mixture with spare components up to `n_slots`: copies of the last with log-weight −∞."""
    spare = max(0, n_slots - mixture.n_components)

    def padded(leaf: Array) -> Array:
        return jnp.concatenate([leaf, jnp.repeat(leaf[-1:], spare, axis=0)])

    log_weights = jnp.pad(mixture.log_weights, (0, spare), constant_values=-jnp.inf)
    own = mixture.covs.count == mixture.n_components
    covs = jax.tree.map(padded, mixture.covs) if own else mixture.covs
    return Mixture(log_weights, padded(mixture.means), covs, mixture.family)


def without_spares(mixture: Mixture, n_components: int) -> Mixture:
    """The first components of a mixture, the others being spare."""
    own = mixture.covs.count == mixture.n_components
    covs = jax.tree.map(lambda leaf: leaf[:n_components], mixture.covs) if own else mixture.covs
    return Mixture(mixture.log_weights[:n_components], mixture.means[:n_components], covs, mixture.family)


def _common_dtype(*values: Any) -> Any:
    """The widest among arrays; plain lists have no say beside them."""
    arrays = [value for value in values if hasattr(value, "dtype")]
    return float_dtype(*(arrays or [np.zeros(0)]))


def _check_values(weights: np.ndarray, means: np.ndarray, covariances: np.ndarray, family: Family) -> None:
    eps = float(jnp.finfo(weights.dtype).eps)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        k = int(np.argmax(~(np.isfinite(weights) & (weights >= 0))))
        raise ValueError(f"weights must be finite and at least 0, but component {k} has {weights[k]}")
    if abs(weights.sum(dtype=np.float64) - 1) > 100 * eps * len(weights) + 1e-6:
        raise ValueError(f"weights must sum to 1, not {weights.sum(dtype=np.float64):.9g}")
    if not np.isfinite(means).all():
        k, d = np.argwhere(~np.isfinite(means))[0]
        raise ValueError(f"means must be finite, but component {k} has {means[k, d]} in column {d}")
    if family.statistic.products:
        _check_matrices(covariances.reshape(-1, *covariances.shape[-2:]).astype(np.float64), eps)
    else:
        _check_variances(covariances)


def _check_variances(variances: np.ndarray) -> None:
    # XLA takes numbers below the smallest normal one for 0.
    bad = ~(np.isfinite(variances) & (variances >= jnp.finfo(variances.dtype).tiny))
    if bad.any():
        where = np.argwhere(bad)[0]
        value = variances[tuple(where)]
        small = f", which counts as 0 in {variances.dtype}" if value > 0 and np.isfinite(value) else ""
        raise ValueError(f"covariances must be finite and positive, but component {where[0]} has {value}{small}")


def _check_matrices(matrices: np.ndarray, eps: float) -> None:
    for k, matrix in enumerate(matrices):
        if not np.isfinite(matrix).all():
            raise ValueError(f"covariances must be finite, but component {k} holds NaN or infinity")
        scale = np.sqrt(np.abs(np.outer(np.diag(matrix), np.diag(matrix))))
        if (np.abs(matrix - matrix.T) > 100 * eps * scale).any():
            raise ValueError(f"covariances must be symmetric, but component {k} is not")
        try:
            np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            raise ValueError(f"covariances must be positive definite, but component {k} is not") from None
