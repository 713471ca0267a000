"""Information criteria, signed as scikit-learn signs them: lower is better."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jaxgmm.data.conversion import as_data
from jaxgmm.data.passes import weighted_sum
from jaxgmm.data.protocol import RowWise, is_data, over
from jaxgmm.fitting.counts import REACHED, count_of
from jaxgmm.host.arrays import as_numbers
from jaxgmm.host.checks import as_count
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.families.table import family_of
from jaxgmm.model.fitted import Fitted
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics.programs import program
from jaxgmm.probability.likelihood import log_likelihood

CRITERIA = ("bic", "aic", "icl")
"""Names of the criteria; of each, lower is better."""


def check_criterion(criterion: Any) -> None:
    """Raise unless a value is the name of a criterion.

    Raises:
        ValueError: if it is not.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"criterion must be one of {', '.join(map(repr, CRITERIA))}, not {criterion!r}")


def n_parameters(covariance_type: str | Family, K: int, D: int) -> int:
    """Number of free parameters: (K − 1) weights, K·D means, and the family's covariance entries.

    Args:
        covariance_type: a name or a family.
        K: number of components.
        D: number of columns.

    Returns:
        The count.

    Raises:
        ValueError: if the family is not known, or K or D is below 1.

    Example:
        >>> jaxgmm.n_parameters("full", 2, 2)
        11
    """
    K, D = as_count(K, "K"), as_count(D, "D")
    return K - 1 + K * D + family_of(covariance_type).n_parameters(K, D)


def aic(
    mixture: Mixture | Fitted, x: Any, sample_weight: ArrayLike | None = None, *, n: ArrayLike | None = None
) -> Array:
    """Akaike's information criterion, −2ℓ + 2p; lower is better (Akaike 1974).

    Here ℓ = (n / Σw) Σ wᵢ log p(xᵢ): the log-likelihood of n rows. See `bic` for n.

    Args:
        mixture: the mixture, with p free parameters.
        x: rows, (N, D).
        sample_weight: non-negative weights, (N,); None is 1 for each row.
        n: how many rows the data count as; None as for `bic`.

    Returns:
        ().

    Raises:
        TypeError: if n is no number.
        ValueError: if shapes do not match, or n is below 1 or not finite.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> penalty = jaxgmm.aic(mixture, x) + 2 * jaxgmm.log_likelihood(mixture, x)
        >>> round(float(penalty), 2)
        22.0
    """
    mixture, data, _, unit = _asked(mixture, x, sample_weight, n)
    return -2 * unit * log_likelihood(mixture, data) + 2.0 * mixture.n_parameters


def bic(
    mixture: Mixture | Fitted, x: Any, sample_weight: ArrayLike | None = None, *, n: ArrayLike | None = None
) -> Array:
    """Bayesian information criterion, −2ℓ + p log n; lower is better (Schwarz 1978).

    Here ℓ = (n / Σw) Σ wᵢ log p(xᵢ): the log-likelihood of n rows. Weights count as frequencies, n = Σw, as long as
    Σw reaches the number of rows of positive weight. Below that they cannot be frequencies: n is then the effective
    number of rows, (Σw)² / Σw² (Kish 1965), and a warning says so; under a trace, where values cannot be seen, the
    same is done without one. mclust's BIC is the negative of this.

    Args:
        mixture: the mixture, with p free parameters.
        x: rows, (N, D).
        sample_weight: non-negative weights, (N,); None is 1 for each row.
        n: how many rows the data count as, at least 1; None is as said above.

    Returns:
        ().

    Raises:
        TypeError: if n is no number.
        ValueError: if shapes do not match, or n is below 1 or not finite.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> penalty = jaxgmm.bic(mixture, x) + 2 * jaxgmm.log_likelihood(mixture, x)
        >>> bool(jnp.allclose(penalty, 11 * np.log(100), atol=0.01))
        True
    """
    mixture, data, n, unit = _asked(mixture, x, sample_weight, n)
    return -2 * unit * log_likelihood(mixture, data) + mixture.n_parameters * jnp.log(n)


def icl(
    mixture: Mixture | Fitted, x: Any, sample_weight: ArrayLike | None = None, *, n: ArrayLike | None = None
) -> Array:
    """Integrated complete-data likelihood, BIC − 2 (n / Σw) Σ wᵢ log maxₖ rᵢₖ; lower is better.

    BIC with a price on rows that are not clearly of one component (Biernacki, Celeux & Govaert 2000, with
    the hard assignment, as mclust counts it).

    Args:
        mixture: the mixture.
        x: rows, (N, D).
        sample_weight: non-negative weights, (N,); None is 1 for each row.
        n: how many rows the data count as; None as for `bic`.

    Returns:
        ().

    Raises:
        TypeError: if n is no number.
        ValueError: if shapes do not match, or n is below 1 or not finite.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> bool(jaxgmm.icl(mixture, x) > jaxgmm.bic(mixture, x))
        True
    """
    needs = ("log_likelihood", "weights", "log_responsibilities")
    mixture, data, n, unit = _asked(mixture, x, sample_weight, n, needs)
    deviance = -2 * unit * log_likelihood(mixture, data)
    return deviance + mixture.n_parameters * jnp.log(n) + unit * over(data, classification_entropy)(mixture, data)


@program()
def classification_entropy(mixture: Mixture, data: RowWise) -> Array:
    """The classification entropy −2 Σ wᵢ log maxₖ rᵢₖ, (): 0 where every row belongs clearly to one component."""
    certainty = jnp.max(data.log_responsibilities(mixture), axis=1)
    return -2 * weighted_sum(data.weights, certainty)


def _asked(
    mixture: Mixture | Fitted,
    x: Any,
    sample_weight: ArrayLike | None,
    n: Any,
    needs: tuple[str, ...] = ("log_likelihood",),
) -> tuple[Mixture, Any, Array, Array]:
    """A mixture and data in one dtype, and the number of rows that the data and a unit of weight count as."""
    mixture, data = as_data(mixture, x, sample_weight, needs)
    if is_data(x) and not hasattr(x, "weights"):
        columns = data.columns()
        weights = jnp.where(columns.mass >= REACHED * columns.count, columns.mass, jnp.nan)[None]
    elif isinstance(sample_weight, jax.Array) or is_data(x):
        weights = data.weights
    elif sample_weight is None:
        weights = np.array([len(data.weights)])  # one row of weight N counts as N rows do
    else:
        weights = as_numbers(sample_weight, "sample_weight")
    count, dtype = count_of(weights, n), mixture.means.dtype
    return mixture, data, jnp.asarray(count.n, dtype), jnp.asarray(count.unit, dtype)
