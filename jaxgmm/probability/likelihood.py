"""Log-likelihoods and moments of rows, and their derivatives."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero
from numpy.typing import ArrayLike

from jaxgmm.data.conversion import as_data
from jaxgmm.data.protocol import Data, host_driven, over
from jaxgmm.model.fitted import Fitted
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments
from jaxgmm.numerics.linalg import instantiated, zeros_of
from jaxgmm.numerics.programs import program
from jaxgmm.numerics.zero_weights import any_absent, unit


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

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> bool(jnp.allclose(jaxgmm.log_likelihood(mixture, x), jaxgmm.log_prob(mixture, x).sum()))
        True
    """
    mixture, data = as_data(mixture, x, sample_weight, needs=("log_likelihood",))
    return over(data, _log_likelihood)(mixture, data)


@program()
def _log_likelihood(mixture: Mixture, data: Data) -> Array:
    value = data_log_likelihood(mixture, data)
    return value if host_driven(data) else value + _of_absent(mixture, data)


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

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> bool(jnp.allclose(jaxgmm.score(mixture, x), jaxgmm.log_prob(mixture, x).mean()))
        True
    """
    mixture, data = as_data(mixture, x, sample_weight)
    total = jnp.sum(data.weights) if hasattr(data, "weights") else data.columns().mass
    return over(data, _log_likelihood)(mixture, data) / total


def e_step(mixture: Mixture | Fitted, x: Any, sample_weight: ArrayLike | None = None) -> tuple[Moments, Array]:
    """The E-step: moments of the rows under the mixture's responsibilities.

    Args:
        mixture: the mixture.
        x: rows, (N, D).
        sample_weight: non-negative weights, (N,); None is 1 for each row.

    Returns:
        The moments, with the scatter that the family needs, and the total log-likelihood, (). A row whose squared
        Mahalanobis distances overflow adds nothing to the moments; the log-likelihood is then −∞.

    Raises:
        ValueError: if shapes do not match.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> moments, log_likelihood = jaxgmm.e_step(mixture, x)
        >>> round(float(moments.mass.sum()), 3)
        100.0
    """
    mixture, data = as_data(mixture, x, sample_weight)
    return over(data, _e_step)(mixture, data)


@program()
def _e_step(mixture: Mixture, data: Data) -> tuple[Moments, Array]:
    return data.moments(mixture, mixture.family.statistic)


def expected_log_likelihood(mixture: Mixture, moments: Moments) -> Array:
    """Q(θ; Moments) = Σ_k N_k log π_k − ½ Σ_k [N_k (D log 2π + log|Σ_k|) + tr Σ_k⁻¹ (S_k + N_k δ_k δ_kᵀ)].

    This is the expected complete-data log-likelihood under the responsibilities that gave the moments; here
    δ_k = mean_k − μ_k.
    """
    mass, covs = moments.mass, mixture.covs
    log_det = covs.log_det() + mixture.n_features * float(np.log(2 * np.pi))
    shift = covs.solve(moments.mean - mixture.means)
    distance = jnp.sum(shift**2, axis=-1)
    held = mass > 0
    weighted = jnp.where(held, mass * jnp.where(held, mixture.log_weights, 0.0), 0.0)
    within = jnp.sum(covs.trace_solve(moments.scatter))
    return jnp.sum(weighted) - 0.5 * (jnp.sum(mass * (log_det + distance)) + within)


def data_log_likelihood(mixture: Mixture, data: Data) -> Array:
    """Total log-likelihood of any `Data`, with Fisher's identity as its derivative in the mixture.

    No moments tell the slope in a weight of 0: see `_of_absent`.
    """
    return _host_driven(data, mixture) if host_driven(data) else _data_log_likelihood(mixture, data)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _host_driven(data: Data, mixture: Mixture) -> Array:
    return data.log_likelihood(mixture)


@_host_driven.defjvp
def _fisher_on_host(data: Data, primals: tuple[Mixture], tangents: tuple[Mixture]) -> tuple[Array, Array]:
    moments, value = data.moments(*primals, primals[0].family.statistic)
    return value, jax.jvp(lambda at: expected_log_likelihood(at, moments), primals, tangents)[1]


@jax.custom_jvp
def _data_log_likelihood(mixture: Mixture, data: Data) -> Array:
    return data.log_likelihood(mixture)


@functools.partial(_data_log_likelihood.defjvp, symbolic_zeros=True)
def _fisher(primals: tuple[Mixture, Any], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    mixture, data = primals
    mixture_tangent, data_tangent = tangents
    moments, value = data.moments(mixture, mixture.family.statistic)
    _, tangent = jax.jvp(lambda at: expected_log_likelihood(at, moments), (mixture,), (instantiated(mixture_tangent),))
    if not all(isinstance(leaf, SymbolicZero) for leaf in jax.tree.leaves(data_tangent)):
        _, along = jax.jvp(lambda at: at.log_likelihood(mixture), (data,), (instantiated(data_tangent),))
        tangent = tangent + along
    return value, tangent


@jax.custom_jvp
def _of_absent(mixture: Mixture, data: Data) -> Array:
    """The contribution of components of weight 0 to the log-likelihood: 0, with its derivative in their weights."""
    return zeros_of((), mixture, data)


@_of_absent.defjvp
def _slope_of_absent(primals: tuple[Mixture, Any], tangents: tuple[Mixture, Any]) -> tuple[Array, Array]:
    (mixture, data), nothing = primals, zeros_of((), primals)
    is_absent = mixture.log_weights == -jnp.inf
    changes = jnp.where(is_absent, unit(mixture.means.dtype) * tangents[0].log_weights, 0.0)
    # Where the data cannot tell the slopes, no number is better than a wrong one.
    of_data = getattr(data, "slopes_of_absent", lambda _: jnp.where(is_absent, jnp.nan, jnp.zeros_like(changes)))
    slope = lax.cond(any_absent(mixture.log_weights), lambda: jnp.sum(of_data(mixture) * changes), lambda: nothing)
    return _of_absent(mixture, data), slope
