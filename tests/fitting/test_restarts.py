"""Successive halving: who goes on, what becomes of the others, and that neither clock nor data decide it."""

import jax
import numpy as np
import optax
import pytest

import jaxgmm
from jaxgmm import Gradient, Status
from jaxgmm.fitting import halving, race, restarts, tasks

KEY = jax.random.key(1)
SHORT, R = 5, 10


@pytest.fixture(autouse=True)
def _halve_at_any_size(monkeypatch):
    monkeypatch.setattr(halving, "_HALVING_WORK", 0)
    monkeypatch.setattr(halving, "_SHORT_RUN", SHORT)
    monkeypatch.setattr(halving, "_KEEP", 5)


def fit(x, **options):
    """Five components on four blobs: slow enough for nobody to be done after a short run."""
    return jaxgmm.fit(KEY, x, 5, **{"init": "random-rows", "n_init": R, "max_iter": 200, **options})


def unhalved(x, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(halving, "_HALVING_WORK", float("inf"))
        return fit(x, **options)


def statuses(fitted):
    return np.asarray(fitted.restarts.status)


@pytest.mark.exhaustive
def test_new_numbers_compile_nothing(blobs, dtype):
    x = blobs[0].astype(dtype)
    programs = [restarts.start_all, race.advance, restarts.end_all]
    for program in programs:
        program.clear_cache()
    fit(x)
    before = [program.n_programs() for program in programs]
    assert before == [1, 1, 1]
    for i in range(3):
        jaxgmm.fit(jax.random.key(i), x * (i + 2), 5, init="random-rows", n_init=R, max_iter=200, tol=10.0 ** -(i + 2))
    assert [program.n_programs() for program in programs] == before


def test_the_best_of_the_short_runs_go_on_as_if_alone(blobs, dtype):
    x = blobs[0].astype(dtype)
    fitted, short, whole = fit(x), unhalved(x, max_iter=SHORT), unhalved(x)
    rtol = 1e-5 if dtype == np.float32 else 1e-9
    kept = np.sort(np.argsort(np.asarray(short.restarts.objective))[-2:])
    stopped = statuses(fitted) == Status.STOPPED
    np.testing.assert_array_equal(np.flatnonzero(~stopped), kept)
    assert (np.asarray(fitted.restarts.n_iter)[stopped] == SHORT).all()
    objective = np.asarray(fitted.restarts.objective)
    np.testing.assert_allclose(objective[stopped], np.asarray(short.restarts.objective)[stopped], rtol=rtol)
    np.testing.assert_allclose(objective[kept], np.asarray(whole.restarts.objective)[kept], rtol=rtol)
    np.testing.assert_allclose(fitted.objective, objective[kept].max(), rtol=rtol)
    np.testing.assert_allclose(fitted.log_likelihood, jaxgmm.log_likelihood(fitted.mixture, x), rtol=1e-5)
    assert fitted.status == Status.CONVERGED and (statuses(whole) != Status.STOPPED).all()


def test_the_clock_decides_nothing(blobs, dtype, monkeypatch):
    x = blobs[0].astype(dtype)
    fitted = fit(x)
    for seconds in (1e-9, 1e9):
        monkeypatch.setattr(race, "_BLOCK_SECONDS", seconds)
        again = fit(x)
        jax.tree.map(np.testing.assert_array_equal, again, fitted)


@pytest.mark.parametrize("n_blocks", [1, 30])
def test_an_interrupted_fit_returns_the_best_so_far(n_blocks, blobs, dtype, monkeypatch):
    advance, calls = race.advance, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) > n_blocks:
            raise KeyboardInterrupt
        return advance(*args)

    monkeypatch.setattr(race, "advance", interrupted)
    monkeypatch.setattr(race, "_BLOCK_SECONDS", 1e-9)
    monkeypatch.setattr(race, "_FIRST_WORK", 0)
    fitted = fit(blobs[0].astype(dtype), tol=0)
    halved = n_blocks > 1
    stopped = statuses(fitted) == Status.STOPPED
    assert stopped.sum() == (R - 2 if halved else 0) and (statuses(fitted)[~stopped] == Status.INTERRUPTED).all()
    assert fitted.status is Status.INTERRUPTED and np.isfinite(fitted.objective)
    # Those that had waited for a lane have visited nothing.
    np.testing.assert_allclose(fitted.objective, np.nanmax(np.asarray(fitted.restarts.objective)[~stopped]), rtol=1e-5)
    assert (fitted.n_iter > SHORT) == halved


def test_climbs_that_ended_in_the_short_run_are_candidates_still(blobs, dtype):
    fitted = fit(blobs[0].astype(dtype), tol=1e6)
    stopped = statuses(fitted) == Status.STOPPED
    assert (statuses(fitted)[~stopped] == Status.CONVERGED).all() and stopped.sum() < R - 2
    np.testing.assert_allclose(fitted.objective, np.asarray(fitted.restarts.objective)[~stopped].max(), rtol=1e-5)


def test_collapsing_restarts_do_not_crowd_out_sound_ones(blobs, dtype):
    x = blobs[0].astype(dtype)
    x[:6] = 6.0
    # Short runs that are about to collapse on the six equal rows have the highest objectives.
    fitted = fit(x)
    assert (statuses(fitted) == Status.COLLAPSED).sum() > 2
    assert fitted.status in (Status.CONVERGED, Status.MAX_ITER)
    assert (statuses(unhalved(x)) == Status.COLLAPSED).any()


@pytest.mark.exhaustive
def test_any_algorithm_is_halved(blobs, dtype):
    options = dict(covariance_type="spherical", max_iter=20, tol=0)
    fitted = fit(blobs[0].astype(dtype), algorithm=Gradient(optax.adam(0.05)), **options)
    assert sorted(fitted.restarts.n_iter.tolist()) == [SHORT] * (R - 2) + [20] * 2
    assert fitted.n_iter == 20 and fitted.status == Status.MAX_ITER


def planned(n_restarts, family, n_rows, n_components):
    """The plan for D = 3."""
    mixes = family in ("full", "tied")
    return halving.plan(n_restarts, halving.pass_work(n_restarts, n_rows, n_components, 3, mixes))


def test_the_plan_follows_from_shapes(monkeypatch):
    assert planned(1, "full", 10**9, 3) == ()
    assert planned(R, "full", 100, 3) == (halving.Stage(SHORT, 2),)
    monkeypatch.setattr(halving, "_HALVING_WORK", R * 100 * 3 * 9)
    assert planned(R, "tied", 100, 3) and not planned(R, "full", 99, 3)
    assert not planned(R, "full", 149, 2), "a spare component is no work that `fit` would have"
    assert planned(R, "full", 150, 2)
    assert planned(R, "diag", 300, 3) and not planned(R, "diag", 299, 3)


def test_padding_plans_the_same(blobs, dtype, monkeypatch):
    x = np.concatenate([blobs[0], np.full((7, 2), 1e3)]).astype(dtype)
    planned = []
    monkeypatch.setattr(tasks, "plan", lambda n_restarts, work: (planned.append(work), ())[1])
    fit(x, sample_weight=np.repeat([1.0, 0.0], [400, 7]), n_init=1, max_iter=1)
    assert planned == [400 * 5 * 2**2]
