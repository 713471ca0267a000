"""Checks on the host of a mixture's parts: weights in any of their forms, means, covariances in any of theirs."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxgmm.model.families.protocol import Family
from jaxgmm.numerics.factors import asymmetric


def only_one(**forms: Any) -> tuple[str, Any]:
    """The name and the value of the only form that is given; the others have to be None.

    Raises:
        TypeError: if none is, or more than one.
    """
    given = [name for name, value in forms.items() if value is not None]
    if len(given) != 1:
        found = " and ".join(given) if given else "none of them"
        raise TypeError(f"a mixture is made from exactly one of {', '.join(forms)}, not {found}")
    return given[0], forms[given[0]]


def sum_tolerance(dtype: DTypeLike, n_components: int) -> float:
    """The largest distance from 1 of a sum of K weights that rounding can explain."""
    return 100 * float(jnp.finfo(dtype).eps) * n_components + 1e-6


def check_weights(values: np.ndarray, form: str) -> None:
    """Raise unless an array holds valid weights (K,), their logs, or logits.

    Raises:
        ValueError: the message names the component with an invalid value, or gives the sum where it is not 1.
    """
    wide = values.astype(np.float64)
    lowest = 0.0 if form == "weights" else -np.inf
    bad = ~((wide >= lowest) & (wide < np.inf))
    if bad.any():
        k = int(np.argmax(bad))
        wanted = "finite and at least 0" if form == "weights" else "below infinity"
        raise ValueError(f"{form} must be {wanted}, but component {k} has {values[k]}")
    if form == "logits":
        if np.max(wide) == -np.inf:
            raise ValueError("logits must be above -inf for one component at least")
        return
    total = float((wide if form == "weights" else np.exp(wide)).sum())
    if abs(total - 1) > sum_tolerance(values.dtype, len(values)):
        hint = "" if form == "weights" else ": pass them as logits, which are normalised"
        raise ValueError(
            f"{'weights' if form == 'weights' else 'weights of log_weights'} must sum to 1, not {total:.9g}{hint}"
        )


def check_means(means: np.ndarray) -> None:
    """Raise unless means (K, D) are finite.

    Raises:
        ValueError: the message names the component and the column of one that is not.
    """
    if not np.isfinite(means).all():
        k, d = np.argwhere(~np.isfinite(means))[0]
        raise ValueError(f"means must be finite, but component {k} has {means[k, d]} in column {d}")


def check_spreads(values: np.ndarray, form: str, family: Family) -> None:
    """Raise unless covariances, factors or precisions, already of the family's shape, are valid.

    Raises:
        ValueError: the message names the component whose matrix is not positive definite, or whose factor is none.
    """
    if not family.statistic.products:
        _check_positive(values, form)
        return
    matrices = values.reshape(-1, *values.shape[-2:])
    for k, matrix in enumerate(matrices):
        if not np.isfinite(matrix).all():
            raise ValueError(f"{form} must be finite, but component {k} holds NaN or infinity")
        (_check_factor if form == "scale_tril" else _check_symmetric)(matrix, form, k)


def _check_positive(values: np.ndarray, form: str) -> None:
    # XLA takes numbers below the smallest normal one for 0.
    bad = ~(np.isfinite(values) & (values >= jnp.finfo(values.dtype).tiny))
    if bad.any():
        where = np.argwhere(bad)[0]
        value = values[tuple(where)]
        small = f", which counts as 0 in {values.dtype}" if value > 0 and np.isfinite(value) else ""
        raise ValueError(f"{form} must be finite and positive, but component {where[0]} has {value}{small}")


def _check_factor(factor: np.ndarray, form: str, k: int) -> None:
    if (above := np.argwhere(np.triu(factor, 1))).size:
        row, column = above[0]
        found = f"{factor[row, column]} in row {row}, column {column}"
        raise ValueError(f"{form} must be lower triangular, but component {k} has {found}: take jnp.tril of it")
    diagonal = np.diagonal(factor)
    if (low := np.flatnonzero(~(diagonal >= jnp.finfo(factor.dtype).tiny))).size:
        found = f"{diagonal[low[0]]} in row {low[0]}"
        raise ValueError(
            f"{form} must have a positive diagonal, but component {k} has {found}: exp or softplus makes it positive"
        )


def _check_symmetric(matrix: np.ndarray, form: str, k: int) -> None:
    eps, wide = float(jnp.finfo(matrix.dtype).eps), matrix.astype(np.float64)
    if asymmetric(wide, eps).any():
        raise ValueError(f"{form} must be symmetric, but component {k} is not")
    try:
        np.linalg.cholesky(wide)
    except np.linalg.LinAlgError:
        raise ValueError(f"{form} must be positive definite, but component {k} is not") from None
