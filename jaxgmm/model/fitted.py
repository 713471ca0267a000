"""Fits as arguments in place of mixtures, and the check that a table's columns are those of the fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from jaxgmm.host.arrays import Names, labels_of, names_of
from jaxgmm.model.checks import check_mixture, check_mixtures
from jaxgmm.model.mixture import Mixture


class Fitted(Protocol):
    """A fit as an argument in place of its mixture: a `FitResult`, or a candidate of a `Selection`."""

    @property
    def mixture(self) -> Mixture:
        """The fitted mixture."""
        ...

    @property
    def feature_names(self) -> Names | None:
        """Names of the columns, with which a table's are compared; None where they have none."""
        ...


_MOST = 12
"""The most names that a message lists."""


def is_fit(value: Any) -> bool:
    """Whether a value is a fit: a `FitResult`, or a candidate of a `Selection`."""
    return hasattr(type(value), "feature_names") and hasattr(type(value), "mixture")


def names_in(fitted: Any) -> Names | None:
    """The names of a fit's columns; None for a fit of an array, and for a mixture."""
    return fitted.feature_names if is_fit(fitted) else None


def as_mixture(fitted: Any, x: Any = None, name: str = "mixture") -> Mixture:
    """The mixture itself, or that of a fit.

    Args:
        fitted: the mixture or the fit.
        x: the rows that it is used with; a table's columns, or a row's entries, must have the names of the fit's.
        name: the name of the argument in messages.

    Raises:
        TypeError: if it is neither.
        ValueError: if it is a stack of mixtures, or x has other columns than the fit, or another order of them.
    """
    mixture = as_mixtures(fitted, name)
    check_mixture(mixture, name)
    check_names(x, names_in(fitted))
    return mixture


def as_mixtures(fitted: Any, name: str = "mixture") -> Mixture:
    """The mixture or stack of mixtures itself, or that of a fit.

    Raises:
        TypeError: if it is neither.
    """
    mixture = fitted.mixture if is_fit(fitted) else fitted
    check_mixtures(mixture, name)
    return mixture


def as_start(init: Any, x: Any) -> Any:
    """The mixture of a fit, checked as by `as_mixture`; any other start as it is."""
    return as_mixture(init, x, "init") if is_fit(init) else init


def check_names(x: Any, fitted: Names | None, name: str = "x") -> None:
    """Raise unless the columns of a table, or the entries of a row, have the names of a fit's, in their order.

    Raises:
        ValueError: if names or order differ; the message shows the remedy.
    """
    names = names_of(x)
    if names is None and fitted is not None and getattr(x, "ndim", 0) == 1 and len(x) == len(fitted):
        names = labels_of(x)
    if names is None or fitted is None or names == fitted:
        return
    chosen = str(list(fitted)) if len(fitted) <= _MOST else "list(result.feature_names)"
    remedy = f"{name}.select({chosen})" if hasattr(x, "column_names") else f"{name}[{chosen}]"
    missing = next((title for title in fitted if title not in names), None)
    rename = "" if missing is None else f"rename the one that is {missing!r}, and "
    found = f"{name} has the columns {_listed(names)}, but the mixture was fitted to {_listed(fitted)}"
    raise ValueError(f"{found}: {rename}pass {remedy}")


def check_same_names(p: Any, q: Any, first: str = "p", second: str = "q") -> None:
    """Raise unless two fits are of the same columns in the same order.

    Raises:
        ValueError: if both have names, and these differ.
    """
    here, there = names_in(p), names_in(q)
    if here is not None and there is not None and here != there:
        raise ValueError(f"{first} was fitted to the columns {_listed(here)}, but {second} to {_listed(there)}")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST
    return str(list(names)) if more <= 0 else f"[{str(list(names[:_MOST]))[1:-1]} and {more} more]"
