"""EM with quasi-Newton extrapolation: EM's optimum in far fewer passes where components overlap."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, nn

from jaxgmm.fitting.algorithms.em import EM, Visit, divergence_from, rounding_gain, unvisited
from jaxgmm.fitting.algorithms.protocol import Info
from jaxgmm.fitting.problem import Problem
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.priors.penalty import Penalty
from jaxgmm.model.slots import choose_covariances, present
from jaxgmm.numerics.linalg import finite, product
from jaxgmm.numerics.trees import register_dataclass

_FLATTEST = 1e-8
"""The least curvature along a step, relative to that of the complete data, at which the step is used."""

_LATEST = 3
"""The gain that remains is estimated only if the objective curved upwards along none of this many last steps."""


class AcceleratedState(NamedTuple):
    """The state of `Accelerated` between two steps.

    Attributes:
        best: the best mixture so far.
        highest: the highest objective so far, (); −∞ before the start has been visited.
        proposal: the mixture to visit next.
        safe: whether the proposal is an EM step from the best, ().
        points: coordinates of earlier visits, oldest first, (order, P).
        residuals: F(point) − point for the EM map F, (order, P).
        count: how many earlier visits are held, ().
    """

    best: Visit
    highest: Array
    proposal: Mixture
    safe: Array
    points: Array
    residuals: Array
    count: Array

    mixture = property(lambda self: self.best.mixture)
    log_likelihood = property(lambda self: self.best.log_likelihood)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Accelerated:
    """EM accelerated by limited-memory BFGS, with EM as its preconditioner (Jamshidian & Jennrich 1997).

    With F the EM map in unconstrained coordinates and I_c the information of the complete data, the residual
    F(θ) − θ is, near the optimum, the gradient of the objective in the metric I_c. In that metric minus the
    Hessian lies between 0 and 1, 1 being what EM takes it for, and the fraction of information that is missing
    is what slows EM down. The last steps and the residuals' changes along them correct it (the two loops of
    Nocedal 1980, begun from 1).

    Each iteration is one pass. It visits the proposed mixture, which counts only if its objective is at least that
    of the best mixture plus what an EM step from there is sure to gain, the M-step's gain in Q; if not, the
    best stays, and the next pass is spent on the EM step itself. So the objective never falls, and no more than
    every other pass is lost.

    The gain that remains is taken to be the larger of two: half the slope along the extrapolation, and the EM step's
    gain in Q divided by the least curvature seen along the last steps. Where one of the latest curved
    upwards there is no estimate yet.

    Attributes:
        algorithm: the EM to accelerate.
        order: how many steps are remembered; static.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> fitted = jaxgmm.run(jaxgmm.Accelerated(jaxgmm.EM()), mixture, x)
        >>> bool(fitted.log_likelihood >= jaxgmm.log_likelihood(mixture, x))
        True
    """

    by_moments: ClassVar[bool] = True
    takes_spares: ClassVar[bool] = True
    """Components with log-weight −∞ stay as they are."""

    algorithm: EM = EM()
    order: int = dataclasses.field(default=8, metadata={"static": True})

    def init(self, mixture: Mixture, problem: Problem) -> tuple[AcceleratedState, Info]:
        """No pass: the first step visits the start."""
        info = unvisited(mixture.means.dtype)
        unknown, no_mass = info.objective, jnp.zeros_like(mixture.log_weights)
        best = Visit(mixture, no_mass, unknown, unknown, mixture, gain=unknown)
        empty = jnp.zeros((self.order, coordinates(mixture).shape[0]), unknown.dtype)
        lowest, safe, count = jnp.full_like(unknown, -jnp.inf), jnp.ones((), bool), jnp.zeros((), jnp.int32)
        return AcceleratedState(best, lowest, mixture, safe, empty, empty, count), info

    def step(self, state: AcceleratedState, problem: Problem) -> tuple[AcceleratedState, Info]:
        """The state after one pass: the proposal is visited, the better mixture kept, and a new one proposed."""
        seen, best = self.algorithm.visit(state.proposal, problem), state.best
        begun = state.highest > -jnp.inf
        sound = finite((seen.objective, seen.mass, seen.image.means, seen.image.covs))
        # What rounding of the sum over rows makes of two equal objectives.
        slack = 4 * float(jnp.finfo(best.objective.dtype).eps) * (jnp.abs(state.highest) + problem.columns.mass)
        better = state.safe | (sound & (seen.objective >= state.highest + best.gain - slack))
        best, other = _choose(better, seen, best), _choose(better, best, seen)

        told = begun & (sound | better)
        points = jnp.where(told, _append(state.points, coordinates(other.mixture)), state.points)
        residuals = jnp.where(told, _append(state.residuals, _residual(other)), state.residuals)
        count = jnp.minimum(state.count + told.astype(jnp.int32), self.order)
        direction, slope, remaining = extrapolate(best, points, residuals, count, problem.penalty)
        # A direction in which the model falls, or that overflows, is no proposal.
        safe = ~(begun & better & jnp.isfinite(slope) & (slope > 0))
        moved = displaced(best.mixture, direction, best.image)
        highest, proposal = jnp.maximum(state.highest, best.objective), _choose(safe, best.image, moved)
        state = AcceleratedState(best, highest, proposal, safe, points, residuals, count)
        gain = jnp.where(best.gain <= 0, 0.0, remaining)
        return state, Info(best.objective, gain, jnp.ones((), jnp.int32))


def extrapolate(
    best: Visit, points: Array, residuals: Array, count: Array, penalty: Penalty
) -> tuple[Array, Array, Array]:
    """The quasi-Newton direction from the best mixture, (P,), the slope along it, and the gain that remains.

    Args:
        best: the best mixture, with its residual f.
        points: earlier visits θ_j, oldest first, (m, P).
        residuals: their residuals f_j, (m, P).
        count: how many earlier visits are held, ().
        penalty: the prior.
    """
    order = points.shape[0]
    here, residual = coordinates(best.mixture), _residual(best)
    known = (jnp.arange(order, dtype=count.dtype) >= order - count)[:, None] & _present(best.image)[None, :]
    steps = jnp.where(known, _append(points, here) - points, 0.0)
    bends = jnp.where(known, residuals - _append(residuals, residual), 0.0)
    information = complete_information(best, penalty)
    steps_dual, bends_dual = jax.vmap(information)(steps), jax.vmap(information)(bends)
    length = jnp.sum(steps_dual * steps, axis=-1)
    curved = jnp.sum(steps_dual * bends, axis=-1)
    long = length > rounding_gain(best.mixture, best.mass)
    used = long & (curved > _FLATTEST * length)
    inverse = jnp.where(used, 1 / jnp.where(used, curved, 1.0), 0.0)

    direction, shares = residual, []
    for j in reversed(range(order)):
        share = inverse[j] * jnp.sum(steps_dual[j] * direction)
        direction = direction - share * bends[j]
        shares.append(share)
    for j, share in enumerate(reversed(shares)):
        direction = direction + (share - inverse[j] * jnp.sum(bends_dual[j] * direction)) * steps[j]

    slope = product("p,p->", information(residual), direction)
    least = jnp.min(jnp.where(used, curved / jnp.where(used, length, 1.0), 1.0))
    upwards = jnp.any((long & ~used)[-_LATEST:])
    estimated = (slope > 0) & (count >= min(2, order)) & ~upwards
    gain = jnp.where(estimated, jnp.maximum(0.5 * slope, best.gain / least), jnp.inf)
    return direction, slope, gain


def complete_information(best: Visit, penalty: Penalty) -> Any:
    """The map v ↦ I_c v at the best mixture, where I_c is the Hessian of the gain in Q with respect to coordinates."""
    mixture = best.mixture
    masses = penalty.masses(best.mass, mixture.covs.count)

    def divergence(direction: Array) -> Array:
        return divergence_from(mixture, _displaced(mixture, direction), masses)

    still = jnp.zeros_like(coordinates(mixture))
    return jax.linearize(jax.grad(divergence), still)[1]


def coordinates(mixture: Mixture) -> Array:
    """Log-weights, means and the family's unconstrained scales in one vector, (P,); 0 for a log-weight of −∞."""
    log_weights = jnp.where(mixture.log_weights > -jnp.inf, mixture.log_weights, 0.0)
    return jnp.concatenate([log_weights, mixture.means.ravel(), mixture.family.pack(mixture.covs).ravel()])


def displaced(mixture: Mixture, direction: Array, image: Mixture) -> Mixture:
    """The mixture moved by a vector (P,) of coordinates; components of weight 0 in `image` are taken from there."""
    held = image.log_weights > -jnp.inf
    moved = _displaced(mixture, direction)
    log_weights = nn.log_softmax(jnp.where(held, moved.log_weights, -jnp.inf))
    means = jnp.where(held[:, None], moved.means, image.means)
    covs = choose_covariances(present(image), moved.covs, image.covs)
    return Mixture(log_weights, means, covs, mixture.family)


def _displaced(mixture: Mixture, direction: Array) -> Mixture:
    (n_components, n_features), family = mixture.means.shape, mixture.family
    scales = family.pack(mixture.covs)
    of_weights, of_means, of_scales = jnp.split(direction, [n_components, n_components * (1 + n_features)])
    return Mixture(
        log_weights=mixture.log_weights + of_weights,
        means=mixture.means + of_means.reshape(mixture.means.shape),
        covs=family.unpack(scales + of_scales.reshape(scales.shape), mixture.covs.count, n_features),
        family=family,
    )


def _residual(visit: Visit) -> Array:
    return jnp.where(_present(visit.image), coordinates(visit.image) - coordinates(visit.mixture), 0.0)


def _present(image: Mixture) -> Array:
    """Whether each coordinate belongs to a component of positive weight, (P,)."""
    held = image.log_weights > -jnp.inf
    n_scales = image.family.pack(image.covs).shape
    per_covariance = held if n_scales[0] == held.shape[0] else jnp.ones(n_scales[:1], bool)
    repeated = jnp.repeat(held, image.n_features), jnp.repeat(per_covariance, n_scales[1])
    return jnp.concatenate([held, *repeated])


def _append(rows: Array, row: Array) -> Array:
    """The rows without the first, and with one more at the end."""
    return jnp.concatenate([rows[1:], row[None]])


def _choose(condition: Array, one: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)
