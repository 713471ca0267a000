"""The whitened kernel: residuals y = L_k⁻¹ (x − μ_k), exact to the rounding of rows centred on the mixture.

Rows arrive centred near the mixture and column-major, (D, C). Moments are gathered chunk by chunk in
whitened coordinates, where a component's scatter is about the identity, centrally within each chunk;
so they keep their digits even from a start a thousand times too wide.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxgmm._protocols import Covariances
from jaxgmm._types import Mixture, Moments
from jaxgmm.moments import DENSE, DIAGONAL, Statistic, gather


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
        shrink: s_c, by how much a row too far to be squared was drawn to the centre, (C,).
        whitened: y, (K, D, C).
    """

    log_joint: Array
    shrink: Array
    whitened: Array


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


def joint(prepared: Prepared, columns: Array) -> Joint:
    """Log π_k + log N(x; μ_k, Σ_k), and what moments need.

    A row so far away that its squared distance may overflow is drawn to the centre along its ray by s, which
    keeps the order of the components by distance; its true log-joint counts as −∞.

    Args:
        prepared: the mixture.
        columns: rows as columns, (D, C), centred as the means are.
    """
    mixture = prepared.mixture
    chex.assert_shape(columns, (mixture.n_features, None))
    limit = farthest(columns.dtype, mixture.n_features)
    reach = jnp.sum(jnp.abs(columns) / limit * prepared.steepness[:, None], axis=0)
    # Drawn in to 1/√eps standard deviations, where rounding of the square still tells one mean from another.
    nearby = limit * float(np.sqrt(jnp.finfo(columns.dtype).eps))
    shrink = lax.stop_gradient(jnp.where(reach > 1, reach * nearby, 1.0))
    whitened = mixture.covs.whiten(prepared.inverse, mixture.means, columns / shrink[None, :])
    log_joint = prepared.constant[:, None] - 0.5 * jnp.sum(whitened**2, axis=1)
    return Joint(log_joint, shrink, whitened)


def told_apart(prepared: Prepared, columns: Array) -> Array:
    """Log-joints (K, C), up to a term common to a row's, that tell one component from another for far rows too.

    The square of a far row's residual is rounded by eps·‖L⁻¹x‖², which hides which component is the nearer. There it is
    multiplied out, ‖w‖² − 2 wᵀ(L⁻¹μ) + ‖L⁻¹μ‖² with w = L⁻¹x; and of the first term only what it is more than the
    leading component's v is kept, (w − v)ᵀ(w + v): nothing, where both have one covariance.
    """
    covs, means = prepared.mixture.covs, prepared.mixture.means
    seen = joint(prepared, columns)
    square = jnp.sum(seen.whitened**2, axis=1)
    offsets = covs.whiten(prepared.inverse, means, jnp.zeros_like(columns[:, :1]))
    own = jnp.sum(offsets**2, axis=1)
    # Thrice as far from the mean as the mean is from the centre: multiplied out, the square is rounded no more.
    beyond = lax.stop_gradient(square > 9 * jnp.maximum(own, 64.0))
    leads = jnp.arange(square.shape[0])[:, None] == jnp.argmax(seen.log_joint, axis=0)[None, :]
    far = jnp.any(leads & beyond, axis=0)

    def multiplied_out() -> Array:
        points = covs.whiten(prepared.inverse, jnp.zeros_like(means), columns / seen.shrink[None, :])
        # Made once: a product fused into its difference from another is rounded otherwise than that.
        points = lax.optimization_barrier(points)
        lead = jnp.sum(jnp.where(leads[:, None, :], points, 0.0), axis=0, keepdims=True)
        beside = jnp.sum((points - lead) * (points + lead), axis=1) + (2 * jnp.sum(points * offsets, axis=1) + own)
        common = jnp.sum(lead**2, axis=1)
        told = prepared.constant[:, None] - 0.5 * jnp.where(beyond, beside, square - common)
        return jnp.where(far[None, :], told, seen.log_joint)

    return lax.cond(jnp.any(far), multiplied_out, lambda: seen.log_joint)


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
