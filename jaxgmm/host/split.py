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
    if is_traced(*(list(each.values()) if isinstance(each, Mapping) else each for each in (groups, by, sample_weight))):
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
    except (TypeError, ValueError, RuntimeError) as error:
        kind = next(kind for kind in (TypeError, ValueError, RuntimeError) if isinstance(error, kind))
        raise kind(f"group {label!r}: {error}") from error


def _listed(groups: Any, sample_weight: Any) -> list[Group]:
    if isinstance(groups, Mapping):
        named = dict(groups)
    elif names_of(groups) is not None:
        raise TypeError("groups is one table: say which column holds the labels of its groups with by=")
    elif hasattr(groups, "get_group"):
        raise TypeError("groups is a table that is grouped already: pass the table, and the column's name as by=")
    elif isinstance(groups, str) or not isinstance(groups, Iterable) or getattr(groups, "ndim", 3) == 2:
        raise TypeError(
            f"groups must be a list or a mapping of arrays or tables, not {type(groups).__name__}: for one array or "
            f"table of all rows, give the labels of its rows with by="
        )
    else:
        named = dict(enumerate(groups))
    if any(isinstance(rows, tuple) and len(rows) == 2 and names_of(rows[1]) is not None for rows in named.values()):
        raise TypeError("groups holds pairs of a label and a table: pass dict(groups)")
    weights = _matching(sample_weight, named, isinstance(groups, Mapping))
    parts = []
    for label, rows in named.items():
        with named_errors(label):
            if hasattr(rows, "moments"):
                raise TypeError(
                    f"groups must be arrays or tables, but one is {type(rows).__name__}: fit such data alone"
                )
            parts.append(Group(label, as_table(rows), weights[label]))
    return parts


def _matching(sample_weight: Any, named: dict[Any, Any], mapped: bool) -> dict[Any, Any]:
    if sample_weight is None:
        return dict.fromkeys(named)
    if isinstance(sample_weight, Mapping if mapped else Iterable):
        given = dict(sample_weight) if mapped else dict(enumerate(sample_weight))
        if set(given) == set(named):
            return given
    form = "a mapping with the keys of the groups" if mapped else f"a list of {len(named)} arrays"
    raise ValueError(f"sample_weight must be {form}, one array of weights for each group")


def _split(whole: Any, by: Any, sample_weight: Any) -> list[Group]:
    if isinstance(whole, list | tuple | Mapping):
        raise TypeError(f"with by=, groups must be one array or table of all rows, not {type(whole).__name__}")
    if hasattr(whole, "collect") and not hasattr(whole, "__array__"):
        as_table(whole)
    if np.ndim(by) == 0:
        whole, by = _taken_out(whole, by)
    table, labels = as_table(whole), _labels(by)
    if labels.shape != (len(table.rows),):
        raise ValueError(f"by must name a column, or hold one label for each of {len(table.rows)} rows")
    weights = None if sample_weight is None else np.asarray(as_numbers(sample_weight, "sample_weight"))
    if weights is not None and weights.shape != labels.shape:
        raise ValueError(f"sample_weight must have shape {labels.shape}, one for each row, not {weights.shape}")
    distinct, places = _distinct(labels)
    return [
        Group(label, Table(table.rows[rows], table.names), None if weights is None else weights[rows])
        for label, rows in zip(distinct, rows_of_each(places, len(distinct)), strict=True)
    ]


def rows_of_each(labels: np.ndarray, n_labels: int) -> list[np.ndarray]:
    """The rows, in their order, with each of the labels 0 to n − 1, from the label of each row, (N,)."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.searchsorted(labels[order], np.arange(1, n_labels)))


def _taken_out(table: Any, by: Any) -> tuple[Any, Any]:
    """A table without its column of labels, and that column."""
    names = list(getattr(table, "column_names", getattr(table, "columns", ())))
    places = [place for place, name in enumerate(names) if name == by]
    if len(places) != 1:
        found = f"the columns are {names}" if names else "x has no names"
        raise ValueError(f"by names the column {by!r}, of which there must be one, but {found}")
    kept = [place for place in range(len(names)) if place != places[0]]
    if hasattr(table, "iloc"):  # whose columns may have equal names
        return table.iloc[:, kept], table.iloc[:, places[0]]
    kept = [names[place] for place in kept]
    return table.select(kept) if hasattr(table, "column_names") else table[kept], table[by]


def _labels(by: Any) -> np.ndarray:
    """The labels of the rows; those of a list keep their types, and masked ones are None."""
    if isinstance(by, list | tuple):
        labels = np.empty(len(by), object)
        labels[:] = by
        return labels
    labels = np.asarray(by)
    if isinstance(by, np.ma.MaskedArray):
        labels = labels.astype(object)
        labels[np.ma.getmaskarray(by)] = None
    return labels


def _distinct(labels: np.ndarray) -> tuple[list[Any], np.ndarray]:
    """The distinct labels, in their order, and the place of each row's among them."""
    missing = [row for row, label in enumerate(labels) if _is_missing(label)]
    if missing:
        raise ValueError(f"by holds no label in row {missing[0]}: drop such rows, or label them")
    try:
        distinct, places = np.unique(labels, return_inverse=True)
    except TypeError:
        raise TypeError("by holds labels that cannot be sorted: make them of one type") from None
    # As Python's own, but for times, of which these would be numbers.
    return list(distinct) if distinct.dtype.kind in "mM" else distinct.tolist(), places


def _is_missing(label: Any) -> bool:
    try:
        return label is None or bool(label != label)
    except TypeError:  # pandas.NA
        return True


def _columns(table: Table) -> str:
    return f"{table.rows.shape[1]} columns" if table.names is None else str(list(table.names))


def _cast(table: Table, dtype: Any) -> Table:
    return Table(table.rows.astype(np.dtype(dtype)), table.names)
