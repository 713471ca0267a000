import jax
import numpy as np
import pytest

import jaxgmm
from tests import cases, reference
from tests.cases import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_moments_of_a_sample(family, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100_000)
    assert x.shape == (100_000, 3) and labels.shape == (100_000,) and x.dtype == dtype
    frequency = np.bincount(labels, minlength=3) / 100_000
    np.testing.assert_allclose(frequency, mixture.weights, atol=0.01)
    for k in range(3):
        own = np.asarray(x[labels == k], np.float64)
        np.testing.assert_allclose(own.mean(axis=0), mixture.means[k], atol=0.05)
        np.testing.assert_allclose(np.cov(own.T), mixture.covariances[k], atol=0.1)
    mean, covariance = jaxgmm.total_moments(mixture)
    expected = reference.total_moments(
        *(np.asarray(a, np.float64) for a in (mixture.weights, mixture.means, mixture.covariances))
    )
    np.testing.assert_allclose(mean, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(covariance, expected[1], rtol=1e-4, atol=1e-4)


def test_jit_vmap_and_edges():
    mixture, (weights, means, covs) = cases.mixture("full")
    jitted = jax.jit(jaxgmm.sample, static_argnums=2)(jax.random.key(3), mixture, 5)
    np.testing.assert_allclose(jitted[0], jaxgmm.sample(jax.random.key(3), mixture, 5)[0], rtol=1e-5)
    stack = jax.vmap(lambda key: jaxgmm.sample(key, mixture, 4)[0])(jax.random.split(jax.random.key(0), 3))
    assert stack.shape == (3, 4, 3)
    assert jaxgmm.sample(jax.random.key(0), mixture, 0)[0].shape == (0, 3)
    never = jaxgmm.make_mixture(np.array([0.5, 0.5, 0.0]), means, covs)
    assert (np.asarray(jaxgmm.sample(jax.random.key(0), never, 1000)[1]) < 2).all()
    with pytest.raises(TypeError, match=r"key must be a typed key such as jax.random.key\(0\), not 0"):
        jaxgmm.sample(0, mixture, 3)
    with pytest.raises(TypeError, match="key must be a typed key .* uint32"):
        jaxgmm.sample(jax.random.PRNGKey(0), mixture, 3)
    with pytest.raises(TypeError, match="array of keys"):
        jaxgmm.sample(jax.random.split(jax.random.key(0)), mixture, 3)
    with pytest.raises(ValueError, match="n must be at least 0"):
        jaxgmm.sample(jax.random.key(0), mixture, -1)
