"""Fits to rows with gaps and errors: sound, the same by every algorithm, and free of the bias of dropped rows."""

import warnings

import jax
import numpy as np
import optax
import pandas as pd
import pytest

import jaxgmm
from jaxgmm import EM, Accelerated, Gradient, Incomplete, Noisy, Rows, Status
from tests import blurred, cases
from tests.blurred import KINDS
from tests.cases import FAMILIES

KEY = jax.random.key(0)


def given(family, kind, dtype=np.float64, n_rows=150, **options):
    mixture, x, weights = blurred.problem(family, dtype, n_rows, **options)
    return mixture, blurred.as_data(x, weights, blurred.noise_of(x, kind))


def check_fit(family, kind, dtype):
    _, data = given(family, kind, dtype)
    fitted = jaxgmm.fit(KEY, data, 2, covariance_type=family, n_init=2)
    assert fitted.status is Status.CONVERGED and fitted.mixture.means.dtype == dtype
    rtol = 1e-5 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(fitted.log_likelihood, jaxgmm.log_likelihood(fitted.mixture, data), rtol=rtol)
    history = np.asarray(fitted.history)[: int(fitted.n_iter)]
    assert (np.diff(history) > -rtol * np.abs(history).max()).all()
    truth = jaxgmm.log_likelihood(given(family, kind, dtype)[0], data)
    assert fitted.log_likelihood > truth, "fewer rows than would pin the truth down, so the best is better"


def test_a_fit_is_sound_and_told_in_the_users_units(dtype):
    check_fit("full", "gaps", dtype)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_fit_is_sound_in_every_family(family, kind, dtype):
    check_fit(family, kind, dtype)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_em_never_falls(family, kind, dtype):
    """Without a prior, from a bad start, and also where rows stand in a layout."""
    start, data = given(family, kind, dtype)
    start = jaxgmm.Mixture(start.log_weights, start.means[::-1] / 3, start.covs, start.family)
    climb = jax.jit(lambda data: jaxgmm.run(EM(), start, data, tol=0, max_iter=60).history)
    histories = [climb(data)]
    if kind == "gaps":
        histories.append(climb(blurred.laid_out(data.x, data.weights)))
        np.testing.assert_allclose(*histories, rtol=1e-5 if dtype == np.float32 else 1e-8)
    for history in histories:
        assert np.isfinite(history).all()
        assert (np.diff(history) > -(1e-5 if dtype == np.float32 else 1e-11) * np.abs(history).max()).all()


@pytest.mark.exhaustive
@pytest.mark.needs_x64
@pytest.mark.parametrize("kind", KINDS)
def test_every_algorithm_reaches_ems_optimum(kind):
    start, data = given("full", kind)
    best = jaxgmm.run(EM(), start, data, tol=0, max_iter=2000)
    for algorithm in (Accelerated(EM()), Gradient(optax.lbfgs())):
        found = jaxgmm.run(algorithm, start, data, tol=1e-13, max_iter=2000)
        np.testing.assert_allclose(found.objective, best.objective, rtol=1e-9)
        np.testing.assert_allclose(found.mixture.means, best.mixture.means, atol=1e-4)
        fitted = jaxgmm.fit(KEY, data, 2, algorithm=algorithm, prior=None, n_init=3, tol=1e-10)
        assert fitted.log_likelihood > best.log_likelihood - 1e-3


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_without_gaps_or_errors_are_fitted_as_plain_ones(family, dtype):
    _, x, weights = cases.drawn_rows(family, 150, dtype, n_components=2)
    options = dict(covariance_type=family, n_init=2, tol=0, max_iter=50)
    expected = jaxgmm.fit(KEY, x, 2, weights, **options)
    for data in (Incomplete(x, weights), Noisy(x, np.zeros_like(x), weights), Noisy(x, np.zeros((150, 3, 3)), weights)):
        found = jaxgmm.fit(KEY, data, 2, **options)
        rtol = 1e-3 if dtype == np.float32 else 1e-7
        np.testing.assert_allclose(found.objective, expected.objective, rtol=rtol)
        np.testing.assert_allclose(found.mixture.means, expected.mixture.means, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(found.mixture.covariances, expected.mixture.covariances, rtol=rtol, atol=rtol)


@pytest.mark.exhaustive
def test_many_rows_are_fitted_in_their_layout(dtype):
    """So many that `fit` and `run` lay them out: the same as in parts too few for that, merged."""
    mixture, x, weights = blurred.problem("full", dtype, 8000)
    data = Incomplete(x, weights)
    fitted = jaxgmm.fit(KEY, data, 2, n_init=3)
    assert fitted.status is Status.CONVERGED
    rtol = 1e-4 if dtype == np.float32 else 1e-9
    parts = [jaxgmm.log_likelihood(fitted.mixture, Incomplete(x[i::4], weights[i::4])) for i in range(4)]
    np.testing.assert_allclose(fitted.log_likelihood, np.sum(parts), rtol=rtol)
    climbed = jaxgmm.run(EM(), mixture, data)
    assert climbed.status == Status.CONVERGED
    np.testing.assert_allclose(climbed.log_likelihood, fitted.log_likelihood, rtol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["variances", "gaps"])
def test_starts_tables_and_selections(kind, dtype):
    mixture, data = given("full", kind, dtype)
    names = ["a", "b", "c"]
    table = pd.DataFrame(data.x, columns=names)
    named = Incomplete(table, data.weights) if kind == "gaps" else Noisy(table, data.noise, data.weights)
    fitted = jaxgmm.fit(KEY, named, 2, init=mixture)
    assert fitted.feature_names == tuple(names) and fitted.status is Status.CONVERGED
    labels = np.asarray(jaxgmm.predict(mixture, data))
    shares = np.asarray(jaxgmm.responsibilities(mixture, data))
    for init in (labels, shares, fitted):
        again = jaxgmm.fit(KEY, named, 2, init=init)
        np.testing.assert_allclose(again.log_likelihood, fitted.log_likelihood, rtol=1e-4)
    for method in ("k-means++", "k-means", "random-rows", "random-responsibilities"):
        start = jaxgmm.initialize(KEY, named, 2, method=method)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(start))
        run = jax.jit(lambda data, start: jaxgmm.run(EM(), start, data, max_iter=500))(data, start)
        assert np.isfinite(run.objective)
    selection = jaxgmm.select(KEY, named, [1, 2, 3], covariance_types=["full", "diag"], n_init=3)
    assert selection.best.mixture.n_components > 1 and selection.best.feature_names == tuple(names)
    best = selection.best
    for criterion in (jaxgmm.aic, jaxgmm.bic, jaxgmm.icl):
        assert criterion(best, named) < criterion(jaxgmm.fit(KEY, named, 1), named)
    with pytest.raises(ValueError, match="'d'"):
        jaxgmm.score(fitted, Incomplete(table.rename(columns={"c": "d"})))


def test_criteria_count_the_log_likelihood_of_what_was_seen(dtype):
    mixture, x, weights = blurred.problem("full", dtype)
    noise = blurred.noise_of(x, "covariances")
    data, expected = Noisy(x, noise, np.ones_like(weights)), blurred.twin("full", mixture, x, np.ones(len(x)), noise)
    total, resp = expected["log_likelihood"], expected["responsibilities"]
    rtol, count = 1e-5 if dtype == np.float32 else 1e-9, jaxgmm.n_parameters("full", 2, 3)
    np.testing.assert_allclose(jaxgmm.score(mixture, data), total / len(x), rtol=rtol)
    np.testing.assert_allclose(jaxgmm.aic(mixture, data), -2 * total + 2 * count, rtol=rtol)
    bic = -2 * total + count * np.log(len(x))
    np.testing.assert_allclose(jaxgmm.bic(mixture, data), bic, rtol=rtol)
    np.testing.assert_allclose(jaxgmm.icl(mixture, data), bic - 2 * np.log(resp.max(axis=1)).sum(), rtol=rtol)
    np.testing.assert_array_equal(jaxgmm.predict(mixture, data), resp.argmax(axis=1))
    np.testing.assert_allclose(jaxgmm.uncertainty(mixture, data), resp.min(axis=1), rtol=1e3 * rtol, atol=rtol)


def test_rows_of_which_nothing_was_seen_are_told(dtype):
    _, data = given("full", "gaps", dtype)
    empty = np.concatenate([data.x, np.full((2, 3), np.nan, dtype)])
    options = dict(n_init=2)
    with pytest.warns(UserWarning, match="2 rows of x, the first of them row 150, have no observed value, and count"):
        found = jaxgmm.fit(KEY, Incomplete(empty, np.append(data.weights, [1, 1]).astype(dtype)), 2, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = jaxgmm.fit(KEY, data, 2, **options)
    np.testing.assert_allclose(found.objective, expected.objective, rtol=1e-4)


def estimates(mixture):
    """Weights, means and covariances of two components in the order of their means, as one vector."""
    order = np.argsort(np.asarray(mixture.means)[:, 0])
    leaves = mixture.weights, mixture.means, mixture.covariances
    return np.concatenate([np.asarray(leaf)[order].ravel() for leaf in leaves])


def check_recovery(made, naive, n_least):
    """Over simulated data sets what is wanted has no bias to be told, and the naive estimate has one in an entry."""
    truth = jaxgmm.make_mixture(
        [0.4, 0.6], [[-2.0, 0.0, 1.0], [2.0, 1.0, -1.0]], [np.eye(3) + 0.5, np.eye(3) * 1.2 - 0.2]
    )
    climb = jax.jit(lambda data: jaxgmm.run(EM(), truth, data, tol=1e-9, max_iter=500).mixture)
    found, others = [], []
    for key in jax.random.split(KEY, 40):
        x = np.asarray(jaxgmm.sample(key, truth, 600)[0])
        data = made(x, np.random.default_rng(np.asarray(jax.random.key_data(key))))
        found.append(estimates(climb(data)))
        others.append(estimates(climb(naive(data))))
    for sample, biased in ((found, False), (others, True)):
        off = np.mean(sample, axis=0) - estimates(truth)
        off = off / (np.std(sample, axis=0, ddof=1) / np.sqrt(len(sample)))
        if biased:
            assert (np.abs(off) > 5).sum() >= n_least, off
        else:
            # Maximum likelihood itself is biased by a 600th of the covariances, a small part of an error.
            assert np.abs(off).max() < 4 and (np.abs(off) > 3).sum() <= 1, off


def without_incomplete(data):
    """The rows that are complete, by weight, so that one program serves all."""
    whole = ~np.isnan(data.x).any(axis=1)
    return Rows(np.nan_to_num(data.x), whole.astype(np.float64))


@pytest.mark.exhaustive
@pytest.mark.needs_x64
def test_values_missing_at_random_given_others_leave_no_bias_where_dropped_rows_do():
    """The second and the third column are missed the more often, the greater the first, which is always seen."""

    def made(x, rng):
        gone = rng.random((len(x), 2)) < 0.6 / (1 + np.exp(-1.5 * x[:, :1]))
        return Incomplete(np.concatenate([x[:, :1], np.where(gone, np.nan, x[:, 1:])], axis=1))

    check_recovery(made, without_incomplete, n_least=2)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
def test_values_missing_completely_at_random_leave_no_bias_where_means_in_their_place_do():
    def made(x, rng):
        return Incomplete(blurred.gappy(x, 0.3, rng))

    def filled(data):
        means = np.nanmean(data.x, axis=0)
        return Rows(np.where(np.isnan(data.x), means, data.x), np.ones(len(data.x)))

    check_recovery(made, filled, n_least=10)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
@pytest.mark.parametrize("with_gaps", [False, True], ids=["whole", "gaps"])
def test_errors_of_known_variance_leave_no_bias_where_plain_rows_do(with_gaps):
    def made(x, rng):
        noise = rng.uniform(0.1, 1.5, x.shape)
        rows = x + np.sqrt(noise) * rng.normal(size=x.shape)
        return Noisy(blurred.gappy(rows, 0.3, rng) if with_gaps else rows, noise)

    check_recovery(made, lambda data: Incomplete(data.x, data.weights), n_least=6)
