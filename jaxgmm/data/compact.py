"""Rows that are so few that one pass takes them all at once, for all restarts, and little has to be compiled for it."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgmm.data.kernels import quadratic
from jaxgmm.data.protocol import Data
from jaxgmm.data.rows import ResidualRows, Rows
from jaxgmm.data.sums import read_sums, sums_of, unless_distrusted
from jaxgmm.data.tiers import wide
from jaxgmm.model.columns import Columns
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, Statistic
from jaxgmm.numerics.stacks import stackable
from jaxgmm.numerics.trees import register_dataclass

_MOST_ENTRIES = 1 << 18
"""The most log-joints, and the most features of rows, that a pass holds at once: 2 MiB of each."""


@register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class CompactRows(Rows):
    """Rows whose E-step takes all of them at once, by features in float64, whether or not JAX allows float64 elsewhere.

    Where features are not exact enough even so, the log-likelihood is NaN: passes by residuals would be most of what
    has to be compiled, and are seldom needed. There are no derivatives.
    """

    def moments(self, mixture: Mixture, statistic: Statistic) -> tuple[Moments, Array]:
        """The E-step: moments under the responsibilities of a mixture, and Σ wᵢ log p(xᵢ)."""
        stack = jax.tree.map(lambda leaf: leaf[None], mixture)
        return jax.tree.map(lambda leaf: leaf[0], _stacked(statistic)(stack, self.x, self.weights))

    def ready(self, columns: Columns) -> CompactRows:
        """These rows as they are."""
        return self


@functools.singledispatch
def compacted(data: Data, n_restarts: int, n_components: int, mixes: bool) -> Data:
    """Data whose passes compile quickly, where so many restarts of so many components are little work; else the data.

    Args:
        data: the data.
        n_restarts: R.
        n_components: K.
        mixes: whether covariances have entries beside the diagonal.
    """
    return data


@compacted.register
def _(data: Rows, n_restarts: int, n_components: int, mixes: bool) -> Data:
    n_rows, n_features = data.x.shape
    features = quadratic.PAIRS if mixes else quadratic.SQUARES
    most = n_rows * max(n_restarts * n_components, features.count(n_features))
    return CompactRows(data.x, data.weights) if most <= _MOST_ENTRIES else data


@compacted.register
def _(data: ResidualRows, n_restarts: int, n_components: int, mixes: bool) -> Data:
    return data


@functools.cache
def _stacked(statistic: Statistic) -> Any:
    """The pass for a stack of R mixtures at once; `vmap` makes the stack larger."""

    @stackable
    def stacked(stack: Mixture, x: Array, weights: Array) -> tuple[Moments, Array]:
        return _at_once(statistic, stack, x, weights)

    @stacked.def_vmap
    def rule(size: int, batched: Any, stack: Mixture, x: Array, weights: Array) -> Any:
        if batched[1] or batched[2] or not all(jax.tree.leaves(batched[0])):
            raise NotImplementedError("compact rows are common to all lanes")
        stack = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), stack)
        results = stacked(stack, x, weights)
        results = jax.tree.map(lambda leaf: leaf.reshape(size, -1, *leaf.shape[1:]), results)
        return results, jax.tree.map(lambda _: True, results)

    return stacked


def _at_once(statistic: Statistic, stack: Mixture, x: Array, weights: Array) -> tuple[Moments, Array]:
    """Moments and log-likelihoods of R mixtures, by features in float64; NaN where they are not exact enough.

    Args:
        statistic: the part of the scatter to keep.
        stack: mixtures with a leading axis R.
        x: rows, (N, D).
        weights: (N,).
    """
    n_stacked, n_components, n_features = stack.means.shape
    features = quadratic.features_of(jax.tree.map(lambda leaf: leaf[0], stack), statistic)
    dtype = x.dtype
    with jax.enable_x64(True):
        stack, columns, mass = jax.tree.map(wide, (stack, x.T, weights))
        columns = jnp.where(mass[None, :] != 0, columns, 0.0)
        quick = jax.vmap(functools.partial(quadratic.prepare, features=features, closely=False))(stack)
        shape = (n_stacked, n_components)
        sums = sums_of(features, quick, columns, mass[None, :], shape, dtype)
        moments, log_likelihood = read_sums(features, quick, sums, shape, n_features, statistic)
        reach = jnp.max(jnp.sum(columns**2, axis=0))
        log_likelihood = unless_distrusted(log_likelihood, reach, quick.steepness, dtype)
        return jax.tree.map(lambda leaf: lax.convert_element_type(leaf, dtype), (moments, log_likelihood))
