"""The fit that an estimator's parameters ask for."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.utils._param_validation import StrOptions

from jaxgmm.data.gaps import check_gaps
from jaxgmm.fitting.causes import why_collapsed
from jaxgmm.fitting.fit import fit_given
from jaxgmm.fitting.results import FAILED, FitResult, Status
from jaxgmm.fitting.starts.drawn import initialize
from jaxgmm.fitting.tasks import Options
from jaxgmm.host.arrays import as_table, float_dtype
from jaxgmm.host.cautions import caution
from jaxgmm.host.weights import as_weights
from jaxgmm.model.families.table import family_of
from jaxgmm.model.mixture import Mixture
from jaxgmm.sklearn.conversion import arrays_of, from_sklearn
from jaxgmm.sklearn.regularisation import method_of
from jaxgmm.sklearn.rows import given_as, in_bucket, key_of
from jaxgmm.sklearn.starts import METHODS, Given, as_given, start_from

CONSTRAINTS: dict[str, Any] = GaussianMixture._parameter_constraints | {
    "reg_covar": [*GaussianMixture._parameter_constraints["reg_covar"], None],
    "missing": [StrOptions({"error", "marginalize"})],
}
"""The constraints on parameters of scikit-learn's estimator, with None as a further `reg_covar`, and on `missing`."""

WARNINGS: dict[Any, str] = {
    Status.MAX_ITER: "The best start had not converged after max_iter iterations: raise max_iter or tol.",
    Status.COLLAPSED: "The fit collapsed from every start: {causes}. "
    "Lower n_components, raise n_init, or set reg_covar.",
}
"""Warnings by the status at the end of a fit."""

_FEWEST_TO_ESTIMATE = 2
"""Iterations after which EM has seen its gains decay twice."""


def fit_rows(model: Any, asked: Any, x: np.ndarray, sample_weight: ArrayLike | None) -> None:
    """Fit a mixture to rows, and give an estimator the attributes of the fit.

    Args:
        model: the estimator, which has validated the rows.
        asked: the `GaussianMixture` whose parameters say how to fit: often the estimator itself.
        x: rows, NaN where a value is missing, (N, D).
        sample_weight: non-negative weights of the rows, (N,), or None.

    Raises:
        TypeError: if the weights hold no real numbers.
        ValueError: if weights or parameters are bad, a column was never observed, or every start ended in NaN.
        KeyboardInterrupt: where the user interrupted the fit, after which the estimator has the best so far.
    """
    names = getattr(model, "feature_names_in_", None)
    weights = check_gaps(x, as_weights(sample_weight, len(x)), names, "X")
    with jax.enable_x64(True):
        previous = from_sklearn(asked) if asked.warm_start and hasattr(asked, "converged_") else None
        fitted = climbed(asked, key_of(asked.random_state), in_bucket(x), in_bucket(weights), previous)
    vars(model).update(attributes_of(fitted, float(weights.sum())))
    if fitted.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    warn_of(asked, fitted, x, weights, names)


def climbed(asked: Any, key: Array, x: np.ndarray, weights: np.ndarray, previous: Mixture | None) -> FitResult:
    """The best fit from the starts that an estimator's parameters describe.

    Args:
        asked: the estimator.
        key: a typed key.
        x: rows, NaN where a value is missing, (N, D).
        weights: weights of the rows, (N,).
        previous: the mixture to continue from, or None.

    Returns:
        The fit; without any iteration the start itself, with objective and log-likelihood unknown.

    Raises:
        ValueError: if parameters do not suit the data or each other.
    """
    family, n_components = family_of(asked.covariance_type), asked.n_components
    named = METHODS[asked.init_params]
    algorithm, prior = method_of(asked.reg_covar, x, weights, family)
    data, data_weights = given_as(x, weights)
    given = as_given(
        Given(asked.weights_init, asked.means_init, asked.precisions_init), n_components, x.shape[1], family
    )

    def climb(init: str | Mixture, n_init: int) -> FitResult:
        options = Options(family, algorithm, prior, init, n_init, asked.max_iter, asked.tol)
        table = as_table(x) if data is x else data
        return fit_given(key, table, n_components, data_weights, options, bool(asked.verbose))

    def start(key: Array) -> Mixture:
        if given is not None and given.whole:
            return start_from(given, None, family)
        drawn = initialize(key, data, n_components, data_weights, method=named, covariance_type=family, prior=prior)
        return drawn if given is None else start_from(given, drawn, family)

    if previous is None and given is None and asked.max_iter > 0:
        return climb(named, asked.n_init)
    n_starts = 1 if asked.max_iter == 0 or (given is not None and given.whole) else asked.n_init
    starts = [previous] if previous is not None else [start(key) for key in jax.random.split(key, n_starts)]
    if asked.max_iter == 0:
        return _unclimbed(starts[0], float_dtype(x))
    fits = []
    for mixture in starts:
        fits.append(climb(mixture, 1))
        if fits[-1].status is Status.INTERRUPTED:
            break
    best = max(fits, key=lambda fitted: (fitted.status not in FAILED, float(fitted.objective)))
    return best if previous is None else _settled(best, asked.lower_bound_, asked.tol, float(weights.sum()))


def _settled(fitted: FitResult, before: float, tol: float, mass: float) -> FitResult:
    """The fit, which has converged too if it had too few iterations to estimate the remaining gain but gained little.

    A loop over `fit` with `warm_start` and one iteration at a time therefore ends.
    """
    short = fitted.status is Status.MAX_ITER and int(fitted.n_iter) < _FEWEST_TO_ESTIMATE
    # Of other rows than before the objective may fall.
    little = abs(float(fitted.objective) / mass - before) < tol
    return fitted._replace(status=Status.CONVERGED) if short and little else fitted  # pyright: ignore[reportArgumentType]


def _unclimbed(start: Mixture, dtype: DTypeLike) -> FitResult:
    unknown = jnp.asarray(-jnp.inf, dtype)
    return FitResult(
        mixture=jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), start),
        log_likelihood=unknown,
        objective=unknown,
        n_iter=jnp.asarray(0),
        n_passes=jnp.asarray(0),
        status=Status.MAX_ITER,  # pyright: ignore[reportArgumentType]
        history=jnp.zeros(0, dtype),
    )


def warn_of(asked: Any, fitted: FitResult, x: np.ndarray, weights: np.ndarray, names: Any) -> None:
    """Warn where a fit did not converge, or collapsed."""
    text, causes = WARNINGS.get(fitted.status), ""
    if text is None or asked.max_iter == 0:
        return
    if fitted.status is Status.COLLAPSED:
        prior = method_of(asked.reg_covar, x, weights, fitted.mixture.family)[1]
        causes = why_collapsed(fitted.mixture, x, weights, prior, names)
    caution(text.format(causes=causes), ConvergenceWarning)


def attributes_of(fitted: FitResult, mass: float) -> dict[str, Any]:
    """The attributes that scikit-learn gives a fitted estimator.

    Args:
        fitted: the fit.
        mass: Σw, by which lower bounds are divided.

    Raises:
        ValueError: if the fit ended in NaN.
    """
    if fitted.status is Status.NONFINITE:
        raise ValueError("every start ended in NaN: scale X, lower n_components, or raise reg_covar")
    n_iter = int(fitted.n_iter)
    return arrays_of(fitted.mixture) | {
        "converged_": fitted.status is Status.CONVERGED,
        "n_iter_": n_iter,
        "lower_bound_": float(fitted.objective) / mass,
        "lower_bounds_": (np.asarray(fitted.history[:n_iter], np.float64) / mass).tolist(),
    }
