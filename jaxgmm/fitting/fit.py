"""Fits on the host: checks, scaling, starts, restarts, progress, interruption."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from numpy.typing import ArrayLike

from jaxgmm.data.compact import compacted
from jaxgmm.data.conversion import plain, seen_rows
from jaxgmm.data.protocol import Data, host_driven, is_data
from jaxgmm.data.spread import spread
from jaxgmm.fitting.algorithms.em import EM
from jaxgmm.fitting.algorithms.protocol import Algorithm, climbs_by_moments
from jaxgmm.fitting.causes import REMEDY, why_collapsed
from jaxgmm.fitting.driven import climb_driven, start_driven
from jaxgmm.fitting.problem import Problem
from jaxgmm.fitting.restarts import Outcome, climb_all, mended, start_all
from jaxgmm.fitting.results import FitResult, Status
from jaxgmm.fitting.starts.assigned import Start, n_starts
from jaxgmm.fitting.tasks import Options, Task, task_of
from jaxgmm.fitting.verification import verified
from jaxgmm.host.arrays import as_table
from jaxgmm.host.cautions import caution
from jaxgmm.host.checks import as_callback, keyed
from jaxgmm.host.progress import Callback, Progress
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.fitted import Fitted, as_start
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.priors.penalty import Penalty, Prior
from jaxgmm.model.priors.ridge import Ridge
from jaxgmm.numerics.trees import with_inputs


@keyed
def fit(
    key: Array,
    x: Any,
    n_components: int,
    sample_weight: ArrayLike | None = None,
    *,
    covariance_type: str | Family = "full",
    algorithm: Algorithm = EM(),
    prior: Prior | None = Ridge(),
    init: str | Mixture | Fitted | ArrayLike = "k-means++",
    n_init: int = 20,
    max_iter: int = 1000,
    tol: float = 1e-6,
    progress: bool | None = None,
    callback: Callback | None = None,
) -> FitResult:
    """The best fit of a mixture of K Gaussians to rows, from several starts.

    Maximises Σ wᵢ log p(xᵢ; θ) + log prior(θ) by `algorithm` from `n_init` starts, and returns the
    one with the best finite objective that has not collapsed. Unless the problem is so small that it would not
    pay (fewer than four million multiplications in a pass of all, n_init·N·K·D²), only the best fifth go on after
    50 iterations, and the others are `STOPPED`. Columns are centred and scaled in float64 first, so that the fit
    is the same in any units; the result is in the user's. Ctrl-C returns the best so far, with status
    `INTERRUPTED`; in the first iteration, and during compilation, it raises `KeyboardInterrupt`.

    Args:
        key: a typed key, `jax.random.key(0)`.
        x: rows, (N, D): an array, or a table of numbers; or `Rows`, or any other `Data`, in the units that it comes in.
        n_components: K.
        sample_weight: non-negative weights, (N,); a row of weight zero counts as left out.
        covariance_type: "full", "tied", "diag", "spherical", or a family.
        algorithm: `EM()`; `Accelerated(EM())`, which takes several times fewer passes where components overlap and
            compiles for two seconds longer; or `Gradient(optimizer)`.
        prior: `Ridge()`, or None for maximum likelihood.
        init: "k-means++", "k-means", "random-rows" or "random-responsibilities"; or labels (N,),
            responsibilities (N, K), a `Mixture` or a fit, from which there is one start. Components of a mixture that
            hold less than one row start anew, where k-means++ draws them, with a warning.
        n_init: number of starts. On fifteen hard data sets 20 of them, a fifth of which go on, come within 2e-3 per
            row of the best known optimum as often as 10 that all climb to the end, in half the passes.
        max_iter: most iterations of each.
        tol: estimated gain per unit weight, in nats, below which to stop; see `run`.
        progress: whether to show a bar, in a terminal or a notebook (tqdm, else a line a second on stderr). None says
            in one line, at a terminal, when a fit will climb for more than ten seconds; False says nothing.
        callback: is given a `Report` about four times a second; where it returns True, the fit ends as by Ctrl-C.

    Returns:
        The fit, in float64 if JAX allows it and x is float64, else in float32. Where x is a table with named
        columns, `feature_names` keeps them. One that is `COLLAPSED` comes with a warning that names the components and
        the columns.

    Raises:
        TypeError: if an argument is of the wrong type, x is traced or holds no real numbers.
        ValueError: if an argument has a bad value or shape, x holds NaN or infinity, or the result cannot
            be represented in its dtype.
        RuntimeError: in a process forked from one that had fitted, where JAX would hang; or if NumPy, which visits
            the fit once more, finds another log-likelihood or optimum than the compiled passes did, both as they
            are and one start at a time by residuals: the compiler or the machine is at fault.

    Example:
        >>> x = np.random.default_rng(0).normal([[0.0, 0.0], [4.0, 4.0]] * 50)
        >>> fitted = jaxgmm.fit(jax.random.key(1), x, 2)
        >>> fitted.status.name, fitted.mixture.means.shape
        ('CONVERGED', (2, 2))
    """
    options = Options(covariance_type, algorithm, prior, as_start(init, plain(x)), n_init, max_iter, tol)
    table = None if is_data(x) else as_table(x)
    given = x if table is None else table
    result = fit_given(key, given, n_components, sample_weight, options, progress, callback)
    if result.status is Status.COLLAPSED:
        if table is None:
            rows, weights = seen_rows(x, key)
        else:
            rows, weights = table.rows, sample_weight
        causes = why_collapsed(result.mixture, rows, weights, prior, result.feature_names)
        caution(f"the fit collapsed, and is not to be relied on: {causes}. {REMEDY}")
    return result


def fit_given(
    key: Array,
    x: Any,
    n_components: int,
    sample_weight: ArrayLike | None,
    options: Options,
    progress: bool | None = None,
    callback: Callback | None = None,
) -> FitResult:
    """The fit of a table or of data, as `fit` returns it, without the warning of a collapse."""
    with Progress(progress, as_callback(callback)) as shown:
        result = fit_task(task_of(key, x, n_components, sample_weight, options), shown)
        shown.end()
    return result


def fit_task(task: Task, progress: Progress) -> FitResult:
    """The fit that a task asks for, as `fit` returns it, without the warning of a collapse."""
    taken, algorithm, family, max_iter, tol = task.taken, task.algorithm, task.family, task.max_iter, task.tol

    def announced(problem: Problem, mixture: Mixture) -> Penalty:
        n_covariances, told = min(mixture.covs.count, task.n_components), task.units(problem.penalty.mass)
        progress.begin(task.n_components, family.name, lambda value: float(told.objective(value, n_covariances)))
        return problem.penalty

    def climb(data: Data, starts: Start) -> tuple[Outcome, Penalty]:
        if host_driven(data):
            limit = jnp.asarray(tol, taken.dtype)
            lanes, problem = start_driven(algorithm, starts, data, task.prior, family, max_iter)
            penalty = announced(problem, lanes[0].state.mixture)
            return climb_driven(algorithm, lanes, problem, limit, max_iter, progress), penalty
        data = spread(data, n_starts(starts), task.n_slots, family.statistic.products)
        climbs, part = start_all(algorithm, starts, data, task.prior, family, max_iter)
        problem = with_inputs(part, data)
        n_restarts, penalty = climbs.n_iter.shape[0], announced(problem, climbs.state.mixture)
        stages, work = task.stages(n_restarts), task.work(n_restarts, task.n_slots)
        done = climb_all(algorithm, climbs, problem, tol, task.n_components, stages, work, max_iter, progress)
        return done, penalty

    def climb_quickly(data: Data, starts: Start) -> tuple[Outcome, Penalty]:
        if not climbs_by_moments(algorithm):
            return climb(data, starts)
        quick = compacted(data, n_starts(starts), task.n_slots, family.statistic.products)
        outcome, penalty = climb(quick, starts)
        if quick is data:
            return outcome, penalty
        return mended(outcome, lambda failed: climb(data, jax.tree.map(lambda leaf: leaf[failed], starts))[0]), penalty

    outcome, penalty = verified(taken.data, algorithm, climb_quickly, task.starts, tol)
    return task.result(outcome, penalty.mass)
