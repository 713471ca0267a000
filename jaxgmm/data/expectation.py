"""The E-step by the faster kernel: restarts are evaluated as one stack, derivatives by whitened residuals."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm.data.centring import centre_of
from jaxgmm.data.kernels import quadratic
from jaxgmm.data.passes import Distances, by_residuals, distances_from, from_one_origin
from jaxgmm.data.stacked import stacked_pass
from jaxgmm.data.tiers import by_features
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, Statistic

_QUICK_WORK = 1 << 21
"""Multiplications in a pass by features below which it saves less time than compiling it takes."""

_MOST_FEATURES = 1 << 10
"""Features of a row for each component above which it takes longer to write them down than to whiten the row: from 128
columns on with 5 components, from 256 with 24."""


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def expectation(
    statistic: Statistic, mixture: Mixture, x: Array, weights: Array, distances: Distances | None = None
) -> tuple[Moments, Array]:
    """The moments of the rows under a mixture's responsibilities, and Σ wᵢ log p(xᵢ).

    Values are computed by features where these are exact enough and faster, else by whitened residuals; derivatives
    always by whitened residuals.

    Args:
        statistic: the part of the scatter to keep; static.
        mixture: the mixture.
        x: rows, (N, D).
        weights: (N,).
        distances: distances of the rows from one point, where they have been measured already.
    """
    stack = jax.tree.map(lambda leaf: leaf[None], mixture)
    return jax.tree.map(lambda leaf: leaf[0], _stacked(statistic)(stack, x, weights[None], distances))


@expectation.defjvp
def _derivative(statistic: Statistic, primals: Any, tangents: Any) -> Any:
    values = expectation(statistic, *primals)
    return values, jax.jvp(functools.partial(by_residuals, statistic), primals[:3], tangents[:3])[1]


@functools.cache
def _stacked(statistic: Statistic) -> Any:
    """The pass over the rows for a stack of R mixtures at once; `vmap` makes the stack larger."""

    def each_by_residuals(stack: Mixture, x: Array, weights: Array) -> tuple[Moments, Array]:
        axes = (0, None, 0 if weights.shape[0] > 1 else None)
        weights = weights if weights.shape[0] > 1 else weights[0]
        return jax.vmap(functools.partial(by_residuals, statistic), axes)(stack, x, weights)

    def together(stack: Mixture, x: Array, weights: Array, distances: Distances | None) -> tuple[Moments, Array]:
        features = quadratic.features_of(jax.tree.map(lambda leaf: leaf[0], stack), statistic)
        n_stacked, n_components, n_features = stack.means.shape
        n_all, n_sums = n_stacked * n_components, features.count(n_features)
        if x.shape[0] * n_all * n_sums < _QUICK_WORK or n_sums > _MOST_FEATURES * n_all:
            return each_by_residuals(stack, x, weights)
        if distances is None:
            distances = distances_from(
                centre_of(jax.tree.map(lambda leaf: leaf[0], stack)), x, jnp.max(weights, axis=0)
            )
        return by_features(statistic, features, stack, x, weights, distances)

    return stacked_pass(together, each_by_residuals, from_one_origin)
