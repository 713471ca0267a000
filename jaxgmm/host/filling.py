"""Tables and arrays with their gaps filled, in the form in which they were given."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.host.arrays import names_of


def filled(given: Any, values: np.ndarray, missing: np.ndarray) -> Any:
    """The rows as they were given, with values (N, D) where they are missing, (N, D); see `impute`.

    A pandas or polars table keeps its names, index and the dtypes of its columns; a column of nullable integers with
    gaps becomes one of floats. Any other table, and anything else, becomes an array, a NumPy array in its own dtype.
    """
    if isinstance(given, np.ndarray):
        return values.astype(given.dtype if given.dtype.kind == "f" or not missing.any() else values.dtype)
    if isinstance(given, jax.Array) or names_of(given) is None or not hasattr(given, "columns"):
        return jnp.asarray(values)
    columns = {names_of(given)[j]: j for j in np.flatnonzero(missing.any(axis=0))}  # pyright: ignore[reportOptionalSubscript]
    if hasattr(given, "with_columns"):
        dtypes = {name: given[name].dtype for name in columns}
        made = [type(given[name])(name, values[:, j]) for name, j in columns.items()]
        return given.with_columns([s.cast(dtypes[s.name]) if dtypes[s.name].is_float() else s for s in made])
    table = given.copy()
    for name, j in columns.items():
        dtype = given[name].dtype
        floating = dtype if getattr(dtype, "kind", "") == "f" else np.float64
        table[name] = table[name].astype(floating).where(~missing[:, j], values[:, j]).astype(floating)
    return table
