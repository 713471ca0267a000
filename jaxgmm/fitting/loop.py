"""The one loop in the library, and `run`, the pure function that enters it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxgmm.data.conversion import as_weighted_data, names_of_data
from jaxgmm.data.protocol import FIT, Data, host_driven, over
from jaxgmm.data.spread import spread
from jaxgmm.fitting.algorithms.protocol import Algorithm, Info
from jaxgmm.fitting.collapse import collapsed_for_good, n_collapsed
from jaxgmm.fitting.problem import Problem, posed
from jaxgmm.fitting.results import FitResult, Status
from jaxgmm.host.checks import as_count, as_tolerance, check_climber
from jaxgmm.model.columns import Columns
from jaxgmm.model.fitted import Fitted, names_in
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.priors.penalty import Penalty, Prior
from jaxgmm.model.priors.ridge import settle
from jaxgmm.numerics.forward import forward_only
from jaxgmm.numerics.linalg import finite, varying_as
from jaxgmm.numerics.programs import program


class Climb(NamedTuple):
    """A fit under way.

    Attributes:
        state: the algorithm's state.
        info: the report on the last step.
        n_iter: iterations so far, (); −1 before the start has been visited, which does not count as one.
        n_passes: passes over the data so far, ().
        history: objective after each iteration, NaN ahead, (max_iter,).
        lost: whether it has collapsed and will not recover, ().
    """

    state: Any
    info: Info
    n_iter: Array
    n_passes: Array
    history: Array
    lost: Array


def run(
    algorithm: Algorithm,
    mixture: Mixture | Fitted,
    x: Any,
    sample_weight: ArrayLike | None = None,
    *,
    prior: Prior | None = None,
    max_iter: int = 1000,
    tol: ArrayLike = 1e-6,
) -> FitResult:
    """The fit that an algorithm reaches from one start, in its family: a pure function, under jit, vmap and jvp.

    Maximises Σ wᵢ log p(xᵢ; θ) + log prior(θ). Stops when the algorithm's own estimate of the gain that
    remains, per unit weight, falls below `tol`: an estimate, from the decay of EM's gains or the
    settling of an optimiser. With a `tol` below what the dtype resolves (about 1e-7 in float32), `CONVERGED`
    means that steps have become rounding, and `MAX_ITER` is as likely. Rows are not checked, nor is anything
    that is traced: bad values show in `status`. Columns are not scaled; `fit` does that.

    Args:
        algorithm: `EM()`, `Accelerated(EM())` or `Gradient(optimizer)`.
        mixture: the start.
        x: rows, (N, D), or another `Data`.
        sample_weight: non-negative weights, (N,); None is 1 for each row.
        prior: `Ridge`, or None for maximum likelihood.
        max_iter: most iterations; static, since it sizes the history.
        tol: gain per unit weight, in nats, below which to stop; 0 runs exactly `max_iter` iterations.

    Returns:
        The fit; `status` is `CONVERGED`, `MAX_ITER`, `NONFINITE` or `COLLAPSED`. It has a derivative forward only, that
        of the climb: in reverse mode a TypeError says to take `solution`.

    Raises:
        TypeError: if `algorithm`, `mixture` or `prior` is of another type, `tol` is no number, or x or the weights hold
            no numbers.
        ValueError: if shapes do not match, `max_iter` is below 1, or, where they are concrete, `tol` or a weight is
            negative or NaN, or all weights are zero.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> fitted = jaxgmm.run(jaxgmm.EM(), mixture, x)
        >>> jaxgmm.Status(int(fitted.status)).name
        'CONVERGED'
    """
    check_climber(algorithm, prior)
    max_iter = as_count(max_iter, "max_iter")
    tol = as_tolerance(tol)
    names = names_of_data(x) or names_in(mixture)
    mixture, data = as_weighted_data(mixture, x, sample_weight, needs=FIT)
    dtype = mixture.means.dtype
    shared = spread(data, 1, mixture.n_components, mixture.family.statistic.products, (algorithm, mixture, prior, tol))
    climb = over(shared, climb_from)
    result = climb(algorithm, mixture, shared, settle(prior, dtype), jnp.asarray(tol, dtype), max_iter)
    if shared is not data:
        # From all devices, which each of the caller's next steps would run on, back to one.
        result = jax.device_put(jax.device_get(result))
    return result._replace(feature_names=names)


@program(static_argnums=(5,), loops=True)
def climb_from(
    algorithm: Algorithm, mixture: Mixture, data: Data, prior: Prior | None, tol: Array, max_iter: int
) -> FitResult:
    """The fit from a start over `Data`, under a prior that `settle` has prepared; see `run`."""
    problem = posed(data, prior)
    climb = advance(algorithm, begin(algorithm, mixture, problem, max_iter), problem, tol, max_iter)
    return forward_only(end(climb, problem.columns, problem.penalty, tol))


def begin(algorithm: Algorithm, mixture: Mixture, problem: Problem, max_iter: int) -> Climb:
    """A climb at its start."""
    state, info = algorithm.init(mixture, problem)
    history = jnp.full((max_iter,), jnp.nan, info.objective.dtype)
    n_iter, lost = jnp.minimum(info.n_passes, 1) - 1, jnp.zeros((), bool)
    climb = Climb(state, info, n_iter, info.n_passes, history, lost)
    # Strong types, as `advance` returns them: a weakly typed number would compile it a second time.
    climb = jax.tree.map(lambda leaf: lax.convert_element_type(leaf, leaf.dtype), climb)
    # A climb that has made no pass varies as its start and its rows do.
    columns = problem.columns
    return varying_as(climb, mixture.log_weights[0] + mixture.means[0, 0] + columns.mean[0] + columns.mass)


def going(climb: Climb, columns: Columns, tol: ArrayLike) -> Array:
    """Whether a climb goes on, (): not converged, out of iterations, failed or, unless tol is 0, lost."""
    hopeful = ~_converged(climb, columns, tol) & ~(climb.lost & (climb.n_iter > 0) & (jnp.asarray(tol) > 0))
    unfinished = hopeful & (climb.n_iter < climb.history.shape[-1])
    return unfinished & (jnp.isfinite(climb.info.objective) | (climb.n_iter < 0))


def advance(algorithm: Algorithm, climb: Climb, problem: Problem, tol: ArrayLike, n_steps: ArrayLike) -> Climb:
    """The climb after up to `n_steps` more iterations, fewer where it ends."""
    until = jnp.maximum(climb.n_iter, 0) + n_steps

    def unfinished(climb: Climb) -> Array:
        return going(climb, problem.columns, tol) & (climb.n_iter < until)

    if not host_driven(problem.data):
        return lax.while_loop(unfinished, lambda climb: _step(algorithm, climb, problem, True), climb)
    while unfinished(climb):
        climb = _step(algorithm, climb, problem, True)
    return climb


def advance_all(
    algorithm: Algorithm,
    climbs: Climb,
    still: Array,
    problem: Problem,
    tol: ArrayLike,
    n_steps: ArrayLike,
    until: ArrayLike,
    alone: ArrayLike,
    axes: Any = None,
) -> tuple[Climb, Array]:
    """Stacked climbs after up to `n_steps` more iterations of those that are `still` going, and which then are, (A,).

    What `vmap` makes of `advance`, but traced once: `vmap` would trace the loop, and then trace it again.

    Args:
        algorithm: the algorithm.
        climbs: stacked along a leading axis A.
        still: which of them have not ended, (A,).
        problem: the problem.
        tol: gain per unit weight below which to stop.
        n_steps: the most iterations.
        until: iterations of a climb after which it waits, () or (A,).
        alone: whether to return as soon as one of them ends or waits, or only when all do.
        axes: which leaves of the problem are stacked for the climbs, as `vmap` is told; None where all are on one.
    """

    def live(climbs: Climb, still: Array) -> Array:
        return still & (climbs.n_iter < until)

    def unfinished(held: tuple[Climb, Array, Array]) -> Array:
        now = live(held[0], held[1])
        some_left = jnp.any(begun & ~now) & alone
        return jnp.any(now) & ~some_left & (held[2] < n_steps)

    def step(climb: Climb, still: Array, moves: Array, problem: Problem) -> tuple[Climb, Array]:
        stepped = _step(algorithm, climb, problem, moves)
        parts = [climb._replace(history=()) for climb in (stepped, climb)]
        kept = jax.tree.map(lambda new, old: jnp.where(moves, new, old), *parts)
        return kept._replace(history=stepped.history), still & (~moves | going(stepped, problem.columns, tol))

    def step_all(held: tuple[Climb, Array, Array]) -> tuple[Climb, Array, Array]:
        climbs, still, n_done = held
        return *jax.vmap(step, (0, 0, 0, axes))(climbs, still, live(climbs, still), problem), n_done + 1

    begun = live(climbs, still)
    return lax.while_loop(unfinished, step_all, (climbs, still, jnp.zeros((), jnp.int32)))[:2]


def _step(algorithm: Algorithm, climb: Climb, problem: Problem, live: ArrayLike) -> Climb:
    """The climb after one more iteration; the history of one that is not `live` stays."""
    state, info = algorithm.step(climb.state, problem)
    length = climb.history.shape[-1]
    place = jnp.where((climb.n_iter < 0) | ~jnp.asarray(live), length, climb.n_iter)
    history = climb.history.at[place].set(info.objective, mode="drop")
    lost = collapsed_for_good(state.mixture, problem.columns, problem.penalty)
    climb = Climb(state, info, climb.n_iter + 1, climb.n_passes + info.n_passes, history, lost)
    return varying_as(climb, info.objective)


def end(
    climb: Climb, columns: Columns, penalty: Penalty, tol: ArrayLike, n_components: ArrayLike | None = None
) -> FitResult:
    """The fit that a climb has reached; components from `n_components` on are spare."""
    mixture, objective = climb.state.mixture, climb.info.objective
    status = jnp.where(_converged(climb, columns, tol), Status.CONVERGED, Status.MAX_ITER)
    collapsed = climb.lost | (n_collapsed(mixture, columns, penalty, n_components) > 0)
    status = jnp.where(collapsed, Status.COLLAPSED, status)
    sound = jnp.isfinite(objective) & finite((mixture.means, mixture.covs))
    sound = sound & jnp.all(mixture.log_weights <= 0.01)
    return FitResult(
        mixture=mixture,
        log_likelihood=climb.state.log_likelihood,
        objective=objective,
        n_iter=climb.n_iter,
        n_passes=climb.n_passes,
        status=jnp.where(sound, status, Status.NONFINITE).astype(jnp.int32),
        history=climb.history,
        restarts=None,
    )


def _converged(climb: Climb, columns: Columns, tol: ArrayLike) -> Array:
    return (climb.n_iter > 0) & (climb.info.gain < jnp.asarray(tol, climb.info.gain.dtype) * columns.mass)
