"""One pass over the rows for many mixtures, each chunk by the cheapest kernel that is exact enough for it.

The tiers are features, features in float64 for rows in float32, and whitened residuals.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from jaxgmm.data.centring import about, centre_of, centred
from jaxgmm.data.kernels import quadratic, whitened
from jaxgmm.data.passes import Distances, combine, residual_moments
from jaxgmm.data.sums import Sums, read_sums, sums_of
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, Statistic, columns_of, merge
from jaxgmm.numerics import chunks
from jaxgmm.numerics.linalg import varying_as

_CHUNK_BYTES = 13 << 19
"""Bytes of a chunk's features and log-joints on a CPU: passes were fastest at about the size of its caches."""

_CHUNK_BYTES_ELSEWHERE = 100 << 20
"""The same on a GPU, which has many more rows to work on at once, and nothing to gain from small chunks."""

_BEYOND = 2.0**10
"""The factor by which covariances that come out of features in float64 may exceed their bound: the error that they then
have is below the rounding of the rows in float32."""


class _Kernel(NamedTuple):
    """The quadratic kernel in one dtype, for stacked mixtures.

    Attributes:
        centre: from which rows are measured, (D,).
        prepared: gives the mixtures, prepared, where a flag () says that they are needed.
        limit: the largest ‖x‖²·λmax(Σ⁻¹) at which features are exact enough.
    """

    centre: Array
    prepared: Callable[[Array], quadratic.Prepared]
    limit: float


def by_features(
    statistic: Statistic,
    features: quadratic.Features,
    stack: Mixture,
    x: Array,
    weights: Array,
    distances: Distances,
) -> tuple[Moments, Array]:
    """Moments and log-likelihoods of R mixtures at once, by features in each chunk where they are exact enough.

    Chunks of float32 rows for which they are not go by features in float64, whether or not JAX allows float64
    elsewhere, and chunks for which these are not by whitened residuals.

    Args:
        statistic: the part of the scatter to keep.
        features: the products that the statistic and the mixtures' density need.
        stack: mixtures with a leading axis R.
        x: rows, (N, D).
        weights: (1, N), or (R, N) where each mixture has its own.
        distances: distances of the rows from one point.
    """
    n_stacked, n_components, n_features = stack.means.shape
    n_rows, dtype = x.shape[0], x.dtype
    n_sums, shape = features.count(n_features), (n_stacked, n_components)
    centres = jax.vmap(centre_of)(stack)
    sound = jnp.all(jnp.isfinite(centres), axis=-1, keepdims=True)
    centre = jnp.sum(jnp.where(sound, centres, 0.0), axis=0) / jnp.maximum(jnp.sum(sound), 1).astype(dtype)
    stack = jax.vmap(about, (0, None))(stack, centre)
    exact = jax.vmap(whitened.prepare)(stack)
    prepare = jax.vmap(functools.partial(quadratic.prepare, features=features))
    narrow = prepare(stack)
    steepest = jnp.max(jnp.where(jnp.isnan(narrow.steepness), 0.0, narrow.steepness))
    kernels = [_Kernel(centre, lambda _: narrow, quadratic.limit(dtype))]
    if dtype != jnp.float64:
        with jax.enable_x64(True):
            stack_wide, centre_wide = jax.tree.map(wide, (stack, centre))
            unprepared = jax.tree.map(jnp.zeros_like, jax.eval_shape(prepare, stack_wide))

        def prepared_wide(needed: Array) -> quadratic.Prepared:
            return lax.cond(needed, prepare, lambda _: varying_as(unprepared, centre_wide[0]), stack_wide)

        kernels.append(_Kernel(centre_wide, prepared_wide, quadratic.limit(jnp.float64, dtype)))

    n_chunks, size = chunks.divide(n_rows, _most_rows(n_sums + n_stacked * n_components, dtype))
    n_parts, part = chunks.divide(size, chunks.most_rows(stack.means.size))

    def chunk_of(start: Array, length: int, fresh: Array, origin: Array) -> tuple[Array, Array]:
        """Rows less the origin, as columns (D, length) in its dtype, and their weights, (R or 1, length)."""
        rows = lax.convert_element_type(lax.dynamic_slice_in_dim(x, start, length), origin.dtype)
        weight = jnp.where(fresh[None, :], lax.dynamic_slice_in_dim(weights, start, length, axis=1), 0.0)
        return centred(rows, jnp.max(weight, axis=0), origin), weight

    def residuals_step(index: Array, within: Array, held: tuple[Moments, chunks.Sum]) -> tuple[Moments, chunks.Sum]:
        start, fresh = chunks.window(index, size, n_rows)
        offset, unseen = chunks.window(within, part, size)
        fresh = unseen & lax.dynamic_slice_in_dim(fresh, offset, part)
        columns, weight = chunk_of(start + offset, part, fresh, centre)
        axes = (0, None, 0 if weight.shape[0] > 1 else None)
        weight = weight if weight.shape[0] > 1 else weight[0]
        seen, log_likelihood = jax.vmap(functools.partial(residual_moments, statistic=statistic), axes)(
            exact, columns, weight
        )
        return jax.vmap(merge)(held[0], seen), held[1].plus(log_likelihood)

    farthest = jnp.max(distances.each[: (n_chunks - 1) * size].reshape(-1, size), axis=1)
    farthest = jnp.concatenate([farthest, jnp.max(distances.each[n_rows - size :], keepdims=True)])
    reaches = (farthest + jnp.sqrt(jnp.sum((centre - distances.origin) ** 2))) ** 2
    anchor = x[0, 0] + stack.means[0, 0, 0] + weights[0, 0]

    def by_kernel(kernel: _Kernel, first: Array, beyond: Array, order: Array) -> tuple[Moments, Array]:
        """Moments and log-likelihoods of the chunks at some places of an order."""
        quick, centre = kernel.prepared(first < beyond), kernel.centre

        def of_chunk(index: Array) -> Sums:
            start, fresh = chunks.window(index, size, n_rows)
            columns, weight = chunk_of(start, size, fresh, centre)
            return sums_of(features, quick, columns, lax.convert_element_type(weight, centre.dtype), shape, dtype)

        def step(place: Array, held: Sums) -> Sums:
            return Sums(*(total.plus(term) for total, term in zip(held, of_chunk(order[place]), strict=True)))

        terms = jax.eval_shape(of_chunk, first)
        begun = Sums(*(chunks.Sum.zeros(term.shape, term.dtype) for term in terms))
        totals = lax.fori_loop(first, beyond, step, varying_as(begun, anchor))
        return read_sums(features, quick, Sums(*(total.value for total in totals)), shape, n_features, statistic)

    def by_whitened(first: Array, order: Array) -> tuple[Moments, Array]:
        """Moments and log-likelihoods of the chunks from some place of an order on, by residuals."""
        one = (n_features, n_features) if whitened.holds_products(exact.mixture.covs, statistic) else (n_features,)
        empty = Moments(*(jnp.zeros((*shape, *more), dtype) for more in ((), (n_features,), one)))
        gathered, log_likelihood = lax.fori_loop(
            first * n_parts,
            n_chunks * n_parts,
            lambda place, held: residuals_step(order[place // n_parts], place % n_parts, held),
            varying_as((empty, chunks.Sum.zeros((n_stacked,), dtype)), anchor),
        )
        moments = jax.vmap(lambda p, m: whitened.colour(p, m, statistic))(exact, gathered)
        mean = jnp.where(moments.mass[:, :, None] > 0, moments.mean, 0.0)
        return moments._replace(mean=mean), log_likelihood.value

    def resolved(moments: Moments) -> Moments:
        """Moments whose scatter is at least what rounding of the rows themselves makes of it."""
        spacing = (8 * float(jnp.finfo(dtype).eps)) ** 2 * columns_of(moments).variance
        added = statistic.of_diagonal(moments.mass[:, None] * spacing[None, :])
        return moments._replace(scatter=moments.scatter + added)

    def attempt(least: Array) -> tuple[Moments, Array, Array]:
        """The pass, each chunk by a level of at least `least`, and whether each was exact for the new moments too.

        Levels are places in `kernels`; that beyond them is the residuals'.
        """
        level = sum((~(reaches * steepest <= kernel.limit)).astype(jnp.int32) for kernel in kernels)
        level = jnp.maximum(jnp.asarray(level), least)
        order = jnp.argsort(level, stable=True)
        ends = [jnp.sum(level < place, dtype=jnp.int32) for place in range(len(kernels) + 1)]
        parts = []
        for place, kernel in enumerate(kernels):
            with _allowing(kernel):
                parts.append(by_kernel(kernel, ends[place], ends[place + 1], order))
        parts.append(by_whitened(ends[-1], order))
        with _allowing(kernels[-1]):
            # In the widest dtype, in which covariances too are factored that the narrow one could not tell as such.
            parts = jax.tree.map(lambda leaf: lax.convert_element_type(leaf, kernels[-1].centre.dtype), parts)
            moments, log_likelihood = functools.reduce(jax.vmap(combine), parts)
            steepness = jax.vmap(quadratic.steepness, (0, None))(jax.vmap(resolved)(moments), n_rows)
            fine = jnp.isnan(log_likelihood)
            within = jnp.ones_like(fine)
            for place, kernel in enumerate(kernels):
                reach = jnp.max(jnp.where(level == place, reaches, 0.0))
                bound = kernel.limit * (_BEYOND if kernel.centre.dtype != dtype else 1.0)
                within = within & ((wide(reach) * steepness <= bound) | (ends[place] == ends[place + 1]))
            moments, log_likelihood = jax.tree.map(
                lambda leaf: lax.convert_element_type(leaf, dtype), (moments, log_likelihood)
            )
        return moments, log_likelihood, jnp.all(fine | within)

    def again(held: tuple[Moments, Array, Array, Array]) -> tuple[Moments, Array, Array, Array]:
        return *attempt(held[3]), held[3] + 1

    # From a wide start tight components may come: then the pass is done again, all of it by the next level.
    shapes = jax.eval_shape(attempt, jnp.zeros((), jnp.int32))
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    begun = varying_as((*blank, jnp.zeros((), jnp.int32)), anchor)
    moments, log_likelihood, _, _ = lax.while_loop(lambda held: ~held[2], again, begun)
    return moments._replace(mean=moments.mean + centre[None, None, :]), log_likelihood


def wide(leaf: Array) -> Array:
    """The array in float64, where JAX allows it."""
    return lax.convert_element_type(leaf, jnp.float64)


def _allowing(kernel: _Kernel) -> AbstractContextManager[Any]:
    """A context in which JAX allows what the kernel computes with."""
    return jax.enable_x64(True) if kernel.centre.dtype == jnp.float64 else contextlib.nullcontext()


def _most_rows(width: int, dtype: DTypeLike) -> int:
    """The number of rows in a chunk, fewer where rows are narrow.

    XLA would share the many small operations of more out over threads, for no gain in time and a third more of the
    processors'.
    """
    size = np.dtype(dtype).itemsize
    if jax.default_backend() != "cpu":
        return max(64, _CHUNK_BYTES_ELSEWHERE // (size * width))
    longest = (1 << 13 if width < 64 else 1 << 15) // size
    return 1 << int(np.log2(np.clip(_CHUNK_BYTES // (size * width), 64, longest)))
