"""Rows in buckets, so that few programs are compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxgmm.data import intake as scaling
from jaxgmm.host.arrays import as_numbers, holds_masked

_FEWEST = 64
"""Data of fewer rows share a program: scikit-learn's users predict a handful as often as a thousand."""


def bucket(n_rows: int) -> int:
    """The bucket that `fit` puts so many rows in; at least 64."""
    return scaling.bucket(n_rows, _FEWEST)


def in_bucket(array: np.ndarray) -> np.ndarray:
    """Rows (N, D) or weights (N,) with zeros up to the bucket's size."""
    spare = bucket(len(array)) - len(array)
    return np.pad(array, [(0, spare)] + [(0, 0)] * (array.ndim - 1)) if spare else array


_CONVERTED = "USTMm"
"""Kinds of arrays that scikit-learn converts, though they hold text, dates or durations."""


def readable(X: Any) -> Any:
    """X itself, unless scikit-learn would make numbers of it that it does not hold.

    Of text, dates, complex numbers and what is masked it does. Whatever else is no array of numbers is left to it: it
    refuses that in its own words.

    Raises:
        TypeError: saying what X holds, and the remedy.
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
    """Whether any object is none, though scikit-learn would convert it."""
    return any(isinstance(entry, str | bytes | np.datetime64 | np.timedelta64 | complex) for entry in array.flat)
