"""Fits of many data sets that take turns in the lanes of one compiled program, whatever their numbers of rows."""

from __future__ import annotations

import collections
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxgmm.data.pooled import SEGMENT_ROWS, PooledRows
from jaxgmm.fitting.algorithms.protocol import Algorithm, climbs_by_moments
from jaxgmm.fitting.entries import Entry, Lanes
from jaxgmm.fitting.loop import Climb, advance_all, begin
from jaxgmm.fitting.problem import Problem, posed
from jaxgmm.fitting.restarts import ended, heats
from jaxgmm.fitting.results import FitResult
from jaxgmm.fitting.starts.assigned import Start, mixture_of
from jaxgmm.fitting.tasks import Task
from jaxgmm.model.columns import Columns
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.priors.penalty import Penalty, Prior
from jaxgmm.numerics.programs import HostProgram

_N_STEPS = 8
"""Iterations between two looks at which climbs have ended, and give their lanes to others."""

_MOST_NUMBERS = 1 << 18
"""The most log-joints, and the most features of rows, that a pass over the pool holds at once: 2 MiB of each. In a
larger pool more lanes stand empty while the last climbs end."""

_FEWEST_LANES = 4
"""The fewest restarts of the largest data set that a pool must have room for."""

_MOST_HISTORY = 1 << 20
"""The most numbers in the histories of all lanes, which are copied where climbs end and others begin."""


class _Job(NamedTuple):
    """A restart of an entry that climbs until it has taken so many iterations."""

    entry: int
    restart: int
    until: int


def is_pooled(task: Task) -> bool:
    """Whether a pool takes a task: its data set is small enough, and its algorithm climbs by moments alone."""
    data: Any = task.taken.data
    n_numbers = data.x.shape[0] * _width(task.n_components, data.n_features)
    return climbs_by_moments(task.algorithm) and n_numbers <= _MOST_NUMBERS // _FEWEST_LANES


def _width(n_components: int, n_features: int) -> int:
    """The numbers that a pass over a row holds at once: its log-joints, or its features."""
    return max(n_components, (n_features + 1) * (n_features + 2) // 2)


def _sizes(entries: Sequence[Entry]) -> tuple[int, int]:
    """The lanes S and the segments T that are compiled for, enough for the largest entry."""
    jobs = np.asarray([entry.task.n_restarts for entry in entries])
    sizes = np.asarray([entry.n_segments for entry in entries])
    wanted = int(jobs @ sizes)
    most = _MOST_NUMBERS // (SEGMENT_ROWS * _width(entries[0].task.n_components, entries[0].rows.n_features))
    n_segments = max(min(_power(most + 1) // 2, _power(wanted)), _power(int(sizes.max())))
    n_lanes = min(n_segments * int(jobs.sum()) // wanted, _MOST_HISTORY // entries[0].task.max_iter)
    return _power(n_lanes), n_segments


def _power(number: int) -> int:
    """A power of two, at least the number, and at least 1."""
    return 1 << max(0, number - 1).bit_length()


def climb_in_turns(entries: Sequence[Entry]) -> Iterator[int]:
    """Climb the restarts of all entries, and give an entry's number as soon as all of its restarts have ended.

    Args:
        entries: data sets, of which but the rows and the starts nothing differs: algorithm, prior, family, columns, K.
    """
    pool = _Pool(entries, *_sizes(entries))
    coming, waiting = collections.deque(range(len(entries))), collections.deque[_Job]()
    races: dict[int, Iterator[tuple[np.ndarray, int]]] = {}
    n_running = [0] * len(entries)

    def next_heat(number: int) -> bool:
        """Whether the entry has another heat, whose jobs then wait."""
        for chosen, until in races[number]:
            jobs = [_Job(number, int(restart), until) for restart in chosen if entries[number].unfinished[restart]]
            waiting.extend(jobs)
            n_running[number] = len(jobs)
            if jobs:
                return True
        return False

    while coming or waiting or pool.busy:
        while pool.has_lane and (coming or waiting):
            if not waiting:
                number = coming.popleft()
                entry = entries[number]
                stages = entry.task.stages(entry.task.n_restarts)
                races[number] = heats(entry, entry.judge, stages, entry.task.max_iter)
                next_heat(number)
            if not pool.has_room(waiting[0]):
                break
            pool.load(waiting.popleft())
        for job in pool.advance():
            n_running[job.entry] -= 1
            if not n_running[job.entry] and not next_heat(job.entry):
                del races[job.entry]
                yield job.entry


class _Pool:
    """The lanes and segments of a pool, on the host, between blocks of iterations."""

    def __init__(self, entries: Sequence[Entry], n_lanes: int, n_segments: int):
        """An empty pool."""
        self._entries, self._task = entries, entries[0].task
        self._jobs: list[_Job | None] = [None] * n_lanes
        rows, weights = entries[0].segments
        self._rows = np.zeros((n_segments, *rows.shape[1:]), rows.dtype)
        self._weights = np.zeros((n_segments, *weights.shape[1:]), weights.dtype)
        self._owner = np.full(n_segments, n_lanes, np.int32)
        self._known, self._starts = (Lanes.blank(held, n_lanes) for held in (entries[0].known, self._task.starts))
        self._still, self._fresh, self._until = (np.zeros(n_lanes, kind) for kind in (bool, bool, np.int32))
        self._climbs: Lanes | None = None
        self._problem: Problem | None = None

    @property
    def busy(self) -> bool:
        """Whether any job climbs."""
        return any(job is not None for job in self._jobs)

    @property
    def has_lane(self) -> bool:
        """Whether a lane is free."""
        return None in self._jobs

    def has_room(self, job: _Job) -> bool:
        """Whether there are segments enough for a job."""
        return self._entries[job.entry].n_segments <= int(np.sum(self._owner == len(self._jobs)))

    def load(self, job: _Job) -> None:
        """Put a job into a free lane."""
        lane, entry = self._jobs.index(None), self._entries[job.entry]
        places = np.flatnonzero(self._owner == len(self._jobs))[: entry.n_segments]
        self._rows[places], self._weights[places] = entry.segments
        self._owner[places] = lane
        self._known.put(lane, Lanes(entry.known), 0)
        self._jobs[lane], self._still[lane], self._until[lane] = job, True, job.until
        climb = entry.climb_of(job.restart)
        self._fresh[lane] = climb is None
        if climb is None or self._climbs is None:
            self._starts.put(lane, Lanes(entry.task.starts), job.restart)
        else:
            self._climbs.put(lane, climb, job.restart)
        self._problem = None

    def advance(self) -> list[_Job]:
        """Climb a few iterations, and take out the jobs that have ended."""
        task, (problem, climbs) = self._task, self._posed()
        held = climbs.tree(), self._still, problem
        climbs, still = advance_jobs(task.algorithm, *held, task.tol, _N_STEPS, self._until)
        self._still, n_iter = np.array(still), np.asarray(climbs.n_iter)
        waits = ~self._still | (n_iter >= self._until)
        ended = [lane for lane, job in enumerate(self._jobs) if job is not None and waits[lane]]
        self._climbs, jobs = Lanes(climbs), []
        if not ended:
            return jobs
        fits, collapses = jax.device_get(end_jobs(climbs, problem.columns, problem.penalty, task.tol))
        self._climbs = Lanes(jax.tree.map(np.array, climbs))
        reached = Lanes((self._climbs.tree(), fits, collapses))
        penalties = jax.device_get(problem.penalty)
        for lane in ended:
            job = self._jobs[lane]
            assert job is not None
            entry = self._entries[job.entry]
            entry.keep(job.restart, reached, lane)
            entry.unfinished[job.restart] = self._still[lane]
            entry.penalty = jax.tree.map(lambda leaf, at=lane: leaf[at], penalties)
            self._still[lane], self._jobs[lane] = False, None
            self._owner[self._owner == lane] = len(self._jobs)
            jobs.append(job)
        return jobs

    def _posed(self) -> tuple[Problem, Lanes]:
        """The problem of each lane, and where its climb has come to, that of a fresh job begun."""
        if self._problem is None or self._climbs is None:
            task = self._task
            own = np.arange(len(self._jobs), dtype=np.int32)
            data = PooledRows(*jax.device_put((self._rows, self._weights, self._owner, own, self._known.tree())))
            climbs, penalty = start_jobs(
                task.algorithm, self._starts.tree(), data, task.prior, task.family, task.max_iter
            )
            begun, fresh = Lanes(jax.device_get(climbs)), np.flatnonzero(self._fresh)
            self._climbs = Lanes.blank(climbs, len(self._jobs)) if self._climbs is None else self._climbs
            self._climbs.put(fresh, begun, fresh)
            self._fresh[:], self._problem = False, Problem(data, data.known, penalty)
        return self._problem, self._climbs


@functools.partial(HostProgram, static_argnums=(4, 5))
def start_jobs(
    algorithm: Algorithm, starts: Start, data: PooledRows, prior: Prior, family: Family, max_iter: int
) -> tuple[Climb, Penalty]:
    """Climbs from starts stacked along the lanes, (S,), and the prior prepared for each."""

    def one(start: Start, data: PooledRows) -> tuple[Climb, Penalty]:
        problem = posed(data, prior)
        return begin(algorithm, mixture_of(start, problem, family), problem, max_iter), problem.penalty

    return jax.vmap(one, in_axes=(0, data.lanes()))(starts, data)


def _advance_jobs(
    algorithm: Algorithm, climbs: Climb, still: Array, problem: Problem, tol: ArrayLike, n_steps: int, until: Array
) -> tuple[Climb, Array]:
    """Climbs after up to `n_steps` more iterations, each on its own data set; see `advance_all`."""
    axes = Problem(problem.data.lanes(), 0, 0)  # pyright: ignore
    return advance_all(algorithm, climbs, still, problem, tol, n_steps, until, False, axes)


advance_jobs = HostProgram(_advance_jobs, loops=True)


@HostProgram
def end_jobs(climbs: Climb, columns: Columns, penalty: Penalty, tol: ArrayLike) -> tuple[FitResult, Array]:
    """The fit that each climb has reached, without its history, and its `n_collapsed`, (S,)."""
    fits, collapses = ended(climbs, columns, penalty, tol, axes=0)
    return fits._replace(history=()), collapses  # pyright: ignore[reportArgumentType]
