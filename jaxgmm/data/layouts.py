"""The layout of incomplete rows: sorted, on the host, by which of their values were observed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxgmm.data.scaling import bucket

_OVERHEAD = 8
"""The rows that a segment costs beside its own."""

_MOST_PADDED = 4
"""How many times the rows the segments may hold; beyond, rows are passed over one by one."""

_MOST_ENTRIES = 1 << 18
"""The most entries of the covariances of all patterns: beyond, rows are passed over one by one, in flat memory."""


class Layout(NamedTuple):
    """Rows in S segments of C, each of one of G patterns.

    Attributes:
        rows: the index of each row, (S, C).
        used: whether a place holds a row, (S, C).
        pattern: of each segment, ascending, (S,).
        observed: whether a pattern observes each column, (G, D).
    """

    rows: Any
    used: Any
    pattern: Any
    observed: Any


def layout_of(observed: np.ndarray) -> Layout | None:
    """The layout of rows of which values were observed (N, D), on the host; None where too few rows share a pattern."""
    n_rows, n_features = observed.shape
    packed = np.packbits(observed, axis=1)
    keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    sizes = 1 << np.arange(11)
    n_segments = (-(-counts[:, None] // sizes)).sum(axis=0)
    cost = n_segments * (sizes + _OVERHEAD)
    size = int(sizes[cost.argmin()])
    if cost.min() > _MOST_PADDED * max(n_rows, 256) or len(counts) * n_features**2 > _MOST_ENTRIES:
        return None
    of_each = -(-counts // size)
    pattern = np.repeat(np.arange(len(counts)), of_each)
    n_kept, n_patterns = bucket(len(pattern)), bucket(len(counts), 8)
    rows, used = np.zeros(n_kept * size, np.int32), np.zeros(n_kept * size, bool)
    begins = np.concatenate([[0], np.cumsum(of_each * size)[:-1]])
    order = np.argsort(inverse.ravel(), kind="stable")
    place = np.repeat(begins - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(n_rows)
    rows[place], used[place] = order, True
    spare = n_patterns - len(counts)
    return Layout(
        rows.reshape(n_kept, size),
        used.reshape(n_kept, size),
        np.pad(pattern, (0, n_kept - len(pattern)), constant_values=len(counts) - 1).astype(np.int32),
        np.pad(observed[first], ((0, spare), (0, 0)), constant_values=True),
    )
