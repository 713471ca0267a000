import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from tests import cases
from tests.cases import FAMILIES, tolerance


def close(dtype):
    return dict(rtol=100 * tolerance(dtype, 12), atol=100 * tolerance(dtype, 12))


@pytest.mark.parametrize("dims", [(0,), (2, 0), (0, 1, 2), (-1,)])
@pytest.mark.parametrize("family", FAMILIES)
def test_marginal(family, dims, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    marginal = jaxgmm.marginal(mixture, dims)
    kept = list(dims)
    np.testing.assert_allclose(marginal.means, mixture.means[:, kept], **close(dtype))
    expected = np.asarray(mixture.covariances)[:, kept][:, :, kept]
    np.testing.assert_allclose(marginal.covariances, expected, **close(dtype))
    assert marginal.covariance_type == family and marginal.means.dtype == dtype


@pytest.mark.exhaustive
@pytest.mark.parametrize("dims", [(0,), (2, 0)])
@pytest.mark.parametrize("family", FAMILIES)
def test_condition_is_the_joint_over_the_marginal(family, dims, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    x, _ = cases.rows(20, dtype=dtype)
    other = [d for d in range(3) if d not in dims]
    for row in x[:5]:
        given = jaxgmm.condition(mixture, dims, row[list(dims)])
        assert given.covariance_type == family
        conditional = jaxgmm.log_prob(given, row[other])
        expected = jaxgmm.log_prob(mixture, row) - jaxgmm.log_prob(jaxgmm.marginal(mixture, dims), row[list(dims)])
        np.testing.assert_allclose(conditional, expected, **close(dtype))
    batch = jax.vmap(lambda values: jaxgmm.condition(mixture, dims, values).means)(x[:, list(dims)])
    assert batch.shape == (20, 3, len(other))


@pytest.mark.parametrize("family", FAMILIES)
def test_affine_follows_the_change_of_variables(family, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    x, _ = cases.rows(20, dtype=dtype)
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(3, 3)).astype(dtype)
    shift = rng.normal(size=3).astype(dtype)
    factors = np.array([-2.0, 0.5, 3.0], dtype)
    kept = {
        "matrix": {"full": "full", "tied": "tied", "diag": "full", "spherical": "full"},
        "factors": {"full": "full", "tied": "tied", "diag": "diag", "spherical": "diag"},
        "factor": dict(zip(FAMILIES, FAMILIES, strict=True)),
    }
    for name, A, dense in (
        ("matrix", matrix, matrix),
        ("factors", factors, np.diag(factors)),
        ("factor", dtype(-2), -2 * np.eye(3, dtype=dtype)),
    ):
        moved = jaxgmm.affine(mixture, A, shift)
        assert moved.covariance_type == kept[name][family]
        log_volume = np.linalg.slogdet(dense.astype(np.float64))[1]
        expected = jaxgmm.log_prob(mixture, x) - dtype(log_volume)
        np.testing.assert_allclose(jaxgmm.log_prob(moved, x @ dense.T + shift), expected, rtol=1e-4, atol=1e-4)
        if hasattr(moved.covs, "cholesky"):
            assert (np.diagonal(moved.covs.cholesky, axis1=1, axis2=2) > 0).all()
    flat = jaxgmm.affine(mixture, matrix[:2], shift[:2])
    np.testing.assert_allclose(
        flat.covariances, matrix[:2] @ np.asarray(mixture.covariances) @ matrix[:2].T, rtol=1e-4, atol=1e-5
    )
    mean, covariance = jaxgmm.total_moments(flat)
    whole_mean, whole_covariance = jaxgmm.total_moments(mixture)
    np.testing.assert_allclose(mean, matrix[:2] @ whole_mean + shift[:2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(covariance, matrix[:2] @ whole_covariance @ matrix[:2].T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_algebra_is_differentiable_and_jits(family, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    x, _ = cases.rows(5, dtype=dtype)

    def value(mixture, A):
        moved = jaxgmm.affine(mixture, A, 0.5)
        given = jaxgmm.condition(moved, (1,), x[0, :1])
        return jnp.sum(jaxgmm.log_prob(jaxgmm.marginal(given, (1,)), x[:, :1])) + jnp.sum(
            jaxgmm.total_moments(given)[1]
        )

    A = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), x.dtype)
    gradient = jax.jit(jax.grad(value, argnums=(0, 1)))(mixture, A)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("family", FAMILIES)
def test_conditions_on_far_values_are_finite(family, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    for value in (1e20, 1e30) if dtype == np.float32 else (1e160, 1e200):
        weights = jaxgmm.condition(mixture, (0,), np.array([value], dtype)).weights
        assert np.isfinite(weights).all() and abs(float(weights.sum()) - 1) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_far_values_tell_components_apart_that_lie_close_together(family, dtype):
    covs = cases.identities(family)
    means, weights = np.array([[0.0, 0.0], [1e-3, 1.0]], dtype), np.array([0.5, 0.5], dtype)
    mixture = jaxgmm.make_mixture(weights, means, np.asarray(covs, dtype), covariance_type=family)
    for value in (100.0, 3e3, 1e5, 1e9, 1e15):
        second = 1 / (1 + np.exp(-(1e-3 * value - 5e-7)))
        found = jaxgmm.condition(mixture, (0,), np.array([value], dtype)).weights
        np.testing.assert_allclose(found[1], second, rtol=1e-4)


def test_a_tight_component_decides_nothing_between_the_others():
    means = np.array([[0.0, 0.0], [0.0, 5.0], [3.0, 7.0]], np.float32)
    mixture = jaxgmm.make_mixture(
        np.float32([0.4, 0.3, 0.3]), means, np.float32([1.3e-38, 1.0, 1.0]), covariance_type="spherical"
    )
    odds = np.exp([-0.5, -2.0])
    np.testing.assert_allclose(jaxgmm.condition(mixture, [0], [1.0]).weights, [0, *odds / odds.sum()], rtol=1e-5)


def test_mistakes_are_named():
    mixture, _ = cases.mixture("full")
    with pytest.raises(ValueError, match="dims names column 3, but the mixture has 3"):
        jaxgmm.marginal(mixture, (3,))
    for dims in ((), (1, 1), (0, -3)):
        with pytest.raises(ValueError, match="one or more different columns"):
            jaxgmm.marginal(mixture, dims)
    with pytest.raises(ValueError, match="none is left"):
        jaxgmm.condition(mixture, (0, 1, 2), np.zeros(3))
    with pytest.raises(ValueError, match=r"values must have shape \(1,\)"):
        jaxgmm.condition(mixture, (0,), np.zeros(2))
    with pytest.raises(ValueError, match="but the mixture has 3 columns"):
        jaxgmm.affine(mixture, np.eye(2))
    with pytest.raises(ValueError, match="more rows than columns"):
        jaxgmm.affine(mixture, np.ones((4, 3)))
    with pytest.raises(ValueError, match="b must have shape"):
        jaxgmm.affine(mixture, np.eye(3), np.zeros(2))
    with pytest.raises(ValueError, match="must not be zero"):
        jaxgmm.affine(mixture, np.array([1.0, 0.0, 2.0]))
