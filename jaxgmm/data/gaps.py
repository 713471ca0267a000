"""Checks of rows with gaps, on the host."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxgmm.data.noise import variances_of
from jaxgmm.host.arrays import Names, as_numbers, column_label, names_of
from jaxgmm.host.cautions import caution
from jaxgmm.numerics.factors import asymmetric


def without_masks(x: Any) -> Any:
    """A masked array, a list or an array of objects with NaN for what is masked or None; anything else as it is."""
    if isinstance(x, list | tuple) or (isinstance(x, np.ndarray) and x.dtype == object):
        return _without_none(x)
    if not isinstance(x, np.ma.MaskedArray):
        return x
    floats: Any = x if x.dtype.kind == "f" else x.astype(np.float64)
    return floats.filled(np.nan)


def _without_none(x: Any) -> Any:
    try:
        entries = np.array(x, dtype=object)
    except ValueError:  # ragged, which is told where rows are read
        return x
    none = np.vectorize(lambda entry: entry is None, otypes=[bool])(entries)
    numbers = all(isinstance(entry, int | float | np.number) for entry in entries[~none])
    return np.where(none, np.nan, entries).astype(np.float64) if none.any() and numbers else x


def check_gaps(x: np.ndarray, weights: np.ndarray, names: Names | None, what: str = "x") -> np.ndarray:
    """Weights of the rows, (N,), with 0 for those of which nothing was observed; a warning tells how many there are.

    Args:
        x: rows, NaN where a value is missing, (N, D).
        weights: (N,).
        names: of the columns.
        what: the name of x in messages.

    Raises:
        ValueError: if a value of a row that counts is infinite, or a column was never observed.
    """
    missing = np.isnan(x) if x.dtype.kind == "f" else np.zeros(x.shape, bool)
    counted = weights > 0
    with np.errstate(invalid="ignore"):
        infinite = np.isinf(x) & counted[:, None] if x.dtype.kind == "f" else missing
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        raise ValueError(
            f"{what} holds {x[row, column]} in row {row}, {column_label(int(column), names)}: a missing value is NaN, "
            f"and every other must be finite"
        )
    never = missing[counted].all(axis=0)
    if never.any():
        label = column_label(int(np.argmax(never)), names)
        raise ValueError(f"{label} of {what} was never observed: leave the column out")
    empty = missing.all(axis=1) & counted
    if not empty.any():
        return weights
    n_empty, row = int(empty.sum()), int(np.argmax(empty))
    told = (
        f"row {row} of {what} has" if n_empty == 1 else f"{n_empty} rows of {what}, the first of them row {row}, have"
    )
    caution(f"{told} no observed value, and count{'s' if n_empty == 1 else ''} for nothing")
    return np.where(empty, 0.0, weights)


def check_noise_names(noise: Any, x: Any) -> None:
    """Raise unless the columns of two tables, errors and rows, have the same names in the same order.

    Raises:
        ValueError: if they differ; the message shows the remedy.
    """
    names, own = names_of(noise), names_of(x)
    if names is not None and own is not None and names != own:
        raise ValueError(f"noise has the columns {list(names)}, but x has {list(own)}: pass noise[{list(own)}]")


def check_noise_shape(shape: tuple[int, ...], of_rows: tuple[int, ...]) -> None:
    """Raise unless noise has a variance for each value of rows (N, D), or a covariance for each row.

    Raises:
        ValueError: if it has another shape.
    """
    whole = (*of_rows, of_rows[1])
    if tuple(shape) not in (tuple(of_rows), whole):
        raise ValueError(
            f"noise must have shape {of_rows}, a variance for each value of x, or {whole}, a covariance for each row, "
            f"not {tuple(shape)}"
        )


def check_noise(noise: Any, x: np.ndarray, names: Names | None) -> np.ndarray:
    """Variances (N, D) or covariances (N, D, D) of the errors of rows (N, D), in float64.

    Raises:
        TypeError: if they hold no real numbers.
        ValueError: if they are of another shape, NaN or negative where a value was observed, or, as covariances,
            asymmetric or not positive semi-definite.
    """
    array = np.asarray(as_numbers(without_masks(noise), "noise")).astype(np.float64)
    check_noise_shape(array.shape, x.shape)
    variances = variances_of(array)
    observed = ~np.isnan(x)
    bad = observed & ~(variances >= 0)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"noise must hold variances of at least 0, but holds {variances[row, column]} in row {row}, "
            f"{column_label(int(column), names)}"
        )
    if array.ndim == 2:
        return array
    seen = observed & np.isfinite(variances)
    held = np.where(seen[:, :, None] & seen[:, None, :], array, 0.0)
    finite = np.isfinite(held)
    faults = {
        "finite": ~finite.all(axis=(1, 2)),
        "symmetric": asymmetric(np.where(finite, held, 0.0), float(np.finfo(np.float32).eps)).any(axis=(1, 2)),
    }
    for wanted, rows in faults.items():
        if rows.any():
            raise ValueError(f"noise must hold {wanted} covariances, but row {int(np.argmax(rows))} is not {wanted}")
    scale = np.sqrt(np.where(held.diagonal(axis1=1, axis2=2) > 0, held.diagonal(axis1=1, axis2=2), 1.0))
    least = np.linalg.eigvalsh(held / scale[:, :, None] / scale[:, None, :])[:, 0]
    if (least < -1e-5).any():
        row = int(np.argmin(least))
        raise ValueError(f"noise must hold positive semi-definite covariances, but that of row {row} is not")
    return array
