"""Rows measured and scaled on the host in float64, block by block, before any float32 arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from jaxgmm.host.arrays import Names, column_label
from jaxgmm.host.checks import BLOCK_ROWS, check_finite
from jaxgmm.host.weights import as_weights, check_enough_rows
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.units import Units

_ROUNDING = 1e-3
"""The largest rounding error allowed in a column's mean, half the spacing of floats there, in standard deviations."""


def measure(x: np.ndarray, weights: np.ndarray, family: Family, dtype: DTypeLike, names: Names | None = None) -> Units:
    """The units of the columns: their weighted means and standard deviations, in float64, and 1 for a constant column.

    They are those of the observed values: NaN counts for nothing. Where the family does not allow columns to be scaled
    apart, all have one common scale.

    Raises:
        ValueError: if a column's mean or variance cannot be represented in `dtype`.
    """
    origin = _first(x, weights)
    reach, total, shift = np.zeros(x.shape[1]), 0.0, np.zeros(x.shape[1])
    for rows, _ in _blocks(x, weights, origin):
        reach = np.maximum(reach, np.abs(rows).max(axis=0))
    unit = np.where(reach > 0, reach, 1.0)
    for rows, weight in _blocks(x, weights, origin):
        total, shift = total + weight.sum(axis=0), shift + _summed(weight, rows / unit)
    shift = shift / total
    square = np.zeros(x.shape[1])
    for rows, weight in _blocks(x, weights, origin):
        square += _summed(weight, (rows / unit - shift) ** 2)
    deviation = unit * np.sqrt(square / total)
    mean = origin + unit * shift
    constant = reach == 0
    _check_columns(mean, deviation, constant, dtype, names)
    if family.scales_columns:
        scale = np.where(constant, 1.0, deviation)
    else:
        largest = deviation.max()
        common = largest * np.sqrt(np.mean((deviation / largest) ** 2)) if largest > 0 else 1.0
        scale = np.full(x.shape[1], common)
    return Units(mean, scale)  # pyright: ignore[reportArgumentType]


def constant_columns(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Whether each column has the same observed value in all rows of positive weight, (D,)."""
    origin = _first(x, weights)
    return np.all([(rows == 0).all(axis=0) for rows, _ in _blocks(x, weights, origin)], axis=0)


def weigh(
    x: np.ndarray,
    sample_weight: ArrayLike | None,
    n_components: int,
    family: Family,
    dtype: DTypeLike,
    names: Names | None = None,
) -> tuple[np.ndarray, Units]:
    """The weights of the rows as an array (N,), and the units of the columns, checked for a fit of `n_components`.

    Raises:
        TypeError: if the weights hold no real numbers.
        ValueError: if weights are invalid, a row of positive weight is not finite, there are fewer such rows than
            components, or a column cannot be represented in `dtype`.
    """
    weights = as_weights(sample_weight, len(x))
    check_finite(x, weights, names)
    check_enough_rows(int(np.count_nonzero(weights)), n_components)
    return weights, measure(x, weights, family, dtype, names)


def standardise(x: np.ndarray, weights: np.ndarray, units: Units, dtype: DTypeLike, n_rows: int) -> np.ndarray:
    """Rows in the fit's units, (n_rows, D); 0 for rows of weight 0, and for those added to make `n_rows`."""
    z = _aligned((n_rows, x.shape[1]), dtype)
    z[len(x) :] = 0
    for start in range(0, len(x), BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, len(x)))
        with np.errstate(all="ignore"):
            scaled = (x[rows].astype(np.float64) - units.shift) / units.scale
        z[rows] = np.where((weights[rows] > 0)[:, None], scaled, 0.0)
    return z


def _aligned(shape: tuple[int, int], dtype: DTypeLike) -> np.ndarray:
    """An empty array that begins at a multiple of 64 bytes, so that JAX takes it over without a copy."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = np.empty(size + 64, np.uint8)
    offset = -buffer.ctypes.data % 64
    return buffer[offset : offset + size].view(dtype).reshape(shape)


def bucket(n_rows: int, least: int = 16) -> int:
    """The number of rows rounded up to one of sixteen sizes to an octave, in steps of at least `least`.

    Data that grow by a few rows then need no new program, at the price of a sixteenth more rows at most.
    """
    step = max(least, 1 << max(0, n_rows.bit_length() - 5))
    return -(-n_rows // step) * step


def check_representable(mixture: Mixture, dtype: DTypeLike, names: Names | None = None) -> None:
    """Raise unless a mixture on the host, in the user's units, can be represented in a dtype.

    Raises:
        ValueError: if it cannot; the message names the column and the remedy.
    """
    deviations = mixture.covs.deviations()
    for mean, deviation in zip(mixture.means, np.broadcast_to(deviations, mixture.means.shape), strict=True):
        _check_columns(np.asarray(mean), deviation, np.zeros(len(deviation), bool), dtype, names)


def _check_columns(
    mean: np.ndarray, deviation: np.ndarray, constant: np.ndarray, dtype: DTypeLike, names: Names | None
) -> None:
    info = jnp.finfo(dtype)
    name = np.dtype(dtype).name
    wider = " or enable jax_enable_x64 and pass float64" if name == "float32" else ""
    with np.errstate(all="ignore"):
        variance = deviation**2
    for column in np.flatnonzero(~constant):
        label = column_label(int(column), names)
        if not variance[column] < float(info.max) or not abs(mean[column]) < float(info.max):
            raise ValueError(
                f"{label} of x has standard deviation {deviation[column]:.3g} and mean {mean[column]:.3g}, "
                f"which overflow when squared in {name}: divide the column by its scale first{wider}"
            )
        if variance[column] < float(info.tiny):
            raise ValueError(
                f"{label} of x has standard deviation {deviation[column]:.3g}, which underflows when "
                f"squared in {name}: multiply the column by a scale first{wider}"
            )
        rounding = 0.5 * float(np.spacing(np.asarray(abs(mean[column]), dtype)))
        if rounding > _ROUNDING * deviation[column]:
            raise ValueError(
                f"{label} of x has mean {mean[column]:.6g} but a spread of {deviation[column]:.3g}, too fine "
                f"for {name} at that distance from 0: subtract an offset from the column first{wider}"
            )


def _first(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The first observed value of each column in rows of positive weight, (D,), in float64."""
    origin = x[int(np.argmax(weights > 0))].astype(np.float64)
    for column in np.flatnonzero(np.isnan(origin)):
        seen = (weights > 0) & ~np.isnan(x[:, column])
        origin[column] = x[int(np.argmax(seen)), column]
    return origin


def _summed(weight: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Σ w v of each column, (D,), for weights of rows, (n,), or of values, (n, D)."""
    return weight @ values if weight.ndim == 1 else (weight * values).sum(axis=0)


def _blocks(x: np.ndarray, weights: np.ndarray, origin: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows less an origin in float64, 0 where nothing counts, and weights, block by block.

    The weights are those of the rows, (n,), or where values of the block are NaN those of the values, (n, D).
    """
    for start in range(0, len(x), BLOCK_ROWS):
        weight = weights[start : start + BLOCK_ROWS]
        rows = x[start : start + BLOCK_ROWS].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            rows = np.where((weight > 0)[:, None], rows - origin, 0.0)
        missing = np.isnan(rows)
        if missing.any():
            rows, weight = np.where(missing, 0.0, rows), np.where(missing, 0.0, weight[:, None])
        yield rows, weight
