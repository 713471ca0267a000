"""The number of rows that weights count as: frequencies, or Kish's effective number."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.host.arrays import is_traced
from jaxgmm.host.cautions import caution
from jaxgmm.host.checks import as_number


class Count(NamedTuple):
    """The number of rows that the data count as. Both fields are NaN where a weight, or n, is invalid.

    Attributes:
        n: the number, ().
        unit: the number of rows per unit of weight, n / Σw, (); 1 for frequencies.
    """

    n: Any
    unit: Any


REACHED = 1 - 1e-4
"""Relative slack for rounding: weights scaled to an average of 1 have the number of rows as their sum."""


def count_of(
    weights: Any, n: Any = None, asked: str = "the criterion takes", remedy: str = "pass n= to say how many"
) -> Count:
    """The number of rows that weights count as: their sum for frequencies, else Kish's effective number; or `n`.

    Args:
        weights: (N,), non-negative, in NumPy or JAX.
        n: how many rows the data count as, or None.
        asked: what is asked for, and its verb, for the warning.
        remedy: what to do, for the warning.

    Returns:
        The count, in NumPy or JAX as the weights are. A warning says where concrete weights are not frequencies.

    Raises:
        TypeError: if n is no number.
        ValueError: if n is below 1 or not finite.
    """
    if n is not None and not is_traced(n):
        n = as_number(n, "n")
        if not 1 <= n < np.inf:
            raise ValueError(f"n must be finite and at least 1, a number of rows, not {n}")
    if not isinstance(weights, jax.Array):
        weights = weights.astype(np.float64)
    if isinstance(weights, jax.Array) or is_traced(n):
        found, total, n_rows = _counted_on_device(jnp.asarray(weights), n)
    else:
        with np.errstate(all="ignore"):
            found, total, n_rows = _counted(weights, n, np)
    if n is None and not is_traced(found) and abs(float(found.unit) - 1) > 1 - REACHED:
        caution(
            f"sample_weight sums to {float(total):.4g} over {int(n_rows)} rows, so it holds no counts: {asked} the "
            f"data as {float(found.n):.4g} rows, Kish's (Σw)² / Σw²; {remedy}",
        )
    return found


def _counted(weights: Any, n: Any, xp: Any) -> tuple[Count, Any, Any]:
    """The count, Σw, and the number of rows of positive weight."""
    known = (weights >= 0) & (weights < np.inf)
    weights = xp.where(known, weights, np.nan)
    largest = xp.max(weights, initial=0.0)
    # Squares of weights in any unit.
    share = weights / xp.where(largest > 0, largest, 1.0)
    square = xp.sum(share**2)
    kish = xp.sum(share) ** 2 / xp.where(square == 0, 1.0, square)
    total, n_rows = xp.sum(weights), xp.sum(weights > 0)
    frequencies = total >= REACHED * n_rows.astype(weights.dtype)
    if n is None:
        n, unit = xp.where(frequencies, total, kish), xp.where(frequencies, 1.0, kish / total)
    else:
        n = xp.asarray(n, weights.dtype)
        unit = n / total
    sound = (n >= REACHED) & (n < np.inf)
    return Count(xp.where(sound, n, np.nan), xp.where(sound, unit, np.nan)), total, n_rows


_counted_on_device = jax.jit(functools.partial(_counted, xp=jnp))
