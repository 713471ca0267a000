"""Rows with gaps: values missing at random, which the likelihood integrates out."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np
from numpy.typing import ArrayLike

from jaxgmm.data.blurred import BlurredRows, default_weights, seen_in
from jaxgmm.data.conversion import converted
from jaxgmm.data.gaps import check_gaps, without_masks
from jaxgmm.data.intake import Intake, intake
from jaxgmm.data.layouts import Layout, layout_of
from jaxgmm.data.patterns import Measured
from jaxgmm.data.protocol import check_no_weights
from jaxgmm.data.scaling import bucket, measure, standardise
from jaxgmm.host.arrays import as_table, float_dtype, is_traced
from jaxgmm.host.weights import as_weights, check_enough_rows
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics.trees import register_dataclass

_LEAST_WORK = 1 << 15
"""N·D² below which rows are passed over one by one: it takes no longer, and less has to be compiled."""


@register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Incomplete(BlurredRows):
    """Rows of which values are missing at random: the likelihood is that of the observed values.

    A value is missing at random where whether it is missing may depend on values that were observed, but not on the
    missing value itself (Rubin 1976). The E-step is exact: the conditional mean and covariance of what is missing,
    given what was observed, enter the moments (Ghahramani & Jordan 1994). A row with no observed value counts for
    nothing.

    Attributes:
        x: rows, NaN where a value is missing, (N, D): an array, a masked array, or a table.
        weights: non-negative, (N,); None is 1 for each row.
        layout: the order of the rows by pattern, which `fit` and `run` find.
        measured: what is measured once for many passes.

    Example:
        >>> x = np.random.default_rng(0).normal([[0.0, 0.0], [4.0, 4.0]] * 50)
        >>> x[::5, 1] = np.nan
        >>> fitted = jaxgmm.fit(jax.random.key(1), jaxgmm.Incomplete(x), 2)
        >>> fitted.status.name
        'CONVERGED'
    """

    x: Any
    weights: Any = None
    layout: Layout | None = None
    measured: Measured | None = None
    noise: ClassVar[None] = None

    def __post_init__(self) -> None:
        """Give each row a weight of 1 where no weights are given."""
        if self.weights is None:
            object.__setattr__(self, "weights", default_weights(self.x))


def laid_out(x: np.ndarray) -> Layout | None:
    """The layout of rows (N, D), NaN where a value is missing; None where passes row by row do as well."""
    return layout_of(~np.isnan(x)) if x.size * x.shape[1] >= _LEAST_WORK else None


@converted.register
def _(x: Incomplete, mixture: Mixture, sample_weight: ArrayLike | None) -> tuple[Mixture, Incomplete]:
    mixture, rows, weights = seen_in(mixture, x)
    layout = laid_out(np.asarray(rows)) if x.layout is None and not is_traced(rows) else x.layout
    return mixture, Incomplete(rows, weights, layout, x.measured)


@intake.register
def _(x: Incomplete, sample_weight: ArrayLike | None, n_components: int, family: Family) -> Intake:
    check_no_weights(sample_weight)
    rows, names = as_table(without_masks(x.x))
    dtype = float_dtype(rows)
    weights = check_gaps(rows, as_weights(x.weights, len(rows)), names)
    n_counted = int(np.count_nonzero(weights))
    check_enough_rows(n_counted, n_components)
    units = measure(rows, weights, family, dtype, names)
    weight_unit = float(weights.sum() / n_counted)
    n_rows = bucket(len(rows))
    padded = np.zeros(n_rows, dtype)
    padded[: len(rows)] = weights / weight_unit
    z = standardise(rows, weights, units, dtype, n_rows)
    data = Incomplete(jax.device_put(z), jax.device_put(padded), laid_out(z))
    column_weights = weights @ ~np.isnan(rows) if rows.dtype.kind == "f" else np.full(rows.shape[1], weights.sum())
    return Intake(data, units, weight_unit, column_weights, n_counted, len(rows), dtype, names)
