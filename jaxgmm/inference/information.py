"""The observed information of a fitted mixture, the scores of its rows, and derivatives of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from numpy.typing import ArrayLike

from jaxgmm.data.centring import about, centre_of, in_place, is_lost
from jaxgmm.data.conversion import as_weighted_data, reweighted
from jaxgmm.data.kernels import whitened
from jaxgmm.data.protocol import PLAIN, SCORED, Scored, has, is_data, require
from jaxgmm.data.rows import Rows
from jaxgmm.fitting.counts import count_of
from jaxgmm.host.arrays import as_numbers
from jaxgmm.host.checks import check_prior
from jaxgmm.inference.neighbourhood import Neighbourhood
from jaxgmm.inference.slopes import expected_slope, information
from jaxgmm.model.fitted import Fitted
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.priors.penalty import Prior
from jaxgmm.model.priors.ridge import prepare
from jaxgmm.numerics import chunks
from jaxgmm.numerics.factors import cholesky, inverse_lower
from jaxgmm.numerics.linalg import product


class Parameters(NamedTuple):
    """A number for each parameter of a mixture, such as its standard error; dense for every family.

    Attributes:
        weights: numbers for π_k, (..., K).
        means: numbers for μ_k, (..., K, D).
        covariances: numbers for Σ_k, (..., K, D, D).

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> fitted = jaxgmm.run(jaxgmm.EM(), mixture, x)
        >>> errors = jaxgmm.standard_errors(fitted, x)
        >>> errors.weights.shape, errors.means.shape, errors.covariances.shape
        ((2,), (2, 2), (2, 2, 2))
    """

    weights: Array
    means: Array
    covariances: Array


def as_scored_rows(
    mixture: Mixture | Fitted, x: Any, sample_weight: ArrayLike | None, prior: Prior | None
) -> tuple[Mixture, Any]:
    """A mixture and data that tell their rows, in one dtype.

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit, `prior` is no prior, or x is a `Data` that does not tell
            its rows.
        ValueError: if shapes do not match, or, where they are concrete, weights are negative, not finite or all zero.
    """
    check_prior(prior)
    mixture, data = as_weighted_data(mixture, x, sample_weight)
    if not has(data, *SCORED):
        require(data, *PLAIN)
    return mixture, data


def rows_per_weight(x: Any, sample_weight: ArrayLike | None, asked: str, dtype: Any) -> Array:
    """The number of rows that a unit of weight counts as, (): 1 for frequencies, else as `bic` counts, with a warning.

    Args:
        x: rows as an array, a table or `Rows`, with their weights.
        sample_weight: weights of rows.
        asked: what is asked for, and its verb, for the warning.
        dtype: of the result.
    """
    weights = x.weights if is_data(x) else sample_weight
    if weights is None:
        return jnp.ones((), dtype)
    remedy = "pass weights that sum to the number of rows that they stand for"
    return jnp.asarray(count_of(as_numbers(weights, "sample_weight"), asked=asked, remedy=remedy).unit, dtype)


def parameters(mixture: Mixture) -> Parameters:
    """The weights, means and covariances of a mixture."""
    return Parameters(mixture.weights, mixture.means, mixture.covariances)


def sensitivities(around: Neighbourhood) -> Parameters:
    """Derivatives of each parameter in the P coordinates about a mixture, with a last axis P."""
    return jax.jacfwd(lambda steps: parameters(around.at(steps)))(around.origin)


def inverse_factor(around: Neighbourhood, data: Any) -> Array:
    """L⁻¹ for the observed information H = L Lᵀ at an optimum, (P, P); NaN if the mixture is no maximum."""
    known = _plain_information if has(data, *PLAIN) else _information
    return inverse_lower(cholesky(known(around, data)))


def _information(around: Neighbourhood, data: Scored) -> Array:
    """H, (P, P), one pass over the data for each of its columns."""
    columns = lax.map(information(around, data), jnp.eye(around.origin.shape[0], dtype=around.origin.dtype))
    return (columns + columns.T) / 2


def _plain_information(around: Neighbourhood, data: Rows) -> Array:
    """H, (P, P), of plain rows, in one pass.

    H = I − Σ wᵢ [Σ_k rᵢₖ sᵢₖ sᵢₖᵀ − sᵢ sᵢᵀ] with sᵢₖ the score of row i under component k alone, and sᵢ = Σ_k rᵢₖ sᵢₖ
    (Louis 1982). Coordinates that cannot move have an information of 1.
    """
    n_components = around.centre.n_components

    def chunk(weights: Array, responsibilities: Array, seen: whitened.Joint) -> Array:
        mean = around.slopes(responsibilities, seen.whitened)

        def component(held: Array, k: Array) -> tuple[Array, None]:
            certain = jnp.broadcast_to((jnp.arange(n_components) == k)[:, None], responsibilities.shape)
            slopes = around.slopes(certain.astype(mean.dtype), seen.whitened)
            return held + _scatter(slopes, weights * responsibilities[k]), None

        return lax.scan(component, -_scatter(mean, weights), jnp.arange(n_components))[0]

    missing = _fold(around, data, chunk)
    complete = jnp.eye(missing.shape[0], dtype=missing.dtype)
    return complete - missing


def score_scatter(around: Neighbourhood, data: Any) -> Array:
    """Σ wᵢ sᵢ sᵢᵀ over the scores, (P, P); of plain rows chunk by chunk."""
    if not has(data, *PLAIN):
        of_each = scores(around, data)
        return product("np,nq->pq", of_each * data.weights[:, None], of_each)

    def chunk(weights: Array, responsibilities: Array, seen: whitened.Joint) -> Array:
        return _scatter(around.slopes(responsibilities, seen.whitened), weights)

    return _fold(around, data, chunk)


def scores(around: Neighbourhood, data: Any) -> Array:
    """Derivatives of log p(x_i) in the coordinates, (N, P); 0 for a row of weight 0 whose square is not finite."""
    if not has(data, *PLAIN):
        statistic = around.centre.family.statistic
        return data.of_each(lambda row: expected_slope(around, row.moments(around.centre, statistic)[0]))
    look = _viewer(around)

    def chunk(x: Array, weights: Array) -> Array:
        responsibilities, seen = look(x, weights)
        return jnp.where(is_lost(x.T, weights)[:, None], 0.0, around.slopes(responsibilities, seen.whitened).T)

    return chunks.each(_width(around), chunk, data.x, data.weights)


def prior_slopes(around: Neighbourhood, data: Any, prior: Prior | None) -> Array:
    """Derivatives in each row's weight of the log-prior's gradient, (N, P), through the variances of the columns."""

    def slope(weights: Array) -> Array:
        penalty = prepare(prior, reweighted(data, weights).columns())
        return jax.grad(lambda steps: penalty.log_prob(around.at(steps)))(around.origin)

    return jax.jacrev(slope)(data.weights).T


def _viewer(around: Neighbourhood) -> Callable[[Array, Array], tuple[Array, whitened.Joint]]:
    """A function from a chunk of rows (C, D) with weights (C,) to responsibilities (K, C) and whitened residuals."""
    centre = centre_of(around.centre)
    prepared = whitened.prepare(about(around.centre, centre))

    def look(x: Array, weights: Array) -> tuple[Array, whitened.Joint]:
        seen = whitened.joint(prepared, in_place(x, weights, centre)[0])
        return jax.nn.softmax(seen.log_joint, axis=0), seen

    return look


def _fold(around: Neighbourhood, data: Rows, chunk: Callable[[Array, Array, whitened.Joint], Array]) -> Array:
    """The sum of `chunk(weights, responsibilities, seen)` over all chunks."""
    look = _viewer(around)
    return data.fold(_width(around), lambda x, weights: chunk(weights, *look(x, weights)), jnp.add)


def _scatter(slopes: Array, weights: Array) -> Array:
    return product("pc,qc->pq", slopes * weights[None, :], slopes)


def _width(around: Neighbourhood) -> int:
    return around.origin.shape[0] + around.centre.n_components * (
        around.chart.held.shape[0] // around.centre.covs.count
    )
