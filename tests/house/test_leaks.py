"""No function keeps a tracer of a transformation that it was part of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import EM, Gradient, Ridge
from tests import cases

# Under this check JAX keeps nothing that it compiled.
pytestmark = pytest.mark.exhaustive

MIXTURE, X, WEIGHTS = cases.drawn_rows("full", n_rows=40, n_components=2, n_features=2, dtype=np.float32)
OTHER, _ = cases.mixture("diag", 2, 2, np.float32)
KEY = jax.random.key(0)


def scaled(a):
    """The first column times a, so that the rows are traced."""
    return jnp.asarray(X) * jnp.stack([a, jnp.ones_like(a)])[None, :]


FUNCTIONS = {
    "densities": lambda a: jnp.sum(jaxgmm.log_prob(MIXTURE, scaled(a))) + jaxgmm.log_likelihood(OTHER, scaled(a)),
    "one row": lambda a: jaxgmm.log_prob(MIXTURE, scaled(a)[0]),
    "responsibilities": lambda a: jnp.sum(jaxgmm.responsibilities(MIXTURE, scaled(a))[:, 0]),
    "an E- and an M-step": lambda a: jnp.sum(jaxgmm.m_step(jaxgmm.e_step(MIXTURE, scaled(a), WEIGHTS)[0]).means),
    "labels": lambda a: jnp.sum(jaxgmm.from_responsibilities(scaled(a), np.eye(2)[np.arange(40) % 2]).covariances),
    "coordinates": lambda a: jaxgmm.log_det_jacobian(jaxgmm.unconstrain(jaxgmm.affine(MIXTURE, a))),
    "algebra": lambda a: jnp.sum(jaxgmm.total_moments(jaxgmm.condition(MIXTURE, [0], a[None]))[1]),
    "draws": lambda a: jnp.sum(jaxgmm.sample_reparameterised(KEY, jaxgmm.affine(MIXTURE, a), 5)),
    "divergences": lambda a: jaxgmm.kl_variational(MIXTURE, jaxgmm.affine(MIXTURE, a)),
    "transport": lambda a: jaxgmm.wasserstein(MIXTURE, jaxgmm.affine(MIXTURE, a)).distance,
    "a solution": lambda a: jaxgmm.solution(EM(), MIXTURE, scaled(a), prior=Ridge(), max_iter=50).means[0, 0],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_transformed_functions_leak_nothing(name):
    function = FUNCTIONS[name]
    with jax.checking_leaks():
        values = jax.jit(jax.vmap(jax.value_and_grad(function)))(jnp.array([1.0, 1.5], jnp.float32))
    assert all(np.isfinite(leaf).all() for leaf in values)


def test_fits_leak_nothing():
    import optax

    with jax.checking_leaks():
        start = jax.jit(lambda x: jaxgmm.initialize(KEY, x, 2, method="k-means", covariance_type="diag"))(X)
        for algorithm in (EM(), jaxgmm.Accelerated(), Gradient(optax.adam(1e-2))):
            fits = jax.jit(jax.vmap(lambda a, by=algorithm: jaxgmm.run(by, start, scaled(a), max_iter=3, tol=0)))
            assert fits(jnp.array([1.0, 1.5], jnp.float32)).objective.shape == (2,)
        assert jaxgmm.fit(KEY, X, 2, n_init=2, max_iter=3).n_iter <= 3
