"""Densities and responsibilities, row by row."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxgmm.data.conversion import as_data, as_points
from jaxgmm.data.protocol import RowWise, is_data, over
from jaxgmm.data.rows import as_rows
from jaxgmm.model.fitted import Fitted
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics.programs import program
from jaxgmm.numerics.zero_weights import weight


def log_prob(mixture: Mixture | Fitted, x: Any) -> Array:
    """Log-density log p(x) = log Σ_k π_k N(x; μ_k, Σ_k) of each row.

    Args:
        mixture: the mixture.
        x: rows, (..., D); one row, (D,), gives a scalar.

    Returns:
        Log-densities, (...), in nats; −∞ where they are too low for the dtype.

    Raises:
        ValueError: if the last axis of x is not D.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x = [[0.0, 0.0], [2.0, 2.0]]
        >>> print(np.asarray(jaxgmm.log_prob(mixture, x)).round(2))
        [-2.75 -5.84]
    """
    if is_data(x):
        return _of_rows(mixture, x, "log_prob")
    mixture, points = as_points(mixture, x)
    return _log_prob(mixture, points)


@program()
def _log_prob(mixture: Mixture, x: Array) -> Array:
    return as_rows(x.reshape(-1, x.shape[-1])).log_prob(mixture).reshape(x.shape[:-1])


def _of_rows(mixture: Mixture | Fitted, x: Any, member: str) -> Array:
    """The numbers of each row that a member of `RowWise` tells."""
    mixture, data = as_data(mixture, x, needs=(member,))
    return over(data, _member)(mixture, data, member)


@program(static_argnums=(2,))
def _member(mixture: Mixture, data: RowWise, member: str) -> Array:
    return getattr(data, member)(mixture)


def log_components(mixture: Mixture | Fitted, x: Any) -> Array:
    """Log-density log N(x_i; μ_k, Σ_k) of each row under each component, whatever the components' weights.

    Args:
        mixture: the mixture.
        x: rows, (N, D).

    Returns:
        (N, K), in nats, finite for components of weight 0 too; −∞ where they are too low for the dtype.

    Raises:
        TypeError: if x is a `Data` without `log_components`.
        ValueError: if x is not (N, D).

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x = [[0.0, 0.0], [2.0, 2.0]]
        >>> print(np.asarray(jaxgmm.log_components(mixture, x)).round(2))
        [[ -1.84 -17.84]
         [ -5.84  -5.84]]
    """
    return _of_rows(mixture, x, "log_components")


def log_joint(mixture: Mixture | Fitted, x: Any) -> Array:
    """Log-joint log π_k + log N(x_i; μ_k, Σ_k) of each row and component.

    Args:
        mixture: the mixture.
        x: rows, (N, D).

    Returns:
        (N, K), in nats; −∞ for components of weight 0, and where it is too low for the dtype.

    Raises:
        ValueError: if x is not (N, D).

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x = [[0.0, 0.0], [2.0, 2.0]]
        >>> print(np.asarray(jaxgmm.log_joint(mixture, x)).round(2))
        [[ -2.75 -18.35]
         [ -6.75  -6.35]]
    """
    return _of_rows(mixture, x, "log_joint")


def log_responsibilities(mixture: Mixture | Fitted, x: Any) -> Array:
    """Log of the responsibilities, log p(k | x_i).

    Args:
        mixture: the mixture.
        x: rows, (N, D).

    Returns:
        (N, K); rows of its exponential sum to 1. A row whose squared Mahalanobis distances overflow belongs to the
        nearest component.

    Raises:
        ValueError: if x is not (N, D).

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x = [[1.5, 1.5], [2.0, 2.0]]
        >>> print(np.asarray(jaxgmm.log_responsibilities(mixture, x)).round(2))
        [[-0.03 -3.62]
         [-0.92 -0.51]]
    """
    return _of_rows(mixture, x, "log_responsibilities")


def responsibilities(mixture: Mixture | Fitted, x: Any) -> Array:
    """Responsibilities p(k | x_i) = π_k N(x_i; μ_k, Σ_k) / p(x_i) of the components for each row.

    Args:
        mixture: the mixture.
        x: rows, (N, D).

    Returns:
        (N, K); rows sum to 1, never NaN for finite rows.

    Raises:
        ValueError: if x is not (N, D).

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x = [[0.0, 0.0], [2.0, 2.0]]
        >>> print(np.asarray(jaxgmm.responsibilities(mixture, x)).round(2))
        [[1.  0. ]
         [0.4 0.6]]
    """
    mixture, data = as_data(mixture, x, needs=("log_responsibilities",))
    return over(data, _responsibilities)(mixture, data)


@program()
def _responsibilities(mixture: Mixture, data: RowWise) -> Array:
    logs = data.log_responsibilities(mixture)
    is_absent = (mixture.log_weights == -jnp.inf)[None, :]
    return jnp.where(is_absent, weight(jnp.where(is_absent, logs, 0.0)), jnp.exp(jnp.where(is_absent, 0.0, logs)))


def predict(mixture: Mixture | Fitted, x: Any) -> Array:
    """The component with the largest responsibility for each row.

    Args:
        mixture: the mixture.
        x: rows, (N, D).

    Returns:
        Indices, (N,); −1 for a row whose responsibilities are NaN, such as a row that holds NaN. A row whose squared
        Mahalanobis distances overflow goes to the nearest component.

    Raises:
        ValueError: if x is not (N, D).

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x = [[0.0, 0.0], [2.0, 2.0]]
        >>> print(jaxgmm.predict(mixture, x))
        [0 1]
    """
    mixture, data = as_data(mixture, x, needs=("log_responsibilities",))
    return over(data, _predict)(mixture, data)


@program()
def _predict(mixture: Mixture, data: RowWise) -> Array:
    log_responsibilities = data.log_responsibilities(mixture)
    unknown = jnp.any(jnp.isnan(log_responsibilities), axis=-1)
    return jnp.where(unknown, -1, jnp.argmax(log_responsibilities, axis=-1))


def uncertainty(mixture: Mixture | Fitted, x: Any) -> Array:
    """Uncertainty of each row's assignment by `predict`, 1 − max_k p(k | x_i).

    It is the probability that the assignment is wrong if the mixture is true, summed over the other components, so that
    small values keep their digits.

    Args:
        mixture: the mixture.
        x: rows, (N, D).

    Returns:
        (N,), between 0 and 1 − 1/K; NaN for a row that holds NaN.

    Raises:
        ValueError: if x is not (N, D).

    References:
        Scrucca, Fop, Murphy & Raftery (2016), mclust 5.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x = [[0.0, 0.0], [2.0, 2.0]]
        >>> print(np.asarray(jaxgmm.uncertainty(mixture, x)).round(2))
        [0.  0.4]
    """
    mixture, data = as_data(mixture, x, needs=("log_responsibilities",))
    return over(data, _uncertainty)(mixture, data)


@program()
def _uncertainty(mixture: Mixture, data: RowWise) -> Array:
    shares = over(data, _responsibilities)(mixture, data)
    largest = jnp.argmax(shares, axis=-1)[:, None] == jnp.arange(mixture.n_components)[None, :]
    return jnp.sum(jnp.where(largest & ~jnp.isnan(shares), 0.0, shares), axis=-1)
