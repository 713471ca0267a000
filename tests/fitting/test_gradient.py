import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgmm
from jaxgmm import EM, Gradient, Ridge, Status
from jaxgmm.fitting.algorithms.gradient import minus_objective
from jaxgmm.fitting.problem import posed
from jaxgmm.model.priors.ridge import settle
from jaxgmm.model.units import units_of
from tests import cases
from tests.cases import FAMILIES

LBFGS = optax.lbfgs()
ADAM = optax.adam(0.02)
ADAM_INJECTED = optax.inject_hyperparams(optax.adam)(learning_rate=0.01)


@pytest.mark.needs_x64
@pytest.mark.parametrize("prior", [None, Ridge(1e-3)], ids=["flat", "ridge"])
@pytest.mark.parametrize("optimizer", [LBFGS, ADAM], ids=["lbfgs", "adam"])
@pytest.mark.parametrize("data", ["iris", "faithful"])
@pytest.mark.parametrize("family", FAMILIES)
def test_reaches_the_optimum_of_em(family, data, optimizer, prior, request):
    x, labels = request.getfixturevalue(data)
    resp = np.eye(labels.max() + 1)[labels]
    start = jaxgmm.from_responsibilities(x, resp, covariance_type=family)
    em = jaxgmm.run(EM(), start, x, prior=prior, max_iter=5000, tol=1e-13)
    climbed = jaxgmm.run(Gradient(optimizer), start, x, prior=prior, max_iter=5000, tol=1e-11)
    assert climbed.status == Status.CONVERGED
    assert climbed.n_passes == climbed.n_iter + 1 if optimizer is ADAM else climbed.n_passes > climbed.n_iter
    assert abs(float(climbed.objective - em.objective)) / len(x) < 1e-6
    np.testing.assert_allclose(climbed.log_likelihood, jaxgmm.log_likelihood(climbed.mixture, x), rtol=1e-10)
    assert climbed.mixture.covariance_type == family


@pytest.mark.exhaustive
@pytest.mark.needs_x64
@pytest.mark.parametrize("prior", [None, Ridge(1e-3)], ids=["flat", "ridge"])
@pytest.mark.parametrize("data", ["iris", "faithful"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_vanishes_at_the_optimum_of_em(family, data, prior, request):
    x, labels = request.getfixturevalue(data)
    resp = np.eye(labels.max() + 1)[labels]
    start = jaxgmm.from_responsibilities(x, resp, covariance_type=family)
    optimum = jaxgmm.run(EM(), start, x, prior=prior, max_iter=5000, tol=0).mixture
    rows = jaxgmm.Rows(jnp.asarray(x), jnp.ones(len(x)))
    problem = posed(rows, settle(prior, x.dtype))
    params = jaxgmm.unconstrain(units_of(problem.columns, optimum.family).standardise(optimum))
    gradient = jax.jit(jax.grad(minus_objective(problem, optimum.family)))(params)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) < 1e-9


@pytest.mark.exhaustive
@pytest.mark.parametrize("n_rows, n_features", [(500, 20), (20_000, 7)], ids=["many columns", "many rows"])
def test_restarts_that_search_along_a_line(n_rows, n_features):
    """They ended in an AssertionError from 16 columns on, and wherever rows are many."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(n_rows, n_features)) + 3 * rng.integers(0, 2, (n_rows, 1))).astype(np.float32)
    fitted = jaxgmm.fit(jax.random.key(0), x, 2, algorithm=Gradient(LBFGS), n_init=2, max_iter=12)
    by_em = jaxgmm.fit(jax.random.key(0), x, 2, n_init=2)
    assert abs(float(fitted.log_likelihood - by_em.log_likelihood)) < 1e-3 * n_rows


@pytest.mark.exhaustive
@pytest.mark.parametrize("optimizer", [LBFGS, ADAM], ids=["lbfgs", "adam"])
def test_restarts_in_one_compiled_call(optimizer, blobs, dtype):
    x = blobs[0].astype(dtype)
    keys = jax.random.split(jax.random.key(0), 4)
    tol = 1e-9 if dtype == np.float64 else 2e-6

    @jax.jit
    def climb_all(x):
        def climb(algorithm, key):
            start = jaxgmm.initialize(key, x, 4)
            return jaxgmm.run(algorithm, start, x, prior=Ridge(1e-6), max_iter=1500, tol=tol)

        return [jax.vmap(lambda key, a=a: climb(a, key))(keys) for a in (EM(), Gradient(optimizer))]

    em, climbed = climb_all(x)
    assert (climbed.status == Status.CONVERGED).all()
    np.testing.assert_allclose(
        climbed.objective.max(), em.objective.max(), atol=400 * (1e-6 if dtype == np.float64 else 1e-4)
    )
    single = jaxgmm.run(
        Gradient(optimizer), jaxgmm.initialize(keys[1], x, 4), x, prior=Ridge(1e-6), max_iter=1500, tol=tol
    )
    np.testing.assert_allclose(climbed.objective[1], single.objective, rtol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_float32_climbs_too(family, blobs):
    x = blobs[0].astype(np.float32)
    start = jaxgmm.initialize(jax.random.key(1), x, 4, covariance_type=family)
    em = jaxgmm.run(EM(), start, x, max_iter=500, tol=1e-6)
    climbed = jaxgmm.run(Gradient(LBFGS), start, x, max_iter=500, tol=1e-6)
    assert climbed.status == Status.CONVERGED and climbed.objective.dtype == np.float32
    np.testing.assert_allclose(climbed.objective, em.objective, atol=400 * 1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_passes_are_counted(optimizer, blobs, dtype):
    x = blobs[0].astype(dtype)
    start = jaxgmm.initialize(jax.random.key(0), x, 4)
    if optimizer == "adam":
        adam = jaxgmm.run(Gradient(ADAM), start, x, max_iter=20, tol=0)
        assert adam.n_iter == 20 and adam.n_passes == 21 and np.isfinite(adam.history).all()
        return
    lbfgs = jaxgmm.run(Gradient(LBFGS), start, x, max_iter=10, tol=0)
    assert lbfgs.n_iter == 10 and 11 <= lbfgs.n_passes <= 10 * 20 + 1
    # The line search hands on its last value: it is the objective of the mixture returned.
    expected = jaxgmm.log_likelihood(lbfgs.mixture, x)
    np.testing.assert_allclose(lbfgs.objective, expected, rtol=1e-4 if dtype == np.float32 else 1e-10)


@pytest.mark.exhaustive
def test_injected_learning_rates_do_not_recompile(blobs, dtype):
    from jaxgmm.fitting.loop import climb_from

    x = blobs[0].astype(dtype)
    start = jaxgmm.initialize(jax.random.key(0), x, 4)

    def climb(rate):
        return jaxgmm.run(Gradient(ADAM_INJECTED, {"learning_rate": rate}), start, x, max_iter=20, tol=0)

    slow = climb(1e-4)
    before = climb_from.n_programs()
    fast = climb(1e-2)
    assert climb_from.n_programs() == before
    assert fast.objective > slow.objective
    plain = jaxgmm.run(Gradient(ADAM_INJECTED), start, x, max_iter=20, tol=0)
    np.testing.assert_allclose(plain.objective, fast.objective, rtol=1e-6)
    with pytest.raises(ValueError, match="no hyperparameter 'rate'; it has"):
        jaxgmm.run(Gradient(ADAM_INJECTED, {"rate": 1.0}), start, x, max_iter=2)
    with pytest.raises(ValueError, match="inject_hyperparams"):
        jaxgmm.run(Gradient(ADAM, {"learning_rate": 1.0}), start, x, max_iter=2)


STILL = {
    "accumulates": optax.MultiSteps(optax.adam(0.05), 16),
    "waits": optax.adam(optax.join_schedules([optax.constant_schedule(0.0), optax.constant_schedule(0.05)], [20])),
    "stops": optax.adam(optax.cosine_decay_schedule(0.05, 15)),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("optimizer", STILL.values(), ids=list(STILL))
def test_standing_still_is_not_convergence(optimizer, blobs, dtype):
    x = blobs[0].astype(dtype)
    start = jaxgmm.initialize(jax.random.key(1), x, 4, method="random-rows")
    climbed = jaxgmm.run(Gradient(optimizer), start, x, max_iter=60)
    assert climbed.status == Status.MAX_ITER and climbed.n_iter == 60
    assert jaxgmm.run(EM(), climbed.mixture, x).log_likelihood > climbed.log_likelihood + 1
    if optimizer is STILL["accumulates"]:
        assert len(np.unique(climbed.history)) == 4


@pytest.mark.exhaustive
def test_standing_still_where_there_is_no_slope_is_convergence(blobs, dtype):
    x = blobs[0].astype(dtype)
    one = jaxgmm.from_responsibilities(x, np.ones((400, 1)))
    climbed = jaxgmm.run(Gradient(optax.sgd(0.0)), one, x, max_iter=60)
    assert climbed.status == Status.CONVERGED and climbed.n_iter == 10


@pytest.mark.exhaustive
@pytest.mark.needs_x64
def test_forward_mode_through_a_gradient_fit():
    x, weights = cases.rows(30)
    start, _ = cases.mixture("full")

    def means(shift):
        moved = jnp.asarray(x) * (1 + shift)
        fitted = jaxgmm.run(Gradient(ADAM), start, moved, weights, prior=Ridge(1e-3), max_iter=10, tol=0)
        return fitted.mixture.means.sum()

    _, tangent = jax.jvp(means, (jnp.asarray(0.0),), (jnp.asarray(1.0),))
    up, down = means(jnp.asarray(1e-6)), means(jnp.asarray(-1e-6))
    np.testing.assert_allclose(tangent, (up - down) / 2e-6, rtol=1e-5)


@pytest.mark.exhaustive
def test_what_follows_a_line_search_is_heeded(blobs, dtype):
    x = blobs[0].astype(dtype)
    start = jaxgmm.initialize(jax.random.key(0), x, 4)
    for optimizer in (
        optax.chain(optax.lbfgs(), optax.scale(0.5)),
        optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(10)),
    ):
        climbed = jaxgmm.run(Gradient(optimizer), start, x, max_iter=4, tol=0)
        np.testing.assert_allclose(climbed.objective, jaxgmm.log_likelihood(climbed.mixture, x), rtol=1e-4)
        assert climbed.n_passes >= 9
