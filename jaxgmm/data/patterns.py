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
from jaxgmm.data.layouts import Layout
from jaxgmm.data.passes import normalise, weighted_sum
from jaxgmm.data.tiers import wide
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import DENSE, Moments, Statistic, pool
from jaxgmm.numerics.factors import cholesky, inverse_lower
from jaxgmm.numerics.linalg import product, varying_as

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


class _Patterned(NamedTuple):
    """M mixtures' components, prepared for each of G patterns.

    Attributes:
        coefficients: W, with which W φ are the log-joints, (G, M, F).
        gain: Σ_k T⁻¹, 0 in unobserved columns, (G, M, D, D).
        spread: covariances of the true rows, (G, M, D, D).
    """

    coefficients: Array
    gain: Array
    spread: Array


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
    statistic: Statistic, measured: Measured, layout: Layout, stack: Mixture, x: Array, weights: Array
) -> tuple[Moments, Array]:
    """Moments and log-likelihoods of R mixtures at once, by features in float64.

    Args:
        statistic: the part of the scatter to keep.
        measured: what is measured of the rows, in their layout.
        layout: where the rows stand.
        stack: mixtures with a leading axis R.
        x: the rows as they came, which are not needed.
        weights: (1, N), or (R, N) where each mixture has its own.
    """
    values: Array = measured.values  # pyright: ignore[reportAssignmentType]
    dtype, (n_stacked, n_components, n_features) = stack.means.dtype, stack.means.shape
    shape = (n_stacked, n_components)
    given = jnp.where(layout.used[None], weights[:, layout.rows], 0.0)
    with jax.enable_x64(True):
        stack, origin = jax.tree.map(wide, (stack, measured.origin))
        centre = centre_of_stack(stack)
        stack = jax.vmap(about, (0, None))(stack, centre)
        prepared = _prepare(stack, layout.observed)
        first, second = quadratic.PAIRS.indices(n_features)
        n_sums, n_all = len(first), n_stacked * n_components
        n_segments, size = layout.rows.shape
        at_once = max(1, min(n_segments, CHUNK // (size * (n_sums + n_all))))
        n_chunks = -(-n_segments // at_once)
        offset = (origin - centre)[None, :, None]

        def of_chunk(start: Array, fresh: Array) -> tuple[Array, Array, Array]:
            """Sums of features, (B, F, M), log-likelihoods, (R,), and patterns, (B,), of some segments."""
            cut = functools.partial(lax.dynamic_slice_in_dim, start_index=start, slice_size=at_once)
            pattern = cut(layout.pattern)
            observed = layout.observed[pattern][:, :, None]
            rows = jnp.where(observed, lax.convert_element_type(cut(values), jnp.float64) + offset, 0.0)
            mass = jnp.where(fresh[None, :, None], cut(given, axis=1), 0.0).astype(jnp.float64)
            augmented = jnp.concatenate([rows, jnp.ones((at_once, 1, size))], axis=1)
            phi = augmented[:, first] * augmented[:, second]
            log_joint = product("bmf,bfc->bmc", prepared.coefficients[pattern], phi)
            log_joint = log_joint.reshape(at_once, *shape, size)
            shares, log_prob = normalise(log_joint, jnp.swapaxes(mass, 0, 1), dtype)
            raw = product("bfc,bmc->bfm", phi, shares.reshape(at_once, n_all, size))
            told = jnp.sum(weighted_sum(mass, jnp.swapaxes(log_prob, 0, 1)), axis=1)
            return raw, told, pattern

        def step(index: Array, held: tuple[Array, Array]) -> tuple[Array, Array]:
            start = jnp.minimum(index * np.int32(at_once), np.int32(n_segments - at_once))
            fresh = start + lax.iota(jnp.int32, at_once) >= index * np.int32(at_once)
            raw, told, pattern = of_chunk(start, fresh)
            sums = held[0].at[pattern].add(raw, indices_are_sorted=True, mode="promise_in_bounds")
            return sums, held[1] + told

        n_patterns = layout.observed.shape[0]
        empty = jnp.zeros((n_patterns, n_sums, n_all)), jnp.zeros(n_stacked)
        anchor = stack.means.ravel()[0] + wide(values.ravel()[0])
        sums, log_likelihood = lax.fori_loop(np.int32(0), np.int32(n_chunks), step, varying_as(empty, anchor))
        raw = jnp.moveaxis(sums.reshape(n_patterns, n_sums, *shape), 2, 0)
        fill = functools.partial(_filled, statistic, layout.observed)
        filling = (array.reshape(-1, *shape, n_features, n_features) for array in (prepared.gain, prepared.spread))
        moments = jax.vmap(fill, (0, 1, 1, 0))(raw, next(filling), next(filling), stack.means)
        moments = moments._replace(mean=moments.mean + centre[None, None])
        return jax.tree.map(lambda leaf: lax.convert_element_type(leaf, dtype), (moments, log_likelihood))


def _prepare(stack: Mixture, observed: Array) -> _Patterned:
    """R mixtures about the centre, prepared for patterns (G, D)."""
    n_stacked, n_components, n_features = stack.means.shape
    n_all = n_stacked * n_components
    dense = jax.vmap(lambda covs: covs.dense())(stack.covs)
    dense = jnp.broadcast_to(dense, (n_stacked, n_components, n_features, n_features))
    covariances = dense.reshape(1, n_all, n_features, n_features)
    seen = observed[:, None, :, None] & observed[:, None, None, :]
    lower = cholesky(jnp.where(seen, covariances, jnp.eye(n_features)))
    inverse = jnp.where(observed[:, None, None, :], inverse_lower(lower), 0.0)
    precision = jnp.where(seen, product("gmai,gmaj->gmij", inverse, inverse), 0.0)
    gain = product("mij,gmjl->gmil", covariances[0], precision)
    half = product("gmai,mij->gmaj", inverse, covariances[0])
    unseen = ~observed[:, None, :, None] & ~observed[:, None, None, :]
    spread = jnp.where(unseen, covariances - product("gmai,gmaj->gmij", half, half), 0.0)
    means = stack.means.reshape(n_all, n_features)
    pulled = jnp.sum(precision * means[None, :, None, :], axis=-1)
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(lower, axis1=-2, axis2=-1)), axis=-1)
    n_observed = jnp.sum(observed, axis=1).astype(log_det.dtype)
    log_det = log_det + n_observed[:, None] * float(np.log(2 * np.pi))
    constant = stack.log_weights.reshape(1, n_all) - 0.5 * (log_det + jnp.sum(pulled * means[None], axis=-1))
    constant = jnp.maximum(constant, -float(np.sqrt(np.finfo(np.float64).max)))
    first, second = quadratic.PAIRS.indices(n_features)
    first, second = first[: -n_features - 1], second[: -n_features - 1]
    twice = np.where(first == second, -0.5, -1.0)[None, None, :]
    coefficients = jnp.concatenate([precision[..., first, second] * twice, pulled, constant[..., None]], axis=-1)
    return _Patterned(coefficients, gain, spread)


def _filled(statistic: Statistic, observed: Array, raw: Array, gain: Array, spread: Array, means: Array) -> Moments:
    """Moments about the centre, from sums of the observed values' features; the gaps filled, the patterns merged.

    Args:
        statistic: the part of the scatter to keep.
        observed: whether a pattern observes each column, (G, D).
        raw: sums, (G, F, K).
        gain: (G, K, D, D).
        spread: (G, K, D, D).
        means: of the mixture, (K, D).
    """
    n_features = observed.shape[1]

    def of_pattern(observed: Array, raw: Array, gain: Array, spread: Array) -> Moments:
        seen = quadratic.read(raw, jnp.zeros(()), quadratic.PAIRS, n_features, DENSE)
        shift = jnp.where(observed[None], seen.mean - means, 0.0)
        mean = jnp.where(observed[None], seen.mean, means + product("kij,kj->ki", gain, shift))
        filling = jnp.where(observed[None, :, None], jnp.eye(n_features)[None], gain)
        scatter = product("kia,kab,kjb->kij", filling, seen.scatter, filling)
        return Moments(seen.mass, mean, statistic.of_dense(scatter + seen.mass[:, None, None] * spread))

    return pool(jax.vmap(of_pattern)(observed, raw, gain, spread))
