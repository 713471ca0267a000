"""Starts of `fit`: rows assigned to components on the host, in float64 and NumPy, which has nothing to compile.

`drawn` has starts by the same methods as pure functions.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jaxgmm.data import draws
from jaxgmm.data.protocol import PLAIN, Data, has, host_driven
from jaxgmm.data.rows import Rows
from jaxgmm.fitting.problem import Problem
from jaxgmm.fitting.starts.kmeans import LEAST_SPREAD, LLOYD_ITERATIONS, LLOYD_SHIFT, n_candidates
from jaxgmm.fitting.steps import maximise
from jaxgmm.host.split import rows_of_each
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, Statistic
from jaxgmm.model.slots import moments_with_spares
from jaxgmm.numerics.programs import HostProgram

_ENTRIES = 1 << 20
"""The most numbers in a temporary array of the seeds of several restarts."""


class Assignment(NamedTuple):
    """Rows assigned to components: an M-step from here is a start.

    Attributes:
        moments: of the rows assigned to each component.
        pseudo_mass: rows added to each covariance, so that one of few rows does not start collapsed, ().
        pseudo_scatter: diagonal of the scatter of these, (D,).
    """

    moments: Moments
    pseudo_mass: Any
    pseudo_scatter: Any


Start: TypeAlias = Assignment | Mixture
"""Where a climb begins."""


def n_starts(starts: Start) -> int:
    """The number R of starts that are stacked along a leading axis."""
    return len(jax.tree.leaves(starts)[0])


def mixture_of(start: Start, problem: Problem, family: Family) -> Mixture:
    """The mixture that a start stands for: the result of an M-step from an assignment, and a mixture itself."""
    if isinstance(start, Mixture):
        return start
    penalty = problem.penalty.with_rows(start.pseudo_mass, start.pseudo_scatter)
    return maximise(start.moments, family, problem.columns, penalty)


def drawn_assignments(
    key: Array, data: Data, n_components: int, method: str, family: Family, n_init: int, n_slots: int, dtype: DTypeLike
) -> Assignment:
    """Assignments drawn with a key, one for each of `n_init` restarts, stacked along a leading axis.

    The first of them do not depend on their number; components from `n_components` to `n_slots` are without rows.
    """
    words = [int(word) for word in np.asarray(jax.random.key_data(key)).ravel()]
    generators = [np.random.default_rng([*words, restart]) for restart in range(n_init)]
    if has(data, *PLAIN) and data.x.shape[0] <= draws.MOST_ROWS:  # pyright: ignore[reportAttributeAccessIssue]
        sample = _Sample.of(data)  # pyright: ignore[reportArgumentType]
        assignments = _assigned(generators, sample, n_components, method, family)
    else:
        assignments: list[Assignment] = []
        for generator, own in zip(generators, jax.random.split(key, n_init), strict=True):
            draw = data.draw_rows if host_driven(data) else functools.partial(_draw_rows, data)
            sample = _Sample.of(jax.device_get(draw(own, draws.MOST_ROWS)))
            assignments += _assigned([generator], sample, n_components, method, family)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves).astype(dtype), *assignments)
    return stacked._replace(moments=moments_with_spares(stacked.moments, n_slots - n_components, family.statistic))


def assignment_of(rows: Rows, responsibilities: np.ndarray, family: Family, dtype: DTypeLike) -> Assignment:
    """The assignment by given responsibilities, (N, K), with a restart axis of 1."""
    sample = _Sample.of(rows)
    moments = sample.moments_of_shares(responsibilities[np.asarray(rows.weights) > 0], family.statistic)
    assigned = Assignment(moments, np.zeros(()), np.zeros(sample.x.shape[1]))
    return jax.tree.map(lambda leaf: np.asarray(leaf, dtype)[None], assigned)


class _Sample(NamedTuple):
    """Rows of positive weight about their mean, in float64.

    Attributes:
        x: rows less `mean`, (N, D).
        weights: (N,).
        mean: (D,).
        variance: of the columns, 1 for a constant one, (D,).
    """

    x: np.ndarray
    weights: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    @classmethod
    def of(cls, rows: Rows) -> _Sample:
        """The sample that rows are."""
        weights = np.asarray(rows.weights, np.float64)
        x, weights = np.asarray(rows.x)[weights > 0].astype(np.float64), weights[weights > 0]
        origin = x[0]
        mean = origin + np.average(x - origin, axis=0, weights=weights)
        x = x - mean
        variance = np.average(x**2, axis=0, weights=weights)
        resolved = variance > (8 * np.finfo(np.float64).eps * (np.sqrt(variance) + np.abs(mean))) ** 2
        return cls(x, weights, mean, np.where(resolved, variance, 1.0))

    def scaled(self, family: Family) -> np.ndarray:
        """Rows in the columns' deviations, or in one common deviation where the family needs it, (N, D)."""
        variance = self.variance if family.scales_columns else np.mean(self.variance)
        return self.x / np.sqrt(variance)

    def moments(self, shares: Iterable[tuple[Any, np.ndarray]], statistic: Statistic) -> Moments:
        """Moments of components, from the rows of each, as an index, and their weights there, (n,)."""
        mass, means, scatter = [], [], []
        for rows, weights in shares:
            seen = self.x[rows]
            total = weights.sum()
            mean = weights @ seen / (total if total > 0 else 1.0)
            moved = seen - mean
            weighted = moved * weights[:, None]
            scatter.append(weighted.T @ moved if statistic.products else (weighted * moved).sum(axis=0))
            mass.append(total)
            means.append(mean + self.mean)
        held: Any = np.stack(mass), np.stack(means), statistic.reduce(cast(Any, np.stack(scatter)))
        return Moments(*held)

    def moments_of_labels(self, labels: np.ndarray, n_components: int, statistic: Statistic) -> Moments:
        """Moments of rows with a label each, (N,)."""
        parts = rows_of_each(labels, n_components)
        return self.moments([(part, self.weights[part]) for part in parts], statistic)

    def moments_of_shares(self, responsibilities: np.ndarray, statistic: Statistic) -> Moments:
        """Moments under responsibilities (N, K)."""
        return self.moments(((slice(None), share * self.weights) for share in responsibilities.T), statistic)


_draw_rows = HostProgram(lambda data, key, most: data.draw_rows(key, most), static_argnums=(2,))


def _assigned(
    generators: list[np.random.Generator], sample: _Sample, n_components: int, method: str, family: Family
) -> list[Assignment]:
    """An assignment of one sample for each generator."""
    n_rows, n_features = sample.x.shape
    of_rows = sample.weights.sum() / n_rows
    none = (np.zeros(()), np.zeros(n_features))
    if method == "random-responsibilities":
        assignments = []
        for generator in generators:
            shares = generator.exponential(size=(n_rows, n_components))
            shares /= shares.sum(axis=1, keepdims=True)
            assignments.append(Assignment(sample.moments_of_shares(shares, family.statistic), *none))
        return assignments
    if method == "random-rows":
        equal = [(slice(None), sample.weights / n_components)] * n_components
        alike = sample.moments(equal, family.statistic)
        share, again = sample.weights / sample.weights.sum(), n_rows < n_components
        places = [generator.choice(n_rows, n_components, again, share) for generator in generators]
        return [Assignment(alike._replace(mean=sample.x[place] + sample.mean), *none) for place in places]
    assignments, z = [], sample.scaled(family)
    for centres in _seeds(generators, z, sample.weights, n_components):
        labels = _lloyd(centres, z, sample.weights) if method == "k-means" else _nearest(centres, z)
        moments = sample.moments_of_labels(labels, n_components, family.statistic)
        within = (sample.x - (moments.mean - sample.mean)[labels]) ** 2
        within = np.average(within, axis=0, weights=sample.weights)
        # D + 1 pseudo-rows of the variance within clusters.
        mass = np.asarray((n_features + 1) * of_rows)
        assignments.append(Assignment(moments, mass, mass * np.maximum(within, LEAST_SPREAD * sample.variance)))
    return assignments


def _seeds(
    generators: list[np.random.Generator], z: np.ndarray, weights: np.ndarray, n_components: int
) -> list[np.ndarray]:
    """Greedy k-means++ seeds for each generator, (K, D): at each step the candidate that leaves the least distance."""
    n_rows, n_tried = len(z), n_candidates(n_components)
    uniforms = [generator.random((n_components, n_tried)) for generator in generators]
    square, seeds = (z**2).sum(axis=1), []
    at_once = max(1, _ENTRIES // (n_rows * n_tried))
    for first in range(0, len(generators), at_once):
        uniform = np.stack(uniforms[first : first + at_once])
        lanes = np.arange(len(uniform))
        nearest, chosen = np.full((len(uniform), n_rows), np.inf), np.empty((len(uniform), n_components), int)
        for k in range(n_components):
            mass = weights * nearest if k else np.broadcast_to(weights, nearest.shape)
            # Once every distinct row is a seed, any row will do.
            mass = np.where(mass.sum(axis=1, keepdims=True) > 0, mass, weights)
            cumulative = mass.cumsum(axis=1)
            # The first seed of all has one candidate, in each place.
            target = uniform[:, k] if k else np.broadcast_to(uniform[:, :1, 0], uniform[:, 0].shape)
            target = np.minimum(target, 1 - 2.0**-50) * cumulative[:, -1:]
            tried = np.stack([np.searchsorted(c, t, side="right") for c, t in zip(cumulative, target, strict=True)])
            apart = square[None, None, :] - 2 * (z[tried] @ z.T) + square[tried][:, :, None]
            after = np.minimum(nearest[:, None, :], np.maximum(apart, 0.0))
            best = (after @ weights).argmin(axis=1)
            nearest, chosen[:, k] = after[lanes, best], tried[lanes, best]
        seeds += [z[each] for each in chosen]
    return seeds


def _nearest(centres: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The nearest centre of each row, (N,)."""
    square, size = (centres**2).sum(axis=1)[None, :], max(1, _ENTRIES // len(centres))
    blocks = (z[first : first + size] for first in range(0, len(z), size))
    return np.concatenate([(square - 2 * (block @ centres.T)).argmin(axis=1) for block in blocks])


def _lloyd(centres: np.ndarray, z: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The nearest centre of each row, (N,), after Lloyd's k-means; a centre without rows stays."""
    n_components, weighted = len(centres), z * weights[:, None]
    for _ in range(LLOYD_ITERATIONS):
        labels = _nearest(centres, z)
        mass = np.bincount(labels, weights, n_components)[:, None]
        total = np.stack([np.bincount(labels, column, n_components) for column in weighted.T], axis=1)
        moved = np.where(mass > 0, total / np.where(mass > 0, mass, 1.0), centres)
        shift, centres = np.abs(moved - centres).max(), moved
        if shift <= LLOYD_SHIFT:
            break
    return _nearest(centres, z)
