"""Units: columns centred and scaled, and mixtures carried between units.

On the host columns are measured and scaled in float64, block by block, before any float32 arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm._protocols import Family
from jaxgmm._types import Columns, Mixture
from jaxgmm.arrays import Names, column_label
from jaxgmm.checks import BLOCK_ROWS, check_finite
from jaxgmm.weights import as_weights, check_enough_rows

_ROUNDING = 1e-3
"""Largest rounding of a mean, half the spacing of its floating-point neighbours, in standard deviations."""


class Units(NamedTuple):
    """x = shift + scale · z, column by column.

    Attributes:
        shift: (D,).
        scale: positive, (D,); all equal for families that one common scale alone keeps.
    """

    shift: Array
    scale: Array

    def standardise(self, mixture: Mixture) -> Mixture:
        """A mixture of x as the mixture of z."""
        means = (mixture.means - self.shift[None, :]) / self.scale[None, :]
        return Mixture(mixture.log_weights, means, mixture.covs.rescale(1 / self.scale), mixture.family)

    def restore(self, mixture: Mixture) -> Mixture:
        """A mixture of z as the mixture of x."""
        means = self.shift[None, :] + mixture.means * self.scale[None, :]
        return Mixture(mixture.log_weights, means, mixture.covs.rescale(self.scale), mixture.family)


class Nats(NamedTuple):
    """Log-likelihoods of scaled rows as those of the user's: the Jacobian of the scaling is taken off, in float64.

    Attributes:
        unit: of the weights.
        data_shift: what the scaling adds to the log-likelihood.
        prior_shift: what it adds to the log-prior of each distinct covariance.
    """

    unit: float
    data_shift: float
    prior_shift: float

    @classmethod
    def of(cls, units: Units, weight_unit: float, weight: float, prior_mass: float) -> Nats:
        """For rows of a total weight, under a prior that counts as `prior_mass` of them, in units of their weight."""
        log_volume = float(np.sum(np.log(units.scale)))
        return cls(weight_unit, weight * log_volume, weight_unit * prior_mass * log_volume)

    def log_likelihood(self, value: Any) -> np.ndarray:
        """A log-likelihood of the user's rows."""
        return self.unit * np.asarray(value, np.float64) - self.data_shift

    def objective(self, value: Any, n_covariances: int) -> np.ndarray:
        """The same with the log-prior of so many distinct covariances."""
        return self.log_likelihood(value) - n_covariances * self.prior_shift


def units_of(columns: Columns, family: Family) -> Units:
    """The columns' means and standard deviations, or their root mean square where the family needs one."""
    if family.scales_columns:
        return Units(columns.mean, jnp.sqrt(columns.unit()))
    mean_square = jnp.mean(columns.variance)
    common = jnp.sqrt(jnp.where(mean_square > 0, mean_square, 1.0))
    return Units(columns.mean, jnp.broadcast_to(common, columns.mean.shape))


def measure(x: np.ndarray, weights: np.ndarray, family: Family, dtype: Any, names: Names | None = None) -> Units:
    """Weighted means and standard deviations of the columns, in float64; scale 1 for a constant one.

    Raises:
        ValueError: if a column's mean or variance cannot be represented in `dtype`.
    """
    origin = x[int(np.argmax(weights > 0))].astype(np.float64)
    reach, total, shift = np.zeros(x.shape[1]), 0.0, np.zeros(x.shape[1])
    for rows, _ in _blocks(x, weights, origin):
        reach = np.maximum(reach, np.abs(rows).max(axis=0))
    unit = np.where(reach > 0, reach, 1.0)
    for rows, weight in _blocks(x, weights, origin):
        total, shift = total + weight.sum(), shift + weight @ (rows / unit)
    shift = shift / total
    square = np.zeros(x.shape[1])
    for rows, weight in _blocks(x, weights, origin):
        square += weight @ (rows / unit - shift) ** 2
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
    """Whether a column holds one value in all rows that count, (D,)."""
    origin = x[int(np.argmax(weights > 0))].astype(np.float64)
    return np.all([(rows == 0).all(axis=0) for rows, _ in _blocks(x, weights, origin)], axis=0)


def weigh(
    x: np.ndarray, sample_weight: Any, n_components: int, family: Family, dtype: Any, names: Names | None = None
) -> tuple[np.ndarray, Units]:
    """Weights of rows (N,), and units of their columns, where the rows can bear so many components.

    Raises:
        TypeError: if the weights hold no real numbers.
        ValueError: if they are bad, a row that counts is not finite, too few of them are, or a column cannot be
            represented in `dtype`.
    """
    weights = as_weights(sample_weight, len(x))
    check_finite(x, weights, names)
    check_enough_rows(weights, n_components)
    return weights, measure(x, weights, family, dtype, names)


def standardise(x: np.ndarray, weights: np.ndarray, units: Units, dtype: Any, n_rows: int) -> np.ndarray:
    """Rows in the fit's units, (n_rows, D); those without weight, and those beyond x, lie on the centre."""
    z = _aligned((n_rows, x.shape[1]), dtype)
    z[len(x) :] = 0
    for start in range(0, len(x), BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, len(x)))
        with np.errstate(all="ignore"):
            scaled = (x[rows].astype(np.float64) - units.shift) / units.scale
        z[rows] = np.where((weights[rows] > 0)[:, None], scaled, 0.0)
    return z


def _aligned(shape: tuple[int, int], dtype: Any) -> np.ndarray:
    """An empty array that starts where JAX takes it over without a copy: at a multiple of 64 bytes."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = np.empty(size + 64, np.uint8)
    offset = -buffer.ctypes.data % 64
    return buffer[offset : offset + size].view(dtype).reshape(shape)


def bucket(n_rows: int, least: int = 16) -> int:
    """The next of sixteen sizes to an octave, in steps of at least `least`.

    So data that grow by a few rows need no new program: the price is a sixteenth more rows at most.
    """
    step = max(least, 1 << max(0, n_rows.bit_length() - 5))
    return -(-n_rows // step) * step


def to_host(mixture: Mixture) -> Mixture:
    """A mixture with NumPy leaves in float64."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), mixture)


def check_representable(mixture: Mixture, dtype: Any, names: Names | None = None) -> None:
    """Ask whether a mixture on the host, in the user's units, can be held in a dtype.

    Raises:
        ValueError: naming the column and the remedy.
    """
    deviations = mixture.covs.deviations()
    for mean, deviation in zip(mixture.means, np.broadcast_to(deviations, mixture.means.shape), strict=True):
        _check_columns(np.asarray(mean), deviation, np.zeros(len(deviation), bool), dtype, names)


def _check_columns(
    mean: np.ndarray, deviation: np.ndarray, constant: np.ndarray, dtype: Any, names: Names | None
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


def _blocks(x: np.ndarray, weights: np.ndarray, origin: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows about an origin in float64 with their weights, block by block."""
    for start in range(0, len(x), BLOCK_ROWS):
        weight = weights[start : start + BLOCK_ROWS]
        rows = x[start : start + BLOCK_ROWS].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            rows = np.where((weight > 0)[:, None], rows - origin, 0.0)
        yield rows, weight
