"""Data written from the protocol alone: every public function gives its result, or names what the data lack."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgmm
from jaxgmm import EM, Accelerated, Gradient, Ridge, Rows, Status
from tests import cases
from tests.cases import tolerance
from tests.members.data import Blocks, Coded, Halves

KEY = jax.random.key(0)
KINDS = pytest.mark.parametrize("kind", ["halves", "blocks", "coded"])
SUMS_ALONE = pytest.mark.parametrize("kind", ["halves", "blocks"])


def given(kind, dtype):
    """A start, data of a kind, and the same as rows."""
    start, x, weights = cases.drawn_rows("full", n_rows=120, n_components=2, dtype=dtype)
    rows = Rows(jnp.asarray(x), jnp.asarray(weights))
    if kind == "blocks":
        return start, Blocks(x, weights, 3), rows
    if kind == "coded":
        coded = Coded.of(x, weights)
        return start, coded, coded.rows
    return start, Halves(Rows(rows.x[:50], rows.weights[:50]), Rows(rows.x[50:], rows.weights[50:])), rows


@KINDS
def test_sums_are_those_of_the_rows(kind, dtype):
    start, data, rows = given(kind, dtype)
    rtol = 100 * tolerance(dtype)
    chex.assert_trees_all_close(jaxgmm.e_step(start, data), jaxgmm.e_step(start, rows), rtol=rtol, atol=rtol)
    for function in (jaxgmm.log_likelihood, jaxgmm.score, jaxgmm.aic, jaxgmm.bic):
        np.testing.assert_allclose(function(start, data), function(start, rows), rtol=rtol)
    slopes = [jax.jit(jax.grad(lambda m, each=each: jaxgmm.log_likelihood(m, each)))(start) for each in (data, rows)]
    chex.assert_trees_all_close(*slopes, rtol=10 * rtol, atol=10 * rtol)


@KINDS
@pytest.mark.parametrize(
    "algorithm", [EM(), Accelerated(EM()), Gradient(optax.adam(0.05))], ids=["em", "accelerated", "adam"]
)
def test_the_loop_runs_from_a_trace_or_from_the_host(kind, algorithm, dtype):
    start, data, rows = given(kind, dtype)
    options = dict(prior=Ridge(1e-3), tol=0, max_iter=8)
    found, expected = (jaxgmm.run(algorithm, start, each, **options) for each in (data, rows))
    rtol = 1e4 * tolerance(dtype)
    chex.assert_trees_all_close(found.mixture, expected.mixture, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(found.history, expected.history, rtol=rtol)
    assert (found.n_iter, found.n_passes) == (expected.n_iter, expected.n_passes)


@pytest.mark.exhaustive
@KINDS
def test_the_loop_converges_over_them(kind, dtype):
    start, data, rows = given(kind, dtype)
    converged = jaxgmm.run(EM(), start, data)
    assert converged.status == Status.CONVERGED == jaxgmm.run(EM(), start, rows).status


@pytest.mark.parametrize("kind", ["halves", "coded"])
@pytest.mark.parametrize("init", ["drawn", "given"])
def test_fit_climbs_over_them(kind, init, dtype):
    check_fit(kind, init, dtype)


@pytest.mark.exhaustive
@pytest.mark.parametrize("init", ["drawn", "given"])
def test_fit_climbs_over_blocks_to_the_end(init, dtype):
    check_fit("blocks", init, dtype)


def check_fit(kind, init, dtype):
    start, data, rows = given(kind, dtype)
    options = dict(n_init=2) if init == "drawn" else dict(init=start)
    found, expected = (jaxgmm.fit(KEY, each, 2, **options) for each in (data, rows))
    assert found.status == expected.status == Status.CONVERGED
    np.testing.assert_allclose(
        found.log_likelihood, expected.log_likelihood, rtol=1e-3 if dtype == np.float32 else 1e-5
    )


def test_rows_are_fitted_as_the_array_that_they_hold(dtype):
    _, _, rows = given("halves", dtype)
    found, expected = jaxgmm.fit(KEY, rows, 2), jaxgmm.fit(KEY, rows.x, 2, rows.weights)
    chex.assert_trees_all_equal(found, expected)
    with pytest.raises(ValueError, match="sample_weight must be None"):
        jaxgmm.fit(KEY, rows, 2, rows.weights)


@SUMS_ALONE
def test_what_needs_single_rows_says_so(kind, dtype):
    start, data, _ = given(kind, dtype)
    for needs, calls in {
        "log_prob": [lambda: jaxgmm.log_prob(start, data)],
        "log_joint": [lambda: jaxgmm.log_joint(start, data)],
        "log_components": [lambda: jaxgmm.log_components(start, data)],
        "log_responsibilities": [
            lambda: jaxgmm.responsibilities(start, data),
            lambda: jaxgmm.log_responsibilities(start, data),
            lambda: jaxgmm.predict(start, data),
            lambda: jaxgmm.uncertainty(start, data),
            lambda: jaxgmm.icl(start, data),
        ],
        "fold": [
            lambda: jaxgmm.standard_errors(start, data),
            lambda: jaxgmm.influence(start, data),
            lambda: jaxgmm.bootstrap(KEY, start, data, 2),
            lambda: jaxgmm.fit(KEY, data, 2, init=np.zeros(120, int)),
        ],
        "x": [
            lambda: jaxgmm.select(KEY, data, [1, 2]),
            lambda: jaxgmm.initialize(KEY, data, 2),
            lambda: jaxgmm.from_responsibilities(data, np.ones((120, 2))),
        ],
    }.items():
        for call in calls:
            with pytest.raises(TypeError, match=f"must be data that have .*{needs}.*{type(data).__name__} does not"):
                call()


def test_data_that_lack_what_a_fit_needs_are_named(dtype):
    start, data, _ = given("halves", dtype)

    class Bare:
        n_features, moments = 3, data.moments

    for call in (lambda: jaxgmm.run(EM(), start, Bare()), lambda: jaxgmm.fit(KEY, Bare(), 2)):
        with pytest.raises(
            TypeError, match="columns, ready, log_likelihood, draw_rows, as rows have, but Bare does not"
        ):
            call()
    with pytest.raises(ValueError, match="x has 3 columns, but the mixture has 2"):
        jaxgmm.log_likelihood(jaxgmm.marginal(start, [0, 1]), data)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
def test_derivatives_of_fits_follow_compiled_data():
    start, data, rows = given("halves", np.float64)

    def mean_of(data):
        return jaxgmm.solution(EM(), start, data, prior=Ridge(1e-3)).means[0, 0]

    slopes, expected = jax.grad(mean_of)(data), jax.grad(mean_of)(rows)
    np.testing.assert_allclose(jnp.concatenate([slopes.first.x, slopes.second.x]), expected.x, atol=1e-9)
    _, blocks, _ = given("blocks", np.float64)
    with pytest.raises(TypeError, match="driven from the host"):
        mean_of(blocks)


def test_what_tells_its_rows_gives_what_needs_them(dtype):
    start, coded, rows = given("coded", dtype)
    assert coded.codes.dtype == np.int8
    chex.assert_trees_all_equal(jaxgmm.responsibilities(start, coded), jaxgmm.responsibilities(start, rows))

    def along(weights):
        return jaxgmm.log_likelihood(start, dataclasses.replace(coded, weights=weights))

    np.testing.assert_allclose(
        jax.grad(along)(coded.weights), jaxgmm.log_prob(start, rows.x), rtol=100 * tolerance(dtype)
    )


@pytest.mark.exhaustive
def test_what_tells_its_rows_gives_what_folds_them(dtype):
    start, coded, rows = given("coded", dtype)
    for function in (jaxgmm.icl, lambda *given: jaxgmm.standard_errors(*given, prior=Ridge(1.0))):
        chex.assert_trees_all_equal(function(start, coded), function(start, rows))


def test_a_fit_that_is_driven_from_the_host_reports_and_can_be_ended(dtype, monkeypatch):
    monkeypatch.setattr("jaxgmm.fitting.driven._REPORT_SECONDS", 0.0)
    _, data, rows = given("blocks", dtype)
    reports = []

    def enough(report):
        reports.append(report)
        return report.n_iter >= 4

    fitted = jaxgmm.fit(KEY, data, 2, n_init=2, tol=0, max_iter=20, callback=enough)
    assert fitted.status is Status.INTERRUPTED and 3 <= fitted.n_iter <= 4
    assert (np.asarray(fitted.restarts.status) == Status.INTERRUPTED).all()
    assert {(report.n_restarts, report.n_climbing) for report in reports} == {(2, 2)}
    last = jaxgmm.log_likelihood(fitted.mixture, rows)
    np.testing.assert_allclose(fitted.log_likelihood, last, rtol=1e-5)
