"""Rows that are passed over at once, and the tier of features in float64 for float32 rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.data import tiers
from jaxgmm.data.compact import CompactRows, compacted
from jaxgmm.data.passes import by_residuals
from jaxgmm.data.rows import ResidualRows
from tests import cases
from tests.cases import FAMILIES, tolerance
from tests.programs import programs_with

KEY = jax.random.key(0)


def tight(n_rows, n_features, n_components, spread, dtype, seed=0):
    """Rows of components far smaller than the distances between them, in float64 and in the dtype, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_components, size=n_rows)
    centres = rng.normal(size=(n_components, n_features)) * 3
    x = (centres[labels] + spread * rng.normal(size=(n_rows, n_features))).astype(dtype)
    return x, labels


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pass_at_once_equals_one_by_residuals(family, dtype):
    mixture, x, weights = cases.drawn_rows(family, dtype=dtype)
    weights = np.array(weights)
    weights[:2], x = 0, np.array(x)
    x[0] = np.nan
    data = CompactRows(jnp.asarray(x), jnp.asarray(weights))
    for start in (mixture, jaxgmm.initialize(KEY, x[2:], 4, covariance_type=family)):
        stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), start)
        found = jax.jit(jax.vmap(lambda m: data.moments(m, m.family.statistic)))(stack)
        expected = jax.jit(by_residuals, static_argnums=0)(start.family.statistic, start, data.x, data.weights)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert a.dtype == dtype
            scale = float(jnp.max(jnp.abs(b)))
            np.testing.assert_allclose(a[1], b, rtol=30 * tolerance(dtype), atol=30 * tolerance(dtype) * scale)


def test_what_features_cannot_tell_is_not_a_number(dtype):
    x, labels = tight(200, 2, 2, 1e-9 if dtype == np.float64 else 1e-7, dtype)
    covariances = np.stack([np.eye(2, dtype=dtype) * dtype(1e-20 if dtype == np.float64 else 1e-14)] * 2)
    mixture = jaxgmm.make_mixture(np.full(2, 0.5, dtype), np.stack([x[labels == k][0] for k in (0, 1)]), covariances)
    data = CompactRows(jnp.asarray(x), jnp.ones(200, dtype))
    assert np.isnan(data.moments(mixture, mixture.family.statistic)[1])


def test_only_small_problems_are_compact(dtype):
    rows = jaxgmm.Rows(jnp.ones((100, 3), dtype), jnp.ones(100, dtype))
    assert isinstance(compacted(rows, 20, 3, True), CompactRows)
    careful, large = ResidualRows(rows.x, rows.weights), jaxgmm.Rows(jnp.ones((20_000, 3)), jnp.ones(20_000))
    assert compacted(careful, 20, 3, True) is careful and compacted(large, 20, 3, True) is large
    foreign = object()
    assert compacted(foreign, 20, 3, True) is foreign


def test_what_is_too_tight_is_climbed_again_by_residuals(dtype):
    """All lanes are distrusted here, and `fit` is as good as if none had been."""
    x, labels = tight(120, 3, 3, 0.1, dtype)
    expected = jaxgmm.fit(KEY, x, 3, n_init=3)
    with programs_with({"jaxgmm.data.kernels.quadratic.limit": lambda *_: 0.0}):
        fitted = jaxgmm.fit(KEY, x, 3, n_init=3)
    assert fitted.status is jaxgmm.Status.CONVERGED
    np.testing.assert_allclose(fitted.restarts.objective, expected.restarts.objective, rtol=1e-5)


@pytest.fixture
def spoiled_residuals(monkeypatch):
    """No chunk may go by residuals: these are not a number."""

    def spoiled(prepared, columns, weights, statistic):
        gathered, log_likelihood = residual_moments(prepared, columns, weights, statistic)
        return gathered, log_likelihood + jnp.nan

    residual_moments = tiers.residual_moments
    monkeypatch.setattr(tiers, "residual_moments", spoiled)
    with programs_with({"jaxgmm.data.expectation._QUICK_WORK": 0, "jaxgmm.data.tiers._CHUNK_BYTES": 1 << 14}):
        yield


@pytest.mark.parametrize("family", ["spherical", "full"])
def test_a_component_of_one_row_sends_no_other_to_residuals(family, spoiled_residuals):
    """Its covariance is zero, whose inverse has no bound, but for the prior."""
    x = np.random.default_rng(0).normal(size=(701, 3)).astype(np.float32)
    variances = np.array([1e-8, 1, 1, 1], np.float32)
    covariances = variances if family == "spherical" else variances[:, None, None] * np.eye(3, dtype="f4")
    mixture = jaxgmm.make_mixture(np.full(4, 0.25, np.float32), x[:4], covariances, covariance_type=family)
    moments, log_likelihood = jaxgmm.e_step(mixture, x)
    assert np.isfinite(log_likelihood)
    np.testing.assert_allclose(moments.mass[0], 1, rtol=1e-3)
    np.testing.assert_allclose(moments.mass.sum(), len(x), rtol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_tight_float32_rows_go_by_features_in_float64(family, spoiled_residuals):
    """To 1e-6 of NumPy's covariances, and no chunk by residuals, which are spoiled here."""

    x, labels = tight(701, 4, 3, 1e-3, np.float32)
    truth = x.astype(np.float64)
    parts = [truth[labels == k] for k in range(3)]
    full = np.stack([np.cov(part.T, bias=True) for part in parts])
    start = jaxgmm.make_mixture(
        np.bincount(labels).astype(np.float32) / len(x),
        np.stack([part.mean(axis=0) for part in parts]).astype(np.float32),
        full.astype(np.float32),
    )
    mixture = jaxgmm.project(start, family)
    moments, log_likelihood = jaxgmm.e_step(mixture, x)
    scatter = full * np.bincount(labels)[:, None, None]
    expected = np.asarray(mixture.family.statistic.of_dense(scatter))
    np.testing.assert_allclose(moments.scatter, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    assert np.isfinite(log_likelihood)


@pytest.mark.parametrize("quick", [True, False])
def test_a_common_covariance_is_a_difference_of_sums_that_hold_the_same_weights(quick):
    """Two planes that are far apart for their thickness, each with two components that overlap in it, in float32."""
    rng = np.random.default_rng(0)
    n_rows = 2000
    signs = np.repeat([-1.0, 1.0], n_rows // 2)
    x = np.stack([rng.normal(size=n_rows), signs + 1e-4 * rng.normal(size=n_rows)], axis=1).astype(np.float32)
    truth = x[:, 1].astype(float) - np.where(signs > 0, x[signs > 0, 1].mean(), x[signs < 0, 1].mean())
    means = np.array([[-0.5, -1], [0.5, -1], [-0.5, 1], [0.5, 1]], np.float32)
    covariance = np.diag([1.0, 1e-8]).astype(np.float32)
    mixture = jaxgmm.make_mixture(np.full(4, 0.25, np.float32), means, covariance, covariance_type="tied")
    if quick:
        data = CompactRows(jnp.asarray(x), jnp.ones(n_rows, np.float32))
        moments, _ = jax.jit(lambda data: data.moments(mixture, mixture.family.statistic))(data)
    else:
        with programs_with({"jaxgmm.data.expectation._QUICK_WORK": 0}):
            moments, _ = jaxgmm.e_step(mixture, x)
    np.testing.assert_allclose(moments.scatter[0, 1, 1], (truth**2).sum(), rtol=0.01)


@pytest.mark.exhaustive
def test_the_measurements_for_a_gpu_run_on_a_cpu(tmp_path):
    from experiments import gpu

    assert jax.default_backend() == "cpu"
    found = gpu.measured(quick=True)
    assert all(
        error < (1e-3 if "float32" in case else 1e-9)
        for case, errors in found["errors"].items()
        for error in errors.values()
    )
    assert found["passes"] and found["fit"]["status"] == "CONVERGED"
