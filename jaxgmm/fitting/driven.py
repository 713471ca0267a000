"""Climbs over data that are driven from the host: all starts in turn, each pass called as the data call for it."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.data.protocol import Data
from jaxgmm.fitting.algorithms.protocol import Algorithm
from jaxgmm.fitting.collapse import n_collapsed
from jaxgmm.fitting.loop import Climb, advance, begin, end, going
from jaxgmm.fitting.problem import Problem, posed
from jaxgmm.fitting.race import snapshot
from jaxgmm.fitting.restarts import Outcome
from jaxgmm.fitting.starts.assigned import Start, mixture_of, n_starts
from jaxgmm.host.progress import Progress
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.priors.penalty import Prior

_REPORT_SECONDS = 0.25
"""The fewest seconds between two reports."""


def start_driven(
    algorithm: Algorithm, starts: Start, data: Data, prior: Prior, family: Family, max_iter: int
) -> tuple[list[Climb], Problem]:
    """A climb at each start, and the problem."""
    problem, climbs = posed(data, prior), []
    for place in range(n_starts(starts)):
        alone = jax.tree.map(lambda leaf, at=place: jnp.asarray(leaf[at]), starts)
        climbs.append(begin(algorithm, mixture_of(alone, problem, family), problem, max_iter))
    return climbs, problem


def climb_driven(
    algorithm: Algorithm, climbs: list[Climb], problem: Problem, tol: Array, max_iter: int, progress: Progress
) -> Outcome:
    """The results of all climbs, which take turns: an iteration of each, then the next of each.

    The keyboard, or a callback that returns True, ends them with what all have reached; within the first iteration it
    goes through.
    """
    columns, climbs, n_done, told = problem.columns, list(climbs), 0, time.monotonic()
    alive = np.asarray([bool(going(climb, columns, tol)) for climb in climbs])
    try:
        while alive.any():
            for place in np.flatnonzero(alive):
                climbs[place] = advance(algorithm, climbs[place], problem, tol, 1)
                alive[place] = bool(going(climbs[place], columns, tol))
                if progress.listened and n_done and time.monotonic() - told > _REPORT_SECONDS:
                    info, n_iter = _stacked([(climb.info, climb.n_iter) for climb in climbs])
                    least_gain = float(tol * columns.mass)
                    progress.tell(snapshot(info, n_iter, alive, len(climbs), least_gain, max_iter))
                    told = time.monotonic()
            n_done += 1
    except KeyboardInterrupt:
        progress.interrupted = True
        if not n_done:
            raise
    fits = [end(climb, columns, problem.penalty, tol) for climb in climbs]
    collapses = [n_collapsed(fitted.mixture, columns, problem.penalty) for fitted in fits]
    return Outcome(_stacked(fits), np.asarray(collapses), alive, np.zeros(len(climbs), bool))


def _stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(trees))
