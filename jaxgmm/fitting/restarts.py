"""Restarts: R climbs vmapped as one, in compiled blocks between which control returns to the host.

All make a short run. The best are then gathered into a smaller stack and go on, and the others cost nothing more.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxgmm.data.protocol import Data
from jaxgmm.fitting.algorithms.protocol import Algorithm, Info
from jaxgmm.fitting.collapse import n_collapsed
from jaxgmm.fitting.halving import Stage
from jaxgmm.fitting.loop import Climb, advance, begin, end, going
from jaxgmm.fitting.problem import Problem, posed
from jaxgmm.fitting.results import FitResult, Restarts, Status
from jaxgmm.fitting.starts.drawn import start
from jaxgmm.host.progress import Progress, Snapshot
from jaxgmm.model.columns import Columns
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.priors.penalty import Penalty, Prior
from jaxgmm.numerics.programs import HostProgram
from jaxgmm.numerics.trees import without_inputs

_BLOCK_SECONDS = 0.25
"""Seconds that a compiled block runs before control returns to the host."""

_FAST_WORK = 1 << 19
"""Multiplications in a pass of all restarts from which iterations are compiled to run fast. That takes five seconds of
CPU longer, and from 1000 rows of four columns on makes a warm fit up to twice as fast; at 150 rows it saves 10 ms."""


class Outcome(NamedTuple):
    """The results of all restarts.

    Attributes:
        fits: the fits, stacked along a leading axis R.
        collapses: `n_collapsed` of each, (R,).
        interrupted: whether each was still climbing when the keyboard stopped it, (R,).
        given_up: whether each was given up for better ones, (R,).
    """

    fits: FitResult
    collapses: np.ndarray
    interrupted: np.ndarray
    given_up: np.ndarray


@functools.partial(HostProgram, static_argnums=(5, 6, 7, 8))
def start_drawn(
    algorithm: Algorithm,
    keys: Array,
    data: Data,
    prior: Prior,
    n_components: ArrayLike,
    method: str,
    family: Family,
    max_iter: int,
    n_slots: int,
) -> tuple[Climb, Problem]:
    """Climbs from starts drawn with R keys, in `n_slots` components of which those beyond `n_components` are spare.

    Also the problem that data and prior pose, without the data's own arrays; see `with_inputs`.
    """
    problem = posed(data, prior)

    def one(key: Array) -> Climb:
        mixture = start(key, problem, n_components, method, family, n_slots)
        return begin(algorithm, mixture, problem, max_iter)

    return jax.vmap(one)(keys), without_inputs(problem, data)


@functools.partial(HostProgram, static_argnums=(4,))
def start_given(
    algorithm: Algorithm, mixtures: Mixture, data: Data, prior: Prior, max_iter: int
) -> tuple[Climb, Problem]:
    """Climbs from given starts, stacked along a leading axis; also the problem, as `start_drawn`."""
    problem = posed(data, prior)
    climbs = jax.vmap(lambda mixture: begin(algorithm, mixture, problem, max_iter))(mixtures)
    return climbs, without_inputs(problem, data)


@HostProgram
def _advance(
    algorithm: Algorithm, climbs: Climb, problem: Problem, tol: ArrayLike, n_steps: ArrayLike
) -> tuple[Climb, Array]:
    climbs = jax.vmap(lambda climb: advance(algorithm, climb, problem, tol, n_steps))(climbs)
    return climbs, jax.vmap(lambda climb: going(climb, problem.columns, tol))(climbs)


@HostProgram
def end_all(
    climbs: Climb, columns: Columns, penalty: Penalty, tol: ArrayLike, n_components: ArrayLike
) -> tuple[FitResult, Array]:
    """The fit that each climb has reached, and its `n_collapsed`, (R,)."""
    fits = jax.vmap(lambda climb: end(climb, columns, penalty, tol, n_components))(climbs)
    return fits, jax.vmap(lambda mixture: n_collapsed(mixture, columns, penalty, n_components))(fits.mixture)


@HostProgram
def _take(climbs: Climb, lanes: Array) -> Climb:
    return jax.tree.map(lambda leaf: leaf[lanes], climbs)


@HostProgram
def _put(everyone: Climb, climbs: Climb, lanes: Array) -> Climb:
    return jax.tree.map(lambda whole, part: whole.at[lanes].set(part), everyone, climbs)


class Race(NamedTuple):
    """The climbs of all restarts, and of those that are still being advanced.

    Attributes:
        everyone: the climbs of all restarts, those in `lanes` as they were when they were gathered, (R,).
        lanes: indices of the restarts that are advanced, (A,).
        climbing: their climbs as they are now, (A,).
        unfinished: whether each restart has neither converged, used up its iterations nor failed, (R,).
        given_up: whether each restart was given up for better ones, (R,).
    """

    everyone: Climb
    lanes: np.ndarray
    climbing: Climb
    unfinished: np.ndarray
    given_up: np.ndarray

    def together(self) -> Climb:
        """The climbs of all restarts as they are now, (R,)."""
        if len(self.lanes) == len(self.unfinished):
            return self.climbing
        return _put(self.everyone, self.climbing, jnp.asarray(self.lanes))


def climb_all(
    algorithm: Algorithm,
    climbs: Climb,
    problem: Problem,
    tol: float,
    n_components: int,
    stages: tuple[Stage, ...],
    work: int,
    max_iter: int,
    progress: Progress,
) -> Outcome:
    """The results of all restarts, climbed in compiled blocks; at each stage the best go on in a smaller stack.

    Stages come after fixed numbers of iterations and leave stacks of fixed size, so that neither the clock nor the data
    decide what is climbed or compiled. A climb that has ended costs nothing more, and is still compared with the others
    when the best is chosen. `work` is the number of multiplications in a pass of all.
    """
    advanced = _advance.fast if work >= _FAST_WORK else _advance

    def judge(climbs: Climb) -> tuple[FitResult, np.ndarray]:
        return jax.device_get(end_all(climbs, problem.columns, problem.penalty, tol, n_components))

    n_restarts = climbs.n_iter.shape[0]
    nobody = np.zeros(n_restarts, bool)
    race = Race(climbs, np.arange(n_restarts), climbs, ~nobody, nobody)
    ahead, n_steps, n_done = list(stages), 1, 0
    try:
        while race.unfinished[race.lanes].any():
            n_steps = min(n_steps, ahead[0].n_iter - n_done) if ahead else n_steps
            began = time.perf_counter()
            climbing, still = advanced(algorithm, race.climbing, problem, tol, n_steps)
            unfinished = race.unfinished.copy()
            unfinished[race.lanes] = np.asarray(still)
            race = race._replace(climbing=climbing, unfinished=unfinished)
            elapsed, n_done = time.perf_counter() - began, n_done + n_steps
            n_steps = int(np.clip(n_steps * _BLOCK_SECONDS / max(elapsed, 1e-9), 1, 8 * n_steps))
            if progress.listened:
                info, n_iter = jax.device_get((climbing.info, climbing.n_iter))
                alive, least_gain = unfinished[race.lanes], tol * float(problem.columns.mass)
                progress.tell(snapshot(info, n_iter, alive, n_restarts, least_gain, max_iter))
            if ahead and n_done == ahead[0].n_iter:
                race = _narrow(race, judge, ahead.pop(0).n_kept)
            if race.given_up.any() and not race.unfinished[race.lanes].any():
                race = _relent(race, judge)
    except KeyboardInterrupt:
        if not n_done:
            raise
    fits, collapses = judge(race.together())
    return Outcome(fits, collapses, race.unfinished & ~race.given_up, race.given_up)


def snapshot(info: Info, n_iter: Any, alive: np.ndarray, n_restarts: int, least_gain: float, max_iter: int) -> Snapshot:
    """The figures for a progress bar, of stacked climbs (A,) of which those `alive` stop at `least_gain`."""
    gain = float(np.max(info.gain, where=alive, initial=-np.inf))
    return Snapshot(
        n_iter=int(np.max(n_iter)),
        max_iter=max_iter,
        objective=float(np.max(info.objective, where=np.isfinite(info.objective), initial=-np.inf)),
        gain=gain / least_gain if least_gain > 0 and np.isfinite(gain) else float("nan"),
        n_climbing=int(alive.sum()),
        n_restarts=n_restarts,
    )


def _narrow(race: Race, judge: Callable[[Climb], tuple[FitResult, np.ndarray]], n_kept: int) -> Race:
    """The race after all unfinished restarts are given up but those among the best `n_kept`."""
    everyone = race.together()
    lanes = _ranked(*judge(everyone), race.given_up)[:n_kept]
    return _with_lanes(race._replace(everyone=everyone, given_up=race.unfinished), lanes)


def _relent(race: Race, judge: Callable[[Climb], tuple[FitResult, np.ndarray]]) -> Race:
    """The race, resumed with the best of those given up if all that went on ended worse: collapsed, or not finite.

    A short run that is about to collapse into a singularity has the highest objective of all, and so is kept.
    """
    everyone = race.together()
    fits, collapses = judge(everyone)
    badness = np.where(fits.status == Status.NONFINITE, 2, collapses > 0)
    if badness[~race.given_up].min() <= badness[race.given_up].min():
        return race
    lanes = _ranked(fits, collapses, ~race.given_up)[: len(race.lanes)]
    return _with_lanes(race._replace(everyone=everyone), lanes)


def _with_lanes(race: Race, lanes: np.ndarray) -> Race:
    lanes, given_up = np.sort(lanes), race.given_up.copy()
    given_up[lanes] = False
    return race._replace(lanes=lanes, climbing=_take(race.everyone, jnp.asarray(lanes)), given_up=given_up)


def _ranked(fits: FitResult, collapses: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Indices of restarts from best to worst: those not `last`, finite, least collapsed, of highest objective first."""
    failed = fits.status == Status.NONFINITE
    objective = np.where(failed, -np.inf, fits.objective)
    return np.lexsort((-objective, collapses, failed, last))


def together(outcomes: list[Outcome]) -> Outcome:
    """The results of restarts that climbed one after another, as of one stack."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *outcomes)


def choose(outcome: Outcome) -> tuple[FitResult, Restarts]:
    """The fit of the best restart that was not given up, and the ends of all restarts."""
    fits = outcome.fits
    ran_out = fits.status == Status.MAX_ITER
    status = np.where(outcome.interrupted & ran_out, Status.INTERRUPTED, fits.status)
    status = np.where(outcome.given_up, Status.STOPPED, status)
    best = int(_ranked(fits, outcome.collapses, outcome.given_up)[0])
    restarts = Restarts(fits.objective, cast(Any, status), fits.n_iter)
    chosen = jax.tree.map(lambda leaf: leaf[best], fits)
    return chosen._replace(status=status[best]), restarts
