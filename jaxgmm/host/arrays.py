"""Arrays and tables of any library as arrays of real numbers, and the names of their columns."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import DTypeLike

from jaxgmm.host.shapes import as_one_batch, check_rows, holds_batches


@jax.tree_util.register_static
class Names(tuple[str, ...]):
    """Names of the columns, in their order; static in a pytree."""

    __slots__ = ()


class Table(NamedTuple):
    """Rows on the host, and the names of their columns.

    Attributes:
        rows: (N, D), in the real dtype in which they were given.
        names: names of the columns, or None.
    """

    rows: np.ndarray
    names: Names | None


def names_of(x: Any) -> Names | None:
    """The names of a table's columns; None for an array, or where one of the names is not text."""
    if isinstance(x, Table):
        return x.names
    columns: Any = getattr(x, "column_names", None)  # pyarrow, whose `columns` are the data
    return _as_names(getattr(x, "columns", None) if columns is None else columns)


def labels_of(row: Any) -> Names | None:
    """The names in a row of a table, a pandas Series; None where `names_of` gives None."""
    return _as_names(getattr(row, "index", None))


def _as_names(columns: Any) -> Names | None:
    try:
        names = Names(columns)
    except TypeError:
        return None
    return names if names and all(isinstance(name, str) for name in names) else None


def column_label(column: int, names: Names | None = None) -> str:
    """The text by which messages refer to a column: its place, and its name where it has one."""
    return f"column {column}" if names is None else f"column {column} ({names[column]!r})"


def is_traced(*values: Any) -> bool:
    """Whether any leaf is a JAX tracer, which has no value yet."""
    leaves = jax.tree.leaves(values, is_leaf=lambda value: isinstance(value, Iterator))  # of which JAX would warn
    return any(isinstance(leaf, Tracer) for leaf in leaves)


def as_numbers(value: Any, name: str) -> np.ndarray | Array:
    """An array of floats or integers: JAX arrays as they are, everything else through NumPy.

    Raises:
        TypeError: if it holds no real numbers, or is sparse or masked; the message names a table's column.
    """
    if isinstance(value, jax.Array):
        if _kind(value.dtype) not in _NUMBERS:
            raise TypeError(_no_numbers(name, value, value))
        return value
    if hasattr(value, "nnz") and hasattr(value, "toarray"):
        raise TypeError(f"{name} is a sparse matrix; pass {name}.toarray()")
    if holds_masked(value):
        what = "a masked array" if isinstance(value, np.ma.MaskedArray) else "a list of masked arrays"
        raise TypeError(f"{name} is {what} with masked entries; drop those rows or fill them first")
    if isinstance(value, np.ma.MaskedArray):
        value = value.data
    if hasattr(value, "collect") and not hasattr(value, "__array__"):
        raise TypeError(f"{name} is a table that is not computed yet; pass {name}.collect()")
    _check_dtypes(value, name)
    array = _through_numpy(value, name)
    if array.dtype == object and hasattr(value, "to_numpy"):
        array = _from_nullable(value, array)
    if _kind(array.dtype) not in _NUMBERS:
        _name_the_column(value, name)
        raise TypeError(_no_numbers(name, value, array))
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def holds_masked(value: Any) -> bool:
    """Whether entries of an array, or of a list's rows, are masked."""
    arrays = value if isinstance(value, list | tuple) else (value,)
    return any(isinstance(array, np.ma.MaskedArray) and bool(np.ma.getmaskarray(array).any()) for array in arrays)


def as_floats(value: Any, name: str, *like: Any) -> Array:
    """The value as a JAX array in the widest floating dtype among it and `like`; never narrower than float32."""
    array = as_numbers(value, name)
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused as such
        return jnp.asarray(array, float_dtype(array, *like))


def float_dtype(*arrays: Any) -> Any:
    """float64 if an array has it and JAX allows it, else float32."""
    wide = any(array.dtype == np.float64 for array in arrays)
    return jnp.float64 if wide and jax.config.jax_enable_x64 else jnp.float32  # pyright: ignore


_NUMBERS = "fiub"

_NO_NUMBER = (
    *(str, bytes, complex, np.complexfloating),
    *(datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64),
)
"""Kinds of values that a conversion would silently make numbers of, or fail on with another message."""


def as_table(x: Any) -> Table:
    """Rows on the host with the names of their columns.

    Raises:
        TypeError: if x holds no real numbers.
        ValueError: for an empty array or one without two axes.
    """
    if is_traced(x):
        raise TypeError("x is being traced by JAX: use the pure door `jaxgmm.run` under jit, vmap or jvp")
    rows = np.asarray(as_numbers(x, "x"))
    check_rows(rows, x)
    return Table(rows, names_of(x))


_HINTS = {
    "O": ": objects; convert to float first",
    "U": ": strings; convert to float first",
    "S": ": strings; convert to float first",
    "T": ": strings; convert to float first",
    "M": ": dates; convert to numbers first, e.g. days since an origin",
    "m": ": durations; convert to numbers first, e.g. divide by one day",
    "c": ": complex; pass real and imaginary parts as columns",
    "V": ": records; convert them with numpy.lib.recfunctions.structured_to_unstructured first",
    "K": ": keys; draw numbers with them first",
}


def _no_numbers(name: str, value: Any, array: np.ndarray | Array) -> str:
    kind = _kind(array.dtype)
    alone = kind == "O" and array.ndim == 0
    hint = f": it is a {type(value).__name__}, not an array or a table" if alone else _HINTS.get(kind, "")
    return f"{name} must hold real numbers, but has dtype {array.dtype}{hint}"


def _through_numpy(value: Any, name: str) -> np.ndarray:
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except Exception as error:  # each library of tables raises its own
        if holds_batches(value):
            raise TypeError(f"{name} must have shape (N, D): {as_one_batch(value, name)}") from None
        raise TypeError(f"{name}, a {type(value).__name__}, cannot be read as an array of numbers: {error}") from None


def _titles(table: Any) -> Names | tuple[()]:
    """The keys of a table's columns; empty where two have one name, or for other values."""
    names = names_of(table)
    return () if names is None or len(set(names)) < len(names) else names


def _check_dtypes(table: Any, name: str) -> None:
    """Raise unless a table's columns of every dtype hold numbers; NumPy would cast dates among them.

    One column of each dtype is checked, without its rows, so that wide tables take no longer.
    """
    titles = _titles(table)
    if not titles:
        return
    dtypes = getattr(table, "dtypes", None)
    dtypes = getattr(getattr(table, "schema", None), "types", ()) if dtypes is None else dtypes  # pyarrow has a schema
    first: dict[Any, int] = {}
    for column, dtype in enumerate(dtypes):
        first.setdefault(dtype, column)
    for column in first.values() if len(first) > 1 else ():
        _check_column(table[titles[column]][:0], column, titles, name)


def _name_the_column(table: Any, name: str) -> None:
    """Raise for the first column of a table that holds no numbers."""
    titles = _titles(table)
    for column, title in enumerate(titles):
        _check_column(table[title], column, titles, name)


def _check_column(values: Any, column: int, names: Any, name: str) -> None:
    try:
        as_numbers(values, name)
    except TypeError as error:
        found = str(error).partition("but has dtype ")[2] or getattr(values, "dtype", "unknown")
        raise TypeError(
            f"{column_label(column, names)} of {name} must hold real numbers, but has dtype {found}; "
            f"or leave the column out"
        ) from None


def _kind(dtype: DTypeLike) -> str:
    if jnp.issubdtype(dtype, jax.dtypes.extended):
        return "K"
    if jnp.issubdtype(dtype, jnp.floating):
        return "f"
    kind = np.dtype(dtype).kind
    return "i" if kind == "V" and jnp.issubdtype(dtype, jnp.integer) else kind


def _from_nullable(table: Any, array: np.ndarray) -> np.ndarray:
    """An array of pandas' nullable numbers, which arrive as objects, as floats; other arrays as they are."""
    if any(isinstance(entry, _NO_NUMBER) for entry in array.ravel()):
        return array
    try:
        return table.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        return array
