"""The influence of single rows on a fit."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from numpy.typing import ArrayLike

from jaxgmm.data.conversion import reweighted
from jaxgmm.inference.information import Parameters, as_scored_rows, inverse_factor, prior_slopes, scores, sensitivities
from jaxgmm.inference.solution import optimum, place_of
from jaxgmm.model.fitted import Fitted
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.priors.penalty import Prior
from jaxgmm.model.priors.ridge import settle
from jaxgmm.numerics.linalg import product


def influence(
    mixture: Mixture | Fitted,
    x: Any,
    sample_weight: ArrayLike | None = None,
    *,
    prior: Prior | None = None,
    function: Callable[[Mixture], Array] | None = None,
) -> Any:
    """Derivatives of a fitted mixture in the weight of each row, dθ/dwᵢ = H⁻¹ ∂²(ℓ + log prior)/∂θ∂wᵢ.

    H is the observed information. To first order, leaving row i out changes θ by −wᵢ dθ/dwᵢ, and adding it once more
    by dθ/dwᵢ. For all P parameters the P × P matrix H is built; for one function of the mixture a single solve by
    conjugate gradients suffices.

    Args:
        mixture: a fitted mixture; it has to be the optimum.
        x: rows, (N, D).
        sample_weight: the weights that it was fitted with, (N,); None is 1 for each row.
        prior: the prior that it was fitted under; None is maximum likelihood.
        function: a scalar function of a mixture, static by identity; None gives every parameter.

    Returns:
        Derivatives of the function, (N,); without one `weights` (N, K), `means` (N, K, D) and `covariances`
        (N, K, D, D). 0 for components with weight 0; NaN where the mixture is no maximum.

    Raises:
        TypeError: if `prior` is no prior, x is a `Data` that does not tell its rows, or the function cannot be called.
        ValueError: if shapes do not match, the function gives no scalar, or, where they are concrete, weights are
            negative, not finite or all zero.

    References:
        Hampel (1974), The influence curve; Cook (1986), for the change of a fit with its weights.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> fitted = jaxgmm.run(jaxgmm.EM(), mixture, x)
        >>> derivatives = jaxgmm.influence(fitted, x)
        >>> derivatives.weights.shape, derivatives.means.shape
        ((100, 2), (100, 2, 2))
    """
    mixture, rows = as_scored_rows(mixture, x, sample_weight, prior)
    prior = settle(prior, mixture.means.dtype)
    if function is None:
        return _of_parameters(mixture, rows, prior)
    if not callable(function):
        raise TypeError(f"function must take a mixture and give a scalar, but {function!r} cannot be called")
    shape = jax.eval_shape(function, mixture)
    if getattr(shape, "shape", None) != ():
        raise ValueError(f"function must give a scalar, not {shape}")
    return _of_function(mixture, rows, prior, function)


@jax.jit
def _of_parameters(mixture: Mixture, data: Any, prior: Prior | None) -> Parameters:
    around = place_of(mixture, data, prior)
    inverse = inverse_factor(around, data)
    slopes = scores(around, data) + prior_slopes(around, data, prior)
    steps = product("pq,pr,nr->nq", inverse, inverse, slopes)
    return jax.tree.map(lambda sensitivity: product("...p,np->n...", sensitivity, steps), sensitivities(around))


@functools.partial(jax.jit, static_argnums=3)
def _of_function(mixture: Mixture, data: Any, prior: Prior | None, function: Callable[[Mixture], Array]) -> Array:
    return jax.grad(lambda weights: function(optimum(mixture, reweighted(data, weights), prior)))(data.weights)
