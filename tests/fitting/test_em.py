import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import EM, Ridge, Status
from tests import cases, reference
from tests.cases import CODES, FAMILIES


def labelled(x, labels, family, prior=None):
    return jaxgmm.from_responsibilities(x, np.eye(labels.max() + 1)[labels], covariance_type=family, prior=prior)


@pytest.mark.needs_x64
@pytest.mark.parametrize("data", ["iris", "faithful"])
@pytest.mark.parametrize("family", FAMILIES)
def test_matches_mclust(family, data, mclust, request):
    x, labels = request.getfixturevalue(data)
    expected = next(f for f in mclust["fits"] if f["data"] == data and f["model"] == CODES[family])
    fitted = jaxgmm.run(EM(), labelled(x, labels, CODES[family]), x, max_iter=5000, tol=1e-13)
    assert fitted.status == Status.CONVERGED
    assert abs(float(fitted.log_likelihood) - expected["loglik"]) < 1e-6
    assert fitted.mixture.n_parameters == expected["df"]
    np.testing.assert_allclose(fitted.mixture.weights, expected["pro"], atol=1e-5)
    np.testing.assert_allclose(jaxgmm.bic(fitted.mixture, x), -expected["bic"], atol=1e-5)


@pytest.mark.parametrize("prior", [None, Ridge(1e-2)], ids=["flat", "ridge"])
@pytest.mark.parametrize("family", FAMILIES)
def test_never_falls_and_reports_the_objective_of_each_mixture(family, prior, dtype):
    start, x, weights = cases.drawn_rows(family, dtype=dtype)
    start = jaxgmm.affine(start, 1.2, 0.3)
    fitted = jaxgmm.run(EM(), start, x, weights, prior=prior, max_iter=40, tol=0)
    history = np.asarray(fitted.history, np.float64)
    eps = np.finfo(dtype).eps
    assert fitted.n_iter == 40 and np.isfinite(history).all() and fitted.n_passes == 41
    assert (np.diff(history) >= -50 * eps * np.abs(history[1:])).all()
    one = jaxgmm.run(EM(), start, x, weights, prior=prior, max_iter=1, tol=0)
    by_hand = jaxgmm.m_step(jaxgmm.e_step(start, x, weights)[0], family, prior=prior)
    np.testing.assert_allclose(one.mixture.means, by_hand.means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(history[0], one.objective, rtol=20 * eps)
    penalty = 0.0
    if prior is not None:
        variances = reference.column_variances(x.astype(np.float64), weights)
        covariances = np.asarray(fitted.mixture.covariances, np.float64)
        penalty = reference.log_ridge(family, covariances, 1e-2, weights.sum(), variances)
    np.testing.assert_allclose(fitted.objective, history[-1], rtol=1e-6)
    np.testing.assert_allclose(fitted.log_likelihood, jaxgmm.log_likelihood(fitted.mixture, x, weights), rtol=1e-4)
    np.testing.assert_allclose(fitted.objective, fitted.log_likelihood + penalty, rtol=1e-4)


@pytest.mark.needs_x64
@pytest.mark.parametrize("family", FAMILIES)
def test_fixed_point_has_the_datas_moments(family):
    start, x, weights = cases.drawn_rows(family)
    fitted = jaxgmm.run(EM(), start, x, weights, max_iter=5000, tol=1e-14).mixture
    mean, covariance = jaxgmm.total_moments(fitted)
    expected = np.average(x, axis=0, weights=weights)
    np.testing.assert_allclose(mean, expected, atol=1e-6)
    sample = np.cov(x.T, aweights=weights, bias=True)
    if family in ("full", "tied"):
        np.testing.assert_allclose(covariance, sample, atol=1e-5)
    elif family == "diag":
        np.testing.assert_allclose(np.diag(covariance), np.diag(sample), atol=1e-5)
    else:
        np.testing.assert_allclose(np.trace(covariance), np.trace(sample), atol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_integer_weights_equal_repeated_rows(family, dtype):
    x, _ = cases.rows(40, dtype=dtype)
    counts = np.random.default_rng(3).integers(0, 4, size=40)
    start, _ = cases.mixture(family, dtype=dtype)
    options = dict(prior=Ridge(1e-3), max_iter=15, tol=0)
    weighted = jaxgmm.run(EM(), start, x, counts.astype(dtype), **options)
    repeated = jaxgmm.run(EM(), start, np.repeat(x, counts, axis=0), **options)
    np.testing.assert_allclose(weighted.objective, repeated.objective, rtol=1e-5)
    np.testing.assert_allclose(weighted.mixture.means, repeated.mixture.means, rtol=1e-3, atol=1e-4)


@pytest.mark.needs_x64
def test_the_estimate_of_what_remains_stops_slow_em_near_the_optimum():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-0.9, 1, size=(700, 1)), rng.normal(0.9, 1, size=(300, 1))])
    start = jaxgmm.make_mixture(np.array([0.5, 0.5]), np.array([[-1.0], [1.0]]), np.ones((2, 1, 1)))
    optimum = jaxgmm.run(EM(), start, x, max_iter=200_000, tol=1e-14).objective
    fitted = jaxgmm.run(EM(), start, x, max_iter=200_000, tol=1e-8)
    assert fitted.status == Status.CONVERGED and fitted.n_iter > 1000
    assert 0 <= float(optimum - fitted.objective) / 1000 < 3e-8
    # A plain rule on the last step's gain, at the same tolerance, would have stopped far earlier.
    assert (np.diff(fitted.history[:500]) / 1000 < 1e-8).any()


def test_tol_zero_runs_every_iteration_and_one_component_stops_at_once(dtype):
    x, _ = cases.rows(dtype=dtype)
    start, _ = cases.mixture("full", dtype=dtype)
    assert jaxgmm.run(EM(), start, x, max_iter=7, tol=0).n_iter == 7
    single, _ = cases.mixture("full", 1, dtype=dtype)
    fitted = jaxgmm.run(EM(), single, x, max_iter=50, tol=1e-6)
    assert fitted.status == Status.CONVERGED and fitted.n_iter <= 4
    np.testing.assert_allclose(fitted.mixture.means[0], x.mean(axis=0), rtol=1e-4, atol=1e-6)


def test_run_reports_what_went_wrong(dtype):
    x, _ = cases.rows(30, dtype=dtype)
    start, _ = cases.mixture("full", dtype=dtype)
    assert jaxgmm.run(EM(), start, np.full_like(x, np.nan), max_iter=5).status == Status.NONFINITE
    spoiled = x.copy()
    spoiled[4, 1] = np.nan
    assert jaxgmm.run(EM(), start, spoiled, max_iter=5).status == Status.NONFINITE
    assert jaxgmm.run(EM(), start, x, max_iter=2, tol=1e-9).status == Status.MAX_ITER
    # Two rows that coincide, and a component on them: the likelihood has no bound.
    doubled = np.concatenate([x, np.repeat(x[:1] + dtype(50), 2, axis=0)])
    labels = np.array([0] * 30 + [1, 1])
    start = labelled(doubled, labels, "full", prior=Ridge(1e-3))
    assert jaxgmm.run(EM(), start, doubled, max_iter=20).status == Status.COLLAPSED
    held = jaxgmm.run(EM(), start, doubled, prior=Ridge(), max_iter=20)
    assert held.status == Status.COLLAPSED and np.isfinite(held.objective)


def test_a_strong_ridge_is_no_collapse(blobs, dtype):
    x, labels = blobs[0].astype(dtype), blobs[1]
    for strength in (1e-3, 1e-2, 3e-2):
        fitted = jaxgmm.run(EM(), labelled(x, labels, "full"), x, prior=Ridge(strength), max_iter=500, tol=1e-5)
        assert fitted.status == Status.CONVERGED


@pytest.mark.parametrize("family", FAMILIES)
def test_components_a_thousand_times_tighter_than_the_data_are_right_to_one_percent(family, dtype):
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(5, 2))
    x = np.concatenate([c + 1e-3 * rng.normal(size=(400, 2)) for c in centres]).astype(dtype)
    labels = np.repeat(np.arange(5), 400)
    fitted = jaxgmm.run(EM(), labelled(x, labels, family), x, prior=Ridge(), max_iter=50, tol=1e-5)
    assert fitted.status == Status.CONVERGED
    resp = np.eye(5)[labels]
    mass, _, scatter = reference.moments(x, np.ones(2000), resp)
    _, expected = reference.m_step(family, mass, scatter)
    np.testing.assert_allclose(fitted.mixture.covariances * 1e6, expected * 1e6, rtol=0.01, atol=0.01)


@pytest.mark.exhaustive
def test_run_under_jit_vmap_and_jvp(dtype):
    x, weights = cases.rows(40, dtype=dtype)
    starts = [cases.mixture("full", dtype=dtype, seed=seed)[0] for seed in range(3)]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)

    def climb(start, x):
        return jaxgmm.run(EM(), start, x, weights, prior=Ridge(1e-3), max_iter=30, tol=1e-5)

    over_starts = jax.jit(jax.vmap(climb, (0, None)))(stack, x)
    data = jnp.stack([x, x[::-1], x + dtype(1)])
    over_data = jax.vmap(climb, (None, 0))(starts[0], data)
    for r in range(3):
        alone = climb(starts[r], x)
        np.testing.assert_allclose(over_starts.objective[r], alone.objective, rtol=1e-4)
        np.testing.assert_array_equal(over_starts.n_iter[r], alone.n_iter) if dtype == np.float64 else None
        np.testing.assert_allclose(over_data.objective[r], climb(starts[0], data[r]).objective, rtol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
def test_forward_mode_through_a_fit():
    x, weights = cases.rows(40)
    start, _ = cases.mixture("full")

    def objective(shift):
        moved = jnp.asarray(x) * (1 + shift)
        return jaxgmm.run(EM(), start, moved, weights, prior=Ridge(1e-3), max_iter=20, tol=0).mixture.means.sum()

    value, tangent = jax.jvp(objective, (jnp.asarray(0.0),), (jnp.asarray(1.0),))
    expected = reference.finite_difference(objective, np.asarray(0.0))
    np.testing.assert_allclose(tangent, expected, rtol=1e-6)
    assert np.isfinite(value)


def _carried(climb, mixture, x):
    return jax.lax.scan(lambda total, rows: (total + climb(mixture, rows), None), 0 * x[0, 0], x[None])[0]


REVERSE = {
    "grad": lambda climb, mixture, x: jax.grad(climb)(mixture, x),
    "jit": lambda climb, mixture, x: jax.jit(jax.grad(climb, argnums=1))(mixture, x),
    "vmap": lambda climb, mixture, x: jax.vmap(jax.grad(climb, argnums=1), (None, 0))(mixture, x[None]),
    "jacrev of jacfwd": lambda climb, mixture, x: jax.jacrev(jax.jacfwd(lambda shift: climb(mixture, x + shift)))(
        x[0, 0]
    ),
    "scan": lambda climb, mixture, x: jax.grad(lambda x: _carried(climb, mixture, x))(x),
}
# What asks for no derivative of the climb has one of the rest.
OTHER = {
    "aux": lambda climb, mixture, x: jax.grad(
        lambda x: (jnp.sum(x), jaxgmm.run(EM(), mixture, x, max_iter=2)), has_aux=True
    )(x)[0],
    "stopped": lambda climb, mixture, x: jax.grad(lambda x: jnp.sum(x) * jax.lax.stop_gradient(climb(mixture, x)))(x),
    "forward": lambda climb, mixture, x: jax.vmap(jax.jacfwd(climb, argnums=1), (None, 0))(mixture, x[None])[0],
}


@pytest.mark.parametrize("mode", [*REVERSE, *OTHER])
def test_reverse_mode_through_a_climb_says_what_to_take_instead(mode):
    mixture, x, _ = cases.drawn_rows("diag", n_rows=20, dtype=np.float32)

    def climb(mixture, x):
        return jaxgmm.run(EM(), mixture, x, max_iter=2).objective

    if mode in OTHER:
        assert jax.eval_shape(functools.partial(OTHER[mode], climb, mixture), x).shape == x.shape
        return
    with pytest.raises(TypeError, match=r"jaxgmm.run has a derivative forward only .*take jaxgmm.solution"):
        jax.eval_shape(functools.partial(REVERSE[mode], climb, mixture), x)


def test_new_numbers_do_not_recompile(dtype):
    x, weights = cases.rows(40, dtype=dtype)
    start, _ = cases.mixture("full", dtype=dtype)
    from jaxgmm.fitting.loop import climb_from

    def climb(tol, strength, x):
        return jaxgmm.run(EM(), start, x, weights, prior=Ridge(strength), max_iter=5, tol=tol)

    climb(1e-3, 1e-3, x)
    before = climb_from.n_programs()
    climb(1e-4, 1e-2, x + dtype(1))
    climb(0.5, 0.7, x * dtype(2))
    assert climb_from.n_programs() == before
