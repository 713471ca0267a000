"""Checks of arguments on the host: types, counts, keys, tolerances, finite rows.

Shapes are checked for every argument, values only for concrete ones.
"""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.host.arrays import Names, column_label, is_traced

P = ParamSpec("P")
R = TypeVar("R")

BLOCK_ROWS = 1 << 16
"""The number of rows that a check handles at once, so that it does not copy large data."""


def as_key(key: Any) -> Array:
    """The key itself, if it is a typed PRNG key.

    Raises:
        TypeError: for anything else, an integer seed or a raw `PRNGKey` array included.
    """
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape:
            raise TypeError(f"key must be a single key, not an array of keys with shape {key.shape}")
        return key
    # A seed or a raw key is meant for one; anything else is the argument that should come second.
    meant = key is None or isinstance(key, int | np.integer) or getattr(key, "dtype", None) == np.uint32
    hint = "" if meant else ": it comes first, and is missing"
    raise TypeError(f"key must be a typed key such as jax.random.key(0), not {_described(key)}{hint}")


def keyed(function: Callable[P, R]) -> Callable[P, R]:
    """The function, whose first argument is a key, with an error that says so where a call leaves the key out."""

    @functools.wraps(function)
    def asked(*args: P.args, **kwargs: P.kwargs) -> R:
        if args:
            as_key(args[0])
        return function(*args, **kwargs)

    return asked


def as_count(value: Any, name: str, least: int = 1) -> int:
    """The value as an int of at least `least`.

    Raises:
        TypeError: if it is not an integer (True, 2.0 and "2" are not).
        ValueError: if it is too small.
    """
    if isinstance(value, bool | np.bool_) or isinstance(value, str):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {value!r}") from None
    if count < least:
        raise ValueError(f"{name} must be at least {least}, not {count}")
    return count


def as_tolerance(tol: Any) -> Any:
    """The value as a non-negative number; a tracer as it is.

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is negative or NaN.
    """
    return tol if is_traced(tol) else _as_measure(tol, "tol")


_process: int | None = None


def check_process() -> None:
    """Raise in a process forked after a fit: the child lacks JAX's threads, and would wait for them for ever.

    Raises:
        RuntimeError: in a child of a process that had already fitted.
    """
    global _process
    _process = os.getpid() if _process is None else _process
    if _process != os.getpid():
        raise RuntimeError(
            "this process was forked from one that had used JAX, whose threads did not come along: start it with "
            'multiprocessing.get_context("spawn"), or use joblib, which does not fork'
        )


def as_callback(callback: Any) -> Any:
    """The callback itself, if it is a function or None.

    Raises:
        TypeError: if it cannot be called.
    """
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of a jaxgmm.Report, not {callback!r}")
    return callback


def check_climber(algorithm: Any, prior: Any) -> None:
    """Raise unless two values are an algorithm and a prior, or None.

    Raises:
        TypeError: if they are something else, a class in place of an instance included.
        ValueError: if the order of an `Accelerated` is invalid.
    """
    if isinstance(algorithm, type) or not (hasattr(algorithm, "init") and hasattr(algorithm, "step")):
        raise TypeError(f"algorithm must be EM(), Accelerated(EM()) or Gradient(optimizer), not {algorithm!r}")
    optimizer = getattr(algorithm, "optimizer", None)
    if hasattr(algorithm, "optimizer") and not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"Gradient needs an optax optimiser such as optax.lbfgs(), not {optimizer!r}")
    if hasattr(algorithm, "algorithm"):
        inner = algorithm.algorithm
        check_climber(inner, prior)
        # Other wrappers take any algorithm.
        if hasattr(algorithm, "order"):
            if not hasattr(inner, "visit"):
                raise TypeError(f"Accelerated needs EM(), not {inner!r}")
            as_count(algorithm.order, "order")
    check_prior(prior)


def check_prior(prior: Any) -> None:
    """Raise unless a value is a prior, or None.

    Raises:
        TypeError: if it is something else, a class in place of an instance included, or its strength is no number
            or `floor_is_fine` no boolean.
        ValueError: if its strength is negative or not finite.
    """
    if prior is not None and (isinstance(prior, type) or not hasattr(prior, "prepare")):
        raise TypeError(f"prior must be Ridge() or None, not {prior!r}")
    strength = getattr(prior, "strength", None)
    if strength is not None and not is_traced(strength) and _as_measure(strength, "strength of the prior") == np.inf:
        raise ValueError("strength of the prior must be finite, not inf")
    floor_is_fine = getattr(prior, "floor_is_fine", False)
    if not isinstance(floor_is_fine, bool):
        raise TypeError(f"floor_is_fine of the prior must be True or False, not {floor_is_fine!r}")


def check_finite(x: np.ndarray, weights: np.ndarray, names: Names | None = None) -> None:
    """Raise unless every row of positive weight is finite.

    Raises:
        ValueError: the message names the first row and column with NaN or ±inf.
    """
    if x.dtype.kind in "iub":
        return
    for start in range(0, len(x), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        bad = ~np.isfinite(x[rows]) & (weights[rows] > 0)[:, None]
        if bad.any():
            row, column = np.argwhere(bad)[0]
            values = "x" if names is None else "numpy.asarray(x)"
            gaps = (
                "; where NaN is a missing value, pass jaxgmm.Incomplete(x)" if np.isnan(x[start + row, column]) else ""
            )
            raise ValueError(
                f"x holds {x[start + row, column]} in row {start + row}, {column_label(int(column), names)}: drop such "
                f"rows with x[numpy.isfinite({values}).all(axis=1)], or give them sample_weight 0{gaps}"
            )


def as_number(value: Any, name: str) -> float:
    """The value as a number, NaN and infinity included.

    Raises:
        TypeError: if it is not a number; text is not.
    """
    try:
        return float(value if not isinstance(value, str | bytes) else None)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, not {value!r}") from None


def _as_measure(value: Any, name: str) -> float:
    number = as_number(value, name)
    if not number >= 0:
        raise ValueError(f"{name} must be at least 0, not {number}")
    return number


def named(value: Any) -> str:
    """The text by which messages refer to a value: its type, or, if it is a class, the class."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray | jax.Array):
        return f"an array of {value.dtype} with shape {value.shape}"
    if isinstance(value, list | tuple) or hasattr(value, "columns"):
        return f"a {type(value).__name__}"
    return repr(value)
