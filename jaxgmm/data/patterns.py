"""Incomplete rows sorted by which of their values were observed: the rows of a pattern share each component's factor.

Within a pattern and a component the conditional mean is linear in the row. So sums of the observed values, taken by two
matrix products as for complete rows, suffice, and the gaps are filled afterwards, in D x D algebra for each pattern.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxgmm.data.centring import about, centre_of
from jaxgmm.data.kernels import quadratic
from jaxgmm.data.kernels.patterned import ByFeatures, ByWhitening, algebra_of, filled
from jaxgmm.data.layouts import Layout
from jaxgmm.data.passes import normalise, weighted_sum
from jaxgmm.data.tiers import wide
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, Statistic
from jaxgmm.numerics.linalg import varying_as

CHUNK = 1 << 19
"""Numbers in a chunk's features and log-joints: 4 MiB in float64, about the size of a CPU's caches."""


class Measured(NamedTuple):
    """What is measured of incomplete rows once for many passes.

    Attributes:
        origin: the point that `values` and `farthest` are relative to, (D,).
        farthest: the largest distance of a row from it, in the columns that were observed, ().
        values: rows less the origin in their layout, as columns, and 0 where nothing was observed, (S, D, C); None for
            rows without a layout.
    """

    origin: Array
    farthest: Array
    values: Array | None = None


def measured(x: Array, layout: Layout | None) -> Measured:
    """What is measured of rows (N, D), NaN where nothing was observed, whatever their weights."""
    there = jnp.isfinite(x)
    origin = jnp.sum(jnp.where(there, x, 0.0), axis=0) / jnp.maximum(jnp.sum(there, axis=0), 1).astype(x.dtype)
    held = jnp.where(there, x - origin[None, :], 0.0)
    farthest = jnp.sqrt(jnp.max(jnp.sum(held**2, axis=1)))
    if layout is None:
        return Measured(origin, farthest)
    there = jnp.asarray(layout.observed)[layout.pattern][:, :, None] & layout.used[:, None, :]
    return Measured(origin, farthest, jnp.where(there, jnp.swapaxes(held[layout.rows], 1, 2), 0.0))


def trusted(stack: Mixture, measured: Measured) -> Array:
    """Whether features in float64 are exact enough for these mixtures, ()."""
    with jax.enable_x64(True):
        wider, origin, farthest = jax.tree.map(wide, (stack, measured.origin, measured.farthest))
        if stack.covs.mixes:
            steepness = jnp.max(jnp.sum(jnp.abs(jax.vmap(lambda covs: covs.precision())(wider.covs)), axis=-1))
        else:
            steepness = jnp.max(jax.vmap(lambda covs: covs.inverse())(wider.covs)) ** 2
        reach = (farthest + jnp.sqrt(jnp.sum((centre_of_stack(wider) - origin) ** 2))) ** 2
        # NaN is for the pass to tell.
        return ~(reach * steepness > quadratic.limit(jnp.float64, stack.means.dtype))


def centre_of_stack(stack: Mixture) -> Array:
    """The mean of R mixtures that have one, (D,)."""
    centres = jax.vmap(centre_of)(stack)
    sound = jnp.all(jnp.isfinite(centres), axis=-1, keepdims=True)
    total = jnp.sum(jnp.where(sound, centres, 0.0), axis=0)
    return total / jnp.maximum(jnp.sum(sound), 1).astype(centres.dtype)


def by_patterns(
    kernel: type[ByFeatures] | type[ByWhitening],
    statistic: Statistic,
    measured: Measured,
    layout: Layout,
    stack: Mixture,
    x: Array,
    weights: Array,
) -> tuple[Moments, Array]:
    """Moments and log-likelihoods of R mixtures at once, in float64.

    Args:
        kernel: how the rows of a pattern are passed over.
        statistic: the part of the scatter to keep.
        measured: what is measured of the rows, in their layout.
        layout: where the rows stand.
        stack: mixtures with a leading axis R.
        x: the rows as they came, which are not needed.
        weights: (1, N), or (R, N) where each mixture has its own.
    """
    values: Array = measured.values  # pyright: ignore[reportAssignmentType]
    dtype, (n_stacked, n_components, n_features) = stack.means.dtype, stack.means.shape
    given = jnp.where(layout.used[None], weights[:, layout.rows], 0.0)
    with jax.enable_x64(True):
        stack, origin = jax.tree.map(wide, (stack, measured.origin))
        centre = centre_of_stack(stack)
        known = algebra_of(jax.vmap(about, (0, None))(stack, centre), layout.observed)
        prepared = kernel.of(known)
        n_segments, size = layout.rows.shape
        n_all, n_numbers = n_stacked * n_components, sum(leaf[0].size for leaf in prepared)
        at_once = max(1, min(n_segments, CHUNK // (size * (n_features**2 + n_all * (1 + n_numbers // n_features**2)))))
        n_chunks = -(-n_segments // at_once)
        offset = (origin - centre)[None, :, None]

        def of_chunk(start: Array, fresh: Array) -> tuple[Array, Array, Array]:
            """Sums, (B, M, ...), log-likelihoods, (R,), and patterns, (B,), of some segments."""
            cut = functools.partial(lax.dynamic_slice_in_dim, start_index=start, slice_size=at_once)
            pattern = cut(layout.pattern)
            there = layout.observed[pattern][:, :, None]
            rows = jnp.where(there, lax.convert_element_type(cut(values), jnp.float64) + offset, 0.0)
            mass = jnp.where(fresh[None, :, None], cut(given, axis=1), 0.0).astype(jnp.float64)
            seen, log_joint = prepared.look(pattern, rows)
            log_joint = log_joint.reshape(at_once, n_stacked, n_components, size)
            shares, log_prob = normalise(log_joint, jnp.swapaxes(mass, 0, 1), dtype)
            told = jnp.sum(weighted_sum(mass, jnp.swapaxes(log_prob, 0, 1)), axis=1)
            return prepared.sums(seen, shares.reshape(at_once, n_all, size)), told, pattern

        def step(index: Array, held: tuple[Array, Array]) -> tuple[Array, Array]:
            start = jnp.minimum(index * np.int32(at_once), np.int32(n_segments - at_once))
            fresh = start + lax.iota(jnp.int32, at_once) >= index * np.int32(at_once)
            raw, told, pattern = of_chunk(start, fresh)
            sums = held[0].at[pattern].add(raw, indices_are_sorted=True, mode="promise_in_bounds")
            return sums, held[1] + told

        first = jnp.zeros((), jnp.int32), jnp.ones(at_once, bool)
        shape = jax.eval_shape(of_chunk, *first)[0].shape[1:]
        empty = jnp.zeros((layout.observed.shape[0], *shape)), jnp.zeros(n_stacked)
        anchor = stack.means.ravel()[0] + wide(values.ravel()[0])
        sums, log_likelihood = lax.fori_loop(np.int32(0), np.int32(n_chunks), step, varying_as(empty, anchor))
        moments = filled(statistic, prepared.within(sums, known), known, n_stacked)
        moments = moments._replace(mean=moments.mean + centre[None, None])
        return jax.tree.map(lambda leaf: lax.convert_element_type(leaf, dtype), (moments, log_likelihood))
