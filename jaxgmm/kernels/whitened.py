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

from jaxgmm._protocols import Covariances
from jaxgmm._types import Mixture, Moments
from jaxgmm.moments import DENSE, DIAGONAL, Statistic, gather


class Prepared(NamedTuple):
    """A mixture made ready for many chunks.

    Attributes:
        mixture: with means about zero.
        inverse: L⁻¹, as its covariances keep it.
        constant: log π_k − ½ (D log 2π + log|Σ_k|), (K,).
        steepest: bound of |y_i| over max_j |x_j|, ().
    """

    mixture: Mixture
    inverse: Array
    constant: Array
    steepest: Array


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
    log_det = mixture.covs.log_det(mixture.n_features)
    constant = mixture.log_weights - 0.5 * (mixture.n_features * float(np.log(2 * np.pi)) + log_det)
    rows = jnp.sum(jnp.abs(inverse), axis=-1) if mixture.covs.mixes else jnp.abs(inverse)
    return Prepared(mixture, inverse, constant, jnp.max(rows))


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
    limit = float(np.sqrt(jnp.finfo(columns.dtype).max)) / (4 * mixture.n_features)
    reach = jnp.max(jnp.abs(columns), axis=0) / limit * prepared.steepest
    # Drawn in to 1/√eps standard deviations, where rounding of the square still tells one mean from another.
    nearby = limit * float(np.sqrt(jnp.finfo(columns.dtype).eps))
    shrink = lax.stop_gradient(jnp.where(reach > 1, reach * nearby, 1.0))
    whitened = mixture.covs.whiten(prepared.inverse, mixture.means, columns / shrink[None, :])
    log_joint = prepared.constant[:, None] - 0.5 * jnp.sum(whitened**2, axis=1)
    return Joint(log_joint, shrink, whitened)


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
