"""Affine maps and moments of mixtures, in closed form."""

from __future__ import annotations

import functools

import jax.numpy as jnp
from jax import Array
from numpy.typing import ArrayLike

from jaxgmm.host.arrays import as_floats, is_traced
from jaxgmm.model.covariances.dense import Dense, as_dense
from jaxgmm.model.covariances.diagonal import Diagonal
from jaxgmm.model.covariances.protocol import Covariances
from jaxgmm.model.fitted import Fitted, as_mixture
from jaxgmm.model.general import unrestricted
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics.factors import lower_factor
from jaxgmm.numerics.linalg import product
from jaxgmm.numerics.programs import program


def affine(mixture: Mixture | Fitted, A: ArrayLike, b: ArrayLike = 0.0) -> Mixture:
    """The distribution of y = A x + b, for x from a mixture.

    Args:
        mixture: the mixture of x.
        A: a matrix of full row rank, (D', D) with D' ≤ D; or a non-zero factor for each column, (D,), or for
            all, ().
        b: shift, (D',) or ().

    Returns:
        The mixture of y. A matrix keeps "full" and "tied" and makes the others "full"; factors keep all but
        "spherical", which they make "diag"; one factor keeps every family.

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit, or A or b holds no real numbers.
        ValueError: if shapes do not match, or a factor is zero.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> print(jaxgmm.affine(mixture, 2.0, 1.0).means)
        [[1. 1.]
         [9. 9.]]
    """
    mixture = as_mixture(mixture)
    dtype = mixture.means.dtype
    A = as_floats(A, "A", mixture.means).astype(dtype)
    b = as_floats(b, "b", mixture.means).astype(dtype)
    n_features = mixture.n_features
    if A.ndim > 2 or (A.ndim and A.shape[-1] != n_features):
        raise ValueError(f"A has shape {A.shape}, but the mixture has {n_features} columns")
    if A.ndim == 2 and not 0 < A.shape[0] <= n_features:
        raise ValueError(f"A has shape {A.shape}: with more rows than columns y has no density")
    n_out = A.shape[0] if A.ndim == 2 else n_features
    if b.shape not in ((), (n_out,)):
        raise ValueError(f"b must have shape ({n_out},) or (), not {b.shape}")
    if A.ndim < 2 and not is_traced(A) and not jnp.all(A != 0):
        raise ValueError(f"A must not be zero, or y has no density; it is {A}")
    return _affine(mixture, A, jnp.broadcast_to(b, (n_out,)))


@program()
def _affine(mixture: Mixture, A: Array, b: Array) -> Mixture:
    n_features, shift = mixture.n_features, b[None, :]
    if A.ndim == 2:
        return _transformed(mixture, A, shift)
    factors = jnp.broadcast_to(A, (n_features,))
    means = mixture.means * factors[None, :] + shift
    if A.ndim == 0:
        return Mixture(mixture.log_weights, means, mixture.covs.rescale(jnp.abs(factors)), mixture.family)
    image = Mixture(mixture.log_weights, means, _stretched(mixture.covs, factors), mixture.family)
    return image if mixture.family.scales_columns else unrestricted(image)


@functools.singledispatch
def _stretched(covs: Covariances, factors: Array) -> Covariances:
    """Covariances after column j is multiplied by factors[j] of any sign.

    |a| on the rows of L, and the sign of a on both sides, keep the diagonal positive.
    """
    sign = jnp.sign(factors)
    return Dense(as_dense(covs).cholesky * factors[None, :, None] * sign[None, None, :])


@_stretched.register
def _(covs: Diagonal, factors: Array) -> Diagonal:
    return Diagonal(covs.scale * jnp.abs(factors)[None, :])


def total_moments(mixture: Mixture | Fitted) -> tuple[Array, Array]:
    """Mean and covariance of the whole mixture.

    The mean is m = Σ_k π_k μ_k, the covariance Σ_k π_k [Σ_k + (μ_k − m)(μ_k − m)ᵀ].

    Args:
        mixture: the mixture.

    Returns:
        Mean, (D,), and covariance, (D, D).

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit.
        ValueError: if it is a stack of mixtures.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> mean, covariance = jaxgmm.total_moments(mixture)
        >>> print(np.asarray(mean).round(3))
        [2.4 2.4]
    """
    mixture = as_mixture(mixture)
    return _total_moments(mixture)


@program()
def _total_moments(mixture: Mixture) -> tuple[Array, Array]:
    weights = mixture.weights
    mean = jnp.sum(weights[:, None] * mixture.means, axis=0)
    shift = mixture.means - mean[None, :]
    between = product("k,ki,kj->ij", weights, shift, shift)
    return mean, jnp.sum(weights[:, None, None] * mixture.covariances, axis=0) + between


def _transformed(mixture: Mixture, matrix: Array, shift: Array) -> Mixture:
    means = product("ij,kj->ki", matrix, mixture.means) + shift
    covs = Dense(lower_factor(_rows_after(mixture.covs, matrix)))
    image = Mixture(mixture.log_weights, means, covs, mixture.family)
    return image if mixture.family.closed and mixture.covs.mixes else unrestricted(image)


@functools.singledispatch
def _rows_after(covs: Covariances, matrix: Array) -> Array:
    """A L_k, (K, D', D), for A (D', D)."""
    return product("ij,kjl->kil", matrix, as_dense(covs).cholesky)


@_rows_after.register
def _(covs: Diagonal, matrix: Array) -> Array:
    return matrix[None] * covs.scale[:, None, :]
