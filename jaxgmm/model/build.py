"""Mixtures from plain arrays."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, nn
from numpy.typing import ArrayLike

from jaxgmm.host.arrays import as_floats, float_dtype, is_traced
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.families.table import family_of
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.parts import check_means, check_spreads, check_weights, only_one, sum_tolerance
from jaxgmm.numerics.zero_weights import log_weight


def make_mixture(
    weights: ArrayLike | None = None,
    means: ArrayLike | None = None,
    covariances: ArrayLike | None = None,
    *,
    log_weights: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    scale_tril: ArrayLike | None = None,
    precisions: ArrayLike | None = None,
    covariance_type: str | Family = "full",
) -> Mixture:
    """A mixture from plain arrays, which are validated.

    The weights come in one of three forms and the covariances in one of three. Each is taken as it is: a weight that
    would underflow keeps its log, and a factor or a precision is not made a covariance on the way, which would square
    its condition number. Outputs of a neural network are best given as `logits` and `scale_tril`.

    Args:
        weights: π_k, (K,), non-negative, with sum 1.
        means: μ_k, (K, D).
        covariances: Σ_k in scikit-learn's shape: "full" (K, D, D), "tied" (D, D), "diag" (K, D) and "spherical" (K,)
            variances.
        log_weights: log π_k, (K,), −∞ for a weight of 0; their exponentials have sum 1.
        logits: log π_k up to a constant, (K,): π = softmax(logits).
        scale_tril: L_k with Σ_k = L_k L_kᵀ, in the shape of covariances: "full" and "tied" lower triangular with a
            positive diagonal, "diag" and "spherical" standard deviations.
        precisions: Σ_k⁻¹, in the shape of covariances: "diag" and "spherical" 1/σ².
        covariance_type: a name or a family.

    Returns:
        The mixture, with weights normalised. Under a trace values are not checked, and bad ones give NaN.

    Raises:
        TypeError: if an argument holds no real numbers, or not exactly one form of the weights, or of the covariances,
            is given.
        ValueError: if shapes do not match, weights are negative or do not sum to 1, or a covariance or precision is
            not symmetric or not positive definite, or a factor not lower triangular or its diagonal not positive; the
            component is named.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> mixture.weights.shape, mixture.means.shape, mixture.covariances.shape
        ((2,), (2, 2), (2, 2, 2))
    """
    family = family_of(covariance_type)
    of_weights, shares = only_one(weights=weights, log_weights=log_weights, logits=logits)
    of_covariances, spreads = only_one(covariances=covariances, scale_tril=scale_tril, precisions=precisions)
    dtype = _common_dtype(shares, means, spreads)
    shares = as_floats(shares, of_weights).astype(dtype)
    centres = as_floats(means, "means").astype(dtype)
    spreads = as_floats(spreads, of_covariances).astype(dtype)
    if centres.ndim != 2 or 0 in centres.shape:
        raise ValueError(f"means must have shape (K, D), not {centres.shape}")
    n_components, n_features = centres.shape
    if shares.shape != (n_components,):
        raise ValueError(f"{of_weights} must have shape ({n_components},), one for each of means, not {shares.shape}")
    expected = family.shape(n_components, n_features)
    if spreads.shape != expected:
        raise ValueError(f"{of_covariances} of type {family.name!r} must have shape {expected}, not {spreads.shape}")
    if not is_traced(shares):
        check_weights(np.asarray(shares), of_weights)
    if not is_traced(centres):
        check_means(np.asarray(centres))
    if not is_traced(spreads):
        check_spreads(np.asarray(spreads), of_covariances, family)
    mixture = _assemble(shares, centres, spreads, of_weights, of_covariances, family)
    factors = jax.tree.leaves(mixture.covs)[0]
    if not is_traced(factors) and not np.isfinite(factors).all():
        k = np.argwhere(~np.isfinite(factors))[0][0]
        raise ValueError(f"{of_covariances} must be positive definite, but component {k} is not in {factors.dtype}")
    return mixture


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _assemble(
    shares: Array, means: Array, spreads: Array, of_weights: str, of_covariances: str, family: Family
) -> Mixture:
    build = {
        "covariances": family.from_array,
        "scale_tril": family.from_scale_tril,
        "precisions": family.from_precisions,
    }[of_covariances]
    return Mixture(_log_weights(shares, of_weights), means, build(spreads, means.shape[1]), family)


def _log_weights(shares: Array, form: str) -> Array:
    """Normalised log-weights; NaN where weights are invalid or do not sum to 1."""
    if form == "logits":
        return nn.log_softmax(shares)
    if form == "weights":
        total = jnp.sum(shares)
        logs, log_total = log_weight(shares / total), jnp.log(total)
    else:
        log_total = nn.logsumexp(shares)
        logs = jnp.where(shares < jnp.inf, shares - log_total, jnp.nan)
    rounded = jnp.abs(jnp.expm1(log_total)) <= sum_tolerance(shares.dtype, shares.shape[0])
    return jnp.where(rounded, logs, jnp.nan)


def _common_dtype(*values: Any) -> Any:
    """The widest dtype among arrays; plain lists count only where there is no array."""
    arrays = [value for value in values if hasattr(value, "dtype")]
    return float_dtype(*(arrays or [np.zeros(0)]))
