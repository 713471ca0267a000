"""The whitened kernel: residuals y = L_k⁻¹ (x − μ_k), exact to the rounding of rows centred on the mixture.

Rows arrive centred near the mixture and column-major, (D, C). Moments are gathered chunk by chunk in
whitened coordinates, where a component's scatter is about the identity, centrally within each chunk;
so they keep their digits even from a start a thousand times too wide.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from jaxgmm.data.kernels.reach import too_far
from jaxgmm.model.covariances.protocol import Covariances
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import DENSE, DIAGONAL, Moments, Statistic, gather


class Prepared(NamedTuple):
    """A mixture prepared for many chunks.

    Attributes:
        mixture: the mixture, its means relative to the centre of the rows.
        inverse: L⁻¹ in the form that `Covariances.whiten` takes; 0 for a component of weight 0.
        every_inverse: L⁻¹ for components of weight 0 too.
        level: −½ (D log 2π + log|Σ_k|), (K,).
        constant: log π_k + level, (K,).
        steepness: s_j, the largest |L⁻¹_ij| over i and components of positive weight, (D,): |y_i| ≤ Σ_j |x_j| s_j.
    """

    mixture: Mixture
    inverse: Array
    every_inverse: Array
    level: Array
    constant: Array
    steepness: Array


class Joint(NamedTuple):
    """Log-joints of a chunk of rows. A row is far where its squared distance from every component overflows.

    Attributes:
        log_joint: log π_k + log N(x_c / s_c; μ_k, Σ_k), with s_c = 1 but for a far row, (K, C).
        shrink: s_c, the factor by which a far row was drawn towards the centre, 1 for any other row, (C,).
        whitened: residuals y, (K, D, C), cut off at the largest that can be squared where `lost`.
        lost: whether a row that is not far is too far from this component, (K, C): the log-joint counts as −∞.
    """

    log_joint: Array
    shrink: Array
    whitened: Array
    lost: Array


def prepare(mixture: Mixture) -> Prepared:
    """The parts of the log-joints that do not depend on the rows."""
    every = inverse = mixture.covs.inverse()
    if inverse.shape[0] == mixture.n_components:
        # The rows of a component that is not there lie on it: nothing of them overflows.
        there = (mixture.log_weights > -jnp.inf) | jnp.isnan(mixture.log_weights)
        inverse = jnp.where(there.reshape(-1, *[1] * (inverse.ndim - 1)), inverse, 0.0)
    log_det = mixture.covs.log_det()
    level = jnp.broadcast_to(
        -0.5 * (mixture.n_features * float(np.log(2 * np.pi)) + log_det), mixture.log_weights.shape
    )
    steepness = jnp.max(jnp.abs(inverse), axis=tuple(range(inverse.ndim - 1)))
    steepness = jnp.broadcast_to(steepness, (mixture.n_features,))
    return Prepared(mixture, inverse, every, level, mixture.log_weights + level, steepness)


def farthest(dtype: DTypeLike, n_features: int) -> float:
    """The number of standard deviations in each of D columns up to which sums of squares do not overflow."""
    return float(np.sqrt(jnp.finfo(dtype).max)) / (4 * n_features)


def nearby(dtype: DTypeLike) -> float:
    """The fraction of `farthest` that a far row is drawn in to."""
    return float(np.sqrt(jnp.finfo(dtype).eps))


def joint(prepared: Prepared, columns: Array) -> Joint:
    """Log π_k + log N(x; μ_k, Σ_k), and what moments need.

    A far row is divided by s, which draws it towards the centre and keeps the order of the components by distance; its
    true log-joint counts as −∞. A row that is near one component stays in place, and components that it is too far from
    have no part in it.

    Args:
        prepared: the mixture.
        columns: rows as columns, (D, C), centred as the means are.
    """
    mixture = prepared.mixture
    chex.assert_shape(columns, (mixture.n_features, None))
    limit = farthest(columns.dtype, mixture.n_features)
    # Nothing of the loop may have a slope: JAX has no second derivative of one in reverse.
    held, still = lax.stop_gradient((prepared, columns))
    reach = jnp.sum(jnp.abs(still) / limit * held.steepness[:, None], axis=0)

    def whiten(columns: Array) -> Array:
        return held.mixture.covs.whiten(held.inverse, held.mixture.means, columns)

    alone, lost = too_far(whiten, still, limit, held.constant, reach > 1)
    # Drawn in to 1/√eps standard deviations, where rounding of the square still tells one mean from another.
    shrink = jnp.where(alone, reach * limit * nearby(columns.dtype), 1.0)
    whitened = mixture.covs.whiten(prepared.inverse, mixture.means, columns / shrink[None, :])
    whitened = jnp.where(lost[:, None, :], limit, whitened)
    log_joint = prepared.constant[:, None] - 0.5 * jnp.sum(whitened**2, axis=1)
    return Joint(log_joint, shrink, whitened, lost)


def moments(prepared: Prepared, seen: Joint, responsibilities: Array, statistic: Statistic) -> Moments:
    """Moments of a chunk in whitened coordinates; `colour` maps them back.

    Args:
        prepared: the mixture that whitened the chunk.
        seen: what `joint` gave for the chunk.
        responsibilities: weighted, (K, C).
        statistic: the part of the scatter that the family needs; dense where `colour` mixes columns.
    """
    # A row too far to be squared has no finite moments. It adds nothing, and a log-likelihood of −∞ tells.
    weights = jnp.where((seen.shrink > 1)[None, :], 0.0, responsibilities)
    held = DENSE if holds_products(prepared.mixture.covs, statistic) else DIAGONAL
    return gather(weights, seen.whitened, held)


def holds_products(covs: Covariances, statistic: Statistic) -> bool:
    """Whether whitened scatter has to be dense: for the statistic, or because `colour` mixes columns."""
    return covs.mixes or statistic.products


def unless_far(log_prob: Array, shrink: Array) -> Array:
    """Log p(x), with −∞ for a far row, which `joint` has drawn in."""
    return jnp.where(shrink > 1, -jnp.inf, log_prob)


def colour(prepared: Prepared, whitened: Moments, statistic: Statistic) -> Moments:
    """Whitened moments in the coordinates of the columns: mean μ + L δ, scatter L A Lᵀ."""
    mixture = prepared.mixture
    mean = mixture.means + mixture.covs.colour(whitened.mean)
    scatter = mixture.covs.colour_scatter(whitened.scatter)
    reduced = statistic.of_dense(scatter) if scatter.ndim == 3 else statistic.reduce(scatter)
    return Moments(mass=whitened.mass, mean=mean, scatter=reduced)
