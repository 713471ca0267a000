"""Rows in buckets, so that few programs are compiled, and the check that scikit-learn does not make."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxgmm.data import intake as scaling
from jaxgmm.host.arrays import as_numbers, holds_masked

_FEWEST = 64
"""The least size of a bucket: smaller data share a program, since users predict single rows as often as many."""


def bucket(n_rows: int) -> int:
    """The size of the bucket for so many rows, as `fit` chooses it; at least 64."""
    return scaling.bucket(n_rows, _FEWEST)


def in_bucket(array: np.ndarray) -> np.ndarray:
    """Rows (N, D) or weights (N,), filled up with zeros to the bucket's size."""
    spare = bucket(len(array)) - len(array)
    return np.pad(array, [(0, spare)] + [(0, 0)] * (array.ndim - 1)) if spare else array


_CONVERTED = "USTMm"
"""Kinds of arrays that scikit-learn converts to numbers although they hold text, dates or durations."""


def readable(X: Any) -> Any:
    """X itself, unless it is of a kind that scikit-learn would silently convert to wrong numbers.

    These kinds are text, dates, complex numbers and masked arrays. Anything else that is no array of numbers is left to
    scikit-learn, which refuses it.

    Raises:
        TypeError: if X is of such a kind; the message says what X holds, and the remedy.
    """
    if holds_masked(X):
        as_numbers(X, "X")
    try:
        array = np.asarray(X)
    except Exception:
        return X
    if array.ndim and (array.dtype.kind in _CONVERTED or array.dtype == object and _holds_no_numbers(array)):
        as_numbers(X, "X")
    return X


def _holds_no_numbers(array: np.ndarray) -> bool:
    """Whether any object in an array is no number, though scikit-learn would convert it."""
    return any(isinstance(entry, str | bytes | np.datetime64 | np.timedelta64 | complex) for entry in array.flat)
