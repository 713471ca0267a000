"""NumPy's visit of rows with gaps and errors, and fits of them that a faulty kernel spoils."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import EM, Incomplete, Noisy, Status
from jaxgmm.data import blurred_passes, patterns
from jaxgmm.fitting.blurred_visits import visit_blurred
from jaxgmm.fitting.visits import whitening_of

KEY = jax.random.key(0)


def given(n_rows, n_features):
    """A mixture on the host, and rows of it with a fifth of the values missing."""
    generator = np.random.default_rng(5)
    covariances = np.stack([np.cov(generator.normal(size=(n_features, 4 * n_features))) for _ in range(2)])
    means = np.stack([np.zeros(n_features), np.full(n_features, 5.0)])
    labels = generator.integers(0, 2, n_rows)
    x = np.stack([generator.multivariate_normal(means[k], covariances[k]) for k in labels])
    x[generator.random(x.shape) < 0.2] = np.nan
    empty = np.isnan(x).all(axis=1)
    x[empty] = 0.0
    return jaxgmm.make_mixture([0.4, 0.6], means, covariances), x


@pytest.mark.needs_x64
def test_numpy_sees_what_the_passes_see():
    mixture, x = given(60, 3)
    generator = np.random.default_rng(1)
    weights, noise = generator.uniform(0.5, 2.0, 60), generator.uniform(0.0, 1.0, x.shape)
    noise[3, 1] = np.inf
    roots = generator.normal(size=(60, 3, 3))
    known = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), mixture)
    for data in (
        Incomplete(jnp.asarray(x), jnp.asarray(weights)),
        Noisy(jnp.asarray(x), jnp.asarray(noise), jnp.asarray(weights)),
        Noisy(jnp.asarray(x), jnp.asarray(roots @ roots.swapaxes(1, 2)), jnp.asarray(weights)),
    ):
        seen = visit_blurred(data, known, whitening_of(known), np.arange(60), weights)
        moments, log_likelihood = jaxgmm.e_step(mixture, data)
        np.testing.assert_allclose(seen.log_likelihood, log_likelihood, rtol=1e-10)
        np.testing.assert_allclose(seen.mass, moments.mass, rtol=1e-10)
        np.testing.assert_allclose(seen.mean, moments.mean, rtol=1e-9, atol=1e-9)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
def test_a_fit_that_a_kernel_spoils_is_done_again(monkeypatch):
    mixture, x = given(2100, 4)
    expected = jaxgmm.run(EM(), mixture, Incomplete(x))
    whole = patterns.filled

    def spoiled(*known):
        moments = whole(*known)
        return moments._replace(mass=moments.mass * jnp.asarray([2.0, 1.0])[None])

    blurred_passes._stacked.cache_clear()
    jax.clear_caches()
    monkeypatch.setattr(patterns, "filled", spoiled)
    try:
        found = jaxgmm.fit(KEY, Incomplete(x), 2, n_init=2)
    finally:
        monkeypatch.undo()
        blurred_passes._stacked.cache_clear()
        jax.clear_caches()
    assert found.status is Status.CONVERGED
    np.testing.assert_allclose(found.log_likelihood, expected.log_likelihood, rtol=1e-6)
