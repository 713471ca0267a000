"""Rows in buckets, so that few programs are compiled."""

from __future__ import annotations

import numpy as np

from jaxgmm import scaling

_FEWEST = 64
"""Data of fewer rows share a program: scikit-learn's users predict a handful as often as a thousand."""


def bucket(n_rows: int) -> int:
    """The bucket that `fit` puts so many rows in; at least 64."""
    return scaling.bucket(n_rows, _FEWEST)


def in_bucket(array: np.ndarray) -> np.ndarray:
    """Rows (N, D) or weights (N,) with zeros up to the bucket's size."""
    spare = bucket(len(array)) - len(array)
    return np.pad(array, [(0, spare)] + [(0, 0)] * (array.ndim - 1)) if spare else array
