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

from jaxgmm.data.kernels.reach import too_far
from jaxgmm.model.covariances.protocol import Covariances
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import DENSE, DIAGONAL, Moments, Statistic, gather


class Prepared(NamedTuple):
    """A mixture made ready for many chunks.

    Attributes:
        mixture: with means about zero.
        inverse: L⁻¹, as its covariances keep it; 0 for a component that is not there.
        every_inverse: L⁻¹ of that too.
        level: −½ (D log 2π + log|Σ_k|), (K,).
        constant: log π_k + level, (K,).
        steepness: greatest |L⁻¹_ij| of each column over components that are there: |y_i| ≤ Σ_j |x_j| s_j, (D,).
    """

    mixture: Mixture
    inverse: Array
    every_inverse: Array
    level: Array
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
    every = inverse = mixture.covs.inverse()
    if inverse.shape[0] == mixture.n_components:
        # The rows of a component that is not there lie on it: nothing of them overflows.
        there = (mixture.log_weights > -jnp.inf) | jnp.isnan(mixture.log_weights)
        inverse = jnp.where(there.reshape(-1, *[1] * (inverse.ndim - 1)), inverse, 0.0)
    log_det = mixture.covs.log_det(mixture.n_features)
    level = jnp.broadcast_to(
        -0.5 * (mixture.n_features * float(np.log(2 * np.pi)) + log_det), mixture.log_weights.shape
    )
    steepness = jnp.max(jnp.abs(inverse), axis=tuple(range(inverse.ndim - 1)))
    steepness = jnp.broadcast_to(steepness, (mixture.n_features,))
    return Prepared(mixture, inverse, every, level, mixture.log_weights + level, steepness)


def farthest(dtype: Any, n_features: int) -> float:
    """Deviations in each of D columns up to which their squares, and what is made of them, do not overflow."""
    return float(np.sqrt(jnp.finfo(dtype).max)) / (4 * n_features)


def nearby(dtype: Any) -> float:
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
