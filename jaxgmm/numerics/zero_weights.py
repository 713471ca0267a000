"""Derivatives in weights that are exactly 0.

d log p / dπ_k = N_k / p is finite where π_k = 0, but the chain rule through log π_k = −∞ makes it 0·∞. There, and only
there, the log of a weight is given the derivative 1/ε, and functions of the log-weight ε times their derivative in the
weight, so that the product is right. The derivative in a log-weight of −∞ itself is 0; the value given for it is at
most the rounding error of 1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from jaxgmm.numerics.stacks import stackable


def unit(dtype: DTypeLike) -> float:
    """The number ε, so small that it is negligible, and so large that usual derivatives times ε do not underflow."""
    return 2.0**-700 if dtype == jnp.float64 else 2.0**-84


def most_log_odds(dtype: DTypeLike) -> float:
    """Log of the largest derivative in a weight that one row may contribute: ε times it is the rounding error of 1.

    It is reached at nine standard deviations in float32, and at thirty in float64.
    """
    return float(np.log(float(jnp.finfo(dtype).eps) / 2 / unit(dtype)))


def any_absent(log_weights: Array) -> Array:
    """Whether any log-weight is −∞, (), in any mixture that `vmap` maps over, so that `cond` stays a branch."""
    return _count_absent(lax.stop_gradient(log_weights)) > 0


@stackable
def _count_absent(log_weights: Array) -> Array:
    return jnp.sum((log_weights == -jnp.inf).astype(log_weights.dtype))


@_count_absent.def_vmap
def _count_in_all(size: int, batched: list[bool], log_weights: Array) -> tuple[Array, bool]:
    return _count_absent(log_weights.ravel()), False


@jax.custom_jvp
def log_weight(weights: Array) -> Array:
    """Log π, −∞ for a weight of 0 and NaN for a negative one."""
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
    """Log-weights, (..., K), normalised so that the weights sum to 1, also in derivatives."""
    absent = jnp.where(log_weights == -jnp.inf, log_weights, -jnp.inf)
    others = jnp.sum(weight(absent), axis=-1, keepdims=True)
    return jax.nn.log_softmax(log_weights) - jnp.log1p(others)


def log_sum(weights: Array, log_terms: Array, logs: Array, axis: int | None = None) -> Array:
    """Log Σ exp(logs) along an axis, for logs = log weights + log_terms, with derivatives in weights of 0."""
    total = jax.nn.logsumexp(logs, axis=axis, keepdims=True)
    is_absent = (logs == -jnp.inf) & (weights == 0)
    log_odds = jnp.where(is_absent, log_terms - total, -jnp.inf)
    odds = weights * jnp.exp(jnp.minimum(log_odds, most_log_odds(logs.dtype)))
    total = total + jnp.log1p(jnp.sum(jnp.where(is_absent, odds, 0.0), axis=axis, keepdims=True))
    return total.reshape(()) if axis is None else jnp.squeeze(total, axis)


@jax.custom_jvp
def weight(log_weights: Array) -> Array:
    """π = exp(log π), the inverse of `log_weight`, also in its derivative."""
    return jnp.exp(log_weights)


@weight.defjvp
def _slope_of_weight(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (log_weights,), (change,) = primals, tangents
    weights = weight(log_weights)
    return weights, change * jnp.where(log_weights == -jnp.inf, unit(weights.dtype), weights)
