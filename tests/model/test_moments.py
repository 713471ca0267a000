import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.model.moments import (
    DENSE,
    DIAGONAL,
    POOLED,
    SCALAR,
    columns_of,
    convert,
    gather,
    merge,
    pool,
    statistic_of,
    total,
)
from tests import cases, reference
from tests.cases import tolerance

STATISTICS = {"dense": DENSE, "pooled": POOLED, "diagonal": DIAGONAL, "scalar": SCALAR}


def gathered(statistic, x, resp, weights):
    return gather(jnp.asarray(resp.T * weights), jnp.asarray(x.T)[None], statistic)


@pytest.fixture
def parts(dtype):
    x, weights = cases.rows(60, 3, dtype)
    resp = np.random.default_rng(0).dirichlet(np.ones(4), size=60).astype(dtype)
    return x, weights, resp


@pytest.mark.parametrize("name", STATISTICS)
def test_gather_matches_the_twin(name, parts, dtype):
    x, weights, resp = parts
    moments = gathered(STATISTICS[name], x, resp, weights)
    mass, mean, scatter = reference.moments(x, weights, resp)
    rtol = tolerance(dtype)
    np.testing.assert_allclose(moments.mass, mass, rtol=rtol)
    np.testing.assert_allclose(moments.mean, mean, rtol=10 * rtol, atol=rtol)
    expected = STATISTICS[name].of_dense(jnp.asarray(scatter.astype(dtype)))
    np.testing.assert_allclose(moments.scatter, expected, rtol=10 * rtol, atol=100 * rtol)


@pytest.mark.parametrize("name", STATISTICS)
def test_merging_is_gathering_together(name, parts, dtype):
    x, weights, resp = parts
    statistic = STATISTICS[name]
    whole = gathered(statistic, x, resp, weights)
    cuts = [slice(0, 7), slice(7, 30), slice(30, 60)]
    a, b, c = (gathered(statistic, x[s], resp[s], weights[s]) for s in cuts)
    close = dict(rtol=30 * tolerance(dtype), atol=300 * tolerance(dtype))
    chex.assert_trees_all_close(merge(merge(a, b), c), whole, **close)
    chex.assert_trees_all_close(merge(a, merge(c, b)), whole, **close)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), a, b, c)
    chex.assert_trees_all_close(pool(stacked), whole, **close)
    named = jax.vmap(lambda moments: pool(moments, "rows"), axis_name="rows")(stacked)
    chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[1], named), whole, **close)
    nothing = gathered(statistic, x, resp, 0 * weights)
    chex.assert_trees_all_close(merge(nothing, whole), whole, **close)


@pytest.mark.parametrize("name", STATISTICS)
def test_total_is_the_moments_of_all_rows(name, parts, dtype):
    x, weights, resp = parts
    one = np.ones((60, 1), dtype)
    expected = gathered(STATISTICS[name], x, one, weights)
    close = dict(rtol=30 * tolerance(dtype), atol=300 * tolerance(dtype))
    chex.assert_trees_all_close(total(gathered(STATISTICS[name], x, resp, weights)), expected, **close)
    columns = columns_of(gathered(STATISTICS[name], x, resp, weights))
    variances = reference.column_variances(x, weights)
    if name == "scalar":
        variances = np.full(3, variances.mean())
    np.testing.assert_allclose(columns.variance, variances, rtol=30 * tolerance(dtype))


def test_convert_keeps_what_it_can_and_refuses_the_rest(parts):
    x, weights, resp = parts
    dense = gathered(DENSE, x, resp, weights)
    for statistic in STATISTICS.values():
        expected = gathered(statistic, x, resp, weights)
        chex.assert_trees_all_close(convert(dense, statistic), expected, rtol=1e-4, atol=1e-4)
    scalar = convert(convert(dense, DIAGONAL), SCALAR)
    with pytest.raises(ValueError, match="scalar scatter, from which no diagonal"):
        convert(scalar, DIAGONAL)
    with pytest.raises(ValueError, match="diagonal scatter, from which no dense"):
        jaxgmm.m_step(convert(dense, DIAGONAL), "full")


def test_scatter_keeps_its_digits_far_from_the_origin(dtype):
    offset = 1e3 if dtype == np.float32 else 1e8
    x = np.random.default_rng(0).normal(size=(500, 2)).astype(dtype)
    shifted = (x.astype(np.float64) + offset).astype(dtype)
    expected = reference.column_variances(shifted.astype(np.float64), np.ones(500))
    np.testing.assert_allclose(jaxgmm.Rows(shifted, jnp.ones(500, dtype)).columns().variance, expected, rtol=1e-5)
    mixture = jaxgmm.make_mixture(
        np.ones(1, dtype), np.full((1, 2), offset, dtype), np.eye(2, dtype=dtype)[None], covariance_type="full"
    )
    moments, _ = jaxgmm.e_step(mixture, shifted)
    np.testing.assert_allclose(np.diagonal(moments.scatter[0]) / 500, expected, rtol=1e-5)


def test_moments_survive_a_start_a_thousand_times_too_wide(dtype):
    ratio = 1e3 if dtype == np.float32 else 1e6
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(300, 2)) / ratio, 1 + rng.normal(size=(300, 2)) / ratio]).astype(dtype)
    wide = jaxgmm.make_mixture(
        np.array([0.5, 0.5], dtype),
        np.array([[-0.2, -0.2], [1.2, 1.2]], dtype),
        np.full((2,), 0.05, dtype),
        covariance_type="spherical",
    )
    fitted = jaxgmm.run(jaxgmm.EM(), jaxgmm.project(wide, "full"), x, max_iter=50, tol=1e-5)
    assert fitted.status == jaxgmm.Status.CONVERGED
    expected = np.stack([np.cov(x[s].astype(np.float64).T, bias=True) for s in (slice(300), slice(300, 600))])
    np.testing.assert_allclose(fitted.mixture.covariances * ratio**2, expected * ratio**2, rtol=0.01, atol=2e-3)


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_what_is_held_is_told_by_its_shape(n_components, dtype):
    x, weights = cases.rows(20, 3, dtype)
    resp = np.full((20, n_components), 1 / n_components, dtype)
    for name, statistic in STATISTICS.items():
        held = statistic_of(gathered(statistic, x, resp, weights))
        # Of one component the pooled scatter is its own, and can be had in every other statistic.
        assert held == (DENSE if name == "pooled" and n_components == 1 else statistic)


@pytest.mark.parametrize("name", STATISTICS)
def test_moments_are_in_proportion_to_the_weights(name, parts, dtype):
    x, weights, resp = parts
    close = dict(rtol=30 * tolerance(dtype), atol=0.3 * tolerance(dtype))
    made = {
        "gathered": lambda moments, half: moments,
        "merged": merge,
        "pooled": lambda *both: pool(jax.tree.map(lambda *leaves: jnp.stack(leaves), *both)),
        "as one": lambda moments, half: total(moments),
    }
    for make in made.values():
        whole, light = (
            make(
                gathered(STATISTICS[name], x, resp, unit * weights),
                gathered(STATISTICS[name], x, resp, unit / 2 * weights),
            )
            for unit in (1, dtype(1e-3))
        )
        expected = whole._replace(mass=1e-3 * whole.mass, scatter=1e-3 * whole.scatter)
        chex.assert_trees_all_close(light, expected, **close)
    columns, light = (columns_of(gathered(STATISTICS[name], x, resp, unit * weights)) for unit in (1, dtype(1e-3)))
    np.testing.assert_allclose(light.variance, columns.variance, rtol=30 * tolerance(dtype))
