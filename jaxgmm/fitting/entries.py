"""Data sets whose restarts take turns in a pool: their rows, their starts, and where each climb has come to."""

from __future__ import annotations

import functools
from typing import Any, cast

import jax
import numpy as np

from jaxgmm.data.pooled import SEGMENT_ROWS
from jaxgmm.data.rows import Rows
from jaxgmm.fitting.restarts import Outcome
from jaxgmm.fitting.results import FitResult
from jaxgmm.fitting.tasks import Task
from jaxgmm.model.columns import Columns


class Entry:
    """A data set whose restarts climb.

    Attributes:
        task: what is asked for.
        rows: its rows, on the host.
        unfinished: whether each restart goes on, (R,).
        given_up: whether each restart was given up for better ones, (R,).
        penalty: the prior, prepared for the rows, once a restart has climbed.
    """

    def __init__(self, task: Task):
        """An entry of which no restart has begun."""
        self.task, self.penalty = task, cast(Any, None)
        self.rows = jax.device_get(cast(Rows, task.taken.data))
        self.unfinished, self.given_up = np.ones(task.n_restarts, bool), np.zeros(task.n_restarts, bool)
        self._begun = np.zeros(task.n_restarts, bool)
        self._reached: Lanes | None = None

    @property
    def n_segments(self) -> int:
        """The number of segments that the rows fill."""
        return -(-len(self.rows.x) // SEGMENT_ROWS)

    @functools.cached_property
    def known(self) -> Columns:
        """What is known of the columns, from NumPy in float64, with a leading axis of 1."""
        weights, x = (np.asarray(leaf, np.float64) for leaf in (self.rows.weights, self.rows.x))
        mass = weights.sum()
        mean = weights @ x / mass
        held = mass, np.count_nonzero(weights), mean, weights @ (x - mean) ** 2 / mass
        return Columns(*(np.asarray(value, self.rows.x.dtype)[None] for value in held))  # pyright: ignore[reportArgumentType]

    @functools.cached_property
    def segments(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows as segments of columns, (n, D, C), and their weights, (n, C)."""
        n_rows, n_features = self.rows.x.shape
        x = np.zeros((self.n_segments * SEGMENT_ROWS, n_features), self.rows.x.dtype)
        weights = np.zeros(len(x), x.dtype)
        x[:n_rows], weights[:n_rows] = self.rows.x, self.rows.weights
        segments = x.reshape(self.n_segments, SEGMENT_ROWS, n_features)
        return segments.transpose(0, 2, 1), weights.reshape(self.n_segments, SEGMENT_ROWS)

    def keep(self, restart: int, reached: Lanes, lane: int) -> None:
        """Keep where the climb in a lane has come to."""
        if self._reached is None:
            self._reached = Lanes.blank(reached.tree(), len(self.unfinished))
        self._reached.put(restart, reached, lane)
        self._begun[restart] = True

    def climb_of(self, restart: int) -> Lanes | None:
        """Where the climbs have come to, if that of the restart has begun."""
        return self._reached if self._begun[restart] else None

    def judge(self) -> tuple[FitResult, np.ndarray]:
        """The fits that the restarts have reached, and the `n_collapsed` of each."""
        assert self._reached is not None
        climbs, fits, collapses = self._reached.tree()
        return fits._replace(history=climbs.history), collapses

    def forget(self) -> None:
        """Let go of where the climbs have come to, and of the segments."""
        self._reached = None
        self.__dict__.pop("segments", None)

    def outcome(self) -> Outcome:
        """The results of all restarts."""
        return Outcome(*self.judge(), self.unfinished & ~self.given_up, self.given_up)


class Lanes:
    """A pytree of stacked NumPy arrays, of which entries are put and taken one by one."""

    def __init__(self, tree: Any):
        """The entries of a pytree of stacked arrays, which may be read alone where they are not NumPy's."""
        self._leaves, self._structure = jax.tree.flatten(tree)

    @classmethod
    def blank(cls, like: Any, n: int) -> Lanes:
        """Zeros, shaped as a stack but for its length, n."""
        return cls(jax.tree.map(lambda leaf: np.zeros((n, *leaf.shape[1:]), leaf.dtype), like))

    def tree(self) -> Any:
        """The pytree."""
        return jax.tree.unflatten(self._structure, self._leaves)

    def put(self, place: Any, others: Lanes, lane: Any) -> None:
        """Put the entries of another stack, of the same structure or one that it begins with."""
        for mine, theirs in zip(self._leaves, others._leaves, strict=False):
            mine[place] = theirs[lane]
