"""Restarts: a few climbs at a time as lanes of one compiled program, whose blocks return control to the host.

Where halving pays all make a short run, the best go on, and the others cost nothing more.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, TypeAlias, cast

import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxgmm.data.protocol import Data
from jaxgmm.fitting.algorithms.protocol import Algorithm
from jaxgmm.fitting.collapse import n_collapsed
from jaxgmm.fitting.halving import Stage
from jaxgmm.fitting.loop import Climb, begin, end
from jaxgmm.fitting.problem import Problem, posed
from jaxgmm.fitting.race import Block, Race
from jaxgmm.fitting.results import FitResult, Restarts, Status
from jaxgmm.fitting.starts.assigned import Start, mixture_of
from jaxgmm.host.progress import Progress
from jaxgmm.model.columns import Columns
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.priors.penalty import Penalty, Prior
from jaxgmm.numerics.programs import HostProgram
from jaxgmm.numerics.trees import without_inputs

_FEWEST_LANES = 4
"""The fewest restarts that climb at once where they take turns: fewer take as long, see `experiments.benchmarks`."""


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


@functools.partial(HostProgram, static_argnums=(4, 5))
def start_all(
    algorithm: Algorithm, starts: Start, data: Data, prior: Prior, family: Family, max_iter: int
) -> tuple[Climb, Problem]:
    """Climbs from starts stacked along a leading axis R.

    Also the problem that data and prior pose, without the data's own arrays; see `with_inputs`.
    """
    problem = posed(data, prior)

    def one(start: Start) -> Climb:
        return begin(algorithm, mixture_of(start, problem, family), problem, max_iter)

    return jax.vmap(one)(starts), without_inputs(problem, data)


@HostProgram
def end_all(
    climbs: Climb, columns: Columns, penalty: Penalty, tol: ArrayLike, n_components: ArrayLike
) -> tuple[FitResult, Array]:
    """The fit that each climb has reached, and its `n_collapsed`, (R,)."""
    return ended(climbs, columns, penalty, tol, n_components)


def ended(
    climbs: Climb,
    columns: Columns,
    penalty: Penalty,
    tol: ArrayLike,
    n_components: ArrayLike | None = None,
    axes: int | None = None,
) -> tuple[FitResult, Array]:
    """What `end_all` gives, where columns and penalty are stacked along `axes`, or for None are those of all."""

    def one(climb: Climb, columns: Columns, penalty: Penalty) -> tuple[FitResult, Array]:
        fitted = end(climb, columns, penalty, tol, n_components)
        return fitted, n_collapsed(fitted.mixture, columns, penalty, n_components)

    return jax.vmap(one, (0, axes, axes))(climbs, columns, penalty)


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
    """The results of all restarts, climbed in compiled blocks; at each stage only the best go on.

    Stages come after fixed numbers of iterations. A climb that has ended costs nothing more, and is still compared with
    the others when the best is chosen. `work` is the number of multiplications in a pass of all.
    """
    n_restarts = climbs.n_iter.shape[0]
    # Where few go on, all take turns in as many lanes, so that one program serves both.
    n_lanes = max(_FEWEST_LANES, *(stage.n_kept for stage in stages)) if stages else n_restarts
    race = Race(climbs, min(n_restarts, n_lanes))
    block = Block(algorithm, problem, tol, work, max_iter, n_restarts, progress)

    def judge() -> tuple[FitResult, np.ndarray]:
        return jax.device_get(end_all(race.together(), problem.columns, problem.penalty, tol, n_components))

    try:
        for chosen, until in heats(race, judge, stages, max_iter):
            race.climb(chosen, until, block)
    except KeyboardInterrupt:
        progress.interrupted = True
        if not race.begun:
            raise
    return Outcome(*judge(), race.unfinished & ~race.given_up, race.given_up)


class Field(Protocol):
    """The restarts of one fit, as those see them who decide which climb on.

    Attributes:
        unfinished: whether each has neither converged, used up its iterations nor failed, (R,).
        given_up: whether each was given up for better ones, (R,).
    """

    unfinished: np.ndarray
    given_up: np.ndarray


Judge: TypeAlias = Callable[[], tuple[FitResult, np.ndarray]]
"""Gives the fits that all restarts have reached, and the `n_collapsed` of each."""


def heats(field: Field, judge: Judge, stages: tuple[Stage, ...], max_iter: int) -> Iterator[tuple[np.ndarray, int]]:
    """Which restarts climb next, and until how many iterations: asked again when they have, it gives up the worst.

    Restarts given up return if all that went on ended worse.
    """
    n_restarts = len(field.unfinished)
    chosen = np.arange(n_restarts)
    for stage in stages:
        yield chosen, stage.n_iter
        chosen = _ranked(*judge(), field.given_up)[: stage.n_kept]
        field.given_up = field.unfinished & ~np.isin(np.arange(n_restarts), chosen)
    yield np.sort(chosen), max_iter
    while (more := _relented(field, judge, len(chosen))).size:
        field.given_up[more] = False
        yield more, max_iter


def _relented(field: Field, judge: Judge, n_kept: int) -> np.ndarray:
    """The best of those given up, if all that went on ended worse: collapsed, or not finite; else none.

    A short run that is about to collapse into a singularity has the highest objective of all, and so is kept.
    """
    none = np.zeros(0, int)
    if not field.given_up.any():
        return none
    fits, collapses = judge()
    badness = np.where(fits.status == Status.NONFINITE, 2, collapses > 0)
    if badness[~field.given_up].min() <= badness[field.given_up].min():
        return none
    return np.sort(_ranked(fits, collapses, ~field.given_up)[:n_kept])


def _ranked(fits: FitResult, collapses: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Indices of restarts from best to worst: those not `last`, finite, least collapsed, of highest objective first."""
    failed = fits.status == Status.NONFINITE
    objective = np.where(failed, -np.inf, fits.objective)
    return np.lexsort((-objective, collapses, failed, last))


def together(outcomes: list[Outcome]) -> Outcome:
    """The results of restarts that climbed one after another, as of one stack."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *outcomes)


def mended(outcome: Outcome, climb_again: Callable[[np.ndarray], Outcome]) -> Outcome:
    """The results, with those of restarts that are not finite climbed again; unless the keyboard has ended them.

    Args:
        outcome: the results.
        climb_again: gives the results of some restarts, indices (A,), climbed in another way.
    """
    failed = np.flatnonzero(outcome.fits.status == Status.NONFINITE)
    if not failed.size or outcome.interrupted.any():
        return outcome

    def put(whole: np.ndarray, part: np.ndarray) -> np.ndarray:
        whole = np.array(whole)
        whole[failed] = part
        return whole

    try:
        return jax.tree.map(put, outcome, climb_again(failed))
    except KeyboardInterrupt:
        return outcome._replace(interrupted=put(outcome.interrupted, np.asarray(True)))


def choose(outcome: Outcome) -> tuple[FitResult, Restarts]:
    """The fit of the best restart that was not given up, and the ends of all restarts."""
    fits = outcome.fits
    ran_out = (fits.status == Status.MAX_ITER) | (fits.n_iter < 0)
    status = np.where(outcome.interrupted & ran_out, Status.INTERRUPTED, fits.status)
    status = np.where(outcome.given_up, Status.STOPPED, status)
    best = int(_ranked(fits, outcome.collapses, outcome.given_up)[0])
    restarts = Restarts(fits.objective, cast(Any, status), cast(Any, np.maximum(fits.n_iter, 0)))
    chosen = jax.tree.map(lambda leaf: leaf[best], fits)
    return chosen._replace(status=status[best]), restarts
