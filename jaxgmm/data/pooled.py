"""Rows of many data sets in one pool, which one compiled program passes over, whatever their sizes."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgmm.data.kernels import quadratic
from jaxgmm.data.rows import Rows
from jaxgmm.data.sums import read_sums, sums_of, unless_distrusted
from jaxgmm.data.tiers import wide
from jaxgmm.model.columns import Columns
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, Statistic
from jaxgmm.numerics.stacks import stackable
from jaxgmm.numerics.trees import register_dataclass

SEGMENT_ROWS = 64
"""Rows of a segment: a data set is filled up to a whole number of them."""


@register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class PooledRows:
    """The rows of one of S data sets in a pool: those of the segments that it owns, passed over as by `CompactRows`.

    Passes are over all of the pool at once: under one `vmap` over S lanes, one for each data set in their order, which
    share the pool. Where features in float64 are not exact enough the log-likelihood is NaN. There are no derivatives.

    Attributes:
        rows: the segments' rows as columns, 0 for rows of weight 0, (T, D, C).
        weights: of the rows, (T, C).
        owner: the data set that each segment belongs to, (T,); S where it is free.
        own: this data set's number, ().
        known: of its columns.
    """

    rows: Array
    weights: Array
    owner: Array
    own: Array
    known: Columns

    @property
    def n_features(self) -> int:
        """Number of columns D."""
        return self.rows.shape[1]

    def columns(self) -> Columns:
        """Mass, count, means and variances of the columns."""
        return self.known

    def ready(self, columns: Columns) -> PooledRows:
        """These rows as they are."""
        return self

    def moments(self, mixture: Mixture, statistic: Statistic) -> tuple[Moments, Array]:
        """The E-step: moments under the responsibilities of a mixture, and Σ wᵢ log p(xᵢ)."""
        return _pass(statistic)(mixture, self.own, self.rows, self.weights, self.owner)

    def log_likelihood(self, mixture: Mixture) -> Array:
        """Σ wᵢ log p(xᵢ), ()."""
        return self.moments(mixture, mixture.family.statistic)[1]

    def draw_rows(self, key: Array, most: int) -> Rows:
        """These rows, or where the pool holds more than `most`, so many of them, drawn by weight."""
        weights = jnp.where((self.owner == self.own)[:, None], self.weights, 0.0)
        rows = jnp.moveaxis(self.rows, 1, 2).reshape(-1, self.n_features)
        return Rows(rows, weights.reshape(-1)).draw_rows(key, most)

    def lanes(self) -> Any:
        """Which leaves a stack of lanes has for each of them, as `vmap` is told: those that are not the pool's."""
        return PooledRows(None, None, None, own=0, known=0)  # pyright: ignore[reportArgumentType]


@functools.cache
def _pass(statistic: Statistic) -> Any:
    """The pass over one data set; under `vmap`, over all of the pool for all lanes."""

    @stackable
    def alone(mixture: Mixture, own: Array, rows: Array, weights: Array, owner: Array) -> tuple[Moments, Array]:
        stack = jax.tree.map(lambda leaf: leaf[None], mixture)
        owner = jnp.where(owner == own, 0, 1)
        return jax.tree.map(lambda leaf: leaf[0], _over_pool(statistic, stack, rows, weights, owner))

    @alone.def_vmap
    def rule(size: int, batched: Any, mixture: Mixture, own: Array, rows: Array, weights: Array, owner: Array) -> Any:
        if any(batched[2:]) or not all(jax.tree.leaves(batched[:2])):
            raise NotImplementedError("a pool is common to all lanes, and is passed over for all of them together")
        results = _over_pool(statistic, mixture, rows, weights, owner)
        return results, jax.tree.map(lambda _: True, results)

    return alone


def _over_pool(
    statistic: Statistic, stack: Mixture, rows: Array, weights: Array, owner: Array
) -> tuple[Moments, Array]:
    """Moments and log-likelihoods of S mixtures, each of its own data set, by features in float64.

    Args:
        statistic: the part of the scatter to keep.
        stack: mixtures with a leading axis S.
        rows: (T, D, C).
        weights: (T, C).
        owner: (T,); S for a segment that counts for nothing.
    """
    n_sets, n_components, n_features = stack.means.shape
    features = quadratic.features_of(jax.tree.map(lambda leaf: leaf[0], stack), statistic)
    shape, dtype = (1, n_components), rows.dtype
    with jax.enable_x64(True):
        stack, rows, weights = jax.tree.map(wide, (stack, rows, weights))
        quick = jax.vmap(functools.partial(quadratic.prepare, features=features, closely=False))(stack)
        quick = jax.tree.map(lambda leaf: leaf[:, None], quick)
        of_segments = jax.tree.map(lambda leaf: leaf.at[owner].get(mode="clip"), quick)
        each = jax.vmap(lambda held, x, w: sums_of(features, held, x, w[None, :], shape, dtype))
        sums = each(of_segments, rows, weights)
        sums = jax.tree.map(lambda leaf: jax.ops.segment_sum(leaf, owner, n_sets), sums)
        read = jax.vmap(lambda held, summed: read_sums(features, held, summed, shape, n_features, statistic))
        moments, log_likelihood = jax.tree.map(lambda leaf: leaf[:, 0], read(quick, sums))
        reach = jax.ops.segment_max(jnp.max(jnp.sum(rows**2, axis=1), axis=1), owner, n_sets)
        results = moments, unless_distrusted(log_likelihood, reach, quick.steepness[:, 0], dtype)
        return jax.tree.map(lambda leaf: lax.convert_element_type(leaf, dtype), results)
