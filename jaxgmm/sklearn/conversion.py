"""Mixtures from scikit-learn's fitted models, and back."""

from __future__ import annotations

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted

from jaxgmm.fitting.results import FitResult
from jaxgmm.host.arrays import float_dtype
from jaxgmm.model.covariances.dense import Dense
from jaxgmm.model.covariances.diagonal import Diagonal
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.families.table import family_of
from jaxgmm.model.fitted import as_mixture, is_fit, names_in
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.units import to_host
from jaxgmm.numerics.programs import HostProgram

# One program: each of some twenty small operations would be compiled by itself.
_inverse = HostProgram(lambda covs: covs.inverse())

_SHARED_TYPES = ("full", "tied", "diag", "spherical")


def from_sklearn(model: Any) -> Mixture:
    """The mixture of a fitted estimator, scikit-learn's or this library's.

    It is computed in float64 from `precisions_cholesky_`, the factors U with which scikit-learn evaluates densities:
    Σ = L Lᵀ with L = U⁻ᵀ, where Σ⁻¹ = U Uᵀ. Densities are therefore the same to rounding, however close to singular the
    covariances are.

    Args:
        model: a fitted `GaussianMixture`, or anything with its attributes; a `BayesianGaussianMixture` gives the
            mixture of its expected parameters.

    Returns:
        The mixture, in float64 if JAX allows it and the means are float64, else in float32.

    Raises:
        NotFittedError: if the model is not fitted.
        ValueError: if its arrays do not have the shapes of its `covariance_type`.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> model = jaxgmm.sklearn.to_sklearn(mixture)
        >>> print(jaxgmm.sklearn.from_sklearn(model).means)
        [[0. 0.]
         [4. 4.]]
    """
    check_is_fitted(model)
    weights, means, roots = (np.asarray(a) for a in (model.weights_, model.means_, model.precisions_cholesky_))
    mixture = mixture_of(weights, means, roots, model.covariance_type)
    dtype = float_dtype(means)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf.astype(dtype)), mixture)


def mixture_of(weights: np.ndarray, means: np.ndarray, roots: np.ndarray, covariance_type: str | Family) -> Mixture:
    """The mixture, on the host in float64, of arrays in scikit-learn's shapes.

    Args:
        weights: π_k, (K,).
        means: μ_k, (K, D).
        roots: factors of the precisions, as in `precisions_cholesky_`.
        covariance_type: a name or a family.

    Raises:
        ValueError: if shapes do not match.
    """
    family = family_of(covariance_type)
    expected = family.shape(*means.shape)
    if roots.shape != expected or weights.shape != means.shape[:1]:
        raise ValueError(
            f"with means_ {means.shape} and covariance_type {family.name!r}, weights_ must be {means.shape[:1]} and "
            f"precisions_cholesky_ {expected}, not {weights.shape} and {roots.shape}"
        )
    with jax.enable_x64(True):
        if family.statistic.products:
            upper = np.asarray(roots, np.float64).reshape(-1, means.shape[1], means.shape[1])
            covs = Dense(_inverse(Dense(np.swapaxes(upper, -1, -2))))  # pyright: ignore[reportArgumentType]
        else:
            scale: Any = 1 / np.asarray(roots, np.float64).reshape(len(means), -1)
            covs = Diagonal(scale, None if roots.shape == means.shape else means.shape[1])
    with np.errstate(divide="ignore"):
        log_weights = np.log(weights.astype(np.float64))
    return to_host(Mixture(log_weights, means, covs, family))  # pyright: ignore[reportArgumentType]


def arrays_of(mixture: Mixture) -> dict[str, np.ndarray]:
    """The attributes of scikit-learn's estimator for a mixture, computed in float64 and rounded to its dtype."""
    family, host = mixture.family, to_host(mixture)
    with jax.enable_x64(True):
        inverse = np.asarray(_inverse(host.covs))
    if family.statistic.products:
        factors, roots = host.covs.cholesky, np.swapaxes(inverse, -1, -2)
        covariances, precisions = (root @ np.swapaxes(root, -1, -2) for root in (factors, roots))
    else:
        roots = inverse
        covariances, precisions = host.covs.scale**2, inverse**2
    shape = family.shape(mixture.n_components, mixture.n_features)
    arrays = {
        "weights_": np.exp(host.log_weights),
        "means_": host.means,
        "covariances_": covariances.reshape(shape),
        "precisions_": precisions.reshape(shape),
        "precisions_cholesky_": roots.reshape(shape),
    }
    return {name: np.asarray(array, mixture.means.dtype) for name, array in arrays.items()}


def to_sklearn(model: Any) -> GaussianMixture:
    """scikit-learn's own estimator, fitted, from a mixture or from this library's estimator.

    Arrays keep the mixture's dtype. Precisions are computed in float64 from its factors, and then rounded.

    Args:
        model: a `Mixture`, a `FitResult`, or a fitted estimator of `jaxgmm.sklearn`. Its attributes are kept, and the
            parameters that scikit-learn has, with a `reg_covar` of None as scikit-learn's default. A fit gives
            the names of columns, the iterations and whether it converged. A mixture counts as not converged after 0
            iterations, with a lower bound of −∞.

    Returns:
        The estimator, which no longer needs this library.

    Raises:
        NotFittedError: if the estimator is not fitted.
        TypeError: if it is neither.
        ValueError: if scikit-learn does not have the mixture's covariance type.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> model = jaxgmm.sklearn.to_sklearn(mixture)
        >>> model.predict([[0.0, 0.0], [4.0, 4.0]]).tolist()
        [0, 1]
    """
    if is_fit(model) or isinstance(model, Mixture):
        fit, names, model = getattr(model, "result", model), names_in(model), as_mixture(model)
        if model.covariance_type not in _SHARED_TYPES:
            raise ValueError(
                f"scikit-learn has no covariance_type {model.covariance_type!r}: use jaxgmm.project(mixture, 'full')"
            )
        parameters = {"n_components": model.n_components, "covariance_type": model.covariance_type}
        course = {"converged_": False, "n_iter_": 0, "lower_bound_": -np.inf, "lower_bounds_": []}
        if isinstance(fit, FitResult):
            course |= {"converged_": bool(fit.converged), "n_iter_": int(fit.n_iter)}
        attributes = arrays_of(model) | course | {"n_features_in_": model.n_features}
        attributes |= {} if names is None else {"feature_names_in_": np.asarray(names, object)}
    elif hasattr(model, "get_params"):
        check_is_fitted(model)
        held = GaussianMixture().get_params()
        parameters = {n: value for n, value in model.get_params().items() if n in held and value is not None}
        attributes = copy.deepcopy({name: value for name, value in vars(model).items() if name.endswith("_")})
    else:
        raise TypeError(f"to_sklearn takes a Mixture, a FitResult or a fitted estimator, not {type(model).__name__}")
    converted = GaussianMixture(**parameters)
    vars(converted).update(attributes)
    return converted
