"""The whitened kernel: residuals y = L_k⁻¹ (x − μ_k), exact to the rounding of rows centred on the mixture.

Rows arrive centred near the mixture and column-major, (D, C). Moments are gathered chunk by chunk in
whitened coordinates, where a component's scatter is about the identity, centrally within each chunk;
so they keep their digits even from a start a thousand times too wide.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxgmm._linalg import zeros_of
from jaxgmm._protocols import Covariances
from jaxgmm._types import Mixture, Moments
from jaxgmm.kernels.reach import too_far
from jaxgmm.moments import DENSE, DIAGONAL, Statistic, gather
from jaxgmm.zero_weights import any_absent, log_weight, most_log_odds, weight


class Prepared(NamedTuple):
    """A mixture made ready for many chunks.

    Attributes:
        mixture: with means about zero.
        inverse: L⁻¹, as its covariances keep it.
        constant: log π_k − ½ (D log 2π + log|Σ_k|), (K,).
        steepness: greatest |L⁻¹_ij| of each column over components that are there: |y_i| ≤ Σ_j |x_j| s_j, (D,).
    """

    mixture: Mixture
    inverse: Array
    constant: Array
    steepness: Array


class Joint(NamedTuple):
    """Log-joints of a chunk of columns.

    Attributes:
        log_joint: log π_k + log N(x_c / s_c; μ_k, Σ_k), with s_c = 1 but for a far row, (K, C).
        shrink: s_c, by how much a row too far from every component to be squared was drawn to the centre, (C,).
        whitened: y, (K, D, C); the most that can be squared, for a component too far from a row that is near another.
        lost: which components those are, (K, C): their true log-joints count as −∞.
    """

    log_joint: Array
    shrink: Array
    whitened: Array
    lost: Array


def prepare(mixture: Mixture) -> Prepared:
    """What does not depend on the rows."""
    inverse = mixture.covs.inverse()
    if inverse.shape[0] == mixture.n_components:
        # The rows of a component that is not there lie on it: nothing of them overflows.
        there = (mixture.log_weights > -jnp.inf) | jnp.isnan(mixture.log_weights)
        inverse = jnp.where(there.reshape(-1, *[1] * (inverse.ndim - 1)), inverse, 0.0)
    log_det = mixture.covs.log_det(mixture.n_features)
    constant = mixture.log_weights - 0.5 * (mixture.n_features * float(np.log(2 * np.pi)) + log_det)
    steepness = jnp.max(jnp.abs(inverse), axis=tuple(range(inverse.ndim - 1)))
    return Prepared(mixture, inverse, constant, jnp.broadcast_to(steepness, (mixture.n_features,)))


def farthest(dtype: Any, n_features: int) -> float:
    """Deviations in each of D columns up to which their squares, and what is made of them, do not overflow."""
    return float(np.sqrt(jnp.finfo(dtype).max)) / (4 * n_features)


def _nearby(dtype: Any) -> float:
    """What part of the deviations that can be squared a far row is drawn in to."""
    return float(np.sqrt(jnp.finfo(dtype).eps))


def joint(prepared: Prepared, columns: Array) -> Joint:
    """Log π_k + log N(x; μ_k, Σ_k), and what moments need.

    A row so far from every component that its squared distance overflows is drawn to the centre along its ray by s,
    which keeps the order of the components by distance; its true log-joint counts as −∞. A row that is near one stays,
    and the components that it is too far from have no part in it.

    Args:
        prepared: the mixture.
        columns: rows as columns, (D, C), centred as the means are.
    """
    mixture = prepared.mixture
    chex.assert_shape(columns, (mixture.n_features, None))
    limit = farthest(columns.dtype, mixture.n_features)
    reach = lax.stop_gradient(jnp.sum(jnp.abs(columns) / limit * prepared.steepness[:, None], axis=0))

    def whiten(columns: Array) -> Array:
        return mixture.covs.whiten(prepared.inverse, mixture.means, columns)

    alone, lost = too_far(whiten, columns, limit, prepared.constant, reach > 1)
    # Drawn in to 1/√eps standard deviations, where rounding of the square still tells one mean from another.
    shrink = jnp.where(alone, reach * limit * _nearby(columns.dtype), 1.0)
    whitened = jnp.where(lost[:, None, :], limit, whiten(columns / shrink[None, :]))
    log_joint = prepared.constant[:, None] - 0.5 * jnp.sum(whitened**2, axis=1)
    return Joint(log_joint, shrink, whitened, lost)


def told_apart(prepared: Prepared, columns: Array) -> Array:
    """Log-joints (K, C), up to a term common to a row's, that tell one component from another for far rows too.

    The square of a far row's residual is rounded by eps·‖L⁻¹x‖², which hides which component is the nearer. There it is
    multiplied out, ‖w‖² − 2 wᵀ(L⁻¹μ) + ‖L⁻¹μ‖² with w = L⁻¹x; and of the first term only what it is more than the
    leading component's v is kept, (w − v)ᵀ(w + v): nothing, where both have one covariance.

    Of a row too far to be squared w and L⁻¹μ are both divided by s, and the squares' differences multiplied by s² once
    the nearest component's is taken off: they overflow to components that have no part in the row.
    """
    covs, means = prepared.mixture.covs, prepared.mixture.means
    seen = joint(prepared, columns)
    square = jnp.sum(seen.whitened**2, axis=1)
    offsets = covs.whiten(prepared.inverse, means, jnp.zeros_like(columns[:, :1]))
    own = jnp.sum(offsets**2, axis=1)
    drawn_in = seen.shrink > 1
    # Thrice as far from the mean as the mean is from the centre: multiplied out, the square is rounded no more.
    beyond = lax.stop_gradient(square > 9 * jnp.maximum(own, 64.0)) | drawn_in[None, :]
    numbers = jnp.arange(square.shape[0])[:, None]
    leads = numbers == jnp.argmax(seen.log_joint, axis=0)[None, :]
    far = jnp.any(leads & beyond, axis=0)

    def multiplied_out() -> Array:
        limit = farthest(columns.dtype, means.shape[1])
        there = (prepared.constant != -jnp.inf)[:, None]
        spread = jnp.max(jnp.where(there[:, :, None], jnp.abs(offsets), 0.0)) / limit
        reach = jnp.maximum(seen.shrink / (limit * _nearby(columns.dtype)), spread)
        scale = lax.stop_gradient(jnp.where(drawn_in, jnp.maximum(reach, 1.0), 1.0))[None, :]
        points = covs.whiten(prepared.inverse, jnp.zeros_like(means), columns / scale)
        # Made once: a product fused into its difference from another is rounded otherwise than that.
        points = lax.optimization_barrier(jnp.where(seen.lost[:, None, :], 0.0, points))
        scaled = offsets / scale[None]

        def beside(leads: Array) -> tuple[Array, Array]:
            """Squares less ‖v‖², and ‖v‖² itself, of the component that leads in each row."""
            lead = jnp.sum(jnp.where(leads[:, None, :], points, 0.0), axis=0, keepdims=True)
            more = jnp.sum((points - lead) * (points + lead), axis=1)
            return more + (2 * jnp.sum(points * scaled, axis=1) + jnp.sum(scaled**2, axis=1)), jnp.sum(lead**2, axis=1)

        nearest = jnp.argmin(jnp.where(there, beside(leads)[0], jnp.inf), axis=0)
        more, common = beside(jnp.where(drawn_in[None, :], numbers == nearest[None, :], leads))
        more = jnp.where(beyond, more, square - common)
        least = jnp.where(drawn_in, jnp.min(jnp.where(there, more, jnp.inf), axis=0), 0.0)[None, :]
        told = prepared.constant[:, None] - 0.5 * scale * (scale * jnp.where(there, more - least, 0.0))
        return jnp.where(far[None, :] & ~seen.lost, told, seen.log_joint)

    return lax.cond(jnp.any(far), multiplied_out, lambda: seen.log_joint)


def prepare_each(mixture: Mixture) -> Prepared:
    """Each component as a mixture of its own, of weight 1 and about its mean.

    With a leading axis K; where all share one covariance they are one, without that axis.
    """
    (n_components, n_features), dtype = mixture.means.shape, mixture.means.dtype

    def alone(covs: Covariances) -> Prepared:
        origin = jnp.zeros((1, n_features), dtype)
        return prepare(dataclasses.replace(mixture, log_weights=jnp.zeros(1, dtype), means=origin, covs=covs))

    if mixture.covs.count < n_components:
        return alone(mixture.covs)
    return jax.vmap(alone)(jax.tree.map(lambda leaf: leaf[:, None], mixture.covs))


def log_components(each: Prepared, means: Array, columns: Array) -> Array:
    """Log N(x; μ_k, Σ_k), (K, C), whatever the weights; −∞ for a component from which x is too far to be squared."""

    def one(alone: Prepared, mean: Array) -> Array:
        seen = joint(alone, columns - mean[:, None])
        return unless_far(seen.log_joint[0], seen.shrink)

    return jax.vmap(one, (0 if each.mixture.means.ndim == 3 else None, 0))(each, means)


@jax.custom_jvp
def odds_of_absent(mixture: Mixture, columns: Array) -> Array:
    """π_k N(x; μ_k, Σ_k) / p(x) of components of weight 0, (K, C): zeros, with the slopes N_k / p in the weights.

    Only a derivative asks for them, and only where a component is absent. A row whose log p is not finite has none.
    """
    return zeros_of((mixture.n_components, columns.shape[1]), mixture, columns)


@odds_of_absent.defjvp
def _slopes_of_absent(primals: tuple[Mixture, Array], tangents: tuple[Mixture, Array]) -> tuple[Array, Array]:
    odds = odds_of_absent(*primals)
    nothing = zeros_of(odds.shape, primals)
    return odds, lax.cond(
        any_absent(primals[0].log_weights), lambda: jax.jvp(_odds, primals, tangents)[1], lambda: nothing
    )


def _odds(mixture: Mixture, columns: Array) -> Array:
    seen = joint(prepare(mixture), columns)
    log_prob = jax.nn.logsumexp(seen.log_joint, axis=0)
    is_told = (mixture.log_weights == -jnp.inf)[:, None] & (jnp.isfinite(log_prob) & (seen.shrink == 1))[None, :]
    log_odds = log_components(prepare_each(mixture), mixture.means, columns) - log_prob[None, :]
    log_odds = jnp.minimum(jnp.where(is_told, log_odds, -jnp.inf), most_log_odds(columns.dtype))
    return weight(mixture.log_weights)[:, None] * jnp.exp(log_odds)


def log_shares(prepared: Prepared, columns: Array) -> Array:
    """Log p(k | x), (K, C); of a far row, the nearest component's is 0."""
    told = jax.nn.log_softmax(told_apart(prepared, columns), axis=0)
    odds = odds_of_absent(prepared.mixture, columns)
    is_absent = (prepared.mixture.log_weights == -jnp.inf)[:, None] & (told == -jnp.inf)
    total = 1 + jnp.sum(odds, axis=0, keepdims=True)
    return jnp.where(is_absent, log_weight(odds / total), told - jnp.log(total))


def log_prob(prepared: Prepared, columns: Array) -> Array:
    """Log p(x), (C,); −∞ for a row too far to be squared."""
    seen = joint(prepared, columns)
    odds = odds_of_absent(prepared.mixture, columns)
    total = 1 + jnp.sum(odds, axis=0)
    return unless_far(jax.nn.logsumexp(seen.log_joint, axis=0) + jnp.log(total), seen.shrink)


def moments(prepared: Prepared, seen: Joint, responsibilities: Array, statistic: Statistic) -> Moments:
    """Moments of a chunk in whitened coordinates, still to be coloured.

    Args:
        prepared: the mixture that whitened the chunk.
        seen: what `joint` gave for the chunk.
        responsibilities: weighted, (K, C).
        statistic: what the family needs; dense products where colouring mixes columns.
    """
    # A row too far to be squared has no finite moments. It adds nothing, and a log-likelihood of −∞ tells.
    weights = jnp.where((seen.shrink > 1)[None, :], 0.0, responsibilities)
    held = DENSE if holds_products(prepared.mixture.covs, statistic) else DIAGONAL
    return gather(weights, seen.whitened, held)


def holds_products(covs: Covariances, statistic: Statistic) -> bool:
    """Whether whitened scatter is dense: it must be where colouring mixes columns."""
    return covs.mixes or statistic.products


def unless_far(log_prob: Array, shrink: Array) -> Array:
    """Log p, but −∞ for a row that `joint` had to draw in."""
    return jnp.where(shrink > 1, -jnp.inf, log_prob)


def colour(prepared: Prepared, whitened: Moments, statistic: Statistic) -> Moments:
    """Moments back in the columns' coordinates: mean μ + L δ, scatter L A Lᵀ."""
    mixture = prepared.mixture
    mean = mixture.means + mixture.covs.colour(whitened.mean)
    scatter = mixture.covs.colour_scatter(whitened.scatter)
    reduced = statistic.of_dense(scatter) if scatter.ndim == 3 else statistic.reduce(scatter)
    return Moments(mass=whitened.mass, mean=mean, scatter=reduced)
