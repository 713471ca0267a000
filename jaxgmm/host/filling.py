"""Tables and arrays with their gaps filled, in the form in which they were given."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np


def filled(given: Any, values: np.ndarray, missing: np.ndarray) -> Any:
    """The rows as they were given, with values (N, D) where they are missing, (N, D); see `impute`.

    A pandas or polars table keeps its names, its index and the dtypes of its columns; a column of integers with gaps
    becomes one of floats. A NumPy array keeps its dtype in the same way. Anything else becomes a JAX array.
    """
    if isinstance(given, np.ndarray):
        kept = np.asarray(given)
        kept = kept if kept.dtype.kind == "f" or not missing.any() else kept.astype(np.float64)
        return np.where(missing, values, kept).astype(kept.dtype)
    columns = np.flatnonzero(missing.any(axis=0))
    if hasattr(given, "iloc") and hasattr(given, "isetitem"):
        table = given.copy()
        for j in columns:
            held = table.iloc[:, j]
            dtype = held.dtype if getattr(held.dtype, "kind", "") == "f" else np.float64
            table.isetitem(j, held.astype(dtype).where(~missing[:, j], values[:, j]).astype(dtype))
        return table
    if hasattr(given, "with_columns") and hasattr(given, "to_series"):
        made = []
        for j in columns:
            held = given.to_series(int(j))
            whole = type(held)(held.name, np.where(missing[:, j], values[:, j].astype(np.float64), _floats(held)))
            made.append(whole.cast(held.dtype) if held.dtype.is_float() else whole)
        return given.with_columns(made)
    return jnp.asarray(values)


def _floats(series: Any) -> np.ndarray:
    """A polars column in NumPy, NaN where it is null."""
    return np.asarray(series.to_numpy(), np.float64)
