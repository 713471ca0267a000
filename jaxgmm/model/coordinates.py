"""Unconstrained coordinates: softmax of a sum-to-zero vector, means, log-Cholesky."""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, nn

from jaxgmm.model.fitted import Fitted, as_mixture
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics.linalg import product
from jaxgmm.numerics.trees import register_dataclass


@register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Params:
    """A mixture in unconstrained coordinates, where all real values are valid.

    Attributes:
        logits: coordinates of log π less its mean, in an orthonormal basis of the vectors that sum to
            zero, (K−1,).
        means: μ_k, (K, D).
        scales: for each distinct covariance, D log-diagonal entries of its Cholesky factor followed by
            the entries below the diagonal, row by row; log standard deviations for diagonal families.
        family: the constraint on the covariances.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> params = jaxgmm.unconstrain(mixture)
        >>> params.logits.shape, params.means.shape, params.scales.shape
        ((1,), (2, 2), (2, 3))
    """

    logits: Array
    means: Array
    scales: Array
    family: Any = dataclasses.field(metadata={"static": True})


def unconstrain(mixture: Mixture | Fitted) -> Params:
    """A mixture in unconstrained coordinates; the inverse of `constrain`.

    logits = Hᵀ log π with H (K, K−1) orthonormal and orthogonal to the vector of ones; means as they are;
    the Cholesky factor's log-diagonal and the entries below it, or log standard deviations.

    Args:
        mixture: the mixture. A log-weight of −∞ has no finite coordinates and is raised to the log of
            the smallest normal number, relative to the largest.

    Returns:
        The coordinates.

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit.
        ValueError: if it is a stack of mixtures.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> params = jaxgmm.unconstrain(mixture)
        >>> bool(jnp.allclose(jaxgmm.constrain(params).covariances, mixture.covariances))
        True
    """
    mixture = as_mixture(mixture)
    return _unconstrain(mixture)


@jax.jit
def _unconstrain(mixture: Mixture) -> Params:
    smallest = float(np.log(jnp.finfo(mixture.log_weights.dtype).tiny))
    log_weights = mixture.log_weights - jnp.max(mixture.log_weights)
    log_weights = jnp.where(log_weights > smallest, log_weights, smallest)
    basis = jnp.asarray(_sum_to_zero_basis(mixture.n_components), mixture.means.dtype)
    logits = product("kj,k->j", basis, log_weights - jnp.mean(log_weights))
    return Params(logits, mixture.means, mixture.family.pack(mixture.covs), mixture.family)


def constrain(params: Params) -> Mixture:
    """The mixture that unconstrained coordinates represent; all real values are valid.

    Args:
        params: the coordinates.

    Returns:
        The mixture: log π = log softmax(H·logits), L with exp(log-diagonal).

    Raises:
        TypeError: if the coordinates are something else.
        ValueError: if they are of a stack of mixtures.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> params = jaxgmm.unconstrain(mixture)
        >>> moved = jaxgmm.constrain(jax.tree.map(lambda leaf: leaf + 1.0, params))
        >>> print(moved.means)
        [[1. 1.]
         [5. 5.]]
    """
    _check_params(params)
    return _constrain(params)


@jax.jit
def _constrain(params: Params) -> Mixture:
    n_components, n_features = params.means.shape
    chex.assert_shape(params.logits, (n_components - 1,))
    basis = jnp.asarray(_sum_to_zero_basis(n_components), params.means.dtype)
    log_weights = nn.log_softmax(product("kj,j->k", basis, params.logits))
    family = params.family
    covs = family.unpack(params.scales, family.n_distinct(n_components), n_features)
    return Mixture(log_weights, params.means, covs, family)


def log_det_jacobian(params: Params) -> Array:
    """The log-determinant log|∂θ/∂params|, which a sampler of params adds to a log-density over θ.

    θ holds π_1 … π_{K−1}, the means, and the distinct covariances' free entries (variances where
    diagonal). The weights contribute ½ log K + Σ_k log π_k, the means nothing, a Cholesky factor
    D log 2 + Σ_i (D − i + 2) log L_ii. A family whose covariances have entries in common names those that θ holds.

    Args:
        params: the coordinates.

    Returns:
        ().

    Raises:
        TypeError: if the coordinates are something else.
        ValueError: if they are of a stack of mixtures.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> round(float(jaxgmm.log_det_jacobian(jaxgmm.unconstrain(mixture))), 3)
        1.692
    """
    _check_params(params)
    return _log_det_jacobian(params)


@jax.jit
def _log_det_jacobian(params: Params) -> Array:
    n_components, n_features = params.means.shape
    log_weights = _constrain(params).log_weights
    weights = 0.5 * float(np.log(n_components)) + jnp.sum(log_weights)
    family = params.family
    return weights + family.log_det_jacobian(params.scales, family.n_distinct(n_components), n_features)


def _check_params(params: Any) -> None:
    if not isinstance(params, Params):
        hint = ": pass it to unconstrain first" if isinstance(params, Mixture) else ""
        raise TypeError(f"params must be Params, as unconstrain returns them, not {type(params).__name__}{hint}")
    if params.means.ndim != 2:
        raise ValueError(f"params are of a stack {params.means.shape[:-2]} of mixtures: map over it with jax.vmap")


def _sum_to_zero_basis(n_components: int) -> np.ndarray:
    """Helmert's orthonormal basis of the vectors that sum to zero, (K, K−1)."""
    basis = np.zeros((n_components, n_components - 1))
    for j in range(1, n_components):
        basis[:j, j - 1] = 1.0
        basis[j, j - 1] = -j
        basis[:, j - 1] /= np.sqrt(j * (j + 1))
    return basis
