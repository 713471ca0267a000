"""K-means on the device: greedy seeds and Lloyd's iterations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxgmm.data import draws
from jaxgmm.data.rows import Rows
from jaxgmm.numerics.linalg import varying_as

LEAST_SPREAD = 1e-4
"""The least variance, as a share of the columns', of the pseudo-rows that a start's covariances see."""

LLOYD_ITERATIONS = 50
"""The most of Lloyd's iterations."""

LLOYD_SHIFT = 1e-4
"""The largest shift of a centre, in deviations of the columns, at which Lloyd's iterations end."""


def n_candidates(n_components: int) -> int:
    """The number of candidates among which each greedy seed is chosen (Arthur & Vassilvitskii 2007)."""
    return 2 + int(np.log(n_components))


def greedy_seeds(key: Array, data: Rows, n_components: int, scale: Array, nearest: Array | None = None) -> Array:
    """Greedy k-means++ seeds, (K, D): at each step the candidate that leaves the least distance.

    If there are centres already, `nearest` holds the rows' squared distances from those, (N,).
    """
    n_tried = n_candidates(n_components)
    key_first, key_rest = jax.random.split(key)
    counted = data.weights != 0
    rows = jnp.where(counted[:, None], data.x, 0.0)

    def distances(seed: Array) -> Array:
        return jnp.sum(((rows - seed[None, :]) / scale[None, :]) ** 2, axis=1)

    def add(nearest: Array, uniforms: Array) -> tuple[Array, Array]:
        mass = data.weights * nearest
        # Before the first seed none is near, and once every distinct row is one, all are: then any row will do.
        mass = jnp.where(jnp.isinf(nearest) | ~(jnp.sum(mass) > 0), data.weights, mass)
        candidates = rows[jax.vmap(draws.index, (0, None))(uniforms, mass)]
        after = jax.vmap(lambda seed: jnp.minimum(nearest, distances(seed)))(candidates)
        left = jnp.sum(data.weights[None, :] * after, axis=1)
        best = jnp.argmin(left)
        return after[best], candidates[best]

    n_first = 1 if nearest is None else 0
    uniform = jax.random.uniform(key_first, (n_first, 1), rows.dtype)
    uniforms = jax.random.uniform(key_rest, (n_components - n_first, n_tried), rows.dtype)
    # The first seed of all has one candidate, in each column, so that one loop, compiled once, finds all seeds.
    uniforms = jnp.concatenate([jnp.broadcast_to(uniform, (n_first, n_tried)), uniforms])
    begun = jnp.full(rows.shape[0], jnp.inf, rows.dtype) if nearest is None else nearest
    return lax.scan(add, varying_as(begun, rows[0, 0] + uniforms[0, 0]), uniforms)[1]


def lloyd(centres: Array, data: Rows, scale: Array) -> Array:
    """The centres, (K, D), after Lloyd's k-means from given ones; a centre without rows stays."""

    def unsettled(carried: tuple[Array, Array, Array]) -> Array:
        return (carried[1] > LLOYD_SHIFT) & (carried[2] < LLOYD_ITERATIONS)

    def iterate(carried: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        centres, _, iteration = carried

        def chunk(x: Array, weights: Array) -> tuple[Array, Array]:
            nearest = one_hot_nearest(x, centres, scale) * weights[None, :]
            shift = jnp.where((weights != 0)[None, None, :], x.T[None] - centres[:, :, None], 0.0)
            return jnp.sum(nearest, axis=1), jnp.sum(nearest[:, None, :] * shift, axis=2)

        def combine(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
            return a[0] + b[0], a[1] + b[1]

        mass, shift = data.fold(centres.size, chunk, combine)
        shift = shift / jnp.where(mass > 0, mass, 1.0)[:, None]
        return centres + shift, jnp.max(jnp.abs(shift) / scale[None, :]), iteration + 1

    begun = (centres, jnp.full((), jnp.inf, centres.dtype), jnp.zeros((), jnp.int32))
    return lax.while_loop(unsettled, iterate, varying_as(begun, centres[0, 0] + data.x[0, 0]))[0]


def one_hot_nearest(x: Array, centres: Array, scale: Array) -> Array:
    """The one-hot assignment of rows to their nearest centres, (K, C)."""
    distances = jnp.sum(((x.T[None] - centres[:, :, None]) / scale[None, :, None]) ** 2, axis=1)
    return jax.nn.one_hot(jnp.argmin(distances, axis=0), centres.shape[0], axis=0, dtype=x.dtype)
