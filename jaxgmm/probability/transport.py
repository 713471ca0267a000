"""The Wasserstein distance between mixtures, by optimal transport between their components."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxgmm.model.fitted import Fitted
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics.factors import nearest_rotation
from jaxgmm.numerics.linalg import product
from jaxgmm.numerics.programs import program
from jaxgmm.probability.pairs import as_pair, components, normalised

_MOST_PATHS = 4
"""The most augmenting paths for each pair of components; mostly a few for each component suffice."""


class Transport(NamedTuple):
    """The optimal transport of one mixture onto another.

    Attributes:
        distance: the mixture Wasserstein distance MW2, ().
        plan: mass carried from each component of p to each of q, (K, L); rows sum to p's weights, columns to q's.
            It has no derivative.
        costs: squared Wasserstein distances between components, (K, L).

    Example:
        >>> p = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> transport = jaxgmm.wasserstein(p, jaxgmm.affine(p, 1.0, [1.0, 0.0]))
        >>> transport.plan.shape, transport.costs.shape
        ((2, 2), (2, 2))
    """

    distance: Array
    plan: Array
    costs: Array


class _Flow(NamedTuple):
    """A partial transport plan, the cheapest for the mass that it carries.

    Attributes:
        plan: mass carried, (K, L).
        supply: mass not yet carried from each component of p, (K,).
        demand: mass still missing in each component of q, (L,).
        source_price: dual variables u, with c_kl − u_k − v_l ≥ 0, and = 0 wherever mass is carried, (K,).
        sink_price: dual variables v, (L,).
        paths_left: the number of paths that may still be tried, ().
    """

    plan: Array
    supply: Array
    demand: Array
    source_price: Array
    sink_price: Array
    paths_left: Array


class _Reach(NamedTuple):
    """Shortest distances from the sources with supply, and where each node was reached from.

    Attributes:
        source: distances to sources, (K,).
        sink: distances to sinks, (L,).
        before_source: the sink before each source, (K,).
        before_sink: the source before each sink, (L,).
        shrinking: whether a distance to a source just fell, ().
    """

    source: Array
    sink: Array
    before_source: Array
    before_sink: Array
    shrinking: Array


def wasserstein(p: Mixture | Fitted, q: Mixture | Fitted) -> Transport:
    """The mixture Wasserstein distance MW2: optimal transport by Gaussian mixtures (Delon & Desolneux 2020).

    MW2² = min_w Σ_kl w_kl W2²(p_k, q_l) over w ≥ 0 with Σ_l w_kl = π_k and Σ_k w_kl = ω_l, where
    W2² = ‖μ_k − μ_l‖² + tr(Σ_k + Σ_l − 2(Σ_k^½ Σ_l Σ_k^½)^½). It is at least the W2 of the mixtures themselves.

    First derivatives of the distance and the costs are exact, by the envelope theorem; second ones are not, since the
    plan, the dual prices of the weights and the rotations between covariances are held fixed. Where several plans or
    prices are optimal, the derivative is that of one of them. At distance 0, where there is none, it is given as 0.

    Args:
        p: a mixture of K components.
        q: a mixture of L components, of any family.

    Returns:
        The distance, the plan and the costs.

    Raises:
        ValueError: if p and q have different numbers of columns.

    Example:
        >>> p = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> transport = jaxgmm.wasserstein(p, jaxgmm.affine(p, 1.0, [1.0, 0.0]))
        >>> round(float(transport.distance), 3)
        1.0
        >>> print(np.asarray(transport.plan).round(3))
        [[0.4 0. ]
         [0.  0.6]]
    """
    return _wasserstein(*as_pair(p, q))


@program(loops=True)
def _wasserstein(p: Mixture, q: Mixture) -> Transport:
    p, q = normalised(p), normalised(q)
    there = jnp.isfinite(p.log_weights)[:, None] & jnp.isfinite(q.log_weights)[None, :]
    unit, costs = squared_distances(p, q, there)
    met = jnp.where(there, costs, 0.0)
    plan, source_price, sink_price = lax.stop_gradient(cheapest_plan(*lax.stop_gradient((p.weights, q.weights, met))))
    # In value the last two terms are 0; in derivative they are what a unit more of each weight costs.
    squared = (
        jnp.sum(plan * met)
        + jnp.sum(source_price * (p.weights - lax.stop_gradient(p.weights)))
        + jnp.sum(sink_price * (q.weights - lax.stop_gradient(q.weights)))
    )
    apart = squared != 0
    distance = unit * jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1.0)), 0.0)
    return Transport(distance=distance, plan=plan, costs=unit * (unit * costs))


def squared_distances(p: Mixture, q: Mixture, there: Array) -> tuple[Array, Array]:
    """A power of two, (), near the largest length of components of positive weight, and W2² in that unit, (K, L)."""
    first, second = np.indices(there.shape)
    (mean, a), (other_mean, b) = components(p, q, first.ravel(), second.ravel() + p.n_components)
    shift, (factor,), (other_factor,) = mean - other_mean, jax.tree.leaves(a), jax.tree.leaves(b)
    flat = [jnp.abs(lengths).reshape(there.size, -1) for lengths in (shift, factor, other_factor)]
    largest = jnp.max(jnp.where(there.reshape(-1, 1), jnp.concatenate(flat, axis=1), 0.0))
    unit = lax.stop_gradient(jnp.ldexp(jnp.ones_like(largest), jnp.frexp(largest)[1]))
    factor, other_factor, shift = factor / unit, other_factor / unit, shift / unit
    spread = jnp.sum((factor - other_factor) ** 2, axis=-1) if not a.mixes else _bures(factor, other_factor)
    return unit, (spread + jnp.sum(shift**2, axis=-1)).reshape(there.shape)


def _bures(a: Array, b: Array) -> Array:
    """tr(A Aᵀ + B Bᵀ) − 2 tr((A Aᵀ)^½ B Bᵀ (A Aᵀ)^½)^½ for factors (..., D, D).

    The last trace is the nuclear norm of AᵀB = U S Vᵀ, so that the value is min_Q ‖A Q − B‖² over orthogonal Q,
    attained at Q = U Vᵀ: there is no cancellation where the two are close, and the derivative is that for fixed Q.
    """
    rotation = nearest_rotation(product("...ji,...jk->...ik", a, b))
    squared = jnp.sum((product("...ij,...jk->...ik", a, rotation) - b) ** 2, axis=(-2, -1))
    # What rounding of the rotation leaves of equal covariances is 0.
    rounding = 4 * a.shape[-1] * float(jnp.finfo(a.dtype).eps)
    size = lax.stop_gradient(jnp.sum(a**2 + b**2, axis=(-2, -1)))
    return jnp.where(squared <= rounding**2 * size, 0.0, squared)


def cheapest_plan(supply: Array, demand: Array, costs: Array) -> tuple[Array, Array, Array]:
    """The cheapest plan, (K, L), and the dual prices (K,), (L,) that prove it optimal, by successive shortest paths.

    Mass is sent along the path that is shortest by reduced costs, from any source with supply to any sink with demand;
    a step backwards along the plan takes mass off it. Each path exactly empties a source, fills a sink or clears an
    entry of the plan (Ahuja, Magnanti & Orlin 1993, section 9.7).
    """
    source_price = jnp.min(costs, axis=1)
    sink_price = jnp.min(costs - source_price[:, None], axis=0)
    most = jnp.asarray(_MOST_PATHS * sum(costs.shape) ** 2, jnp.int32)
    begun = _Flow(jnp.zeros_like(costs), supply, demand, source_price, sink_price, most)

    def unfinished(flow: _Flow) -> Array:
        return jnp.any(flow.supply > 0) & jnp.any(flow.demand > 0)

    def augment(flow: _Flow) -> _Flow:
        reduced = jnp.maximum(costs - flow.source_price[:, None] - flow.sink_price[None, :], 0.0)
        reach = _reach(reduced, flow)
        ends = jnp.where(flow.demand > 0, reach.sink, jnp.inf)
        end = lax.argmin(ends, 0, jnp.int32)
        nearest = ends[end]
        path, start, room = _walk(reach, flow, end, jnp.isfinite(nearest))
        amount = jnp.minimum(room, jnp.minimum(flow.supply[start], flow.demand[end]))
        amount = jnp.where(jnp.isfinite(nearest), amount, 0.0)
        return _Flow(
            plan=flow.plan + path * amount,
            supply=flow.supply.at[start].add(-amount),
            demand=flow.demand.at[end].add(-amount),
            source_price=flow.source_price - jnp.minimum(reach.source, nearest),
            sink_price=flow.sink_price + jnp.minimum(reach.sink, nearest),
            paths_left=jnp.where(jnp.isfinite(nearest), flow.paths_left - 1, 0),
        )

    flow = lax.while_loop(lambda flow: unfinished(flow) & (flow.paths_left > 0), augment, begun)
    solved = ~unfinished(flow) & jnp.isfinite(jnp.sum(supply) + jnp.sum(demand))
    return jnp.where(solved, flow.plan, jnp.nan), flow.source_price, flow.sink_price


def _reach(reduced: Array, flow: _Flow) -> _Reach:
    """Shortest distances by reduced costs (K, L), up to that of the nearest sink with demand: Bellman and Ford."""
    n_sources, n_sinks = reduced.shape

    def relax(reach: _Reach) -> _Reach:
        onward = reach.source[:, None] + reduced
        sink = jnp.min(onward, axis=0)
        nearer = sink < reach.sink
        sink = jnp.where(nearer, sink, reach.sink)
        before_sink = jnp.where(nearer, lax.argmin(onward, 0, jnp.int32), reach.before_sink)
        # Nothing beyond the nearest sink with demand lies on its path.
        nearest = jnp.min(jnp.where(flow.demand > 0, sink, jnp.inf))
        back = jnp.where((flow.plan > 0) & (sink < nearest)[None, :], sink[None, :], jnp.inf)
        source = jnp.min(back, axis=1)
        nearer = source < reach.source
        source = jnp.where(nearer, source, reach.source)
        before_source = jnp.where(nearer, lax.argmin(back, 1, jnp.int32), reach.before_source)
        return _Reach(source, sink, before_source, before_sink, jnp.any(nearer))

    begun = _Reach(
        source=jnp.where(flow.supply > 0, jnp.zeros_like(flow.supply), jnp.inf),
        sink=jnp.full_like(flow.demand, jnp.inf),
        before_source=jnp.zeros(n_sources, jnp.int32),
        before_sink=jnp.zeros(n_sinks, jnp.int32),
        shrinking=jnp.asarray(True),
    )
    return lax.while_loop(lambda reach: reach.shrinking, relax, begun)


def _walk(reach: _Reach, flow: _Flow, end: Array, reached: Array) -> tuple[Array, Array, Array]:
    """The path to a sink as +1 and −1 on the plan, (K, L), the source where it starts, and the mass it can carry."""

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        path, source, room = state
        sink = reach.before_source[source]
        before = reach.before_sink[sink]
        room = jnp.minimum(room, flow.plan[source, sink])
        return path.at[source, sink].set(-1.0).at[before, sink].set(1.0), before, room

    source = reach.before_sink[end]
    path = jnp.zeros_like(flow.plan).at[source, end].set(1.0)
    begun = (path, source, jnp.full_like(flow.supply[0], jnp.inf))
    # Distances only grow along a path, so that it has no cycle and ends at a source with supply.
    return lax.while_loop(lambda state: reached & ~(flow.supply[state[1]] > 0), step, begun)
