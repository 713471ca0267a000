"""Weights of exactly 0, and how the slope in one gets past its log.

d log p / dπ_k = N_k / p is finite where π_k = 0, but by way of log π_k = −∞ it is 0·∞. There, and only there, the log
of a weight has the slope 1/ε, and what is made of the log-weight has ε times its slope in the weight: the product is
right. In a log-weight of −∞ itself the slope is 0, and what is given for it is at most the rounding of 1.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax


def unit(dtype: Any) -> float:
    """ε: small enough to be nothing, and large enough that slopes of usual size times it are normal numbers."""
    return 2.0**-700 if dtype == jnp.float64 else 2.0**-84


def most_log_odds(dtype: Any) -> float:
    """Log of the largest slope in a weight that a row gives: ε times it is the rounding of 1.

    It is reached nine deviations out in float32, and thirty in float64.
    """
    return float(np.log(float(jnp.finfo(dtype).eps) / 2 / unit(dtype)))


def any_absent(log_weights: Array) -> Array:
    """Whether a log-weight is −∞, (), in any of the mixtures that `vmap` maps over: to be branched on, not mapped."""
    return _count_absent(lax.stop_gradient(log_weights)) > 0


@jax.custom_batching.custom_vmap
def _count_absent(log_weights: Array) -> Array:
    return jnp.sum((log_weights == -jnp.inf).astype(log_weights.dtype))


@_count_absent.def_vmap
def _count_in_all(size: int, batched: list[bool], log_weights: Array) -> tuple[Array, bool]:
    return _count_absent(log_weights.ravel()), False


@jax.custom_jvp
def log_weight(weights: Array) -> Array:
    """Log π, −∞ for 0 and NaN below it."""
    positive = weights > 0
    logs = jnp.where(positive, jnp.log(jnp.where(positive, weights, 1.0)), -jnp.inf)
    return jnp.where(weights >= 0, logs, jnp.nan)


@log_weight.defjvp
def _slope_of_log(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (weights,), (change,) = primals, tangents
    logs = log_weight(weights)
    is_absent = logs == -jnp.inf
    return logs, change * jnp.where(is_absent, 1 / unit(weights.dtype), 1 / jnp.where(is_absent, 1.0, weights))


def normalised(log_weights: Array) -> Array:
    """Log-weights of weights that sum to 1, (..., K), so that derivatives keep their sum."""
    absent = jnp.where(log_weights == -jnp.inf, log_weights, -jnp.inf)
    others = jnp.sum(weight(absent), axis=-1, keepdims=True)
    return jax.nn.log_softmax(log_weights) - jnp.log1p(others)


def log_sum(weights: Array, log_terms: Array, logs: Array, axis: int | None = None) -> Array:
    """Log Σ exp(logs) along an axis, with logs = log weights + log_terms, and its slopes in weights of 0."""
    total = jax.nn.logsumexp(logs, axis=axis, keepdims=True)
    is_absent = (logs == -jnp.inf) & (weights == 0)
    log_odds = jnp.where(is_absent, log_terms - total, -jnp.inf)
    odds = weights * jnp.exp(jnp.minimum(log_odds, most_log_odds(logs.dtype)))
    total = total + jnp.log1p(jnp.sum(jnp.where(is_absent, odds, 0.0), axis=axis, keepdims=True))
    return total.reshape(()) if axis is None else jnp.squeeze(total, axis)


@jax.custom_jvp
def weight(log_weights: Array) -> Array:
    """π = exp(log π), the inverse of `log_weight` in its slopes too."""
    return jnp.exp(log_weights)


@weight.defjvp
def _slope_of_weight(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (log_weights,), (change,) = primals, tangents
    weights = weight(log_weights)
    return weights, change * jnp.where(log_weights == -jnp.inf, unit(weights.dtype), weights)
