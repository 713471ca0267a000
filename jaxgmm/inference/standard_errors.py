"""Standard errors of a fitted mixture, from the observed information."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from numpy.typing import ArrayLike

from jaxgmm.inference.information import (
    Parameters,
    as_scored_rows,
    inverse_factor,
    rows_per_weight,
    score_scatter,
    sensitivities,
)
from jaxgmm.inference.solution import place_of
from jaxgmm.model.fitted import Fitted
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.priors.penalty import Prior
from jaxgmm.model.priors.ridge import settle
from jaxgmm.numerics.linalg import product
from jaxgmm.numerics.programs import program


def standard_errors(
    mixture: Mixture | Fitted,
    x: Any,
    sample_weight: ArrayLike | None = None,
    *,
    prior: Prior | None = None,
    sandwich: bool = False,
) -> Parameters:
    """Asymptotic standard errors of a fitted mixture's parameters.

    The covariance of the estimate is H⁻¹, where H, minus the Hessian of the objective at its maximum, is the observed
    information; or the sandwich H⁻¹ (Σ wᵢ sᵢ sᵢᵀ) H⁻¹ of the rows' scores, which is valid also where the data do not
    come from such a mixture. The delta method carries it from unconstrained coordinates to weights, means and
    covariances. H is exact, from one pass over the data, and holds P² numbers for P free parameters.

    Weights count as repeated rows, as long as their sum reaches the number of rows of positive weight. Below that they
    cannot be counts, and the errors are those of Kish's effective number of rows, (Σw)² / Σw², as `bic` counts, with a
    warning that says so; for errors of all N rows pass `sample_weight / sample_weight.mean()`.

    Args:
        mixture: a fitted mixture; it has to be the optimum, so fit it with a small `tol`.
        x: rows, (N, D).
        sample_weight: non-negative weights, (N,); None is 1 for each row.
        prior: the prior that it was fitted under; None is maximum likelihood.
        sandwich: whether to use the sandwich; static.

    Returns:
        Standard errors: `weights` (K,), `means` (K, D), `covariances` (K, D, D), in the units of each; infinite for
        the mean and covariance of a component with weight 0, and all NaN where the mixture is no maximum.

    Raises:
        TypeError: if `prior` is no prior, or x is a `Data` that does not tell its rows.
        ValueError: if shapes do not match, or, where they are concrete, weights are negative, not finite or all zero.

    References:
        Louis (1982); White (1982), for the sandwich; Basford, Greenway, McLachlan & Peel (1997), for mixtures.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> fitted = jaxgmm.run(jaxgmm.EM(), mixture, x)
        >>> errors = jaxgmm.standard_errors(fitted, x)
        >>> bool((errors.weights < 0.1).all())
        True
    """
    mixture, rows = as_scored_rows(mixture, x, sample_weight, prior)
    unit = rows_per_weight(x, sample_weight, "standard_errors takes", mixture.means.dtype)
    return _standard_errors(mixture, rows, settle(prior, mixture.means.dtype), unit, bool(sandwich))


@program(static_argnums=(4,))
def _standard_errors(mixture: Mixture, data: Any, prior: Prior | None, unit: Array, sandwich: bool) -> Parameters:
    around = place_of(mixture, data, prior)
    inverse = inverse_factor(around, data)
    root = inverse
    if sandwich:
        # S = Σ w s sᵀ may be singular: its root is taken from the eigenvalues.
        values, vectors = jnp.linalg.eigh(product("pq,qr,sr->ps", inverse, score_scatter(around, data), inverse))
        root = product("pq,pr->qr", vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None, :], inverse)
    there = mixture.log_weights > -jnp.inf

    def deviation(slopes: Array) -> Array:
        variance = jnp.sum(product("...p,qp->...q", slopes, root) ** 2, axis=-1)
        # An entry that cannot move has no error, and no slope of it.
        moving = variance != 0
        return jnp.where(moving, jnp.sqrt(jnp.where(moving, variance, 1.0)), 0.0)

    # The prior was weighed against Σw in the fit, so that it is the whole objective that counts for other rows.
    errors = jax.tree.map(lambda slopes: deviation(slopes) / jnp.sqrt(unit), sensitivities(around))
    own = mixture.covs.count == mixture.n_components
    return Parameters(
        weights=errors.weights,
        means=jnp.where(there[:, None], errors.means, jnp.inf),
        covariances=jnp.where(there[:, None, None] | (not own), errors.covariances, jnp.inf),
    )
