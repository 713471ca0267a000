"""Fits on the host: checks, scaling, starts, restarts, progress, interruption."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from jaxgmm.data.compact import compacted
from jaxgmm.data.conversion import plain, rows_of
from jaxgmm.data.intake import intake
from jaxgmm.data.protocol import Data, host_driven, is_data
from jaxgmm.data.scaling import check_representable
from jaxgmm.data.spread import spread
from jaxgmm.fitting.algorithms.em import EM
from jaxgmm.fitting.algorithms.protocol import Algorithm
from jaxgmm.fitting.causes import REMEDY, why_collapsed
from jaxgmm.fitting.driven import climb_driven, start_driven
from jaxgmm.fitting.halving import pass_work, plan
from jaxgmm.fitting.problem import Problem
from jaxgmm.fitting.restarts import Outcome, choose, climb_all, mended, start_all
from jaxgmm.fitting.results import FAILED, FitResult, Restarts, Status
from jaxgmm.fitting.starts.assigned import Start, drawn_assignments
from jaxgmm.fitting.starts.drawn import as_method
from jaxgmm.fitting.starts.given import given_start
from jaxgmm.fitting.verification import verified, warn_of_compiler
from jaxgmm.host.arrays import Names, as_table, is_traced
from jaxgmm.host.cautions import caution
from jaxgmm.host.checks import as_callback, as_count, as_key, as_tolerance, check_climber, check_process, keyed
from jaxgmm.host.progress import Callback, Progress
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.families.table import family_of
from jaxgmm.model.fitted import Fitted, as_start
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.priors.penalty import Penalty, Prior
from jaxgmm.model.priors.ridge import Ridge, settle
from jaxgmm.model.slots import without_spares
from jaxgmm.model.units import ObjectiveUnits, Units, to_host
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
            drawn = rows_of(x, key)
            rows, weights = np.asarray(drawn.x), drawn.weights
        else:
            rows, weights = table.rows, sample_weight
        causes = why_collapsed(result.mixture, rows, weights, prior, result.feature_names)
        caution(f"the fit collapsed, and is not to be relied on: {causes}. {REMEDY}")
    return result


class Options(NamedTuple):
    """The arguments of `fit` that do not describe the data or K."""

    covariance_type: str | Family = "full"
    algorithm: Algorithm = EM()
    prior: Prior | None = Ridge()
    init: Any = "k-means++"
    n_init: int = 20
    max_iter: int = 1000
    tol: float = 1e-6


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
        result = fit_in_slots(key, x, n_components, sample_weight, options, n_components, shown)
        shown.end()
    return result


def fit_in_slots(
    key: Array,
    x: Any,
    n_components: int,
    sample_weight: ArrayLike | None,
    options: Options,
    n_slots: int,
    progress: Progress,
) -> FitResult:
    """The fit of a table or of data, as `fit` returns it, by a program compiled for any K up to `n_slots`."""
    if is_traced(key, sample_weight, options):
        raise TypeError("fit works on the host, but an argument is traced: use `jaxgmm.run` under jit, vmap or jvp")
    check_process()
    warn_of_compiler()
    check_climber(options.algorithm, options.prior)
    key, family = as_key(key), family_of(options.covariance_type)
    n_components, n_init = as_count(n_components, "n_components"), as_count(options.n_init, "n_init")
    max_iter, tol = as_count(options.max_iter, "max_iter"), as_tolerance(options.tol)
    algorithm, init = options.algorithm, options.init
    taken = intake(x, sample_weight, n_components, family)
    units, prior = taken.units, settle(options.prior, taken.dtype)
    slots = max(n_slots, n_components)
    if isinstance(init, str):
        method = as_method(init)
        starts = drawn_assignments(key, taken.data, n_components, method, family, n_init, slots, taken.dtype)
    else:
        starts = given_start(init, taken, n_components, family, prior, key)

    def of_units(penalty: Penalty) -> ObjectiveUnits:
        return ObjectiveUnits.of(units, taken.weight_unit, taken.weight, float(penalty.mass))

    def announced(problem: Problem, mixture: Mixture) -> Penalty:
        n_covariances, told = min(mixture.covs.count, n_components), of_units(problem.penalty)
        progress.begin(n_components, family.name, lambda value: float(told.objective(value, n_covariances)))
        return problem.penalty

    def climb(data: Data, starts: Start) -> tuple[Outcome, Penalty]:
        if host_driven(data):
            limit = jnp.asarray(tol, taken.dtype)
            lanes, problem = start_driven(algorithm, starts, data, prior, family, max_iter)
            penalty = announced(problem, lanes[0].state.mixture)
            return climb_driven(algorithm, lanes, problem, limit, max_iter, progress), penalty
        data = spread(data, len(jax.tree.leaves(starts)[0]), slots, family.statistic.products)
        climbs, part = start_all(algorithm, starts, data, prior, family, max_iter)
        problem = with_inputs(part, data)
        # Rows without weight do not count: padding must not decide which restarts go on.
        stages = plan(climbs, taken.n_counted, n_components)
        work = pass_work(climbs, taken.n_counted, slots)
        penalty = announced(problem, climbs.state.mixture)
        return climb_all(algorithm, climbs, problem, tol, n_components, stages, work, max_iter, progress), penalty

    def climb_quickly(data: Data, starts: Start) -> tuple[Outcome, Penalty]:
        if not getattr(algorithm, "by_moments", False):
            return climb(data, starts)
        quick = compacted(data, len(jax.tree.leaves(starts)[0]), slots, family.statistic.products)
        outcome, penalty = climb(quick, starts)
        if quick is data:
            return outcome, penalty
        return mended(outcome, lambda failed: climb(data, jax.tree.map(lambda leaf: leaf[failed], starts))[0]), penalty

    outcome, penalty = verified(taken.data, algorithm, climb_quickly, starts, tol)
    best, restarts = choose(outcome)
    best = best._replace(mixture=without_spares(best.mixture, n_components))
    return _in_users_units(best, restarts, units, of_units(penalty), taken.dtype, taken.names)


def _in_users_units(
    fitted: FitResult, restarts: Restarts, units: Units, nats: ObjectiveUnits, dtype: DTypeLike, names: Names | None
) -> FitResult:
    """A fit of scaled rows as a fit in the user's units."""
    mixture = units.restore(to_host(fitted.mixture))
    if fitted.status not in FAILED:
        check_representable(mixture, dtype, names)
    there = np.count_nonzero(np.asarray(fitted.mixture.log_weights) > -np.inf)
    n_covariances = min(fitted.mixture.covs.count, int(there))

    def objective(value: Any) -> Any:
        return np.asarray(nats.objective(value, n_covariances), dtype)

    log_likelihood = nats.log_likelihood(fitted.log_likelihood)
    if fitted.status not in FAILED and abs(log_likelihood) > float(jnp.finfo(dtype).max):
        raise ValueError(
            f"the log-likelihood is {log_likelihood:.3g}, more than {jnp.dtype(dtype).name} can hold: "
            f"divide sample_weight by its mean"
        )
    # Put there as they are: made into arrays one by one, each shape would be compiled for.
    mixture, log_likelihood, best, n_iter, n_passes, history, ends = jax.device_put((
        jax.tree.map(lambda leaf: np.asarray(leaf, dtype), mixture),
        np.asarray(log_likelihood, dtype),
        objective(fitted.objective),
        np.asarray(fitted.n_iter),
        np.asarray(fitted.n_passes),
        objective(fitted.history),
        (objective(restarts.objective), np.asarray(restarts.status, np.int32), np.asarray(restarts.n_iter)),
    ))  # fmt: skip
    return FitResult(
        mixture=mixture,
        log_likelihood=log_likelihood,
        objective=best,
        n_iter=n_iter,
        n_passes=n_passes,
        status=Status(int(fitted.status)),
        history=history,
        restarts=Restarts(*ends),
        feature_names=names,
    )
