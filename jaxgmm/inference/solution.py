"""Fits as differentiable functions of their data: the implicit function theorem at the optimum."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero
from numpy.typing import ArrayLike

from jaxgmm.data.conversion import as_weighted_data
from jaxgmm.data.protocol import FIT, Data, check_compiled
from jaxgmm.fitting.algorithms.protocol import Algorithm
from jaxgmm.fitting.loop import climb_from
from jaxgmm.fitting.problem import posed
from jaxgmm.fitting.results import Status
from jaxgmm.host.checks import as_count, as_tolerance, check_climber
from jaxgmm.inference.neighbourhood import Neighbourhood, about
from jaxgmm.inference.slopes import expected_slope, information
from jaxgmm.model.fitted import Fitted
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.priors.penalty import Prior
from jaxgmm.model.priors.ridge import prepare, settle
from jaxgmm.numerics.linalg import conjugate_gradients
from jaxgmm.numerics.programs import program


def solution(
    algorithm: Algorithm,
    mixture: Mixture | Fitted,
    x: Any,
    sample_weight: ArrayLike | None = None,
    *,
    prior: Prior | None = None,
    max_iter: int = 10_000,
    tol: ArrayLike = 1e-12,
) -> Mixture:
    """The fitted mixture as a differentiable function of the rows, their weights and the prior's strength.

    `run` finds the optimum θ of ℓ(θ; z) + log prior(θ; z) for data z. The derivative is that of the optimum, not of the
    climb: dθ = H⁻¹ (∂²/∂θ∂z) dz, where H, minus the Hessian, is the observed information. It is found by conjugate
    gradients, one pass over the data an iteration, in coordinates in which the information of the complete data is the
    identity. Memory
    grows neither with the iterations of the fit nor of the solve. Forward and reverse mode, under jit and vmap.

    The derivative is only as exact as the optimum: hence the tight `tol`. It is meaningless at a saddle, on the prior's
    floor or where the iterations ran out; the `status` of `run` from the result tells which it is.

    Args:
        algorithm: `EM()`, `Accelerated(EM())` or `Gradient(optimizer)`.
        mixture: the start, in its family; the solution does not depend on it, and has no derivative in it.
        x: rows, (N, D), or another `Data`.
        sample_weight: non-negative weights, (N,); None is 1 for each row.
        prior: `Ridge`, or None for maximum likelihood.
        max_iter: most iterations; static.
        tol: gain per unit weight, in nats, below which to stop; see `run`.

    Returns:
        The mixture; all NaN where the fit is `NONFINITE`, as with rows that hold NaN.

    Raises:
        TypeError: if `algorithm`, `mixture` or `prior` is of another type, or `tol` is no number.
        ValueError: if shapes do not match, `max_iter` is below 1, or, where they are concrete, `tol` or a weight is
            negative or NaN, or all weights are zero.

    References:
        Krantz & Parks (2002), The implicit function theorem; Louis (1982), for the observed information.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> mean_of = lambda x: jaxgmm.solution(jaxgmm.EM(), mixture, x).means[0, 0]
        >>> jax.grad(mean_of)(x).shape
        (100, 2)
    """
    check_climber(algorithm, prior)
    max_iter, tol = as_count(max_iter, "max_iter"), as_tolerance(tol)
    mixture, data = as_weighted_data(mixture, x, sample_weight, needs=FIT)
    check_compiled(data)
    dtype = mixture.means.dtype
    return _solution(algorithm, mixture, data, settle(prior, dtype), jnp.asarray(tol, dtype), max_iter)


@program(static_argnums=(5,), loops=True)
def _solution(
    algorithm: Algorithm, mixture: Mixture, data: Data, prior: Prior | None, tol: Array, max_iter: int
) -> Mixture:
    fixed = lax.stop_gradient((algorithm, mixture, data, prior, tol))
    fit = climb_from(*fixed, max_iter)
    # No status goes with it: a fit that failed must not pass for one.
    found = jax.tree.map(lambda leaf: jnp.where(fit.status == Status.NONFINITE, jnp.nan, leaf), fit.mixture)
    return optimum(lax.stop_gradient(found), data, prior)


@jax.custom_jvp
def optimum(mixture: Mixture, data: Data, prior: Prior | None) -> Mixture:
    """A mixture that is the optimum for data and a prior, with the derivatives of the optimum in both."""
    return mixture


@functools.partial(optimum.defjvp, symbolic_zeros=True)
def _implicit(primals: tuple[Mixture, Any, Any], tangents: tuple[Mixture, Any, Any]) -> tuple[Mixture, Mixture]:
    mixture, data, prior = primals
    values, structure = jax.tree.flatten((data, prior))
    changes = jax.tree.leaves(tangents[1:], is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
    moving = [place for place, change in enumerate(changes) if not isinstance(change, SymbolicZero)]
    if not moving:
        return mixture, jax.tree.map(jnp.zeros_like, mixture)
    # The optimum once more, which has this very derivative where a second one is taken.
    mixture = optimum(mixture, data, prior)
    around = place_of(mixture, data, prior)

    def moved_slope(*moved: Array) -> Array:
        given = list(values)
        for place, value in zip(moving, moved, strict=True):
            given[place] = value
        return slope(around, *jax.tree.unflatten(structure, given))

    _, change = jax.jvp(moved_slope, tuple(values[p] for p in moving), tuple(changes[p] for p in moving))
    steps, _ = lax.custom_linear_solve(
        information(around, data), change, conjugate_gradients, symmetric=True, has_aux=True
    )
    return mixture, jax.jvp(around.at, (around.origin,), (steps,))[1]


def place_of(mixture: Mixture, data: Data, prior: Prior | None) -> Neighbourhood:
    """The neighbourhood of a mixture for data and a prior."""
    return about(mixture, posed(data, prior))


def slope(around: Neighbourhood, data: Data, prior: Prior | None) -> Array:
    """Gradient of ℓ + log prior in the coordinates about a mixture, (P,), by Fisher's identity."""
    columns = data.columns()
    penalty = prepare(prior, columns)
    moments, _ = data.ready(lax.stop_gradient(columns)).moments(around.centre, around.centre.family.statistic)
    of_prior = jax.grad(lambda steps: penalty.log_prob(around.at(steps)))(around.origin)
    return expected_slope(around, moments) + of_prior
