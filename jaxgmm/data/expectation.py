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
from jaxgmm.data.tiers import by_features
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, Statistic
from jaxgmm.numerics.stacks import stackable

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

    @stackable
    def stacked(stack: Mixture, x: Array, weights: Array, distances: Distances | None) -> tuple[Moments, Array]:
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

    @stacked.def_vmap
    def rule(size: int, batched: Any, stack: Mixture, x: Array, weights: Array, distances: Any) -> Any:
        if batched[1]:
            # Rows of their own: nothing is shared between the passes.
            axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(batched[:3]))
            results = jax.vmap(each_by_residuals, axes)(stack, x, weights)
            return results, jax.tree.map(lambda _: True, results)

        def spread(leaf: Array, is_batched: bool) -> Array:
            return leaf if is_batched else jnp.broadcast_to(leaf[None], (size, *leaf.shape))

        stack = jax.tree.map(spread, stack, batched[0])
        n_stacked = stack.means.shape[1]
        stack = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), stack)
        if any(jax.tree.leaves(batched[3])):
            distances = from_one_origin(jax.tree.map(spread, distances, batched[3]))
        if batched[2]:
            weights = jnp.broadcast_to(weights, (size, n_stacked, weights.shape[-1])).reshape(-1, weights.shape[-1])
        elif weights.shape[0] > 1:
            weights = jnp.tile(weights, (size, 1))
        results = stacked(stack, x, weights, distances)
        results = jax.tree.map(lambda leaf: leaf.reshape(size, n_stacked, *leaf.shape[1:]), results)
        return results, jax.tree.map(lambda _: True, results)

    return stacked
