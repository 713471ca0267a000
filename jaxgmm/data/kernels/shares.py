"""Log p(x) and log p(k | x) of a chunk of rows, far rows and components of weight 0 included."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgmm.data.kernels.whitened import Joint, Prepared, farthest, joint, nearby, prepare, unless_far
from jaxgmm.model.covariances.protocol import Covariances
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics.linalg import zeros_of
from jaxgmm.numerics.zero_weights import any_absent, log_weight, most_log_odds, weight


def log_prob(prepared: Prepared, columns: Array) -> Array:
    """Log p(x), (C,); −∞ for a row whose squared distance from every component overflows."""
    log_prob = _log_prob(joint(prepared, columns))
    return log_prob + jnp.log(1 + jnp.sum(odds_of_absent(prepared, columns, log_prob), axis=0))


def _log_prob(seen: Joint) -> Array:
    return unless_far(jax.nn.logsumexp(seen.log_joint, axis=0), seen.shrink)


def log_shares(prepared: Prepared, columns: Array) -> Array:
    """Log p(k | x), (K, C); where every squared distance overflows, that of the nearest component is 0."""
    seen = joint(prepared, columns)
    told = jax.nn.log_softmax(_told_apart(prepared, columns, seen), axis=0)
    odds = odds_of_absent(prepared, columns, _log_prob(seen))
    is_absent = (prepared.mixture.log_weights == -jnp.inf)[:, None] & (told == -jnp.inf)
    total = 1 + jnp.sum(odds, axis=0, keepdims=True)
    return jnp.where(is_absent, log_weight(odds / total), told - jnp.log(total))


def _told_apart(prepared: Prepared, columns: Array, seen: Joint) -> Array:
    """Log-joints (K, C), up to a term common to all components, whose differences are accurate for far rows too.

    The squared residual of a far row has a rounding error of eps·‖L⁻¹x‖², which can exceed the difference between two
    components. There the square is expanded, ‖w‖² − 2 wᵀ(L⁻¹μ) + ‖L⁻¹μ‖² with w = L⁻¹x, and from its first term that of
    the leading component, ‖v‖², is subtracted as (w − v)ᵀ(w + v): exactly 0 where both have one covariance.

    Where the square would overflow, w and L⁻¹μ are divided by s, and the differences of the squares multiplied by s²
    after the nearest component's is subtracted: those that still overflow belong to components with no part in the row.
    """
    covs, means = prepared.mixture.covs, prepared.mixture.means
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
        reach = jnp.maximum(seen.shrink / (limit * nearby(columns.dtype)), spread)
        scale = lax.stop_gradient(jnp.where(drawn_in, jnp.maximum(reach, 1.0), 1.0))[None, :]
        points = covs.whiten(prepared.inverse, jnp.zeros_like(means), columns / scale)
        # Made once: a product fused into its difference from another is rounded otherwise than that.
        points = lax.optimization_barrier(jnp.where(seen.lost[:, None, :], 0.0, points))
        scaled = offsets / scale[None]

        def beside(leads: Array) -> tuple[Array, Array]:
            """Squared residuals less ‖v‖², and ‖v‖², for v the whitened row under the component that leads."""
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


@jax.custom_jvp
def odds_of_absent(prepared: Prepared, columns: Array, log_prob: Array) -> Array:
    """π_k N(x; μ_k, Σ_k) / p(x) of components of weight 0, (K, C): zeros, with the derivatives N_k / p in the weights.

    The derivatives are computed only on demand, and only where a component has weight 0.

    Args:
        prepared: the mixture.
        columns: rows as columns, (D, C), centred as the means are.
        log_prob: log p(x), (C,); a row where it is not finite is left out.
    """
    return zeros_of((prepared.mixture.n_components, columns.shape[1]), prepared, columns)


@odds_of_absent.defjvp
def _slopes_of_absent(primals: Any, tangents: Any) -> tuple[Array, Array]:
    odds = odds_of_absent(*primals)
    nothing = zeros_of(odds.shape, primals)
    there = any_absent(primals[0].mixture.log_weights)
    return odds, lax.cond(there, lambda: jax.jvp(_odds, primals, tangents)[1], lambda: nothing)


def _odds(prepared: Prepared, columns: Array, log_prob: Array) -> Array:
    return weight(prepared.mixture.log_weights)[:, None] * _ratios(prepared, columns, log_prob)


def _ratios(prepared: Prepared, columns: Array, log_prob: Array) -> Array:
    """N(x; μ_k, Σ_k) / p(x) of components of weight 0, (K, C), 0 of the others."""
    mixture = prepared.mixture
    whitened = mixture.covs.whiten(prepared.every_inverse, mixture.means, columns)
    told = (mixture.log_weights == -jnp.inf)[:, None] & jnp.isfinite(log_prob)[None, :]
    told = told & (jnp.max(jnp.abs(whitened), axis=1) < farthest(columns.dtype, columns.shape[0]))
    square = jnp.sum(jnp.where(told[:, None, :], whitened, 0.0) ** 2, axis=1)
    log_ratios = prepared.level[:, None] - 0.5 * square - jnp.where(jnp.isfinite(log_prob), log_prob, 0.0)[None, :]
    return jnp.exp(jnp.minimum(jnp.where(told, log_ratios, -jnp.inf), most_log_odds(columns.dtype)))


def slopes_of_absent(prepared: Prepared, columns: Array) -> Array:
    """Derivatives of log p(x) in weights of 0, N_k / p, and 0 for the others, (K, C)."""
    ratios = _ratios(prepared, columns, _log_prob(joint(prepared, columns)))
    return ratios / (1 + jnp.sum(weight(prepared.mixture.log_weights)[:, None] * ratios, axis=0, keepdims=True))


def prepare_each(mixture: Mixture) -> Prepared:
    """Each component prepared as a mixture of its own, of weight 1 and mean 0, with a leading axis K.

    Where all components share one covariance these are equal, and one is returned, without that axis.
    """
    (n_components, n_features), dtype = mixture.means.shape, mixture.means.dtype

    def alone(covs: Covariances) -> Prepared:
        origin = jnp.zeros((1, n_features), dtype)
        return prepare(dataclasses.replace(mixture, log_weights=jnp.zeros(1, dtype), means=origin, covs=covs))

    if mixture.covs.count < n_components:
        return alone(mixture.covs)
    return jax.vmap(alone)(jax.tree.map(lambda leaf: leaf[:, None], mixture.covs))


def log_components(each: Prepared, means: Array, columns: Array) -> Array:
    """Log N(x; μ_k, Σ_k), (K, C), whatever the weights; −∞ where the squared distance overflows."""

    def one(alone: Prepared, mean: Array) -> Array:
        seen = joint(alone, columns - mean[:, None])
        return unless_far(seen.log_joint[0], seen.shrink)

    return jax.vmap(one, (0 if each.mixture.means.ndim == 3 else None, 0))(each, means)
