"""Rows with gaps: values missing at random, which the likelihood integrates out."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from jaxgmm.data.blurred import BlurredRows
from jaxgmm.data.blurred_intake import default_weights, seen_in, taken
from jaxgmm.data.conversion import converted, ordered
from jaxgmm.data.gaps import without_masks
from jaxgmm.data.intake import Intake, intake
from jaxgmm.data.layouts import Layout, layout_of
from jaxgmm.data.patterns import Measured
from jaxgmm.data.protocol import check_no_weights, is_data
from jaxgmm.data.rows import Rows
from jaxgmm.host.arrays import as_table, is_traced
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.units import Units
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


@functools.singledispatch
def with_gaps(x: Any) -> Any:
    """Rows as data in which NaN is missing: arrays, tables and plain `Rows` as `Incomplete`, other data as they are."""
    return x if is_data(x) else Incomplete(x)


@with_gaps.register
def _(x: Rows) -> Any:
    return Incomplete(x.x, x.weights)


def laid_out(x: np.ndarray) -> Layout | None:
    """The layout of rows (N, D), NaN where a value is missing; None where passes row by row do as well."""
    return layout_of(~np.isnan(x)) if x.size * x.shape[1] >= _LEAST_WORK else None


@converted.register
def _(x: Incomplete, mixture: Mixture, sample_weight: ArrayLike | None) -> tuple[Mixture, Incomplete]:
    mixture, rows, weights = seen_in(mixture, x)
    return mixture, Incomplete(rows, weights, x.layout, x.measured)


@ordered.register
def _(data: Incomplete) -> Incomplete:
    known = data.layout is not None or is_traced(data.x)
    return data if known else dataclasses.replace(data, layout=laid_out(np.asarray(data.x)))


@intake.register
def _(x: Incomplete, sample_weight: ArrayLike | None, n_components: int, family: Family) -> Intake:
    check_no_weights(sample_weight)
    table = as_table(without_masks(x.x))

    def made(z: np.ndarray, weights: np.ndarray, units: Units) -> Incomplete:
        return Incomplete(z, weights, laid_out(z))

    return taken(table, x.weights, n_components, family, made)
