"""Rows in buckets, so that few programs are compiled."""

from __future__ import annotations

import numpy as np

_FEWEST = 64
"""Data of fewer rows share a program: scikit-learn's users predict a handful as often as a thousand."""


def bucket(n_rows: int) -> int:
    """The next of sixteen sizes to an octave, as in `fit`; at least 64."""
    step = max(_FEWEST, 1 << max(0, n_rows.bit_length() - 5))
    return -(-n_rows // step) * step


def in_bucket(array: np.ndarray) -> np.ndarray:
    """Rows (N, D) or weights (N,) with zeros up to the bucket's size."""
    spare = bucket(len(array)) - len(array)
    return np.pad(array, [(0, spare)] + [(0, 0)] * (array.ndim - 1)) if spare else array
