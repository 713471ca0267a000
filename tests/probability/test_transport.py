"""MW2 against a linear program, the closed form between Gaussians, and differences."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, optimize

import jaxgmm
from jaxgmm.probability.transport import cheapest_plan, wasserstein
from tests import cases
from tests.cases import tolerance

PAIRS = [("full", "diag"), ("tied", "full"), ("diag", "spherical"), ("spherical", "tied")]
solve = jax.jit(cheapest_plan)
slopes = jax.jit(jax.value_and_grad(lambda p, q: wasserstein(p, q).distance, argnums=(0, 1)))


def pair(families, dtype=np.float64, seed=0):
    p, _ = cases.mixture(families[0], 3, 3, dtype, seed=seed)
    q, _ = cases.mixture(families[1], 4, 3, dtype, seed=seed + 1)
    return p, q


def squared_distances(p, q):
    """W2² between components by matrix square roots, (K, L)."""
    out = np.empty((p.n_components, q.n_components))
    for k, j in np.ndindex(out.shape):
        a, b, A, B = (np.asarray(x, np.float64) for x in (p.means[k], q.means[j], p.covariances[k], q.covariances[j]))
        root = linalg.sqrtm(A)
        cross = linalg.sqrtm(root @ B @ root)
        out[k, j] = np.sum((a - b) ** 2) + np.trace(A + B - 2 * np.real(cross))
    return out


def least_cost(supply, demand, costs):
    n_sources, n_sinks = costs.shape
    rows = np.concatenate([np.kron(np.eye(n_sources), np.ones(n_sinks)), np.kron(np.ones(n_sources), np.eye(n_sinks))])
    found = optimize.linprog(costs.ravel(), A_eq=rows[:-1], b_eq=np.append(supply, demand)[:-1], method="highs")
    return found.fun


def problem(kind, n_sources, n_sinks, rng):
    costs = rng.uniform(size=(n_sources, n_sinks))
    supply, demand = rng.dirichlet(np.ones(n_sources)), rng.dirichlet(np.ones(n_sinks))
    if kind == "points":
        x, y = rng.normal(size=(n_sources, 2)), rng.normal(size=(n_sinks, 2))
        costs = ((x[:, None] - y[None]) ** 2).sum(axis=-1)
    if kind == "ties":
        costs = np.round(3 * costs)
        supply, demand = np.full(n_sources, 1 / n_sources), np.full(n_sinks, 1 / n_sinks)
    if kind == "zeros":
        supply[1::2], demand[::2] = 0, 0
        supply, demand = supply / supply.sum(), demand / demand.sum()
    if kind == "steep":
        supply, demand = 0.5 ** np.arange(n_sources), 0.7 ** np.arange(n_sinks)
        supply, demand = supply / supply.sum(), demand / demand.sum()
        costs = np.subtract.outer(np.arange(n_sources), np.arange(n_sinks)[::-1]) ** 2.0
    return supply, demand, costs


@pytest.mark.parametrize("kind", ["random", "points", "ties", "zeros", "steep"])
@pytest.mark.parametrize("shape", [(1, 4), (5, 3), (20, 20), (50, 50)])
def test_the_plan_is_a_linear_program_solved(shape, kind, dtype):
    supply, demand, costs = problem(kind, *shape, np.random.default_rng(0))
    plan, source_price, sink_price = (
        np.asarray(a, np.float64) for a in solve(*(np.asarray(a, dtype) for a in (supply, demand, costs)))
    )
    eps = float(jnp.finfo(dtype).eps) * sum(shape)
    assert plan.min() >= 0
    np.testing.assert_allclose(plan.sum(axis=1), supply, atol=eps)
    np.testing.assert_allclose(plan.sum(axis=0), demand, atol=eps)
    found, size = (plan * costs).sum(), costs.max()
    np.testing.assert_allclose(found, least_cost(supply, demand, costs), rtol=1e-7, atol=eps * size)
    # The prices prove it to more digits than that solver has: feasible, and worth as much.
    assert (costs - source_price[:, None] - sink_price[None, :]).min() > -4 * eps * size
    np.testing.assert_allclose(source_price @ supply + sink_price @ demand, found, rtol=0, atol=4 * eps * size)


@pytest.mark.parametrize("families", PAIRS)
def test_the_distance_agrees_with_its_definition(families, dtype):
    p, q = pair(families, dtype)
    found, costs = wasserstein(p, q), squared_distances(p, q)
    tol = dict(rtol=100 * tolerance(dtype))
    np.testing.assert_allclose(found.costs, costs, **tol)
    weights = [np.asarray(m.weights, np.float64) / np.asarray(m.weights, np.float64).sum() for m in (p, q)]
    np.testing.assert_allclose(found.distance**2, least_cost(*weights, costs), **tol)
    np.testing.assert_allclose(jnp.sum(found.plan * found.costs), found.distance**2, **tol)
    assert all(leaf.dtype == dtype for leaf in found)
    assert found.plan.shape == found.costs.shape == (3, 4) and found.distance.shape == ()


@pytest.mark.needs_x64
@pytest.mark.parametrize("families", [PAIRS[0], PAIRS[2]])
def test_gradients_agree_with_differences(families):
    p, q = pair(families)
    rng = np.random.default_rng(0)
    _, gradient = slopes(p, q)

    def displacement(leaf):
        draw = rng.normal(size=leaf.shape)
        return np.tril(draw) if leaf.ndim > 2 else draw

    for _ in range(4):
        tangent = jax.tree.map(displacement, (p, q))
        along = sum(jnp.sum(g * t) for g, t in zip(*map(jax.tree.leaves, (gradient, tangent)), strict=True))
        ends = [slopes(*jax.tree.map(lambda leaf, t, h=h: leaf + h * t, (p, q), tangent))[0] for h in (1e-6, -1e-6)]
        np.testing.assert_allclose(along, (ends[0] - ends[1]) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("family", ["full", "spherical"])
def test_equal_mixtures_are_at_zero_with_no_slope(family, dtype):
    p, _ = pair((family, family), dtype)
    turned = dataclasses.replace(p, log_weights=p.log_weights[::-1], means=p.means[::-1])
    if p.covs.count == 3:
        turned = dataclasses.replace(turned, covs=jax.tree.map(lambda leaf: leaf[::-1], p.covs))
    for other in (p, turned):
        distance, gradient = slopes(p, other)
        # Weights that differ in their last digit, once normalised in another order, cost their square root.
        assert float(distance) < 10 * np.sqrt(float(jnp.finfo(dtype).eps))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    distance, gradient = slopes(p, p)
    assert float(distance) == 0 and all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))


def test_close_covariances_keep_their_digits(dtype):
    p, _ = cases.mixture("full", 1, 3, dtype)
    step = 1e-3 if dtype == np.float32 else 1e-7
    moved = dataclasses.replace(p, covs=type(p.covs)(p.covs.cholesky * dtype(1 + step)))
    # W2 between Σ and (1 + h)² Σ is h √tr Σ; the trace formula would leave nothing of its square.
    expected = step * np.sqrt(np.trace(np.asarray(p.covariances[0], np.float64)))
    np.testing.assert_allclose(wasserstein(p, moved).distance, expected, rtol=1e-3 if dtype == np.float32 else 1e-7)


@pytest.mark.needs_x64
def test_repeated_eigenvalues_have_right_gradients():
    p = jaxgmm.make_mixture([1.0], np.zeros((1, 3)), 4 * np.eye(3)[None])
    q = jaxgmm.make_mixture([1.0], np.zeros((1, 3)), np.eye(3)[None])
    distance, (slope, other) = slopes(p, q)
    # W2² = ‖Σ_p^½ − I‖² here, at L = 2I: its slope in L is 2(L − I), along the diagonal.
    np.testing.assert_allclose(distance, np.sqrt(3), rtol=1e-14)
    np.testing.assert_allclose(slope.covs.cholesky[0], np.eye(3) / np.sqrt(3), atol=1e-14)
    np.testing.assert_allclose(other.covs.cholesky[0], -np.eye(3) / np.sqrt(3), atol=1e-14)


@pytest.mark.parametrize("families", [PAIRS[0], PAIRS[2]])
def test_components_without_weight_carry_nothing(families, dtype):
    p, q = (dataclasses.replace(m, log_weights=m.log_weights.at[1].set(-jnp.inf)) for m in pair(families, dtype))
    found = wasserstein(p, q)
    assert (found.plan[1] == 0).all() and (found.plan[:, 1] == 0).all()
    weights = [np.asarray(jax.nn.softmax(m.log_weights), np.float64) for m in (p, q)]
    expected = least_cost(*(w / w.sum() for w in weights), squared_distances(p, q))
    np.testing.assert_allclose(found.distance**2, expected, rtol=100 * tolerance(dtype))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes(p, q)))


@pytest.mark.parametrize("families", [PAIRS[0], PAIRS[2]])
def test_the_ends_of_the_dtypes_range_change_the_unit_alone(families, dtype):
    p, q = pair(families, dtype)

    def scaled(mixture, scale):
        covs = jax.tree.map(lambda leaf: leaf * scale, mixture.covs)
        return dataclasses.replace(mixture, means=mixture.means * scale, covs=covs)

    expected, gradient = slopes(p, q)
    for scale in np.array([1e-25, 1e25] if dtype == np.float32 else [1e-200, 1e200], dtype):
        distance, slope = slopes(scaled(p, scale), scaled(q, scale))
        np.testing.assert_allclose(distance / scale, expected, rtol=10 * tolerance(dtype))
        for one, other in zip(slope, gradient, strict=True):
            np.testing.assert_allclose(one.means, other.means, rtol=1e-4, atol=10 * tolerance(dtype))
    # A component without weight sets no unit.
    q = dataclasses.replace(q, log_weights=q.log_weights.at[1].set(-jnp.inf))
    away = dataclasses.replace(q, means=q.means.at[1].set(np.finfo(dtype).max / 8))
    np.testing.assert_allclose(slopes(p, away)[0], slopes(p, q)[0], rtol=10 * tolerance(dtype))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes(p, away)))


def test_it_is_a_distance(dtype):
    p, q = pair(PAIRS[1], dtype)
    r, _ = cases.mixture("full", 4, 3, dtype, seed=5)
    pq, pr, rq = (float(wasserstein(*each).distance) for each in ((p, q), (p, r), (r, q)))
    np.testing.assert_allclose(pq, wasserstein(q, p).distance, rtol=10 * tolerance(dtype))
    assert pq <= pr + rq


def test_a_shift_costs_its_length(dtype):
    p, _ = pair(PAIRS[0], dtype)
    shift = np.array([3.0, -4.0, 12.0], dtype)
    found = wasserstein(p, dataclasses.replace(p, means=p.means + shift[None]))
    np.testing.assert_allclose(found.distance, 13, rtol=10 * tolerance(dtype))
    np.testing.assert_allclose(found.plan, np.diag(p.weights), atol=tolerance(dtype))


@pytest.mark.needs_x64
def test_vmap_agrees_with_a_loop_and_does_not_retrace():
    p, q = pair(PAIRS[0])
    many = jax.jit(jax.vmap(chex.assert_max_traces(lambda p: wasserstein(p, q), 1)))
    for scales in ((1.0, 0.5, 2.0), (0.8, 1.2, 1.3)):
        each = [jax.tree.map(lambda leaf, s=s: leaf * s, p) for s in scales]
        stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
        loop = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[wasserstein(mixture, q) for mixture in each])
        for a, b in zip(many(stack), loop, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)
    narrow = jax.tree.map(lambda leaf: leaf.astype(np.float32), (p, q))
    assert all(leaf.dtype == np.float32 for leaf in jax.eval_shape(wasserstein, *narrow))


def test_mistakes_are_named_and_nan_ends_in_nan(dtype):
    p, q = pair(PAIRS[0], dtype)
    with pytest.raises(TypeError, match="q must be a Mixture or a FitResult, not"):
        wasserstein(p, np.zeros((4, 3)))
    with pytest.raises(ValueError, match="p has 3 columns, but q has 2"):
        wasserstein(p, cases.mixture("diag", n_features=2, dtype=dtype)[0])
    for broken in (
        dataclasses.replace(p, means=p.means.at[0, 0].set(jnp.nan)),
        dataclasses.replace(p, log_weights=p.log_weights.at[0].set(jnp.nan)),
        dataclasses.replace(p, means=p.means.at[0, 0].set(jnp.inf)),
        dataclasses.replace(p, covs=jax.tree.map(lambda leaf: leaf.at[0, 0, 0].set(jnp.nan), p.covs)),
    ):
        assert not np.isfinite(wasserstein(broken, q).distance)
