"""Gradient ascent on the same objective as EM, with any Optax optimiser."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxgmm.fitting.algorithms.protocol import Info
from jaxgmm.fitting.problem import Problem
from jaxgmm.model.coordinates import Params, constrain, unconstrain
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.units import units_of
from jaxgmm.numerics.trees import register_dataclass
from jaxgmm.probability.likelihood import data_log_likelihood

WINDOW = 10
"""The number of iterations over which the objective must have settled."""


class GradientState(NamedTuple):
    """The state of `Gradient` between two steps.

    Attributes:
        mixture: the current mixture, in the data's units.
        log_likelihood: of the mixture, ().
        params: the mixture's unconstrained coordinates, in scaled columns.
        optimizer: the Optax optimiser's state.
        loss: minus the objective per unit weight, ().
        gradient: of the loss, in `params`' coordinates.
        losses: of the last `WINDOW` iterations that moved, oldest first, (WINDOW,).
    """

    mixture: Mixture
    log_likelihood: Array
    params: Params
    optimizer: Any
    loss: Array
    gradient: Params
    losses: Array


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Gradient:
    """Gradient ascent in unconstrained coordinates, in columns scaled by their standard deviations.

    The loss is minus the objective per unit weight, so that a learning rate means the same for any N.
    Value and gradient come from one pass over the data, by Fisher's identity. The gain that remains is
    taken to be the larger of two: by how much the objective still moved over ten iterations, and half
    of what the last step promised to first order (for L-BFGS the Newton decrement). Where the optimiser did not move
    (it accumulates gradients, or the learning rate is 0), half the squared gradient takes the place of that promise,
    and the iteration does not count among the ten. This is an estimate: with a tiny learning rate Adam makes both
    small anywhere.

    Attributes:
        optimizer: any `optax.GradientTransformation`, `optax.lbfgs()` included. Static by identity: build
            it once.
        hyperparams: values by name for an optimiser built with `optax.inject_hyperparams`; traced, so
            that new values do not recompile.

    Example:
        >>> import optax
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> fitted = jaxgmm.run(jaxgmm.Gradient(optax.adam(0.01)), mixture, x, max_iter=100)
        >>> bool(fitted.log_likelihood > jaxgmm.log_likelihood(mixture, x))
        True
    """

    by_moments: ClassVar[bool] = False
    takes_spares: ClassVar[bool] = False
    """A start may not have components of weight 0: a log-weight of −∞ has no finite coordinates."""

    optimizer: Any = dataclasses.field(metadata={"static": True})
    hyperparams: Mapping[str, Any] | None = None

    def init(self, mixture: Mixture, problem: Problem) -> tuple[GradientState, Info]:
        """The state at the start, by one pass."""
        params = unconstrain(units_of(problem.columns, mixture.family).standardise(mixture))
        optimizer = self.optimizer.init(params)
        if self.hyperparams is not None:
            optimizer = _with_hyperparams(optimizer, self.hyperparams)
        loss, gradient = jax.value_and_grad(minus_objective(problem, params.family))(params)
        losses = jnp.full((WINDOW,), jnp.nan, loss.dtype)
        return self._report(params, optimizer, loss, gradient, losses, jnp.inf, jnp.ones((), jnp.int32), problem)

    def step(self, state: GradientState, problem: Problem) -> tuple[GradientState, Info]:
        """The state after one update of the optimiser; a line search takes as many passes as it needs."""
        loss_of = minus_objective(problem, state.params.family)
        update = optax.with_extra_args_support(self.optimizer).update
        # Optax itself relies on implicit promotion, which the caller may have forbidden.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            gradient, at = cast(Any, state.gradient), cast(Any, state.params)
            extra = {"value": state.loss, "grad": gradient, "value_fn": loss_of}
            updates, optimizer = update(gradient, state.optimizer, at, **extra)
            params = optax.apply_updates(at, updates)
        searched = optax.tree.get(optimizer, "num_linesearch_steps", None)
        n_passes = jnp.asarray(0 if searched is None else searched, jnp.int32)
        chained: Any = optimizer
        last = chained[-1] if type(chained) is tuple else chained
        if isinstance(last, optax.ScaleByZoomLinesearchState):
            # The line search, being the last to have a say, has been at these very parameters.
            loss, gradient = jnp.asarray(last.value), last.grad
        else:
            loss, gradient = jax.value_and_grad(loss_of)(params)
            n_passes = n_passes + 1
        promised = 0.5 * jnp.abs(optax.tree.vdot(state.gradient, updates))
        steepness = 0.5 * optax.tree.norm(state.gradient, squared=True)
        # An optimiser that stands still promises nothing, and settles nothing, but where there is no slope.
        still = jnp.all(jnp.stack([jnp.all(leaf == 0) for leaf in jax.tree.leaves(updates)]))
        tells = ~still | (steepness <= float(jnp.finfo(loss.dtype).eps))
        losses = jnp.where(tells, jnp.concatenate([state.losses[1:], loss[None]]), state.losses)
        settled = jnp.where(jnp.isnan(losses[0]), jnp.inf, jnp.max(losses) - jnp.min(losses))
        gain = problem.columns.mass * jnp.maximum(settled, jnp.where(still, steepness, promised))
        return self._report(params, optimizer, loss, gradient, losses, gain, n_passes, problem)

    def _report(
        self,
        params: Any,
        optimizer: optax.OptState,
        loss: Array,
        gradient: Any,
        losses: Array,
        gain: ArrayLike,
        n_passes: Array,
        problem: Problem,
    ) -> tuple[GradientState, Info]:
        mixture = units_of(problem.columns, params.family).restore(constrain(params))
        objective = -loss * problem.columns.mass
        log_likelihood = objective - problem.penalty.log_prob(mixture)
        state = GradientState(mixture, log_likelihood, params, optimizer, loss, gradient, losses)
        gain = jnp.asarray(gain, loss.dtype)
        return state, Info(objective, gain, jnp.asarray(n_passes, jnp.int32))


def minus_objective(problem: Problem, family: Family) -> Callable[[Params], Array]:
    """Minus the objective per unit weight, as a function of unconstrained coordinates in scaled columns."""
    units, dtype = units_of(problem.columns, family), problem.columns.mean.dtype

    def loss(params: Params) -> Array:
        # Where x64 is on, Optax's line search looks at float32 parameters in float64.
        mixture = units.restore(constrain(jax.tree.map(lambda leaf: leaf.astype(dtype), params)))
        objective = data_log_likelihood(mixture, problem.data) + problem.penalty.log_prob(mixture)
        return -objective / problem.columns.mass

    return loss


def _with_hyperparams(state: Any, hyperparams: Mapping[str, Any]) -> Any:
    """The optimiser's state with injected hyperparameters replaced.

    Raises:
        ValueError: if the optimiser has no hyperparameter of that name.
    """
    held = optax.tree.get(state, "hyperparams", None)
    if held is None:
        raise ValueError("hyperparams need an optimiser built with optax.inject_hyperparams")
    unknown = sorted(set(hyperparams) - set(held))
    if unknown:
        raise ValueError(f"the optimiser has no hyperparameter {unknown[0]!r}; it has {sorted(held)}")
    fresh = {name: jnp.asarray(value, jnp.asarray(held[name]).dtype) for name, value in hyperparams.items()}
    return optax.tree.set(state, hyperparams={**held, **fresh})
