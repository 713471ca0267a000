"""Divergences against integrals, closed forms of single Gaussians, and each other."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import integrate, optimize

import jaxgmm
from jaxgmm.probability.divergences import (
    cauchy_schwarz_divergence,
    kl_divergence,
    kl_upper_bound,
    kl_variational,
    l2_divergence,
)
from tests import cases, reference
from tests.cases import tolerance

CLOSED = [kl_variational, kl_upper_bound, l2_divergence, cauchy_schwarz_divergence]
PAIRS = [("full", "diag"), ("tied", "full"), ("diag", "spherical"), ("spherical", "tied")]
KEY = jax.random.key(0)


def closed(p, q):
    return jnp.stack([divergence(p, q) for divergence in CLOSED])


# One program each for every test that shares shapes: compiling is what takes time here.
values = jax.jit(closed)
slopes = jax.jit(jax.jacrev(closed, argnums=(0, 1)))
sampled = jax.jit(jax.value_and_grad(lambda key, p, q: kl_divergence(key, p, q, n=50).value, argnums=(1, 2)))


def pair(families, dtype=np.float64, n_features=3, seed=0):
    p, _ = cases.mixture(families[0], 3, n_features, dtype, seed=seed)
    q, _ = cases.mixture(families[1], 4, n_features, dtype, seed=seed + 1)
    return p, q


def arrays(mixture):
    return [np.asarray(array, np.float64) for array in (mixture.weights, mixture.means, mixture.covariances)]


def density(mixture):
    """The density in one column, of a number."""
    parts = arrays(mixture)
    return lambda x: sum(w * np.exp(reference.log_normal(np.array([x]), a, A)) for w, a, A in zip(*parts, strict=True))


def divergence_between(a, A, b, B):
    """KL(N(a, A) ‖ N(b, B))."""
    inverse = np.linalg.inv(B)
    log_dets = np.linalg.slogdet(B)[1] - np.linalg.slogdet(A)[1]
    return 0.5 * (np.trace(inverse @ A) - len(a) + log_dets + (b - a) @ inverse @ (b - a))


def between(p, q):
    """KL between components, (K, L)."""
    (_, a, A), (_, b, B) = arrays(p), arrays(q)
    return np.array(
        [[divergence_between(*one, *other) for other in zip(b, B, strict=True)] for one in zip(a, A, strict=True)]
    )


def inner(p, q):
    """∫ p q dx, component by component."""
    (v, a, A), (w, b, B) = arrays(p), arrays(q)
    terms = [
        [v[k] * w[j] * np.exp(reference.log_normal(a[k], b[j], A[k] + B[j])) for j in range(len(w))]
        for k in range(len(v))
    ]
    return np.sum(terms)


def expected_closed(p, q):
    v, w = arrays(p)[0], arrays(q)[0]
    own, other = np.exp(-between(p, p)) @ v, np.exp(-between(p, q)) @ w
    pp, qq, pq = inner(p, p), inner(q, q), inner(p, q)
    return [v @ np.log(own / other), least_bound(v, w, between(p, q)), pp + qq - 2 * pq, -np.log(pq / np.sqrt(pp * qq))]


def least_bound(v, w, kl):
    """The least of Σ φ log(φ / ψ) + Σ φ KL, by another optimiser."""

    def bound(phi):
        phi = np.maximum(phi.reshape(kl.shape), 0)
        mass = phi.sum(axis=0)
        log_ratio = np.log(np.maximum(mass, 1e-300) / w)
        return (phi * kl).sum() + mass @ log_ratio, (kl + log_ratio[None] + 1).ravel()

    rows = np.kron(np.eye(len(v)), np.ones(len(w)))
    found = optimize.minimize(
        bound,
        np.outer(v, w).ravel(),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * kl.size,
        constraints=[{"type": "eq", "fun": lambda phi: rows @ phi - v, "jac": lambda phi: rows}],
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    return found.fun


@pytest.mark.parametrize("families", PAIRS)
def test_closed_forms_agree_with_the_dense_twin(families, dtype):
    p, q = pair(families, dtype)
    found = values(p, q)
    assert found.dtype == dtype
    tol = np.array([100 * tolerance(dtype), 1e-5, 100 * tolerance(dtype), 100 * tolerance(dtype)])
    expected = np.array(expected_closed(p, q))
    assert (np.abs(found - expected) <= tol * np.abs(expected)).all(), (found, expected)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
@pytest.mark.parametrize("families", [PAIRS[0], PAIRS[2]])
def test_gradients_of_closed_forms_agree_with_differences(families):
    p, q = pair(families)
    rng = np.random.default_rng(0)
    gradient = slopes(p, q)
    for _ in range(4):
        # Below the diagonal only where factors are triangular: what lies above is no part of a mixture.
        tangent = jax.tree.map(
            lambda leaf: jnp.tril(rng.normal(size=leaf.shape)) if leaf.ndim > 2 else rng.normal(size=leaf.shape), (p, q)
        )
        along = sum(
            jnp.sum(g * t[None], axis=range(1, g.ndim))
            for g, t in zip(*map(jax.tree.leaves, (gradient, tangent)), strict=True)
        )
        ends = [values(*jax.tree.map(lambda leaf, t, h=h: leaf + h * t, (p, q), tangent)) for h in (1e-5, -1e-5)]
        np.testing.assert_allclose(along, (ends[0] - ends[1]) / 2e-5, rtol=1e-6, atol=1e-8)


@pytest.mark.needs_x64
def test_one_column_agrees_with_integrals():
    p, q = pair(("full", "spherical"), n_features=1)
    f, g = density(p), density(q)

    def integral(integrand):
        return integrate.quad(integrand, -30, 30, limit=500, points=[-3, 0, 3], epsabs=1e-13, epsrel=1e-12)[0]

    kl = integral(lambda x: f(x) * np.log(f(x) / g(x)))
    _, bound, l2, cauchy_schwarz = values(p, q)
    value, error = kl_divergence(KEY, p, q)
    assert abs(float(value) - kl) < 4 * float(error) and 0 < float(error) < 0.05
    assert kl < float(bound)
    np.testing.assert_allclose(l2, integral(lambda x: (f(x) - g(x)) ** 2), rtol=1e-9)
    ff, gg, fg = (integral(lambda x, a=a, b=b: a(x) * b(x)) for a, b in ((f, f), (g, g), (f, g)))
    np.testing.assert_allclose(cauchy_schwarz, -np.log(fg / np.sqrt(ff * gg)), rtol=1e-9)


@pytest.mark.parametrize("families", [("diag", "spherical"), ("spherical", "full")])
def test_between_two_gaussians_the_approximation_and_the_bound_are_exact(families, dtype):
    p, q = (cases.mixture(family, 1, 3, dtype, seed)[0] for seed, family in enumerate(families))
    expected = between(p, q)[0, 0]
    for divergence in (kl_variational, kl_upper_bound):
        np.testing.assert_allclose(divergence(p, q), expected, rtol=10 * tolerance(dtype))


def in_two_ways(dtype):
    """A mixture of three components, dense, and the same of four, diagonal, where two are halves of one."""
    p, _ = cases.mixture("diag", 3, 3, dtype)
    index = np.array([0, 1, 2, 2])
    halves = p.log_weights[index] - np.log([1, 1, 2, 2]).astype(dtype)
    split = jaxgmm.Mixture(halves, p.means[index], jax.tree.map(lambda leaf: leaf[index], p.covs), p.family)
    return jaxgmm.project(p, "full"), split


@pytest.mark.exhaustive
def test_equal_mixtures_are_at_zero(dtype):
    p, q = in_two_ways(dtype)
    eps = float(jnp.finfo(dtype).eps)
    found = values(p, q)
    assert np.abs(found).max() < 50 * eps and (found[2:] >= 0).all()
    # The approximation alone is not least there.
    assert all(np.abs(leaf[1:]).max() < 1000 * eps for leaf in jax.tree.leaves(slopes(p, q)))
    value, gradient = sampled(KEY, p, q)
    assert abs(float(value)) < 50 * eps
    assert all(np.abs(leaf).max() < 1000 * eps for leaf in jax.tree.leaves(gradient[0]))
    value, error = kl_divergence(KEY, p, p)
    assert float(value) == float(error) == 0


def test_order_matters_to_kl_alone(dtype):
    p, q = pair(PAIRS[0], dtype)
    found, turned = values(p, q), values(q, p)
    np.testing.assert_allclose(found[2:], turned[2:], rtol=100 * tolerance(dtype))
    assert np.abs(found - turned)[:2].min() > 0.01


def test_the_bound_bounds(dtype):
    for seed in range(3):
        p, q = pair(PAIRS[0], dtype, seed=seed)
        value, error = kl_divergence(KEY, p, q)
        assert float(value) - 4 * float(error) < float(values(p, q)[1])


@pytest.mark.exhaustive
@pytest.mark.needs_x64
def test_monte_carlo_has_unbiased_gradients_and_a_true_error():
    params = [jaxgmm.unconstrain(mixture) for mixture in pair(("full", "diag"), n_features=1)]
    x = np.linspace(-25, 25, 20001)[:, None]

    def exact(params):
        log_p, log_q = (jaxgmm.log_prob(jaxgmm.constrain(each), x) for each in params)
        return jnp.sum(jnp.exp(log_p) * (log_p - log_q)) * (x[1, 0] - x[0, 0])

    def estimate(params, key):
        return kl_divergence(key, *[jaxgmm.constrain(each) for each in params], n=200)

    def gradient(key):
        tree, found = jax.grad(lambda params: (estimate(params, key).value, estimate(params, key)), has_aux=True)(
            params
        )
        return ravel_pytree(tree)[0], found

    draws, found = jax.jit(jax.vmap(gradient))(jax.random.split(KEY, 2000))
    expected, _ = ravel_pytree(jax.jit(jax.grad(exact))(params))
    error = np.std(draws, axis=0) / np.sqrt(len(draws))
    assert np.abs((np.mean(draws, axis=0) - expected) / error).max() < 4
    assert (error < 0.02).all()
    # The standard error is the spread over keys.
    np.testing.assert_allclose(np.std(found.value), np.sqrt(np.mean(found.standard_error**2)), rtol=0.1)


@pytest.mark.exhaustive
@pytest.mark.parametrize("families", [PAIRS[0], PAIRS[2]])
def test_components_without_weight_change_nothing(families, dtype):
    p, q = (
        dataclasses.replace(mixture, log_weights=mixture.log_weights.at[1].set(-jnp.inf))
        for mixture in pair(families, dtype)
    )
    # The weights are normalised on the way in; the twin has the components moved away instead.
    light = [dataclasses.replace(m, log_weights=m.log_weights.at[1].set(-80.0)) for m in (p, q)]
    np.testing.assert_allclose(values(p, q), values(*light), rtol=100 * tolerance(dtype))
    outcomes = values(p, q), slopes(p, q), sampled(KEY, p, q)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(outcomes))


def scaled(mixture, scale, shift=0):
    """The mixture of x·scale + shift."""
    dtype = mixture.means.dtype
    covs = jax.tree.map(lambda leaf: leaf * dtype.type(scale), mixture.covs)
    return dataclasses.replace(mixture, means=mixture.means * dtype.type(scale) + dtype.type(shift), covs=covs)


def test_a_tight_mixture_beside_a_wide_one(dtype):
    check_a_tight_one_beside_a_wide_one(PAIRS[0], dtype)


def test_the_ends_of_the_dtypes_range_hold_no_nan(dtype):
    check_the_ends_of_the_range(PAIRS[0], dtype)


@pytest.mark.exhaustive
def test_scales_of_diagonal_and_spherical_mixtures(dtype):
    check_a_tight_one_beside_a_wide_one(PAIRS[2], dtype)
    check_the_ends_of_the_range(PAIRS[2], dtype)


def check_a_tight_one_beside_a_wide_one(families, dtype):
    # Less than eps of a scale is no scale of 0.
    p, q = pair(families, dtype)
    ratio = 1e-10 if dtype == np.float32 else 1e-20
    p, q = scaled(p, np.sqrt(ratio)), scaled(q, 1 / np.sqrt(ratio))
    np.testing.assert_allclose(values(p, q), expected_closed(p, q), rtol=1e-4 if dtype == np.float32 else 1e-7)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes(p, q)))


def check_the_ends_of_the_range(families, dtype):
    p, q = pair(families, dtype)
    tiny, huge, far = (1e-15, 1e15, 1e30) if dtype == np.float32 else (1e-150, 1e150, 1e200)
    expected, unitless = values(p, q), np.array([0, 1, 3])
    for scale in (tiny, huge):
        found = values(scaled(p, scale), scaled(q, scale))
        np.testing.assert_allclose(found[unitless], expected[unitless], rtol=100 * tolerance(dtype))
        assert found[2] == 0 if scale == huge else found[2] > 1e35
    absent = dataclasses.replace(q, log_weights=q.log_weights.at[1].set(-jnp.inf))
    away = dataclasses.replace(absent, means=absent.means.at[1].set(far))
    np.testing.assert_allclose(values(p, away), values(p, absent), rtol=10 * tolerance(dtype))
    for one, other in ((scaled(p, tiny), scaled(q, tiny)), (p, scaled(q, 1, far)), (p, away)):
        outcomes = values(one, other), slopes(one, other), sampled(KEY, one, scaled(other, 1))[1]
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(outcomes))
    found = kl_divergence(KEY, p, scaled(q, 1, far), n=50)
    assert float(found.value) == float(found.standard_error) == np.inf


def test_many_columns_neither_underflow_nor_overflow(dtype):
    means = np.random.default_rng(0).normal(size=(2, 300)).astype(dtype)
    expected = np.sum((means[0].astype(np.float64) - means[1]) ** 2) / 4
    for scale in (1e-3, 1e3):
        p, q = (
            jaxgmm.make_mixture([1.0], mean[None] * dtype(scale), np.full(1, scale**2, dtype), covariance_type="VII")
            for mean in means
        )
        np.testing.assert_allclose(cauchy_schwarz_divergence(p, q), expected, rtol=1e-4)


@pytest.mark.needs_x64
def test_vmap_agrees_with_a_loop_and_does_not_retrace():
    p, q = pair(PAIRS[0])
    many = jax.jit(jax.vmap(chex.assert_max_traces(lambda p: closed(p, q), 1)))
    for scales in ((1.0, 0.9, 1.1), (0.8, 1.2, 1.3)):
        each = [jax.tree.map(lambda leaf, s=s: leaf * s, p) for s in scales]
        stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
        np.testing.assert_allclose(many(stack), [values(mixture, q) for mixture in each], rtol=1e-10)


@pytest.mark.needs_x64
def test_dtypes_are_kept_and_the_wider_wins():
    p, q = pair(PAIRS[0])
    narrow = jax.tree.map(lambda leaf: leaf.astype(np.float32), (p, q))
    for mixtures, dtype in ((narrow, np.float32), ((narrow[0], q), np.float64), ((p, narrow[1]), np.float64)):
        for divergence in [*CLOSED, lambda p, q: kl_divergence(KEY, p, q).value]:
            assert jax.eval_shape(divergence, *mixtures).dtype == dtype
    np.testing.assert_allclose(values(*narrow), values(p, q), rtol=1e-4)


def test_mistakes_are_named():
    p, q = cases.mixture("full")[0], cases.mixture("diag", n_features=2)[0]
    for divergence in [*CLOSED, lambda p, q: kl_divergence(KEY, p, q)]:
        with pytest.raises(ValueError, match="p has 3 columns, but q has 2"):
            divergence(p, q)
    with pytest.raises(TypeError, match="typed key"):
        kl_divergence(0, p, p)  # pyright: ignore
    with pytest.raises(ValueError, match="n must be at least 2"):
        kl_divergence(KEY, p, p, n=1)
    with pytest.raises(TypeError, match="n must be an integer"):
        kl_divergence(KEY, p, p, n=2.5)  # pyright: ignore
