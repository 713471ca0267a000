"""One pass over the rows, chunk by chunk, by whitened residuals; and what passes of every kind share."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxgmm.data.centring import about, centre_of, centred, in_place
from jaxgmm.data.kernels import shares, whitened
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, Statistic, merge
from jaxgmm.numerics import chunks


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
        return residual_moments(prepared, *in_place(x, weights, centre), statistic)

    gathered, log_likelihood = chunks.fold(mixture.means.size, chunk, combine, x, weights)
    coloured = whitened.colour(prepared, gathered, statistic)
    return coloured._replace(mean=coloured.mean + centre[None, :]), log_likelihood


def combine(a: tuple[Moments, Array], b: tuple[Moments, Array]) -> tuple[Moments, Array]:
    """Two pairs of moments and log-likelihood as one: the moments merged, the log-likelihoods added."""
    return merge(a[0], b[0]), a[1] + b[1]


def residual_moments(
    prepared: whitened.Prepared, columns: Array, weights: Array, statistic: Statistic
) -> tuple[Moments, Array]:
    """The whitened moments of a chunk, and its log-likelihood."""
    seen = whitened.joint(prepared, columns)
    responsibilities, log_prob = normalise(seen.log_joint, weights)
    log_prob = whitened.unless_far(log_prob, seen.shrink)
    # Zeros, with slopes: what components of weight 0 would take from the others.
    odds = shares.odds_of_absent(prepared, columns, log_prob)
    total = 1 + jnp.sum(odds, axis=0)
    gathered = whitened.moments(prepared, seen, responsibilities / total[None, :], statistic)
    gathered = gathered._replace(mass=gathered.mass + jnp.sum(weights[None, :] * odds / total[None, :], axis=-1))
    return gathered, weighted_sum(weights, log_prob + jnp.log(total))


def normalise(log_joint: Array, weights: Array, dtype: DTypeLike | None = None) -> tuple[Array, Array]:
    """Weighted responsibilities (..., K, C) and log p (..., C), by one exponential for each entry.

    The exponentials are computed in a `dtype` that may be narrower. All that follows is not: responsibilities that do
    not sum to the weights would spoil what is a difference of two sums.
    """
    highest = lax.stop_gradient(jnp.max(log_joint, axis=-2, keepdims=True))
    below = lax.convert_element_type(log_joint - highest, log_joint.dtype if dtype is None else dtype)
    exponential = lax.convert_element_type(jnp.exp(below), log_joint.dtype)
    normaliser = jnp.sum(exponential, axis=-2, keepdims=True)
    responsibilities = exponential * (weights[..., None, :] / normaliser)
    return responsibilities, (jnp.log(normaliser) + highest)[..., 0, :]


def weighted_sum(weights: Array, log_prob: Array) -> Array:
    """Σ w log p over the last axis; a row of weight 0 whose log p is not finite is left out."""
    return jnp.sum(weighted(weights, log_prob), axis=-1)


def weighted(weights: Array, values: Array) -> Array:
    """Values times weights; 0 where the weight is 0 and the value not finite."""
    return weights * jnp.where((weights != 0) | jnp.isfinite(values), values, 0.0)
