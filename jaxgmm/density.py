"""Densities and responsibilities of a mixture, and the derivative of its likelihood."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_derivatives import SymbolicZero
from numpy.typing import ArrayLike

from jaxgmm._linalg import instantiated
from jaxgmm._protocols import Fitted
from jaxgmm._types import Mixture, Moments
from jaxgmm.data import as_data, as_points, as_rows


def log_prob(mixture: Mixture | Fitted, x: Any) -> Array:
    """Log-density log p(x) = log Σ_k π_k N(x; μ_k, Σ_k) of each row.

    Args:
        mixture: the mixture.
        x: rows, (..., D); one row, (D,), gives a scalar.

    Returns:
        Log-densities, (...), in nats; −∞ for a row too far to be represented.

    Raises:
        ValueError: if the last axis of x is not D.
    """
    mixture, points = as_points(mixture, x)
    return _log_prob(mixture, points)


@jax.jit
def _log_prob(mixture: Mixture, x: Array) -> Array:
    return as_rows(x.reshape(-1, x.shape[-1])).log_prob(mixture).reshape(x.shape[:-1])


def log_joint(mixture: Mixture | Fitted, x: Any) -> Array:
    """Log-joint log π_k + log N(x_i; μ_k, Σ_k) of each row and component.

    Args:
        mixture: the mixture.
        x: rows, (N, D).

    Returns:
        (N, K), in nats.

    Raises:
        ValueError: if x is not (N, D).
    """
    mixture, data = as_data(mixture, x)
    return _log_joint(mixture, data)


@jax.jit
def _log_joint(mixture: Mixture, data: Any) -> Array:
    return data.log_joint(mixture)


def log_responsibilities(mixture: Mixture | Fitted, x: Any) -> Array:
    """Log of the responsibilities, log p(k | x_i).

    Args:
        mixture: the mixture.
        x: rows, (N, D).

    Returns:
        (N, K); rows of its exponential sum to 1. A row too far to be squared goes to the component
        nearest in Mahalanobis distance.

    Raises:
        ValueError: if x is not (N, D).
    """
    mixture, data = as_data(mixture, x)
    return _log_responsibilities(mixture, data)


@jax.jit
def _log_responsibilities(mixture: Mixture, data: Any) -> Array:
    return data.log_responsibilities(mixture)


def responsibilities(mixture: Mixture | Fitted, x: Any) -> Array:
    """Soft assignment p(k | x_i) = π_k N(x_i; μ_k, Σ_k) / p(x_i).

    Args:
        mixture: the mixture.
        x: rows, (N, D).

    Returns:
        (N, K); rows sum to 1, never NaN for finite rows.

    Raises:
        ValueError: if x is not (N, D).
    """
    return jnp.exp(log_responsibilities(mixture, x))


def predict(mixture: Mixture | Fitted, x: Any) -> Array:
    """Hard assignment: the component with the largest responsibility.

    Args:
        mixture: the mixture.
        x: rows, (N, D).

    Returns:
        Indices, (N,); −1 for a row whose responsibilities are NaN, as those of a row that holds NaN are. A row too far
        to be squared goes to the nearest component.

    Raises:
        ValueError: if x is not (N, D).
    """
    mixture, data = as_data(mixture, x)
    return _predict(mixture, data)


@jax.jit
def _predict(mixture: Mixture, data: Any) -> Array:
    log_responsibilities = data.log_responsibilities(mixture)
    unknown = jnp.any(jnp.isnan(log_responsibilities), axis=-1)
    return jnp.where(unknown, -1, jnp.argmax(log_responsibilities, axis=-1))


def uncertainty(mixture: Mixture | Fitted, x: Any) -> Array:
    """Uncertainty of the hard assignment, 1 − max_k p(k | x_i): the chance that it is wrong, were the mixture true.

    Summed over the other components, so that small values keep their digits.

    Args:
        mixture: the mixture.
        x: rows, (N, D).

    Returns:
        (N,), between 0 and 1 − 1/K; NaN for a row that holds NaN.

    Raises:
        ValueError: if x is not (N, D).

    References:
        Scrucca, Fop, Murphy & Raftery (2016), mclust 5.
    """
    mixture, data = as_data(mixture, x)
    return _uncertainty(mixture, data)


@jax.jit
def _uncertainty(mixture: Mixture, data: Any) -> Array:
    log_responsibilities = data.log_responsibilities(mixture)
    largest = jnp.argmax(log_responsibilities, axis=-1)[:, None] == jnp.arange(mixture.n_components)[None, :]
    known = ~jnp.isnan(log_responsibilities)
    return jnp.sum(jnp.where(largest & known, 0.0, jnp.exp(log_responsibilities)), axis=-1)


def log_likelihood(mixture: Mixture | Fitted, x: Any, sample_weight: ArrayLike | None = None) -> Array:
    """Total log-likelihood Σ wᵢ log p(xᵢ).

    Its derivative in the mixture is Fisher's identity, ∇ log p(X; θ) = ∇Q(θ; Moments): one pass over the
    data gives value and gradient, in memory that does not grow with N.

    Args:
        mixture: the mixture.
        x: rows, (N, D).
        sample_weight: non-negative weights, (N,); None is 1 for each row.

    Returns:
        (), in nats; NaN where a weight is negative, infinite or NaN.

    Raises:
        ValueError: if shapes do not match.
    """
    mixture, data = as_data(mixture, x, sample_weight)
    return _log_likelihood(mixture, data)


@jax.jit
def _log_likelihood(mixture: Mixture, data: Any) -> Array:
    return data_log_likelihood(mixture, data)


def score(mixture: Mixture | Fitted, x: Any, sample_weight: ArrayLike | None = None) -> Array:
    """Mean log-likelihood Σ wᵢ log p(xᵢ) / Σ wᵢ.

    Args:
        mixture: the mixture.
        x: rows, (N, D).
        sample_weight: non-negative weights, (N,); None is 1 for each row.

    Returns:
        (), in nats per unit weight.

    Raises:
        ValueError: if shapes do not match.
    """
    mixture, data = as_data(mixture, x, sample_weight)
    return _log_likelihood(mixture, data) / jnp.sum(data.weights)


def e_step(mixture: Mixture | Fitted, x: Any, sample_weight: ArrayLike | None = None) -> tuple[Moments, Array]:
    """The E-step: moments of the rows under the mixture's responsibilities.

    Args:
        mixture: the mixture.
        x: rows, (N, D).
        sample_weight: non-negative weights, (N,); None is 1 for each row.

    Returns:
        The moments in the family's statistic, and the total log-likelihood, (). A row too far to be squared
        adds nothing to the moments; the log-likelihood is then −∞.

    Raises:
        ValueError: if shapes do not match.
    """
    mixture, data = as_data(mixture, x, sample_weight)
    return _e_step(mixture, data)


@jax.jit
def _e_step(mixture: Mixture, data: Any) -> tuple[Moments, Array]:
    return data.moments(mixture, mixture.family.statistic)


def expected_log_likelihood(mixture: Mixture, moments: Moments) -> Array:
    """Q(θ; Moments) = Σ_k N_k log π_k − ½ Σ_k [N_k (D log 2π + log|Σ_k|) + tr Σ_k⁻¹ (S_k + N_k δ_k δ_kᵀ)].

    Here δ_k = mean_k − μ_k: the complete-data log-likelihood, expected under the responsibilities that
    the moments were gathered with.
    """
    mass, covs = moments.mass, mixture.covs
    log_det = covs.log_det(mixture.n_features) + mixture.n_features * float(np.log(2 * np.pi))
    shift = covs.solve(moments.mean - mixture.means)
    distance = jnp.sum(shift**2, axis=-1)
    held = mass > 0
    weighted = jnp.where(held, mass * jnp.where(held, mixture.log_weights, 0.0), 0.0)
    within = jnp.sum(covs.trace_solve(moments.scatter))
    return jnp.sum(weighted) - 0.5 * (jnp.sum(mass * (log_det + distance)) + within)


@jax.custom_jvp
def data_log_likelihood(mixture: Mixture, data: Any) -> Array:
    """Total log-likelihood of any `Data`, with Fisher's identity as its derivative in the mixture."""
    return data.log_likelihood(mixture)


@functools.partial(data_log_likelihood.defjvp, symbolic_zeros=True)
def _fisher(primals: tuple[Mixture, Any], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    mixture, data = primals
    mixture_tangent, data_tangent = tangents
    moments, value = data.moments(mixture, mixture.family.statistic)
    _, tangent = jax.jvp(lambda at: expected_log_likelihood(at, moments), (mixture,), (instantiated(mixture_tangent),))
    if not all(isinstance(leaf, SymbolicZero) for leaf in jax.tree.leaves(data_tangent)):
        _, along = jax.jvp(lambda at: at.log_likelihood(mixture), (data,), (instantiated(data_tangent),))
        tangent = tangent + along
    return value, tangent
