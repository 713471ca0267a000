"""Rows in buckets, so that few programs are compiled, and the checks that scikit-learn does not make."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from jaxgmm.data import intake as scaling
from jaxgmm.data.gaps import without_masks
from jaxgmm.data.incomplete import Incomplete
from jaxgmm.host.arrays import as_numbers, column_label, holds_masked

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


def as_rows(estimator: Any, X: Any, missing: str, **options: Any) -> np.ndarray:
    """The rows of X as scikit-learn validates them for an estimator, in float32 or float64, (N, D).

    Args:
        estimator: the estimator, which learns or knows the names of the columns.
        X: what the user gives.
        missing: what NaN is: "error", or "marginalize" for a missing value.
        options: of `sklearn.utils.validation.validate_data`.

    Raises:
        TypeError: if X is of a kind that is no array of numbers.
        ValueError: if scikit-learn refuses X, or X holds NaN although `missing` is "error".
    """
    given = without_masks(X) if missing == "marginalize" else X
    dtypes = (np.float64, np.float32)
    rows: Any = validate_data(estimator, readable(given), dtype=dtypes, ensure_all_finite="allow-nan", **options)
    gaps = np.isnan(rows)
    if missing == "error" and gaps.any():
        row, column = np.argwhere(gaps)[0]
        label = column_label(int(column), getattr(estimator, "feature_names_in_", None))
        raise ValueError(
            f'Input X contains NaN, first in row {row}, {label}: drop such rows, or set missing="marginalize" on '
            f"{type(estimator).__name__}, which takes NaN as a value missing at random"
        )
    return rows


def without_empty(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weights (N,) of rows (N, D), with 0 for those of which nothing was observed.

    Raises:
        ValueError: if nothing was observed of any row that counts.
    """
    kept = np.where(np.isnan(x).all(axis=1), 0.0, weights)
    if not kept.any():
        raise ValueError("no value of X was observed in a row of positive weight")
    return kept


def given_as(x: np.ndarray, weights: np.ndarray | None) -> tuple[Any, np.ndarray | None]:
    """Rows (N, D) and their weights (N,) as functions take them: rows with gaps as `Incomplete`, which holds both."""
    return (Incomplete(x, weights), None) if np.isnan(x).any() else (x, weights)


def key_of(random_state: Any) -> jax.Array:
    """A typed key for a `random_state`: of an integer always the same, of a NumPy `RandomState` the next one."""
    return jax.random.key(check_random_state(random_state).randint(np.iinfo(np.int32).max))
