"""The check that rows have shape (N, D), and remedies for single columns and for batches."""

from __future__ import annotations

from typing import Any

import numpy as np


def check_rows(array: Any, given: Any = None, name: str = "x") -> None:
    """Raise unless an array has rows (N, D) with N, D ≥ 1.

    Args:
        array: the array.
        given: the value that the user passed, to which the remedy refers; None is the array.
        name: the name of the argument in messages.

    Raises:
        ValueError: if the shape is another.
    """
    given = array if given is None else given
    if array.ndim == 1:
        row = f", a single row {name}.reshape(1, -1)" if hasattr(given, "reshape") else ""
        raise ValueError(f"{name} must have shape (N, D), not {array.shape}: {as_one_column(given, name)}{row}")
    if array.ndim == 3 and isinstance(given, list | tuple):
        raise ValueError(f"{name} must have shape (N, D), not {array.shape}: {as_one_batch(given, name)}")
    if array.ndim != 2:
        raise ValueError(f"{name} must have shape (N, D), not {array.shape}")
    if 0 in array.shape:
        raise ValueError(f"{name} is empty: its shape is {array.shape}")


def as_one_column(given: Any, name: str) -> str:
    """The remedy, as code, that makes rows of a vector or of one column of a table."""
    if hasattr(given, "to_frame"):
        return f"a single column is {name}.to_frame()"
    reshaped = f"{name}.reshape(-1, 1)" if hasattr(given, "reshape") else f"numpy.reshape({name}, (-1, 1))"
    return f"a single column is {reshaped}"


def as_one_batch(given: Any, name: str) -> str:
    """The remedy, as code, that makes rows of a batch of arrays of rows."""
    return f"it is a {type(given).__name__} of {len(given)} batches of rows, pass numpy.concatenate({name})"


def holds_batches(value: Any) -> bool:
    """Whether a value is a list of batches of rows, each with two axes."""
    return isinstance(value, list | tuple) and len(value) > 0 and all(_n_axes(entry) == 2 for entry in value)


def _n_axes(entry: Any) -> int:
    try:
        return len(entry.shape) if hasattr(entry, "shape") else np.ndim(entry)
    except ValueError:  # ragged
        return 0
