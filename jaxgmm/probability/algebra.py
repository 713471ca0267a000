"""Marginals, conditionals, affine maps and moments of mixtures, in closed form."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jaxgmm.data.centring import about, centre_of
from jaxgmm.data.kernels.shares import log_shares
from jaxgmm.data.kernels.whitened import farthest, prepare
from jaxgmm.host.arrays import Names, as_floats, is_traced
from jaxgmm.host.checks import as_count
from jaxgmm.model.covariances.dense import Dense
from jaxgmm.model.covariances.diagonal import Diagonal
from jaxgmm.model.families.dense import FULL
from jaxgmm.model.families.diagonal import DIAG, SPHERICAL
from jaxgmm.model.fitted import Fitted, as_mixture, check_names, names_in
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics.factors import inverse_lower, lower_factor
from jaxgmm.numerics.linalg import product


def marginal(mixture: Mixture | Fitted, dims: Sequence[int]) -> Mixture:
    """The marginal distribution of some columns, in the same family.

    Args:
        mixture: the mixture.
        dims: indices of the columns to keep, in the order wanted; static.

    Returns:
        The mixture of x[dims].

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit, or dims holds no integers.
        ValueError: if dims is empty, repeats a column or names one that does not exist.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> print(jaxgmm.marginal(mixture, [1]).means)
        [[0.]
         [4.]]
    """
    mixture = as_mixture(mixture)
    return _marginal(mixture, tuple(_columns(mixture, dims)))


@functools.partial(jax.jit, static_argnums=1)
def _marginal(mixture: Mixture, columns: tuple[int, ...]) -> Mixture:
    kept, covs = list(columns), mixture.covs
    if isinstance(covs, Dense):
        covs = Dense(lower_factor(covs.cholesky[:, kept, :]))
    elif covs.scale.shape[-1] > 1:
        covs = Diagonal(covs.scale[:, kept])
    return dataclasses.replace(mixture, means=mixture.means[:, kept], covs=covs)


def condition(mixture: Mixture | Fitted, dims: Sequence[int], values: ArrayLike) -> Mixture:
    """The conditional distribution of the other columns, given the values of some.

    With a the other columns, b = dims and v = values: π_k ∝ π_k N(v; μ_b, Σ_bb), μ_k = μ_a + Σ_ab Σ_bb⁻¹ (v − μ_b) and
    Σ_k = Σ_aa − Σ_ab Σ_bb⁻¹ Σ_ba; in the same family.

    Args:
        mixture: the mixture.
        dims: indices of the columns whose values are given, at least one and not all; static.
        values: v, their values, (len(dims),).

    Returns:
        The mixture of the other columns, in their order.

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit, dims holds no integers, or values no real numbers.
        ValueError: if dims is empty, names every column, repeats one or names one that does not exist, or if
            values has another length.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> print(np.asarray(jaxgmm.condition(mixture, [0], [3.0]).weights).round(3))
        [0.012 0.988]
    """
    names, mixture = names_in(mixture), as_mixture(mixture)
    known = _columns(mixture, dims)
    check_names(values, None if names is None else Names(names[d] for d in known), "values")
    other = [d for d in range(mixture.n_features) if d not in set(known)]
    if not other:
        raise ValueError(f"dims {tuple(known)} are all {mixture.n_features} columns: none is left to describe")
    values = as_floats(values, "values", mixture.means).astype(mixture.means.dtype)
    if values.shape != (len(known),):
        raise ValueError(f"values must have shape ({len(known)},), one for each of dims, not {values.shape}")
    return _condition(mixture, tuple(known), tuple(other), values)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _condition(mixture: Mixture, dims: tuple[int, ...], others: tuple[int, ...], values: Array) -> Mixture:
    known, other = list(dims), list(others)
    covs, means = mixture.covs, mixture.means
    residual = values[None, :] - means[:, known]
    if isinstance(covs, Dense):
        # With the known columns first, L = [[L_bb, 0], [L_ab, L_aa]]: Σ_ab Σ_bb⁻¹ = L_ab L_bb⁻¹, and L_aa is
        # the factor of the Schur complement.
        split = len(known)
        factors = lower_factor(covs.cholesky[:, [*known, *other], :])
        observed = Dense(factors[:, :split, :split])
        whitened = jnp.sum(inverse_lower(observed.cholesky) * residual[:, None, :], axis=-1)
        shift = jnp.sum(factors[:, split:, :split] * whitened[:, None, :], axis=-1)
        rest: Any = Dense(factors[:, split:, split:])
    else:
        common = covs.scale.shape[-1] == 1
        observed = covs if common else Diagonal(covs.scale[:, known])
        rest = covs if common else Diagonal(covs.scale[:, other])
        whitened, shift = observed.solve(residual), 0.0
    # A component too far to be squared, beside one that is not, has no part in what is left.
    near = jnp.max(jnp.abs(whitened), axis=-1) < farthest(whitened.dtype, len(known))
    there = near | ~jnp.any(near & (mixture.log_weights > -jnp.inf))
    marginal = Mixture(jnp.where(there, mixture.log_weights, -jnp.inf), means[:, known], observed, mixture.family)
    centre = centre_of(marginal)
    log_weights = log_shares(prepare(about(marginal, centre)), (values - centre)[:, None])[:, 0]
    return Mixture(log_weights, means[:, other] + shift, rest, mixture.family)


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


@jax.jit
def _affine(mixture: Mixture, A: Array, b: Array) -> Mixture:
    n_features, shift = mixture.n_features, b[None, :]
    if A.ndim == 2:
        return _transformed(mixture, A, shift)
    factors = jnp.broadcast_to(A, (n_features,))
    means = mixture.means * factors[None, :] + shift
    covs, family = mixture.covs, mixture.family
    if isinstance(covs, Dense):
        # |a| on the rows, and the sign of a on both sides, keep the diagonal positive.
        sign = jnp.sign(factors)
        covs = Dense(covs.cholesky * factors[None, :, None] * sign[None, None, :])
    elif covs.scale.shape[-1] == 1 and A.ndim:
        covs, family = (
            Diagonal(covs.scale * jnp.abs(factors)[None, :]),
            DIAG if family == SPHERICAL else family,
        )
    else:
        covs = covs.rescale(jnp.abs(factors))
    return Mixture(mixture.log_weights, means, covs, family)


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


@jax.jit
def _total_moments(mixture: Mixture) -> tuple[Array, Array]:
    weights = mixture.weights
    mean = jnp.sum(weights[:, None] * mixture.means, axis=0)
    shift = mixture.means - mean[None, :]
    between = product("k,ki,kj->ij", weights, shift, shift)
    return mean, jnp.sum(weights[:, None, None] * mixture.covariances, axis=0) + between


def _transformed(mixture: Mixture, matrix: Array, shift: Array) -> Mixture:
    covs, family = mixture.covs, mixture.family
    if isinstance(covs, Dense):
        rows = product("ij,kjl->kil", matrix, covs.cholesky)
    else:
        rows, family = matrix[None] * covs.scale[:, None, :], FULL
    means = product("ij,kj->ki", matrix, mixture.means) + shift
    return Mixture(mixture.log_weights, means, Dense(lower_factor(rows)), family)


def _columns(mixture: Mixture, dims: Sequence[int]) -> list[int]:
    n_features = mixture.n_features
    columns = [as_count(d, "each of dims", -n_features) for d in ([dims] if np.ndim(dims) == 0 else list(dims))]
    beyond = [d for d in columns if not -n_features <= d < n_features]
    if beyond:
        raise ValueError(f"dims names column {beyond[0]}, but the mixture has {n_features} columns")
    columns = [d % n_features for d in columns]
    if not columns or len(set(columns)) < len(columns):
        raise ValueError(f"dims must name one or more different columns, not {tuple(columns)}")
    return columns
