"""Checks of weights and responsibilities on the host."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from jaxgmm.host.arrays import as_numbers


def as_weights(sample_weight: ArrayLike | None, n_rows: int) -> np.ndarray:
    """Weights of rows on the host, (N,), float64; None is 1 for each row.

    Raises:
        TypeError: if they are not real numbers.
        ValueError: if they are of another length, negative, not finite or all zero.
    """
    if sample_weight is None:
        return np.ones(n_rows)
    weights = np.asarray(as_numbers(sample_weight, "sample_weight")).astype(np.float64)
    if weights.shape != (n_rows,):
        raise ValueError(f"sample_weight must have shape ({n_rows},), one for each row, not {weights.shape}")
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"sample_weight must be finite and at least 0, but holds {weights[row]} in row {row}")
    if not weights.any():
        raise ValueError("sample_weight is zero for every row")
    with np.errstate(over="ignore"):
        if not np.isfinite(weights.sum()):
            raise ValueError("sample_weight sums to more than float64 can hold: divide it by its largest entry")
    return weights


def check_weights_held(weights: np.ndarray, dtype: DTypeLike, name: str = "sample_weight") -> None:
    """Raise where weights would underflow in a dtype.

    Raises:
        ValueError: if the largest weight does, or nearly so.
    """
    limits, most = jnp.finfo(dtype), float(np.max(weights, initial=0.0))
    if 0 < most < float(limits.tiny) / float(limits.eps):
        raise ValueError(
            f"the largest entry of {name} is {most:.3g}, too little for {jnp.dtype(dtype).name}: divide {name} by it"
        )


def check_responsibilities(resp: np.ndarray, weights: np.ndarray, name: str = "resp") -> None:
    """Raise unless the responsibilities (N, K) of all rows of positive weight are valid.

    Raises:
        ValueError: if one is negative, NaN or infinite, the message naming the first row and component; or if all are
            zero.
    """
    counted = weights > 0
    bad = ~(np.isfinite(resp) & (resp >= 0)) & counted[:, None]
    if bad.any():
        row, k = np.argwhere(bad)[0]
        found = f"{resp[row, k]} in row {row}, component {k}"
        raise ValueError(f"{name} must be finite and at least 0, but holds {found}")
    if not resp[counted].any():
        raise ValueError(f"{name} is zero for every row of positive weight")


def check_enough_rows(count: int, n_components: int) -> None:
    """Raise unless there are at least two rows of positive weight, and as many as components.

    Raises:
        ValueError: if fewer rows have positive weight.
    """
    if count < 2:
        raise ValueError("x has one row of positive weight: a mixture needs at least two")
    if count < n_components:
        raise ValueError(f"n_components is {n_components}, but x has only {count} rows of positive weight")
