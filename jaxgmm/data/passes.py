"""One pass over the rows, chunk by chunk: by features where they are exact enough, else by whitened residuals."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from jaxgmm.data.centring import about, centre_of, centred, in_place
from jaxgmm.data.kernels import quadratic, shares, whitened
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, Statistic, merge
from jaxgmm.numerics import chunks
from jaxgmm.numerics.linalg import product, varying_as

_CHUNK_BYTES = 13 << 19
"""Bytes of a chunk's features and log-joints: passes were fastest at about the size of the level 2 and 3 caches."""


class Distances(NamedTuple):
    """Distances of the rows from one point, from which each pass bounds the error of features.

    Attributes:
        origin: the point, (D,).
        each: ‖x_i − origin‖, 0 for a row of weight 0, (N,).
    """

    origin: Array
    each: Array


def distances_from(origin: Array, x: Array, weights: Array) -> Distances:
    """Distances of rows (N, D) with weights (N,) from a point."""

    def chunk(x: Array, weights: Array) -> Array:
        return jnp.sqrt(jnp.sum(centred(x, weights, origin) ** 2, axis=0))

    return Distances(origin, chunks.each(2 * x.shape[1], chunk, x, weights))


def from_one_origin(distances: Distances) -> Distances:
    """Bounds of the distances from the first of B origins: ‖x − o₁‖ ≤ ‖x − o_b‖ + ‖o_b − o₁‖ with a weight in b."""
    apart = jnp.sqrt(jnp.sum((distances.origin - distances.origin[:1]) ** 2, axis=-1))
    return Distances(distances.origin[0], jnp.max(distances.each + apart[:, None], axis=0))


def by_residuals(statistic: Statistic, mixture: Mixture, x: Array, weights: Array) -> tuple[Moments, Array]:
    """Moments of the rows and Σ wᵢ log p(xᵢ), by whitened residuals alone: differentiable in every mode."""
    centre = centre_of(mixture)
    prepared = whitened.prepare(about(mixture, centre))

    def chunk(x: Array, weights: Array) -> tuple[Moments, Array]:
        return _residual_moments(prepared, *in_place(x, weights, centre), statistic)

    gathered, log_likelihood = chunks.fold(mixture.means.size, chunk, combine, x, weights)
    coloured = whitened.colour(prepared, gathered, statistic)
    return coloured._replace(mean=coloured.mean + centre[None, :]), log_likelihood


def combine(a: tuple[Moments, Array], b: tuple[Moments, Array]) -> tuple[Moments, Array]:
    """Two pairs of moments and log-likelihood as one: the moments merged, the log-likelihoods added."""
    return merge(a[0], b[0]), a[1] + b[1]


def _residual_moments(
    prepared: whitened.Prepared, columns: Array, weights: Array, statistic: Statistic
) -> tuple[Moments, Array]:
    """The whitened moments of a chunk, and its log-likelihood."""
    seen = whitened.joint(prepared, columns)
    responsibilities, log_prob = _normalise(seen.log_joint, weights)
    log_prob = whitened.unless_far(log_prob, seen.shrink)
    # Zeros, with slopes: what components of weight 0 would take from the others.
    odds = shares.odds_of_absent(prepared, columns, log_prob)
    total = 1 + jnp.sum(odds, axis=0)
    gathered = whitened.moments(prepared, seen, responsibilities / total[None, :], statistic)
    gathered = gathered._replace(mass=gathered.mass + jnp.sum(weights[None, :] * odds / total[None, :], axis=-1))
    return gathered, weighted_sum(weights, log_prob + jnp.log(total))


def _normalise(log_joint: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted responsibilities (..., K, C) and log p (..., C), by one exponential for each entry."""
    highest = lax.stop_gradient(jnp.max(log_joint, axis=-2, keepdims=True))
    exponential = jnp.exp(log_joint - highest)
    normaliser = jnp.sum(exponential, axis=-2, keepdims=True)
    responsibilities = exponential * (weights[..., None, :] / normaliser)
    return responsibilities, (jnp.log(normaliser) + highest)[..., 0, :]


def weighted_sum(weights: Array, log_prob: Array) -> Array:
    """Σ w log p over the last axis; a row of weight 0 whose log p is not finite is left out."""
    return jnp.sum(weighted(weights, log_prob), axis=-1)


def weighted(weights: Array, values: Array) -> Array:
    """Values times weights; 0 where the weight is 0 and the value not finite."""
    return weights * jnp.where((weights != 0) | jnp.isfinite(values), values, 0.0)


class _Sums(NamedTuple):
    """The sums of a pass: raw moments where features are exact enough, whitened moments elsewhere.

    Attributes:
        raw: Σ r φ, (F, R·K).
        square: Σ w x xᵀ where the features are linear, (R or 1, D, D).
        residual: whitened moments, stacked (R, ...).
        log_likelihood: (R,).
    """

    raw: chunks.Sum
    square: chunks.Sum
    residual: Moments
    log_likelihood: chunks.Sum


def by_features(
    statistic: Statistic,
    features: quadratic.Features,
    stack: Mixture,
    x: Array,
    weights: Array,
    distances: Distances,
) -> tuple[Moments, Array]:
    """Moments and log-likelihoods of R mixtures at once, by features in each chunk where they are exact enough.

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
    n_sums = features.count(n_features)
    centres = jax.vmap(centre_of)(stack)
    sound = jnp.all(jnp.isfinite(centres), axis=-1, keepdims=True)
    centre = jnp.sum(jnp.where(sound, centres, 0.0), axis=0) / jnp.maximum(jnp.sum(sound), 1).astype(dtype)
    stack = jax.vmap(about, (0, None))(stack, centre)
    exact = jax.vmap(whitened.prepare)(stack)
    quick = jax.vmap(functools.partial(quadratic.prepare, features=features))(stack)
    coefficients = quick.coefficients.reshape(-1, n_sums)
    limit = quadratic.limit(dtype)

    n_chunks, size = chunks.divide(n_rows, _most_rows(n_sums + n_stacked * n_components, dtype))
    n_parts, part = chunks.divide(size, chunks.most_rows(stack.means.size))

    def chunk_of(start: Array, length: int, fresh: Array) -> tuple[Array, Array]:
        """Rows less the centre, as columns (D, length), and their weights, (R or 1, length)."""
        rows = lax.dynamic_slice_in_dim(x, start, length)
        weight = jnp.where(fresh[None, :], lax.dynamic_slice_in_dim(weights, start, length, axis=1), 0.0)
        return centred(rows, jnp.max(weight, axis=0), centre), weight

    def features_step(index: Array, sums: _Sums) -> _Sums:
        start, fresh = chunks.window(index, size, n_rows)
        columns, weight = chunk_of(start, size, fresh)
        phi = features.of(columns)
        log_joint = product("kf,fc->kc", coefficients, phi).reshape(n_stacked, n_components, size)
        responsibilities, log_prob = _normalise(log_joint, weight)
        # Features first: with the long axis last in both, this order of the product is the faster one.
        raw = product("fc,kc->fk", phi, responsibilities.reshape(-1, size))
        square = sums.square
        if features == quadratic.LINEAR:
            square = square.plus(product("rdc,ec->rde", weight[:, None, :] * columns[None], columns))
        total = sums.log_likelihood.plus(weighted_sum(weight, log_prob))
        return sums._replace(raw=sums.raw.plus(raw), square=square, log_likelihood=total)

    def residuals_step(index: Array, within: Array, sums: _Sums) -> _Sums:
        start, fresh = chunks.window(index, size, n_rows)
        offset, unseen = chunks.window(within, part, size)
        fresh = unseen & lax.dynamic_slice_in_dim(fresh, offset, part)
        columns, weight = chunk_of(start + offset, part, fresh)
        axes = (0, None, 0 if weight.shape[0] > 1 else None)
        weight = weight if weight.shape[0] > 1 else weight[0]
        seen, log_likelihood = jax.vmap(functools.partial(_residual_moments, statistic=statistic), axes)(
            exact, columns, weight
        )
        residual = jax.vmap(merge)(sums.residual, seen)
        return sums._replace(residual=residual, log_likelihood=sums.log_likelihood.plus(log_likelihood))

    farthest = jnp.max(distances.each[: (n_chunks - 1) * size].reshape(-1, size), axis=1)
    farthest = jnp.concatenate([farthest, jnp.max(distances.each[n_rows - size :], keepdims=True)])
    reaches = (farthest + jnp.sqrt(jnp.sum((centre - distances.origin) ** 2))) ** 2
    nothing = _nothing(exact, statistic, features, weights, n_sums)
    nothing = varying_as(nothing, x[0, 0] + stack.means[0, 0, 0] + weights[0, 0])

    def attempt(steepest: Array) -> tuple[Moments, Array, Array]:
        """The pass, by features where ‖x‖²·`steepest` is small enough, and whether it is for the new moments too."""
        trusted = reaches * steepest <= limit
        order, n_trusted = jnp.argsort(~trusted, stable=True), jnp.sum(trusted, dtype=jnp.int32)
        sums = lax.fori_loop(0, n_trusted, lambda place, held: features_step(order[place], held), nothing)
        sums = lax.fori_loop(
            n_trusted * n_parts,
            n_chunks * n_parts,
            lambda place, held: residuals_step(order[place // n_parts], place % n_parts, held),
            sums,
        )
        raw = sums.raw.value.reshape(n_sums, n_stacked, n_components)
        square = jnp.broadcast_to(sums.square.value, (n_stacked, *sums.square.value.shape[1:]))
        quickly = jax.vmap(lambda r, s: quadratic.read(r, s, features, n_features, statistic), (1, 0))(raw, square)
        residual = jax.vmap(lambda p, m: whitened.colour(p, m, statistic))(exact, sums.residual)
        residual = residual._replace(mean=jnp.where(residual.mass[:, :, None] > 0, residual.mean, 0.0))
        moments = jax.vmap(merge)(quickly, residual)
        log_likelihood = sums.log_likelihood.value
        if features == quadratic.LINEAR:
            log_likelihood = log_likelihood - 0.5 * jnp.sum(quick.precision * square, axis=(1, 2))
        steepness = jax.vmap(quadratic.steepness, (0, None))(moments, n_rows)
        reach = jnp.max(jnp.where(trusted, reaches, 0.0))
        fine = (reach * steepness <= limit) | jnp.isnan(log_likelihood)
        return moments, log_likelihood, jnp.all(fine) | (n_trusted == 0)

    def again(held: tuple[Moments, Array, Array, Array]) -> tuple[Moments, Array, Array, Array]:
        moments, log_likelihood, fine = attempt(held[3])
        return moments, log_likelihood, fine, jnp.full_like(held[3], jnp.inf)

    # From a wide start tight components may come: then the pass is done again, all of it by residuals.
    shapes = jax.eval_shape(attempt, limit * jnp.ones((), dtype))
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    steepest = jnp.max(jnp.where(jnp.isnan(quick.steepness), 0.0, quick.steepness))
    begun = varying_as((*blank, steepest), nothing.log_likelihood.value[0])
    moments, log_likelihood, _, _ = lax.while_loop(lambda held: ~held[2], again, begun)
    return moments._replace(mean=moments.mean + centre[None, None, :]), log_likelihood


def _nothing(
    exact: whitened.Prepared, statistic: Statistic, features: quadratic.Features, weights: Array, n_sums: int
) -> _Sums:
    n_stacked, n_components, n_features = exact.mixture.means.shape
    dtype = exact.mixture.means.dtype
    scatter = (n_features, n_features) if whitened.holds_products(exact.mixture.covs, statistic) else (n_features,)
    square = (weights.shape[0], n_features, n_features) if features == quadratic.LINEAR else (weights.shape[0], 0, 0)
    return _Sums(
        raw=chunks.Sum.zeros((n_sums, n_stacked * n_components), dtype),
        square=chunks.Sum.zeros(square, dtype),
        residual=Moments(
            mass=jnp.zeros((n_stacked, n_components), dtype),
            mean=jnp.zeros((n_stacked, n_components, n_features), dtype),
            scatter=jnp.zeros((n_stacked, n_components, *scatter), dtype),
        ),
        log_likelihood=chunks.Sum.zeros((n_stacked,), dtype),
    )


def _most_rows(width: int, dtype: DTypeLike) -> int:
    """The number of rows in a chunk; fewer where rows are narrow, measured to be faster."""
    size = np.dtype(dtype).itemsize
    longest = (1 << 14 if width < 32 else 1 << 15) // size
    return 1 << int(np.log2(np.clip(_CHUNK_BYTES // (size * width), 64, longest)))
