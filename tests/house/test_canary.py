"""The compiler trap: jaxlib of Python 3.11 miscompiles some fused row-wise products (jax #39103).

What users write, jit and jit of vmap over rows, against NumPy.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from tests import cases
from tests.programs import programs_with

DTYPES = [np.float32, np.float64] if jax.config.jax_enable_x64 else [np.float32]


def log_prob_and_gradient(mixture, x):
    """log p and its gradient in x, in NumPy and float64."""
    x = np.asarray(x, np.float64)
    log_weights, means = np.asarray(mixture.log_weights, np.float64), np.asarray(mixture.means, np.float64)
    covariances = np.asarray(mixture.covariances, np.float64)
    joint, pulls = [], []
    for log_weight, mean, covariance in zip(log_weights, means, covariances, strict=True):
        pull = (x - mean) @ np.linalg.inv(covariance)
        distance = np.sum(pull * (x - mean), axis=1)
        log_det = np.linalg.slogdet(2 * np.pi * covariance)[1]
        joint.append(log_weight - 0.5 * (distance + log_det))
        pulls.append(pull)
    joint = np.stack(joint, axis=1)
    highest = joint.max(axis=1, keepdims=True)
    log_prob = np.log(np.exp(joint - highest).sum(axis=1)) + highest[:, 0]
    resp = np.exp(joint - log_prob[:, None])
    return log_prob, -np.einsum("nk,knd->nd", resp, np.stack(pulls)), resp


def optimised(test):
    """Exhaustive where the compiler runs without the optimisation that its mistakes come of: one function is enough."""
    return pytest.mark.exhaustive(test) if os.environ.get("XLA_FLAGS") else test


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize(
    "n_components,n_features,n_rows",
    [(k, d, n) for k in (1, 3) for d in (1, 2, 3, 8) for n in (16385, 32769, 50001)]
    + [(k, d, 16385) for k in (1, 2) for d in (5, 6, 7)],
)
def test_rows_are_right_however_they_are_mapped(n_components, n_features, n_rows, dtype):
    mixture, _ = cases.mixture("full", n_components, n_features, dtype)
    x, _ = cases.rows(n_rows, n_features, dtype)
    expected, gradient, resp = log_prob_and_gradient(mixture, x)
    tol = dict(rtol=1e-9, atol=1e-9) if dtype == np.float64 else dict(rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(jax.jit(jaxgmm.log_prob)(mixture, x), expected, **tol)
    one = jax.value_and_grad(lambda row: jaxgmm.log_prob(mixture, row))
    values, gradients = jax.jit(jax.vmap(one))(x)
    np.testing.assert_allclose(values, expected, **tol)
    np.testing.assert_allclose(gradients, gradient, **tol)
    if n_components > 1:
        np.testing.assert_allclose(jax.jit(jaxgmm.responsibilities)(mixture, x), resp, **tol)
    whole = jax.jit(jax.grad(lambda x: jnp.sum(jaxgmm.log_prob(mixture, x))))(x)
    np.testing.assert_allclose(whole, gradient, **tol)


@optimised
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("n_components,n_features", [(1, 3), (3, 3), (2, 5), (1, 6), (1, 7)])
def test_gradients_are_right_where_a_reduction_follows_them(n_components, n_features, dtype):
    mixture, _ = cases.mixture("full", n_components, n_features, dtype)
    x, _ = cases.rows(32769, n_features, dtype)
    _, gradient, _ = log_prob_and_gradient(mixture, x)
    norms = jax.jit(jax.vmap(lambda row: jnp.sum(jax.grad(lambda r: jaxgmm.log_prob(mixture, r))(row) ** 2)))(x)
    tol = 1e-8 if dtype == np.float64 else 1e-2
    np.testing.assert_allclose(norms, (gradient**2).sum(axis=1), rtol=tol, atol=tol)


@optimised
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("family", cases.FAMILIES)
def test_moments_and_samples_are_right_at_the_sizes_that_trip_it(family, dtype):
    mixture, _ = cases.mixture(family, 3, 3, dtype)
    x, _ = cases.rows(32769, 3, dtype)
    _, _, resp = log_prob_and_gradient(mixture, x)
    moments, _ = jax.jit(jaxgmm.e_step)(mixture, x)
    mass, wide = resp.sum(axis=0), x.astype(np.float64)
    tol = 1e-9 if dtype == np.float64 else 1e-3
    np.testing.assert_allclose(moments.mass, mass, rtol=tol)
    np.testing.assert_allclose(moments.mean, resp.T @ wide / mass[:, None], rtol=tol, atol=tol)
    drawn, labels = jaxgmm.sample(jax.random.key(0), mixture, 32769)
    own = np.asarray(drawn, np.float64)[np.asarray(labels) == 0]
    np.testing.assert_allclose(np.cov(own.T), mixture.covariances[0], atol=0.15)
    given = jax.jit(jax.vmap(lambda v: jaxgmm.condition(mixture, (0,), v).means))(x[:, :1])
    covariances = np.asarray(mixture.covariances, np.float64)
    slope = covariances[:, 1:, 0] / covariances[:, :1, 0]
    means = np.asarray(mixture.means, np.float64)
    expected = means[None, :, 1:] + slope[None] * (wide[:, None, :1] - means[None, :, :1])
    np.testing.assert_allclose(given, expected, rtol=tol, atol=10 * tol)


@optimised
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("n_components,n_features", [(3, 3), (5, 2), (6, 8), (7, 3)])
def test_a_pass_by_features(n_components, n_features, dtype):
    """Products with 3, 5, 6 or 7 rows before a reduction are what jaxlib 0.10.2 got wrong elsewhere."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_components, 50001)
    x = (rng.normal(size=(50001, n_features)) + 1.5 * labels[:, None]).astype(dtype)
    resp = 0.8 * np.eye(n_components)[labels] + 0.2 / n_components
    mixture = jaxgmm.from_responsibilities(x, resp.astype(dtype))
    with programs_with({"jaxgmm.data.expectation._QUICK_WORK": 0}):
        moments, log_likelihood = jaxgmm.e_step(mixture, x)
    log_prob, _, resp = log_prob_and_gradient(mixture, x)
    rtol = 1e-4 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(log_likelihood, log_prob.sum(), rtol=rtol)
    np.testing.assert_allclose(moments.mass, resp.sum(axis=0), rtol=rtol)
    means = resp.T @ x.astype(np.float64) / resp.sum(axis=0)[:, None]
    np.testing.assert_allclose(moments.mean, means, rtol=rtol, atol=rtol)
