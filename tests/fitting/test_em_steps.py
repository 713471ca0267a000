"""A step of EM by its parts: what it gains, what is left to gain, and what it starts from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import EM, Accelerated, Ridge, Rows, Status
from jaxgmm.fitting.algorithms.em import WINDOW, _remaining, gain_in_q, rounding_gain, rounding_of
from jaxgmm.fitting.problem import posed
from jaxgmm.fitting.steps import labelled_moments, maximise
from jaxgmm.model.moments import DENSE
from jaxgmm.model.priors.ridge import prepare, settle
from tests import cases, reference
from tests.cases import FAMILIES, tolerance
from tests.conftest import DTYPES
from tests.programs import programs_with


def complete_log_likelihood(mixture, mass, mean, scatter):
    """Q(θ; Moments), from dense scatter, in NumPy and float64."""
    found = 0.0
    log_weights, means = np.asarray(mixture.log_weights, np.float64), np.asarray(mixture.means, np.float64)
    covariances = np.asarray(mixture.covariances, np.float64)
    for k in range(len(mass)):
        if mass[k] > 0:
            shift = mean[k] - means[k]
            square = scatter[k] + mass[k] * np.outer(shift, shift)
            log_det = np.linalg.slogdet(2 * np.pi * covariances[k])[1]
            found += mass[k] * (log_weights[k] - 0.5 * log_det)
            found -= 0.5 * np.trace(np.linalg.solve(covariances[k], square))
    return found


def with_mass(mixture, mass):
    """Moments of so much mass; of the scatter the gain of families with free factors does not ask."""
    scatter = jnp.zeros_like(mixture.covariances)
    return jaxgmm.Moments(mass, mixture.means, mixture.family.statistic.of_dense(scatter))


@pytest.mark.parametrize("prior", [None, Ridge(0.1)], ids=["flat", "ridge"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gain_in_q_is_the_difference_that_it_stands_for(family, prior, dtype):
    old, x, weights = cases.drawn_rows(family, dtype=dtype)
    resp = np.random.default_rng(0).dirichlet(np.ones(3), size=len(x)).astype(dtype)
    mass, mean, scatter = reference.moments(x, weights, resp)
    moments = jaxgmm.Moments(*(jnp.asarray(a, dtype) for a in (mass, mean, scatter)))
    moments = moments._replace(scatter=old.family.statistic.of_dense(moments.scatter))
    columns = Rows(jnp.asarray(x), jnp.asarray(weights)).columns()
    penalty = prepare(prior, columns)
    new = jax.jit(lambda moments, old: maximise(moments, old.family, columns, penalty, old))(moments, old)
    gain = jax.jit(gain_in_q)(old, new, moments, penalty)
    expected = complete_log_likelihood(new, mass, mean, scatter) - complete_log_likelihood(old, mass, mean, scatter)
    expected += float(penalty.log_prob(new)) - float(penalty.log_prob(old))
    assert expected > 0
    np.testing.assert_allclose(gain, expected, rtol=1e-8 if dtype == np.float64 else 2e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gain_of_a_small_move_keeps_its_digits(family, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    mass, step = jnp.asarray([3.0, 5.0, 0.0], dtype), 100 * float(np.finfo(dtype).eps)
    columns = Rows(*(jnp.asarray(a) for a in cases.rows(30, dtype=dtype))).columns()
    penalty = prepare(None, columns)
    moved = mixture.means + step * jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), dtype)
    new = jaxgmm.Mixture(mixture.log_weights, moved, mixture.covs, mixture.family)
    shift = np.asarray(moved, np.float64) - np.asarray(mixture.means, np.float64)
    inverses = np.linalg.inv(np.asarray(mixture.covariances, np.float64))
    expected = 0.5 * np.einsum("k,ki,kij,kj->", np.asarray(mass), shift, inverses, shift)
    np.testing.assert_allclose(gain_in_q(mixture, new, with_mass(mixture, mass), penalty), expected, rtol=1e-3)
    # Of weights: Σ N_k log(π'_k / π_k), whose first order is taken out where N_k is in proportion to π'_k.
    shares = np.array([3.0, 5.0]) / 8
    drift = 1e-3 * np.array([1.0, -0.6])
    old_weights = jnp.asarray([*(np.log(shares) + drift), -np.inf], dtype)
    new_weights = jnp.asarray([*np.log(shares), -np.inf], dtype)
    lighter = jaxgmm.Mixture(old_weights, mixture.means, mixture.covs, mixture.family)
    heavier = jaxgmm.Mixture(new_weights, mixture.means, mixture.covs, mixture.family)
    found = gain_in_q(lighter, heavier, with_mass(lighter, mass), penalty)
    np.testing.assert_allclose(found, np.sum([3.0, 5.0] * (np.expm1(drift) - drift)), rtol=0.01)


def test_rows_that_weigh_less_than_one_count_as_much(dtype):
    mixture, _ = cases.mixture("full", dtype=dtype)
    mass = jnp.asarray([0.25, 0.125, 0.0], dtype)
    moments = jaxgmm.Moments(mass, mixture.means, mixture.covariances * mass[:, None, None])
    columns = Rows(*(jnp.asarray(a) for a in cases.rows(30, dtype=dtype))).columns()
    penalty = prepare(None, columns)
    found = maximise(moments, mixture.family, columns, penalty, mixture)
    np.testing.assert_allclose(found.weights, [2 / 3, 1 / 3, 0], rtol=1e-6)
    drift = 0.1
    heavier = mixture.log_weights + jnp.asarray([drift, 0, 0], dtype)
    moved = jaxgmm.Mixture(heavier, mixture.means, mixture.covs, mixture.family)
    gain = gain_in_q(mixture, moved, with_mass(mixture, mass), penalty)
    np.testing.assert_allclose(gain, 0.25 * (np.expm1(-drift) + drift), rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gain_that_rounding_makes_is_left_out_where_it_arises_and_nowhere_else(family, dtype):
    """Columns 0 and 2 are nearly one: a relative error of Σ is a far larger one in coordinates that Σ makes white."""
    correlation = np.array([[1, 0, 1 - 1e-4], [0, 1, 0], [1 - 1e-4, 0, 1]])
    scale = np.array([2.0, 0.5, 30.0])
    covariance = correlation * np.outer(scale, scale)
    covs = {"full": np.stack([covariance] * 2), "tied": covariance, "diag": np.stack([scale**2] * 2)}
    held = covs.get(family, np.array([4.0, 9.0]))
    means = np.array([[1.0, 2.0, 3.0], [40.0, 5.0, 6.0]])
    arrays = [np.asarray(a, dtype) for a in ([0.25, 0.75], means, held)]
    old = jaxgmm.make_mixture(*arrays, covariance_type=family)
    mass, rounding = jnp.asarray([25.0, 75.0], dtype), rounding_of(old)
    columns = Rows(*(jnp.asarray(a) for a in cases.rows(30, dtype=dtype))).columns()
    penalty = prepare(None, columns)
    factors = np.linalg.cholesky(np.asarray(old.covariances, np.float64))
    deviations = np.sqrt(np.einsum("kii->ki", np.asarray(old.covariances, np.float64)))
    inverse = np.linalg.inv(factors)
    error = np.einsum("kij,kj->ki", inverse**2, deviations**2)
    of_means = rounding**2 * error + float(np.finfo(dtype).eps) ** 2 * np.einsum("kij,kj->ki", inverse**2, means**2)
    per_covariance = (rounding * error.sum(axis=1)) ** 2 / 4
    if family in ("diag", "spherical"):
        per_covariance = np.full(2, 0.25 * rounding**2 * (9 if family == "diag" else 1))
    expected = mass @ (0.5 * of_means.sum(axis=1) + per_covariance) + 0.5 * 100 * rounding**2
    np.testing.assert_allclose(rounding_gain(old, mass), expected, rtol=1e-2)
    # A mean off along the flat direction by what rounding explains, then by a hundred times that.
    for size, direction, seen in ((0.5, -1, False), (100, -1, True), (100, 1, True)):
        step = size * rounding * np.array([[0.0, 0.0, 0.0], [1, 0, direction]]) * deviations
        new = dataclasses.replace(old, means=jnp.asarray(means + step, dtype))
        whole, told = (float(gain_in_q(old, new, with_mass(old, mass), penalty, r)) for r in (0.0, rounding))
        assert (told > 0.9 * whole) if seen and (direction == 1 or family != "full") else told < whole
        assert bool(told) == seen
    # The columns that are not flat lose nothing of a step a thousand times smaller than the flat one's error.
    moved = dataclasses.replace(old, means=old.means.at[:, 1].add(jnp.asarray(30 * rounding * deviations[:, 1], dtype)))
    whole, told = (float(gain_in_q(old, moved, with_mass(old, mass), penalty, r)) for r in (0.0, rounding))
    assert 0.99 * whole < told < whole


@pytest.mark.parametrize(
    "algorithm,columns,dtype",
    [(EM(), 2, np.float32), (EM(), 14, np.float32), (EM(), 2, DTYPES[0]), (Accelerated(EM()), 2, np.float32)],
    ids=["pair", "many", "default", "accelerated"],
)
def test_one_component_is_a_closed_form(algorithm, columns, dtype):
    """At correlations as near to 1 as the dtype can well tell apart, of six data sets each."""
    rng = np.random.default_rng(0)
    closeness = np.repeat([1.0, 1e-1, 1e-3, 1e-4, 2e-5], 6)[:, None, None] ** (1 if dtype == np.float32 else 2)
    common = rng.normal(size=(len(closeness), 300, 1))
    x = np.sqrt(1 - closeness) * common + np.sqrt(closeness) * rng.normal(size=(len(closeness), 300, columns))
    x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)

    def climb(x):
        start = jaxgmm.from_responsibilities(x, jnp.ones((300, 1), x.dtype), prior=Ridge())
        return jaxgmm.run(algorithm, start, x, prior=Ridge(), max_iter=20)

    fitted = jax.jit(jax.vmap(climb))(jnp.asarray(x, dtype))
    assert (fitted.n_iter <= 2).all()
    assert (fitted.status == Status.CONVERGED).all()


@pytest.mark.parametrize("n_components", [1, 2])
@pytest.mark.parametrize("columns", [2, 10])
def test_columns_of_condition_a_million_converge_in_float32_at_the_optimum(columns, n_components):
    """Rounding costs at most 2e-3 nats a row, and what a fit reports is its mixture's own log-likelihood."""
    rng = np.random.default_rng(0)
    correlation = (1e6 - 1) / (1e6 + columns - 1)
    factor = np.linalg.cholesky(np.full((columns, columns), correlation) + (1 - correlation) * np.eye(columns))
    labels = rng.integers(0, n_components, 2000)
    x = ((rng.normal(size=(2000, columns)) + 12 * labels[:, None]) @ factor.T).astype(np.float32)
    fitted = jaxgmm.fit(jax.random.key(0), x, n_components, n_init=4)
    assert fitted.status == Status.CONVERGED and fitted.n_iter <= 20
    best, own = 0.0, []
    for k in range(n_components):
        rows = x[labels == k].astype(np.float64)
        best += len(rows) * (np.log(len(rows) / 2000) - np.linalg.slogdet(2 * np.pi * np.cov(rows.T, ddof=0))[1] / 2)
        held = np.asarray(fitted.mixture.covs.cholesky[k], np.float64)
        shifts = np.linalg.solve(held, (x - np.asarray(fitted.mixture.means[k], np.float64)).T)
        log_det = np.log(np.diag(held) ** 2 * 2 * np.pi).sum()
        own.append(float(fitted.mixture.log_weights[k]) - (log_det + np.sum(shifts**2, axis=0)) / 2)
    best, own = best / 2000 - columns / 2, np.logaddexp.reduce(own, axis=0).sum() / 2000
    assert abs(float(fitted.log_likelihood) / 2000 - own) < 2e-5
    assert abs(own - best) < 2e-3


def remaining(gains):
    """Of gains in order, the window filled up in front with what was never there."""
    held = np.full(WINDOW, np.nan)
    held[WINDOW - len(gains) :] = gains
    return float(_remaining(jnp.asarray(held)))


def test_what_remains_of_gains_that_decay():
    # Gains that shrink by ρ² a step sum to g/(1 − ρ²) in Q; in the objective, by the errors' ρ, to g/(1 − ρ).
    for rho in (0.3, 0.9, 0.99):
        for n in (3, 5, WINDOW):
            gains = 2.0 * rho ** (2 * np.arange(n))
            np.testing.assert_allclose(remaining(gains), gains[-1] / (1 - rho), rtol=1e-4)


def test_the_slower_of_two_decays_counts():
    fast, slow = 0.2, 0.95
    slowing = [1.0, fast**2, fast**2 * slow**2]
    np.testing.assert_allclose(remaining(slowing), slowing[-1] / (1 - slow), rtol=1e-4)
    quickening = np.array([1.0, slow**2, slow**2 * fast**2])
    over_both = np.sqrt(slow * fast)
    np.testing.assert_allclose(remaining(quickening), quickening[-1] / (1 - over_both), rtol=1e-4)
    long = np.concatenate([slow ** (2 * np.arange(WINDOW - 1)), [slow ** (2 * (WINDOW - 2)) * fast**2]])
    rate = (slow ** (WINDOW - 2) * fast) ** (1 / (WINDOW - 1))
    np.testing.assert_allclose(remaining(long), long[-1] / (1 - rate), rtol=1e-4)


def test_nothing_is_foretold_of_two_gains_or_of_gains_that_do_not_decay():
    assert remaining([1.0]) == remaining([1.0, 0.5]) == np.inf
    assert remaining([1.0, 1.0, 1.0]) == remaining([1.0, 2.0, 3.0]) == np.inf
    assert remaining([1.0, 0.2, 0.3]) == np.inf
    assert remaining([0.0, 0.0, 1e-3]) == np.inf
    assert remaining([1.0, 0.5]) == np.inf
    assert remaining([1.0, 0.5, 0.0]) == remaining([1.0, 0.0]) == 0.0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_is_an_e_step_then_an_m_step(family, dtype):
    start, x, weights = cases.drawn_rows(family, dtype=dtype)
    data, em = Rows(jnp.asarray(x), jnp.asarray(weights)), EM()
    problem = posed(data, settle(Ridge(0.1), x.dtype))
    penalty = problem.penalty
    state, info = em.init(start, problem)
    assert np.isnan(info.objective) and info.gain == np.inf and info.n_passes == 0
    rtol, mixture, gains = 100 * tolerance(dtype), start, [np.nan] * WINDOW
    for _ in range(2):
        state, info = jax.jit(em.step)(state, problem)
        moments, log_likelihood = jaxgmm.e_step(mixture, x, weights)
        expected = maximise(moments, start.family, problem.columns, penalty, mixture)
        gains = [*gains[1:], gain_in_q(mixture, expected, moments, penalty)]
        for a, b in zip(
            jax.tree.leaves((state.mixture, state.image)), jax.tree.leaves((mixture, expected)), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(state.log_likelihood, log_likelihood, rtol=rtol)
        np.testing.assert_allclose(info.objective, log_likelihood + penalty.log_prob(mixture), rtol=rtol)
        np.testing.assert_allclose(state.gains, gains, rtol=10 * rtol)
        assert info.gain == np.inf and info.n_passes == 1
        mixture = expected


def test_moments_of_labelled_rows(dtype):
    x, weights = cases.rows(150, 3, dtype)
    resp = np.random.default_rng(0).dirichlet(np.ones(2), size=150).astype(dtype)
    weights[7], weights[149] = 0.0, 0.0
    expected = reference.moments(x, weights, resp)
    x[7], resp[149] = np.nan, np.nan
    data = Rows(jnp.asarray(x + 5), jnp.asarray(weights))
    with programs_with({"jaxgmm.numerics.chunks._ELEMENTS": 1}):
        found = labelled_moments(data, jnp.asarray(resp), jnp.full(3, 5.0, dtype), DENSE)
    for a, b in zip(found, (expected[0], expected[1] + 5, expected[2]), strict=True):
        np.testing.assert_allclose(a, b, rtol=100 * tolerance(dtype), atol=100 * tolerance(dtype))
