"""Pairs of mixtures: in one dtype, and their components pair by pair."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.host.arrays import float_dtype
from jaxgmm.model.covariances.dense import Dense, as_dense
from jaxgmm.model.covariances.diagonal import Diagonal
from jaxgmm.model.fitted import Fitted, as_mixture, check_same_names
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics import zero_weights
from jaxgmm.numerics.factors import lower_factor
from jaxgmm.numerics.linalg import product


def as_pair(p: Mixture | Fitted, q: Mixture | Fitted) -> tuple[Mixture, Mixture]:
    """Two mixtures in one dtype, the wider.

    Raises:
        TypeError: if one is neither a mixture nor a fit.
        ValueError: if one is a stack, or if they have different numbers of columns, or names of them.
    """
    check_same_names(p, q)
    p, q = as_mixture(p, name="p"), as_mixture(q, name="q")
    if p.n_features != q.n_features:
        raise ValueError(f"p has {p.n_features} columns, but q has {q.n_features}")
    dtype = float_dtype(p.means, q.means)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (p, q))


def normalised(mixture: Mixture) -> Mixture:
    """The mixture with weights that sum to 1, so that derivatives keep their sum."""
    return dataclasses.replace(mixture, log_weights=zero_weights.normalised(mixture.log_weights))


def components(p: Mixture, q: Mixture, *indices: np.ndarray) -> list[tuple[Array, Any]]:
    """Means and covariances of components by indices (n,), q's counted from K on; `Dense` if either mixture's are."""
    dense = p.covs.mixes or q.covs.mixes

    def factors(mixture: Mixture) -> Array:
        covs, shape = mixture.covs, mixture.means.shape
        if dense:
            return jnp.broadcast_to(as_dense(covs).cholesky, (*shape, shape[1]))
        return jnp.broadcast_to(covs.deviations(), shape)

    means, stacked = jnp.concatenate([p.means, q.means]), jnp.concatenate([factors(p), factors(q)])
    return [(means[index], (Dense if dense else Diagonal)(stacked[index])) for index in indices]


def drawn_in(whitened: Array) -> Array:
    """Whitened entries, clipped so that the sum of D² + D squares does not overflow, and infinity makes no NaN."""
    limit = float(np.sqrt(jnp.finfo(whitened.dtype).max)) / (8 * whitened.shape[1])
    return jnp.clip(whitened, -limit, limit)


def log_inner_products(p: Mixture, q: Mixture) -> list[Array]:
    """Log ∫p², log ∫pq and log ∫q², each less −(D/2) log 2π: all pairs at once, those within one counted twice."""
    n_own = p.n_components
    i, j = np.triu_indices(n_own + q.n_components)
    (mean, a), (other_mean, b) = components(p, q, i, j)
    if a.mixes:
        overlap = _log_normal(mean - other_mean, jnp.concatenate([a.cholesky, b.cholesky], axis=-1))
    else:
        scale = jnp.hypot(a.scale, b.scale)
        overlap = -jnp.sum(0.5 * drawn_in((mean - other_mean) / scale) ** 2 + jnp.log(scale), axis=-1)
    log_weights = jnp.concatenate([p.log_weights, q.log_weights])
    between = (i < n_own) & (j >= n_own)
    twice = jnp.asarray(np.where((i < j) & ~between, np.log(2), 0.0), overlap.dtype)
    weights = zero_weights.weight(log_weights)
    terms, both, logs = twice + overlap, weights[i] * weights[j], log_weights[i] + log_weights[j]
    places = [np.flatnonzero(pairs) for pairs in (j < n_own, between, i >= n_own)]
    return [zero_weights.log_sum(both[at], terms[at], logs[at] + terms[at]) for at in places]


@jax.custom_jvp
def _log_normal(shift: Array, rows: Array) -> Array:
    """Log N(δ; 0, R Rᵀ), less −(D/2) log 2π, for δ (n, D) and R (n, D, ·), without squaring a condition number."""
    return _log_normal_and_slopes(shift, rows)[0]


@_log_normal.defjvp
def _log_normal_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    value, pull, push = _log_normal_and_slopes(*primals)
    return value, jnp.sum(pull * tangents[0], axis=-1) + jnp.sum(push * tangents[1], axis=(-2, -1))


def _log_normal_and_slopes(shift: Array, rows: Array) -> tuple[Array, Array, Array]:
    """The value and its derivatives in δ and R: with L Lᵀ = R Rᵀ and y = L⁻¹ δ, −L⁻ᵀ y and L⁻ᵀ (y yᵀ − I) L⁻¹ R.

    Written out since this takes half the time of the derivative through L.
    """
    factor = Dense(lower_factor(rows))
    inverse = factor.inverse()
    whitened = jnp.sum(inverse * shift[:, None, :], axis=-1)
    near, white_rows = drawn_in(whitened), product("kij,kjl->kil", inverse, rows)
    value = -0.5 * (jnp.sum(near**2, axis=-1) + factor.log_det())
    pull = jnp.where(near == whitened, whitened, 0.0)[:, :, None]
    push = pull * jnp.sum(pull * white_rows, axis=-2, keepdims=True) - white_rows
    return value, -jnp.sum(inverse * pull, axis=-2), product("kji,kjl->kil", inverse, push)
