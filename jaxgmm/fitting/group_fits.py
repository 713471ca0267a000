"""The fits of many data sets, as a stack and one by one."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator
from typing import Any, overload

import jax
import numpy as np

from jaxgmm.fitting.results import FitResult, Status
from jaxgmm.host.arrays import Names
from jaxgmm.host.html import html_table
from jaxgmm.model.mixture import Mixture

_HEAD = ("group", "rows", "log-lik.", "iterations", "status")
_MOST_ROWS = 30
"""The most groups that a table shows; of the rest the number is given."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class GroupFits:
    """The fits of many data sets: a sequence of `FitResult`, in the order of the groups.

    Attributes:
        labels: of the groups: their places in a list, keys of a mapping, or labels of rows.
        n_rows: number of rows of each, (G,).
        fits: all fits as one, whose arrays have a leading axis G; its `status` is an int32 array.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> groups = {"a": rng.normal(size=(80, 2)), "b": rng.normal(size=(60, 2))}
        >>> fitted = jaxgmm.fit_groups(jax.random.key(0), groups, 1)
        >>> len(fitted), fitted["b"].mixture.means.shape, fitted.mixture.means.shape
        (2, (1, 2), (2, 1, 2))
    """

    labels: tuple[Any, ...]
    n_rows: np.ndarray
    fits: FitResult

    @property
    def mixture(self) -> Mixture:
        """The fitted mixtures as a stack: functions of a mixture take it under `jax.vmap`."""
        return self.fits.mixture

    @property
    def status(self) -> np.ndarray:
        """`Status` of each fit, (G,)."""
        return np.asarray(self.fits.status)

    @property
    def feature_names(self) -> Names | None:
        """Names of the columns, where the groups were tables that have them."""
        return self.fits.feature_names

    def __len__(self) -> int:
        """The number of groups."""
        return len(self.labels)

    def __iter__(self) -> Iterator[FitResult]:
        """The fits, one after another."""
        return (self[place] for place in range(len(self)))

    @overload
    def __getitem__(self, group: slice) -> GroupFits: ...

    @overload
    def __getitem__(self, group: Any) -> FitResult: ...

    def __getitem__(self, group: Any) -> FitResult | GroupFits:
        """The fit of a group: by its place where `group` is an integer, else by its label; or some groups, by a slice.

        Raises:
            TypeError: if it is a list or an array.
            IndexError: if there is no such place.
            KeyError: if there is no such label.
        """
        if isinstance(group, slice):
            fits = jax.tree.map(lambda leaf: leaf[group], self.fits)
            return GroupFits(self.labels[group], self.n_rows[group], fits)
        if isinstance(group, list) or getattr(group, "ndim", 0):
            raise TypeError("a fit is taken by one place or label, and several by a slice")
        if isinstance(group, bool | np.bool_):
            return self.of(group)
        try:
            place = operator.index(group)
        except TypeError:
            return self.of(group)
        if not -len(self) <= place < len(self):
            raise IndexError(f"there are {len(self)} groups, and none at place {place}")
        fit = jax.tree.map(lambda leaf: leaf[place], self.fits)
        return fit._replace(status=Status(int(fit.status)))

    def of(self, label: Any) -> FitResult:
        """The fit of the group with a label, which may be an integer.

        Raises:
            KeyError: if there is no such group.
        """
        if label not in self.labels:
            raise KeyError(f"no group is labelled {label!r}")
        return self[self.labels.index(label)]

    def __str__(self) -> str:
        """A table with a line for each group."""
        rows = [_HEAD, *self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
        lines = [
            "  ".join(f"{text:>{w}}" for text, w in zip(row[:-1], widths, strict=False)) + f"  {row[-1]}"
            for row in rows
        ]
        hidden = len(self) - len(rows) + 1
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], *([f"and {hidden} more"] if hidden > 0 else [])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The table in HTML, for notebooks."""
        return html_table(f"{len(self)} groups, {self.mixture!r}", _HEAD, self._rows(), n_rows=len(self))

    def _rows(self) -> list[tuple[str, ...]]:
        value, n_iter = np.asarray(self.fits.log_likelihood), np.asarray(self.fits.n_iter)
        return [
            (str(self.labels[g]), str(self.n_rows[g]), f"{value[g]:.2f}", str(n_iter[g]), _name(self.status[g]))
            for g in range(min(len(self), _MOST_ROWS))
        ]


def _name(status: Any) -> str:
    return Status(int(status)).name.lower()
