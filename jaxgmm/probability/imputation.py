"""What was not seen of rows, given what was: conditional moments, imputation, and rows freed of their errors."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.data.blurred import BlurredRows
from jaxgmm.data.conversion import as_data, plain
from jaxgmm.data.incomplete import with_gaps
from jaxgmm.host.arrays import is_traced
from jaxgmm.host.checks import as_key
from jaxgmm.host.filling import filled
from jaxgmm.model.fitted import Fitted
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics.programs import program


class ConditionalMoments(NamedTuple):
    """Means and covariances of rows given what was seen of them.

    Attributes:
        mean: (N, D); where a value was observed without error, the value itself.
        covariance: (N, D, D); 0 where a value was observed without error.

    Example:
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.5, 1.0]]])
        >>> seen = jaxgmm.conditional_moments(mixture, [[2.0, np.nan]])
        >>> seen.mean.tolist(), round(float(seen.covariance[0, 1, 1]), 3)
        ([[2.0, 1.0]], 0.75)
    """

    mean: Array
    covariance: Array


def conditional_moments(mixture: Mixture | Fitted, x: Any) -> ConditionalMoments:
    """Means and covariances of the values that were not seen, given those that were, under the whole mixture.

    With r_k = p(k | x_o), m_k and C_k the moments of a row under component k, the mean is m = Σ_k r_k m_k, and the
    covariance Σ_k r_k [C_k + (m_k − m)(m_k − m)ᵀ]. For a regression, leave the target NaN.

    Args:
        mixture: the mixture.
        x: rows with NaN where a value is missing, (N, D): an array, a table, `Incomplete` or `Noisy`.

    Returns:
        The moments; NaN where a row's are not finite. A row with nothing observed has those of the mixture.

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit, or x holds no real numbers.
        ValueError: if x is not (N, D), or has other columns than the fit.

    References:
        Ghahramani & Jordan (1994), Supervised learning from incomplete data via an EM approach.

    Example:
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.5, 1.0]]])
        >>> jaxgmm.conditional_moments(mixture, [[2.0, np.nan]]).mean.tolist()
        [[2.0, 1.0]]
    """
    return ConditionalMoments(*_true_rows(*as_data(mixture, with_gaps(x), needs=("true_rows",))))


def denoise(mixture: Mixture | Fitted, x: Any) -> ConditionalMoments:
    """Means and covariances of the true rows behind rows with errors, given what was measured.

    For x = v + e with e ~ N(0, S_i), E[v | x, k] = μ_k + Σ_k (Σ_k + S_i)⁻¹ (x − μ_k), and over components as in
    `conditional_moments`: a measurement that errs much is drawn far towards the mixture.

    Args:
        mixture: the mixture of the true rows, as fitted to `Noisy`.
        x: `Noisy` rows; rows without errors are the true ones themselves.

    Returns:
        The moments of the true rows.

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit, or x holds no real numbers.
        ValueError: if x is not (N, D), or has other columns than the fit.

    References:
        Bovy, Hogg & Roweis (2011), Extreme deconvolution.

    Example:
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
        >>> seen = jaxgmm.denoise(mixture, jaxgmm.Noisy(np.array([[2.0]]), np.array([[3.0]])))
        >>> seen.mean.tolist(), seen.covariance.tolist()
        ([[0.5]], [[[0.75]]])
    """
    return conditional_moments(mixture, x)


def impute(mixture: Mixture | Fitted, x: Any, *, key: Array | None = None) -> Any:
    """Rows with their gaps filled: by conditional means, or by draws from the conditional distribution.

    Means are best for one guess at each value, but vary less than true values do; for estimates from imputed rows draw
    several times, `[impute(mixture, x, key=key) for key in jax.random.split(key, 20)]`, and pool what comes of them
    (Rubin 1987). Regression is imputation of a target that is NaN.

    Args:
        mixture: the mixture.
        x: rows with NaN where a value is missing, (N, D): an array, a table, `Incomplete`, or `Noisy`, whose errors
            count, and whose observed values stay as they are but for those of infinite variance.
        key: a typed key, for draws; None gives means.

    Returns:
        What x is: a table with its names, index and dtypes, integers without gaps included; else an array, (N, D).

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit, the key is not typed, or x holds no real numbers.
        ValueError: if x is not (N, D), or has other columns than the fit.

    Example:
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.5, 1.0]]])
        >>> jaxgmm.impute(mixture, [[2.0, np.nan]]).tolist()
        [[2.0, 1.0]]
    """
    data = with_gaps(x)
    known, rows = as_data(mixture, data, needs=("true_rows", "drawn"))
    whole = _means(known, rows) if key is None else _drawn(as_key(key), known, rows)
    given = plain(data)
    return whole if is_traced(whole, given) else filled(given, np.asarray(whole), np.isnan(np.asarray(rows.x)))


@program()
def _true_rows(mixture: Mixture, data: BlurredRows) -> tuple[Array, Array]:
    return data.true_rows(mixture)


@program()
def _means(mixture: Mixture, data: BlurredRows) -> Array:
    return jnp.where(jnp.isnan(data.x), data.true_rows(mixture)[0], data.x)


@program()
def _drawn(key: Array, mixture: Mixture, data: BlurredRows) -> Array:
    return jnp.where(jnp.isnan(data.x), data.drawn(key, mixture), data.x)
