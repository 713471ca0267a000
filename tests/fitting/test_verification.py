"""A fit visits its winner once more in NumPy: what a faulty compiler spoils is mended or refused, never returned."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Accelerated, Status
from jaxgmm.data.kernels import quadratic, whitened
from jaxgmm.data.rows import Rows
from jaxgmm.fitting import verification, visits
from jaxgmm.fitting.verification import disagreement, warn_of_compiler
from tests import cases, reference
from tests.cases import FAMILIES
from tests.programs import programs_with

KEY = jax.random.key(0)
BY_FEATURES = {"jaxgmm.data.expectation._QUICK_WORK": 0}
ON_SOME_ROWS = {
    "jaxgmm.fitting.verification._FREE_WORK": 0,
    "jaxgmm.fitting.verification._SHARE": 1 << 40,
    "jaxgmm.fitting.verification._FEWEST_ROWS": 100,
}


def spoiled(function, change):
    """A kernel's function whose answers are changed, as a compiler that miscomputes it would."""
    return lambda *args, **kwargs: change(function(*args, **kwargs))


def raised(prepared):
    """Densities that are too high by half a nat: responsibilities are right, the log-likelihood is not."""
    return prepared._replace(coefficients=prepared.coefficients.at[..., -1].add(0.5))


def drawn_in(moments):
    """Means that are a tenth too near to the centre: the log-likelihood is right, the fixed point is not."""
    return moments._replace(mean=0.9 * moments.mean)


SPOILED = {
    "densities": {"jaxgmm.data.kernels.quadratic.prepare": spoiled(quadratic.prepare, raised)},
    "moments": {"jaxgmm.data.kernels.quadratic.read": spoiled(quadratic.read, drawn_in)},
}


def fitted(family, dtype, **options):
    _, x, weights = cases.drawn_rows(family, 300, dtype)
    return jaxgmm.fit(KEY, x, 3, weights, covariance_type=family, n_init=2, **options)


@pytest.fixture(scope="module")
def sound(request):
    family, dtype = request.param
    return family, dtype, fitted(family, dtype)


@pytest.mark.parametrize("sound", [(f, d) for f in FAMILIES for d in (np.float32, np.float64)], indirect=True, ids=str)
def test_numpy_sees_what_the_reference_sees_and_finds_no_fault(sound):
    family, dtype, fit = sound
    if dtype == np.float64 and not jax.config.jax_enable_x64:
        pytest.skip("float64 needs x64")
    _, x, weights = cases.drawn_rows(family, 300, dtype)
    mixture = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), fit.mixture)
    whitening = visits.whitening_of(mixture)
    seen = visits.visit(whitening, x, np.arange(300), weights.astype(np.float64), np.dtype(dtype))
    joint = reference.log_joint(np.exp(mixture.log_weights), mixture.means, np.asarray(mixture.covariances), x)
    resp = reference.responsibilities(joint) * weights[:, None]
    np.testing.assert_allclose(seen.log_likelihood, weights @ reference.log_prob(joint), rtol=1e-6)
    np.testing.assert_allclose(seen.mass, resp.sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(seen.mean, resp.T @ x / resp.sum(axis=0)[:, None], rtol=1e-4, atol=1e-5)
    rows = Rows(jnp.asarray(x), jnp.asarray(weights))
    assert disagreement(jaxgmm.EM(), fit, rows, 1e-6, 1) is None
    # A fifth of a nat a row, and a weight that an EM step would move, are beyond rounding.
    wrong = fit._replace(log_likelihood=fit.log_likelihood + 0.2 * weights.sum())
    assert "log-likelihood" in disagreement(jaxgmm.EM(), wrong, rows, 1e-6, 1)
    moved = dataclasses.replace(fit.mixture, log_weights=jnp.log(jnp.asarray([0.9, 0.05, 0.05], x.dtype)))
    stalled = fit._replace(mixture=moved, log_likelihood=jaxgmm.log_likelihood(moved, x, weights))
    assert "E-step" in disagreement(jaxgmm.EM(), stalled, rows, 1e-6, 1)
    assert disagreement(jaxgmm.EM(), stalled._replace(status=Status.MAX_ITER), rows, 1e-6, 1) is None


def test_few_rows_are_visited_without_a_program(monkeypatch):
    def compiled(*_):
        raise AssertionError("a program was asked for")

    monkeypatch.setattr(verification, "_pass", compiled)
    assert fitted("full", np.float32).status is Status.CONVERGED


def test_a_release_that_miscomputes_is_named_once(monkeypatch):
    monkeypatch.setattr(verification, "_JAXLIB", "0.10.2")
    warn_of_compiler.cache_clear()
    with pytest.warns(UserWarning, match=r"0\.10\.2 silently miscomputes.*pip install") as seen:
        fitted("full", np.float32)
    assert seen[0].filename == __file__, "the user's line, and none of the library's"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted("full", np.float32)
    monkeypatch.undo()
    warn_of_compiler.cache_clear()


@pytest.mark.exhaustive
@pytest.mark.parametrize("where", [{}, ON_SOME_ROWS], ids=["all rows", "some rows"])
@pytest.mark.parametrize("family", ["full", "diag"])
def test_a_sound_kernel_by_features_gives_the_same_fit(family, where):
    right = fitted(family, np.float32)
    with programs_with(BY_FEATURES | where):
        again = fitted(family, np.float32)
    np.testing.assert_allclose(again.objective, right.objective, rtol=1e-5)


@pytest.mark.parametrize("where", [{}, ON_SOME_ROWS], ids=["all rows", "some rows"])
@pytest.mark.parametrize("kernel", SPOILED)
def test_a_spoiled_kernel_is_noticed_and_the_fit_made_again(kernel, where):
    family = "full" if kernel == "densities" else "diag"
    right = fitted(family, np.float32)
    with programs_with(BY_FEATURES | where | SPOILED[kernel]):
        mended = fitted(family, np.float32, algorithm=Accelerated() if where else jaxgmm.EM())
    assert mended.status is Status.CONVERGED
    np.testing.assert_allclose(mended.objective, right.objective, rtol=1e-5)
    assert mended.restarts.objective.shape == (2,)


def test_where_every_kernel_is_spoiled_nothing_is_returned():
    flatter = spoiled(whitened.prepare, lambda prepared: prepared._replace(constant=prepared.constant + 0.5))
    spoil = SPOILED["densities"] | {"jaxgmm.data.kernels.whitened.prepare": flatter}
    with programs_with(BY_FEATURES | spoil), pytest.raises(RuntimeError, match="not to be trusted.*NumPy finds"):
        fitted("full", np.float32)
