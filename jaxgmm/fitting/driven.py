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
from jaxgmm.fitting.restarts import Outcome
from jaxgmm.fitting.starts.drawn import start
from jaxgmm.host.progress import Progress, Snapshot
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.priors.penalty import Prior

_REPORT_SECONDS = 0.25
"""The fewest seconds between two reports."""


def start_driven(
    algorithm: Algorithm,
    starts: Any,
    data: Data,
    prior: Prior,
    n_components: int,
    method: str | None,
    family: Family,
    max_iter: int,
) -> tuple[list[Climb], Problem]:
    """A climb at each start, and the problem; the starts are keys for a method, or mixtures where it is None."""
    problem, climbs = posed(data, prior), []
    for place in range(len(jax.tree.leaves(starts)[0])):
        alone = jax.tree.map(lambda leaf, at=place: leaf[at], starts)
        mixture: Mixture = (
            alone if method is None else start(alone, problem, n_components, method, family, n_components)
        )
        climbs.append(begin(algorithm, mixture, problem, max_iter))
    return climbs, problem


def climb_driven(
    algorithm: Algorithm, climbs: list[Climb], problem: Problem, tol: Array, max_iter: int, progress: Progress
) -> Outcome:
    """The results of all climbs, which take turns: an iteration of each, then the next of each.

    The keyboard, or a callback that returns True, ends them with what all have reached; within the first iteration it
    goes through.
    """
    climbs, n_done, told = list(climbs), 0, time.monotonic()
    columns = problem.columns
    try:
        while any(going(climb, columns, tol) for climb in climbs):
            for place, climb in enumerate(climbs):
                if going(climb, columns, tol):
                    climbs[place] = advance(algorithm, climb, problem, tol, 1)
                if progress.listened and n_done and time.monotonic() - told > _REPORT_SECONDS:
                    progress.tell(_snapshot(climbs, problem, tol, max_iter))
                    told = time.monotonic()
            n_done += 1
    except KeyboardInterrupt:
        if not n_done:
            raise
    fits = [end(climb, columns, problem.penalty, tol) for climb in climbs]
    collapses = [n_collapsed(fitted.mixture, columns, problem.penalty) for fitted in fits]
    interrupted = np.asarray([bool(going(climb, columns, tol)) for climb in climbs])
    stacked = jax.device_get(jax.tree.map(lambda *leaves: jnp.stack(leaves), *fits))
    return Outcome(stacked, np.asarray(collapses), interrupted, np.zeros(len(climbs), bool))


def _snapshot(climbs: list[Climb], problem: Problem, tol: Array, max_iter: int) -> Snapshot:
    alive = [climb for climb in climbs if going(climb, problem.columns, tol)]
    objectives = [float(climb.info.objective) for climb in climbs]
    gain, least = max((float(climb.info.gain) for climb in alive), default=-np.inf), float(tol * problem.columns.mass)
    return Snapshot(
        n_iter=max(int(climb.n_iter) for climb in climbs),
        max_iter=max_iter,
        objective=max((value for value in objectives if np.isfinite(value)), default=-np.inf),
        gain=gain / least if least > 0 and np.isfinite(gain) else float("nan"),
        n_climbing=len(alive),
        n_restarts=len(climbs),
    )
