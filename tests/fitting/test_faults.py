"""Interruptions and forks: a fit ends with a mixture or an error, and never hangs."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Status

KEY = jax.random.key(0)


def test_a_fork_after_a_fit_is_refused_at_once():
    code = """
        import os, warnings
        warnings.simplefilter("ignore")
        import jax, numpy as np, jaxgmm
        x = np.random.default_rng(0).normal(size=(50, 2))
        fit = lambda: jaxgmm.fit(jax.random.key(0), x, 2, n_init=1, max_iter=2)
        fit()
        child = os.fork()
        if not child:
            try:
                fit()
            except RuntimeError as error:
                os._exit(7 if "forked" in str(error) and "spawn" in str(error) else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        fit()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.exhaustive
def test_factorisations_at_once_do_not_wait_for_each_other():
    # On two threads, jaxlib 0.10.2's own Cholesky factors of two such stacks at once never come back.
    code = """
        import os
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
        import jax, jax.numpy as jnp, numpy as np
        from jaxgmm.numerics.factors import cholesky, eigenvalues
        factor = np.random.default_rng(0).normal(size=(2, 60, 100, 100)).astype(np.float32)
        a, b = factor @ np.swapaxes(factor, -2, -1) + 100 * np.eye(100, dtype=np.float32)
        def both(_, held):
            return jnp.sum(cholesky(a + 0 * held[0])), jnp.sum(cholesky(b + 0 * held[1]))
        nothing = jnp.zeros(()), jnp.zeros(())
        jax.block_until_ready(jax.jit(lambda: jax.lax.fori_loop(0, 50, both, nothing))())
        spectra = jax.jit(lambda: (jnp.sum(eigenvalues(a)), jnp.sum(eigenvalues(b))))
        jax.block_until_ready(spectra())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=300, check=True)


@pytest.fixture
def interruptible():
    """SIGINT as a terminal has it: a shell starts its background jobs with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_gives_a_sound_fit_or_goes_through(blobs, interruptible):
    check_interrupts(blobs[0], np.linspace(0, 0.5, 5))


@pytest.mark.exhaustive
def test_ctrl_c_at_any_time_gives_a_sound_fit_or_goes_through(blobs, interruptible):
    check_interrupts(blobs[0], np.linspace(0, 0.5, 12))


def check_interrupts(x, delays):
    x = np.tile(x, (50, 1))
    options = dict(n_init=4, max_iter=10**6, tol=0)
    jaxgmm.fit(KEY, x, 4, **{**options, "tol": 1e30})
    for delay in delays:
        timer = threading.Timer(float(delay), lambda: os.kill(os.getpid(), signal.SIGINT))
        try:
            timer.start()
            fitted = jaxgmm.fit(KEY, x, 4, **options)
        except KeyboardInterrupt:  # before there was anything to return
            continue
        finally:
            timer.join()
            time.sleep(0.01)
        assert fitted.status is Status.INTERRUPTED
        assert (np.asarray(fitted.restarts.status) == Status.INTERRUPTED).all()
        np.testing.assert_allclose(np.sum(fitted.mixture.weights), 1, rtol=1e-5)
        np.testing.assert_allclose(fitted.log_likelihood, jaxgmm.log_likelihood(fitted.mixture, x), rtol=1e-5)


@pytest.mark.exhaustive
def test_a_fit_goes_on_from_a_file_as_if_it_had_never_stopped(faithful, tmp_path):
    x, labels = faithful
    options = dict(prior=jaxgmm.Ridge(1e-6), tol=0)
    whole = jaxgmm.fit(KEY, x, 2, init=labels, max_iter=20, **options)
    half = jaxgmm.fit(KEY, x, 2, init=labels, max_iter=12, **options)
    jaxgmm.save(tmp_path / "half.npz", half)
    rest = jaxgmm.fit(KEY, x, 2, init=jaxgmm.load(tmp_path / "half.npz").mixture, max_iter=8, **options)
    rtol = 1e-10 if whole.mixture.means.dtype == np.float64 else 2e-5
    np.testing.assert_allclose(rest.mixture.means, whole.mixture.means, rtol=rtol)
    np.testing.assert_allclose(rest.history[:8], whole.history[12:], rtol=rtol)
