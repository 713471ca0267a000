"""Information criteria, signed as scikit-learn signs them: lower is better."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxgmm._types import Mixture
from jaxgmm.checks import as_count
from jaxgmm.data import as_data
from jaxgmm.families import family_of
from jaxgmm.likelihood import log_likelihood
from jaxgmm.passes import weighted_sum

CRITERIA = ("bic", "aic", "icl")
"""Names of the criteria; all are lower for better."""


def check_criterion(criterion: Any) -> None:
    """Ask for the name of a criterion.

    Raises:
        ValueError: if it is not one.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"criterion must be one of {', '.join(map(repr, CRITERIA))}, not {criterion!r}")


def n_parameters(covariance_type: Any, K: int, D: int) -> int:
    """Number of free parameters: (K − 1) weights, K·D means, and the family's covariance entries.

    Args:
        covariance_type: a name or a family.
        K: number of components.
        D: number of columns.

    Returns:
        The count.

    Raises:
        ValueError: if the family is not known, or K or D is below 1.
    """
    K, D = as_count(K, "K"), as_count(D, "D")
    return K - 1 + K * D + family_of(covariance_type).n_parameters(K, D)


def aic(mixture: Mixture, x: Any, sample_weight: ArrayLike | None = None) -> Array:
    """Akaike's information criterion, −2ℓ + 2p; lower is better (Akaike 1974).

    Args:
        mixture: the mixture, with p free parameters.
        x: rows, (N, D).
        sample_weight: non-negative weights, (N,); None is 1 for each row.

    Returns:
        ().

    Raises:
        ValueError: if shapes do not match.
    """
    return -2 * log_likelihood(mixture, x, sample_weight) + 2.0 * mixture.n_parameters


def bic(mixture: Mixture, x: Any, sample_weight: ArrayLike | None = None) -> Array:
    """Bayesian information criterion, −2ℓ + p log n with n = Σw; lower is better (Schwarz 1978).

    mclust's BIC is the negative of this.

    Args:
        mixture: the mixture, with p free parameters.
        x: rows, (N, D).
        sample_weight: non-negative weights, (N,); None is 1 for each row.

    Returns:
        ().

    Raises:
        ValueError: if shapes do not match.
    """
    mixture, data = as_data(mixture, x, sample_weight)
    return -2 * log_likelihood(mixture, data) + mixture.n_parameters * jnp.log(jnp.sum(data.weights))


def icl(mixture: Mixture, x: Any, sample_weight: ArrayLike | None = None) -> Array:
    """Integrated complete-data likelihood, BIC − 2 Σ wᵢ log maxₖ rᵢₖ; lower is better.

    BIC with a price on rows that are not clearly of one component (Biernacki, Celeux & Govaert 2000, with
    the hard assignment, as mclust counts it).

    Args:
        mixture: the mixture.
        x: rows, (N, D).
        sample_weight: non-negative weights, (N,); None is 1 for each row.

    Returns:
        ().

    Raises:
        ValueError: if shapes do not match.
    """
    mixture, data = as_data(mixture, x, sample_weight)
    return bic(mixture, data) + doubt(mixture, data)


@jax.jit
def doubt(mixture: Mixture, data: Any) -> Array:
    """−2 Σ wᵢ log maxₖ rᵢₖ, (): how far rows are from being clearly of one component."""
    certainty = jnp.max(data.log_responsibilities(mixture), axis=1)
    return -2 * weighted_sum(data.weights, certainty)
