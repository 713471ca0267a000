import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import EM, Accelerated, Ridge, Status
from tests import cases
from tests.cases import FAMILIES

FAST = Accelerated()


def overlapping(family, dtype=np.float64):
    """A start and rows whose components lie within a deviation or two of each other."""
    start, x, weights = cases.drawn_rows(family, n_rows=300, dtype=dtype, seed=4)
    centre = start.means.mean(axis=0)
    return start, (x - np.asarray(centre)) * dtype(0.9) + np.asarray(centre), weights


def slow_rows():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-0.9, 1, size=(700, 1)), rng.normal(0.9, 1, size=(300, 1))])
    return jaxgmm.make_mixture(np.array([0.5, 0.5]), np.array([[-1.0], [1.0]]), np.ones((2, 1, 1))), x


@pytest.mark.needs_x64
@pytest.mark.parametrize("prior", [None, Ridge(1e-2)], ids=["flat", "ridge"])
@pytest.mark.parametrize("family", FAMILIES)
def test_reaches_the_optimum_of_em_without_a_fall(family, prior):
    start, x, weights = overlapping(family)
    em = jaxgmm.run(EM(), start, x, weights, prior=prior, max_iter=4000, tol=1e-11)
    fast = jaxgmm.run(FAST, start, x, weights, prior=prior, max_iter=200, tol=1e-11)
    assert em.status == fast.status == Status.CONVERGED
    assert abs(float(fast.objective - em.objective)) / weights.sum() < 1e-8
    assert fast.n_passes == fast.n_iter + 1 and fast.n_passes <= em.n_passes
    history = np.asarray(fast.history)[: int(fast.n_iter)]
    assert (np.diff(history) >= -1e-14 * np.abs(history[1:])).all() and history[-1] == fast.objective
    np.testing.assert_allclose(fast.log_likelihood, jaxgmm.log_likelihood(fast.mixture, x, weights), rtol=1e-12)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
def test_a_slow_problem_takes_far_fewer_passes():
    start, x = slow_rows()
    em = jaxgmm.run(EM(), start, x, max_iter=20_000, tol=1e-8)
    fast = jaxgmm.run(FAST, start, x, max_iter=200, tol=1e-8)
    optimum = jaxgmm.run(EM(), start, x, max_iter=200_000, tol=1e-14).objective
    assert em.status == fast.status == Status.CONVERGED
    assert fast.n_passes * 10 < em.n_passes
    assert -1e-9 <= float(optimum - fast.objective) / 1000 < 3e-8


@pytest.mark.exhaustive
@pytest.mark.parametrize("order", [1, 8])
def test_the_first_iteration_is_that_of_em_and_memory_may_be_short(order, dtype):
    start, x, weights = overlapping("full", dtype)
    em = jaxgmm.run(EM(), start, x, weights, max_iter=1, tol=0)
    fast = jaxgmm.run(Accelerated(EM(), order=order), start, x, weights, max_iter=1, tol=0)
    np.testing.assert_allclose(fast.objective, em.objective, rtol=1e-6)
    assert fast.n_passes == 2


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_float32_converges_to_where_em_does(family):
    start, x, weights = overlapping(family, np.float32)
    em = jaxgmm.run(EM(), start, x, weights, max_iter=1000, tol=1e-6)
    fast = jaxgmm.run(FAST, start, x, weights, max_iter=1000, tol=1e-6)
    assert fast.status == Status.CONVERGED and fast.objective.dtype == np.float32
    assert float(fast.objective) >= float(em.objective) - 1e-5 * weights.sum()
    # Far below what float32 resolves, it goes on for ever or stops, but it neither fails nor falls.
    spent = jaxgmm.run(FAST, start, x, weights, max_iter=1000, tol=1e-12)
    assert np.isfinite(spent.objective) and spent.objective >= fast.objective - 1e-5 * weights.sum()


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_spares_stay_as_they_are(family, dtype):
    start, x, weights = overlapping(family, dtype)
    wide, _ = cases.mixture(family, n_components=4, dtype=dtype, seed=5)
    covs = start.covs
    if family != "tied":
        covs = jax.tree.map(lambda a, b: jnp.concatenate([a, b[3:]]), start.covs, wide.covs)
    spared = jaxgmm.Mixture(
        jnp.concatenate([start.log_weights, jnp.full((1,), -jnp.inf, dtype)]),
        jnp.concatenate([start.means, wide.means[3:]]),
        covs,
        start.family,
    )
    fitted = jaxgmm.run(FAST, spared, x, weights, max_iter=30, tol=0)
    alone = jaxgmm.run(FAST, start, x, weights, max_iter=30, tol=0)
    assert fitted.mixture.log_weights[3] == -np.inf and np.isfinite(fitted.history).all()
    np.testing.assert_array_equal(fitted.mixture.means[3], spared.means[3])
    if family != "tied":
        last = jax.tree.map(lambda leaf: leaf[3], fitted.mixture.covs)
        jax.tree.map(np.testing.assert_array_equal, last, jax.tree.map(lambda leaf: leaf[3], spared.covs))
    np.testing.assert_allclose(fitted.objective, alone.objective, rtol=1e-5)


@pytest.mark.exhaustive
def test_under_jit_and_vmap(dtype):
    x, weights = cases.rows(40, dtype=dtype)
    starts = [cases.mixture("full", dtype=dtype, seed=seed)[0] for seed in range(3)]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)

    def climb(start):
        return jaxgmm.run(FAST, start, x, weights, prior=Ridge(1e-3), max_iter=100, tol=1e-5)

    together = jax.jit(jax.vmap(climb))(stack)
    for r, start in enumerate(starts):
        np.testing.assert_allclose(together.objective[r], climb(start).objective, rtol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
def test_forward_mode():
    x, weights = cases.rows(40)
    start, _ = cases.mixture("full")

    def objective(shift):
        moved = jnp.asarray(x) * (1 + shift)
        return jaxgmm.run(
            Accelerated(order=2), start, moved, weights, prior=Ridge(1e-3), max_iter=12, tol=0
        ).mixture.means.sum()

    _, tangent = jax.jvp(objective, (jnp.asarray(0.0),), (jnp.asarray(1.0),))
    up, down = objective(jnp.asarray(1e-6)), objective(jnp.asarray(-1e-6))
    np.testing.assert_allclose(tangent, (up - down) / 2e-6, rtol=1e-4)


@pytest.mark.exhaustive
def test_bad_data_show_in_the_status(dtype):
    start, x, weights = overlapping("full", dtype)
    assert jaxgmm.run(FAST, start, np.full_like(x, np.nan), max_iter=100, tol=1e-5).status == Status.NONFINITE
    # Two rows that coincide far off, and a component on them: the likelihood has no bound.
    doubled = np.concatenate([x, np.repeat(x[:1] + dtype(50), 2, axis=0)])
    labels = np.array([0] * len(x) + [1, 1])
    lone = jaxgmm.from_responsibilities(doubled, np.eye(2)[labels], prior=Ridge(1e-3))
    held = jaxgmm.run(FAST, lone, doubled, prior=Ridge(), max_iter=100)
    assert held.status == Status.COLLAPSED and np.isfinite(held.objective)


@pytest.mark.exhaustive
def test_fit_and_select(blobs):
    chosen = jaxgmm.select(jax.random.key(0), blobs[0], (3, 4, 5), ("tied",), algorithm=FAST)
    by_em = jaxgmm.select(jax.random.key(0), blobs[0], (3, 4, 5), ("tied",))
    assert chosen.best.n_components == by_em.best.n_components == 4
    assert abs(chosen.best.log_likelihood - by_em.best.log_likelihood) < 1e-4 * len(blobs[0])
