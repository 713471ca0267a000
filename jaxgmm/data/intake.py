"""Intake: whatever `fit` is given, as data in the fit's units, with the way back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from jaxgmm.data.protocol import FIT, Data, check_no_weights, is_data, require
from jaxgmm.data.rows import Rows
from jaxgmm.data.scaling import bucket, standardise, weigh
from jaxgmm.host.arrays import Names, Table, as_table, float_dtype
from jaxgmm.host.weights import check_enough_rows
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.units import Units


class Intake(NamedTuple):
    """Data in the fit's units, and what leads back to the user's.

    Attributes:
        data: the data; rows of weight 0 may fill them up to a size that programs share.
        units: of the columns.
        weight_unit: the user's weight that counts as 1.
        column_weights: Σw of the rows in which each column was observed, in the user's weights, (D,).
        n_counted: number of rows of positive weight.
        n_given: number of rows that the user gave; those of `data` beyond are filled up.
        dtype: of the result.
        names: of the columns, where x has them.
    """

    data: Data
    units: Units
    weight_unit: float
    column_weights: np.ndarray
    n_counted: int
    n_given: int
    dtype: DTypeLike
    names: Names | None


@functools.singledispatch
def intake(x: Any, sample_weight: ArrayLike | None, n_components: int, family: Family) -> Intake:
    """What a fit is made of: rows scaled in float64, any other `Data` in the units that they come in.

    Args:
        x: an array, a table of numbers, `Rows`, or any other `Data`.
        sample_weight: of rows, (N,); None for data, which hold their own.
        n_components: K, no more than the rows that count.
        family: whose covariances are fitted: it decides whether columns are scaled apart.

    Raises:
        TypeError: if x or the weights hold no real numbers, or the data lack what a fit needs.
        ValueError: if the weights are bad, a row that counts is not finite, too few of them are, or a column cannot be
            represented in x's dtype.
    """
    if not is_data(x):
        return intake(as_table(x), sample_weight, n_components, family)
    require(x, *FIT)
    check_no_weights(sample_weight)
    columns = jax.device_get(x.columns())
    dtype, n_counted, n_features = columns.mean.dtype, int(columns.count), x.n_features
    check_enough_rows(n_counted, n_components)
    own = Units(np.zeros(n_features), np.ones(n_features))  # pyright: ignore[reportArgumentType]
    return Intake(x, own, 1.0, np.full(n_features, float(columns.mass)), n_counted, n_counted, dtype, None)


@intake.register
def _(x: Table, sample_weight: ArrayLike | None, n_components: int, family: Family) -> Intake:
    rows, names = x
    dtype = float_dtype(rows)
    weights, units = weigh(rows, sample_weight, n_components, family, dtype, names)
    return scaled(x, weights, units, np.full(rows.shape[1], weights.sum()), lambda z, held, _: Rows(z, held))


def scaled(
    table: Table,
    weights: np.ndarray,
    units: Units,
    column_weights: np.ndarray,
    made: Callable[[Any, Any, Units], Data],
) -> Intake:
    """Rows of a table, measured and checked, as what a fit is made of.

    Args:
        table: the rows, (N, D), and their names.
        weights: of the rows, (N,), in the user's unit.
        units: of the columns.
        column_weights: Σw of the rows in which each column was observed, (D,).
        made: makes data, a pytree, of scaled rows (n, D), their weights (n,), both in the fit's dtype, and the units;
            rows of weight 0 may fill them up.
    """
    rows, dtype = table.rows, float_dtype(table.rows)
    n_counted = int(np.count_nonzero(weights))
    # Weights of average 1 keep float32 away from its limits.
    weight_unit = float(weights.sum() / n_counted)
    n_rows = bucket(len(rows))
    padded = np.zeros(n_rows, dtype)
    padded[: len(rows)] = weights / weight_unit
    data = jax.tree.map(jax.device_put, made(standardise(rows, weights, units, dtype, n_rows), padded, units))
    return Intake(data, units, weight_unit, column_weights, n_counted, len(rows), dtype, table.names)


@intake.register
def _(x: Rows, sample_weight: ArrayLike | None, n_components: int, family: Family) -> Intake:
    check_no_weights(sample_weight)
    return intake(as_table(x.x), x.weights, n_components, family)
