"""Progress is told to those who ask, and to no one else."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Status
from jaxgmm.fitting import select as selection
from jaxgmm.host.progress import Progress, Snapshot
from tests import cases

KEY = jax.random.key(0)


def test_shown_only_when_asked(blobs, capfd):
    jaxgmm.fit(KEY, blobs[0], 4, n_init=4)
    assert capfd.readouterr() == ("", "")
    jaxgmm.fit(KEY, blobs[0], 4, n_init=4, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "iteration" in err and "objective" in err and "of 4 climbing" in err and "100%" in err


def test_lines_where_there_is_no_tqdm(blobs, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    jaxgmm.fit(KEY, blobs[0], 4, n_init=4, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("iteration ") and "%|" not in err


def test_a_bad_argument_draws_no_bar(blobs, capfd):
    with pytest.raises(ValueError, match="n_components"):
        jaxgmm.fit(KEY, blobs[0], 0, progress=True)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(TypeError, match="callback must be a function of a jaxgmm.Report"):
        jaxgmm.fit(KEY, blobs[0], 4, callback=3)


def test_the_callback_is_told_what_happens_in_the_users_units(blobs):
    reports = []
    x = 1000 * blobs[0] + 7
    prior = jaxgmm.Ridge(0.1)
    fitted, _ = cases.told_fit(KEY, x, 4, n_init=4, prior=prior, tol=1e-5, callback=reports.append)
    assert all(isinstance(report, jaxgmm.Report) for report in reports)
    last = reports[-1]
    assert (last.n_components, last.covariance_type, last.n_restarts) == (4, "full", 4)
    assert last.n_climbing == 0 and last.seconds_left == 0 and last.n_fits == 1
    assert last.n_iter == fitted.restarts.n_iter.max()
    np.testing.assert_allclose(last.objective, fitted.objective, rtol=1e-5)
    assert [report.n_iter for report in reports] == sorted(report.n_iter for report in reports)


def test_a_callback_that_returns_true_ends_the_fit(blobs):
    fitted = jaxgmm.fit(KEY, blobs[0], 4, n_init=4, tol=0, callback=lambda report: report.n_iter >= 3)
    assert fitted.status is Status.INTERRUPTED and 3 <= fitted.n_iter < 1000
    for true in (np.bool_(True), np.array(True), jnp.asarray(True)):
        fitted = jaxgmm.fit(KEY, blobs[0], 4, n_init=4, tol=0, callback=lambda report, answer=true: answer)
        assert fitted.status is Status.INTERRUPTED
    for other in (1, np.int64(1), np.array([True]), "yes"):
        fitted = jaxgmm.fit(KEY, blobs[0], 4, n_init=4, tol=0, callback=lambda report, answer=other: answer)
        assert fitted.status is Status.MAX_ITER
    chosen = jaxgmm.select(KEY, blobs[0], [2, 3], ["diag"], n_init=2, tol=0, callback=lambda report: True)
    assert [c.skipped for c in chosen] == [None, "interrupted"]


def test_an_interrupt_before_a_candidate_has_climbed_leaves_those_before_it(blobs, monkeypatch):
    fit_task, n_fits = selection.fit_task, 0

    def interrupted(*arguments):
        nonlocal n_fits
        n_fits += 1
        if n_fits == interrupted.at:
            raise KeyboardInterrupt
        return fit_task(*arguments)

    monkeypatch.setattr(selection, "fit_task", interrupted)
    interrupted.at = 2
    chosen = jaxgmm.select(KEY, blobs[0], [1, 2, 3], ["diag"], n_init=2)
    assert [c.skipped for c in chosen] == [None, "interrupted", "interrupted"] and n_fits == 2
    interrupted.at = 3
    with pytest.raises(KeyboardInterrupt):
        jaxgmm.select(KEY, blobs[0], [1, 3], ["diag"], n_init=2)


def test_selections_tell_of_all_their_fits(blobs, capfd):
    reports = []
    jaxgmm.select(KEY, blobs[0], [1, 3], ["diag", "tied"], n_init=2, progress=True, callback=reports.append)
    assert {(r.n_components, r.covariance_type, r.n_done) for r in reports} == {
        (1, "diag", 0), (3, "diag", 1), (1, "tied", 2), (3, "tied", 3)
    }  # fmt: skip
    assert {r.n_fits for r in reports} == {4}
    assert "K = 3, tied: iteration" in capfd.readouterr().err


def test_what_is_left_follows_the_decay_of_the_gains(monkeypatch):
    clock = iter(np.arange(0.0, 100.0, 1.0))
    monkeypatch.setattr("jaxgmm.host.progress.time.monotonic", lambda: next(clock))
    reports = []
    progress = Progress(False, reports.append)
    progress.begin(2, "full", float)
    # The gain falls a hundredfold from 1e6: two more times as long, and it stops at 1.
    progress.tell(Snapshot(10, 1000, 0.0, 1e6, 2, 2))
    progress.tell(Snapshot(20, 1000, 0.0, 1e4, 2, 2))
    progress.tell(Snapshot(30, 40, 0.0, 1e5, 2, 2))
    assert np.isnan(reports[0].seconds_left)
    pace = (reports[1].seconds - reports[0].seconds) / 10
    np.testing.assert_allclose(reports[1].seconds_left, pace * 20)
    np.testing.assert_allclose(reports[2].seconds_left, (reports[2].seconds - reports[0].seconds) / 20 * 10)


@pytest.mark.parametrize("asked", [None, False])
def test_whoever_waits_is_told_once(asked, capfd, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("jaxgmm.host.progress.time.monotonic", lambda: now[0])
    monkeypatch.setattr("jaxgmm.host.progress._is_watched", lambda: True)
    progress = Progress(asked)
    assert progress.listened == (asked is None)
    progress.begin(2, "full", float)
    for n_iter in range(10, 100, 10):
        now[0] += 1.0
        # The gain shrinks slowly: hundreds of iterations are left.
        progress.tell(Snapshot(n_iter, 1000, 0.0, 1e6 * 0.99**n_iter, 2, 2))
    lines = capfd.readouterr().err.splitlines()
    if asked is None:
        assert len(lines) == 1 and "more than a few seconds (about" in lines[0] and "progress=False" in lines[0]
    else:
        assert not lines


def test_a_short_fit_says_nothing(capfd, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("jaxgmm.host.progress.time.monotonic", lambda: now[0])
    monkeypatch.setattr("jaxgmm.host.progress._is_watched", lambda: True)
    progress = Progress(None)
    progress.begin(2, "full", float)
    for n_iter in range(10, 80, 10):
        now[0] += 1.0
        progress.tell(Snapshot(n_iter, 1000, 0.0, 1e8 * 0.8**n_iter, 2, 2))
    assert capfd.readouterr().err == ""
