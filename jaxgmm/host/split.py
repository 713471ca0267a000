"""Many data sets from a list, a mapping, or one table with a column of labels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxgmm.host.arrays import Table, as_numbers, as_table, float_dtype, is_traced, names_of


class Group(NamedTuple):
    """One data set of many.

    Attributes:
        label: its place in a list, its key in a mapping, or its rows' label.
        table: its rows.
        weights: of the rows, as the user gave them; None where none were given.
    """

    label: Any
    table: Table
    weights: Any


def groups_of(groups: Any, by: Any, sample_weight: Any) -> list[Group]:
    """The data sets, all in one dtype, with the same columns.

    Args:
        groups: a list or mapping of arrays or tables; or one of them, where `by` is given.
        by: the name of a table's column of labels, or labels of rows, (N,); None for a list or a mapping.
        sample_weight: weights in the same form as the rows; or None.

    Raises:
        TypeError: if they come in another form, or rows hold no real numbers.
        ValueError: if there are none, their columns differ, or labels or weights do not match the rows.
    """
    if is_traced(groups, by, sample_weight):
        raise TypeError("fit_groups works on the host, but an argument is traced: use jax.vmap of `jaxgmm.run`")
    parts = _listed(groups, sample_weight) if by is None else _split(groups, by, sample_weight)
    if not parts:
        raise ValueError("groups is empty: it must hold at least one data set")
    first = parts[0]
    for label, table, _ in parts:
        if table.rows.shape[1] != first.table.rows.shape[1] or table.names != first.table.names:
            raise ValueError(
                f"all groups must have the same columns, but group {label!r} has {_columns(table)} and group "
                f"{first.label!r} has {_columns(first.table)}"
            )
    dtype = float_dtype(*(group.table.rows for group in parts))
    return [
        group if float_dtype(group.table.rows) == dtype else group._replace(table=_cast(group.table, dtype))
        for group in parts
    ]


@contextlib.contextmanager
def named_errors(label: Any) -> Iterator[None]:
    """A context whose errors name the group that they are of."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"group {label!r}: {error}") from None


def _listed(groups: Any, sample_weight: Any) -> list[Group]:
    if isinstance(groups, Mapping):
        named = dict(groups)
    elif names_of(groups) is not None:
        raise TypeError("groups is one table: say which column holds the labels of its groups with by=")
    elif isinstance(groups, str) or not isinstance(groups, Iterable) or getattr(groups, "ndim", 3) == 2:
        raise TypeError(
            f"groups must be a list or a mapping of arrays or tables, not {type(groups).__name__}: for one array or "
            f"table of all rows, give the labels of its rows with by="
        )
    else:
        named = dict(enumerate(groups))
    weights = _matching(sample_weight, named, isinstance(groups, Mapping))
    parts = []
    for label, rows in named.items():
        with named_errors(label):
            parts.append(Group(label, as_table(rows), weights[label]))
    return parts


def _matching(sample_weight: Any, named: dict[Any, Any], mapped: bool) -> dict[Any, Any]:
    if sample_weight is None:
        return dict.fromkeys(named)
    if isinstance(sample_weight, Mapping) == mapped:
        given = dict(sample_weight) if mapped else dict(enumerate(sample_weight))
        if set(given) == set(named):
            return given
    form = "a mapping with the keys of the groups" if mapped else f"a list of {len(named)} arrays"
    raise ValueError(f"sample_weight must be {form}, one array of weights for each group")


def _split(whole: Any, by: Any, sample_weight: Any) -> list[Group]:
    if isinstance(whole, list | tuple | Mapping):
        raise TypeError(f"with by=, groups must be one array or table of all rows, not {type(whole).__name__}")
    names = names_of(whole)
    if isinstance(by, str):
        if names is None or by not in names:
            found = "x has no names" if names is None else f"the columns are {list(names)}"
            raise ValueError(f"by names the column {by!r}, but {found}")
        kept, labels = [name for name in names if name != by], np.asarray(whole[by])
        whole = whole.select(kept) if hasattr(whole, "column_names") else whole[kept]
    else:
        labels = np.asarray(by)
    table = as_table(whole)
    if labels.shape != (len(table.rows),):
        raise ValueError(f"by must name a column, or hold one label for each of {len(table.rows)} rows")
    weights = None if sample_weight is None else np.asarray(as_numbers(sample_weight, "sample_weight"))
    if weights is not None and weights.shape != labels.shape:
        raise ValueError(f"sample_weight must have shape {labels.shape}, one for each row, not {weights.shape}")
    distinct, places = _distinct(labels)
    order = np.argsort(places, kind="stable")
    parts = np.split(order, np.searchsorted(places[order], np.arange(1, len(distinct))))
    return [
        Group(label, Table(table.rows[rows], table.names), None if weights is None else weights[rows])
        for label, rows in zip(distinct, parts, strict=True)
    ]


def _distinct(labels: np.ndarray) -> tuple[list[Any], np.ndarray]:
    """The distinct labels, in their order, and the place of each row's among them."""
    missing = np.asarray([label is None or label != label for label in labels.tolist()])
    if missing.any():
        raise ValueError(f"by holds no label in row {int(np.argmax(missing))}: drop such rows, or label them")
    try:
        distinct, places = np.unique(labels, return_inverse=True)
    except TypeError:
        raise TypeError("by holds labels that cannot be sorted: make them of one type") from None
    return distinct.tolist(), places


def _columns(table: Table) -> str:
    return f"{table.rows.shape[1]} columns" if table.names is None else str(list(table.names))


def _cast(table: Table, dtype: Any) -> Table:
    return Table(table.rows.astype(np.dtype(dtype)), table.names)
