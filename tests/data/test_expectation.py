import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.data import expectation as module
from jaxgmm.data.kernels import quadratic
from jaxgmm.data.passes import by_residuals
from tests import cases
from tests.cases import FAMILIES, tolerance
from tests.programs import programs_with

residuals = jax.jit(by_residuals, static_argnums=0)


@pytest.fixture(scope="module", autouse=True)
def by_features_at_any_size():
    """Small cases, which residuals serve in life, go by features here, in several chunks."""
    with programs_with({"jaxgmm.data.expectation._QUICK_WORK": 0, "jaxgmm.data.tiers._CHUNK_BYTES": 1 << 14}):
        yield


def close(a, b, rtol):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, rtol=rtol, atol=rtol * float(jnp.max(jnp.abs(right))))


def clusters(n_rows, n_features, n_components, dtype, spread=0.3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_components, n_rows)
    centres = rng.normal(size=(n_components, n_features))
    x = centres[labels] + spread * rng.normal(size=(n_rows, n_features))
    return jnp.asarray(x, dtype), jnp.asarray(rng.uniform(0.0, 2.0, n_rows), dtype), labels


def labelled(x, labels, family):
    return jaxgmm.from_responsibilities(x, np.eye(labels.max() + 1)[labels], covariance_type=family)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_rows,n_features,n_components", [(203, 3, 4), (701, 9, 3)])
def test_features_and_residuals_agree(family, n_rows, n_features, n_components, dtype):
    x, weights, labels = clusters(n_rows, n_features, n_components, dtype)
    weights = weights.at[3].set(0.0)
    x = x.at[3].set(jnp.nan)
    mixture = labelled(x.at[3].set(0.0), labels, family)
    expected = residuals(mixture.family.statistic, mixture, x, weights)
    close(jaxgmm.e_step(mixture, x, weights), expected, 30 * tolerance(dtype))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stacked", ["mixtures", "twice", "own weights", "weights within", "own rows"])
def test_a_stack_equals_its_members(stacked, family, dtype):
    x, weights, labels = clusters(203, 3, 4, dtype)
    mixtures = [labelled(x, (labels + shift) % 4, family) for shift in (0, 1)]
    mixtures += [jaxgmm.initialize(jax.random.key(0), x, 4, covariance_type=family)]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *mixtures)
    own = jnp.stack([weights, 2 * weights, jnp.ones_like(weights)])
    shifted = jnp.stack([x, x + 1, 2 * x])
    alone = [(m, x, weights) for m in mixtures]
    if stacked == "mixtures":
        found = jax.vmap(lambda m: jaxgmm.e_step(m, x, weights))(stack)
    elif stacked == "twice":
        twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), stack)
        found = jax.vmap(jax.vmap(lambda m: jaxgmm.e_step(m, x, weights)))(twice)
        found = jax.tree.map(lambda leaf: leaf[1], found)
    elif stacked == "own weights":
        alone = [(m, x, w) for m, w in zip(mixtures, own, strict=True)]
        found = jax.vmap(lambda m, w: jaxgmm.e_step(m, x, w))(stack, own)
    elif stacked == "weights within":
        # Weights that every member has, beside mixtures that not every member shares.
        alone = [(m, x, w) for m in mixtures for w in own[:2]]
        found = jax.vmap(lambda m: jax.vmap(lambda w: jaxgmm.e_step(m, x, w))(own[:2]))(stack)
        found = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)
    else:
        alone = [(m, xs, weights) for m, xs in zip(mixtures, shifted, strict=True)]
        found = jax.vmap(lambda m, xs: jaxgmm.e_step(m, xs, weights))(stack, shifted)
    one_by_one = [residuals(m.family.statistic, m, xs, w) for m, xs, w in alone]
    close(found, jax.tree.map(lambda *leaves: jnp.stack(leaves), *one_by_one), 30 * tolerance(dtype))


@pytest.mark.parametrize("family", FAMILIES)
def test_many_chunks_lose_no_digits(family):
    rng = np.random.default_rng(0)
    n_chunks = 4000
    labels = np.arange(64 * n_chunks) % 3
    x = (rng.normal(size=(len(labels), 2)) + 20.0 * labels[:, None]).astype(np.float32)
    mixture = labelled(x, labels, family)
    with programs_with({"jaxgmm.data.tiers._CHUNK_BYTES": 1}):
        moments, _ = jaxgmm.e_step(mixture, x)
    truth = [x[labels == k].astype(float) for k in range(3)]
    scatter = np.stack([len(rows) * np.cov(rows.T, bias=True) for rows in truth]).astype(np.float32)
    expected = mixture.family.statistic.of_dense(jnp.asarray(scatter))
    # One rounding of Σ x² and of Σ x, which lie two and more orders above what is left of them.
    most = 4 * np.finfo(np.float32).eps * 20.0**2 * 2
    np.testing.assert_allclose(moments.mass, [len(rows) for rows in truth], rtol=1e-6)
    np.testing.assert_allclose(moments.mean, [rows.mean(axis=0) for rows in truth], rtol=0, atol=1e-5)
    np.testing.assert_allclose(moments.scatter, expected, rtol=0, atol=most * float(np.max(expected)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("stacked", ["weights", "weights within mixtures"])
def test_rows_made_ready_give_the_same_pass(stacked, dtype):
    x, weights, labels = clusters(701, 3, 4, dtype)
    mixture = labelled(x, labels, "full")
    data = jaxgmm.Rows(x, weights)
    ready = data.ready(data.columns())
    assert ready.distances is not None
    # A row without weight bounds nothing, wherever it is.
    unweighted = jaxgmm.Rows(x.at[5].set(1e6), weights.at[5].set(0.0))
    assert unweighted.ready(data.columns()).distances.each[5] == 0
    statistic = mixture.family.statistic
    expected = residuals(statistic, mixture, x, weights)
    close(ready.moments(mixture, statistic), expected, 30 * tolerance(dtype))

    # Weights of its own give each member distances of its own, from a centre that is not the others'.
    def of(mixture, weights):
        data = jaxgmm.Rows(x, weights)
        return data.ready(data.columns()).moments(mixture, statistic)

    own = jnp.stack([weights, jnp.where(jnp.asarray(labels) > 1, weights, 0.0), weights.at[::3].set(0.0)])
    expected = [residuals(statistic, mixture, x, w) for w in own]
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *expected)
    if stacked == "weights":
        found = jax.vmap(of, (None, 0))(mixture, own)
    else:
        stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), mixture)
        found = jax.tree.map(lambda leaf: leaf[1], jax.vmap(lambda m: jax.vmap(of, (None, 0))(m, own))(stack))
    close(found, expected, 30 * tolerance(dtype))


@pytest.mark.exhaustive
def test_a_broken_member_leaves_the_others_alone(dtype):
    x, weights, labels = clusters(203, 3, 4, dtype)
    good = labelled(x, labels, "full")
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), good)
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), good, broken)
    moments, log_likelihood = jax.vmap(lambda m: jaxgmm.e_step(m, x, weights))(stack)
    expected = residuals(good.family.statistic, good, x, weights)
    close(jax.tree.map(lambda leaf: leaf[0], (moments, log_likelihood)), expected, 30 * tolerance(dtype))
    assert jnp.isnan(log_likelihood[1])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bad", [-1.0, np.nan])
def test_a_weight_that_is_none_makes_nan_of_its_member_alone(family, bad, dtype):
    x, weights, labels = clusters(203, 3, 4, dtype)
    mixture = labelled(x, labels, family)
    own = jnp.stack([weights, weights.at[7].set(bad), weights.at[7].set(0.0)])
    moments, log_likelihood = jax.vmap(lambda w: jaxgmm.e_step(mixture, x, w))(own)
    assert np.isnan(log_likelihood[1]) and np.isnan(moments.mass[1]).all()
    for member in (0, 2):
        expected = residuals(mixture.family.statistic, mixture, x, own[member])
        found = jax.tree.map(lambda leaf, member=member: leaf[member], (moments, log_likelihood))
        close(found, expected, 30 * tolerance(dtype))
    alone = jaxgmm.e_step(mixture, x, own[1])
    assert np.isnan(alone[1]) and np.isnan(alone[0].mass).all()


@pytest.mark.parametrize("family", ["full", "tied", "diag"])
def test_tight_components_go_by_residuals(family, dtype):
    """Components so tight that features lose every digit of a covariance: those of residuals are there."""
    x, weights, labels = clusters(203, 3, 4, dtype, spread=1e-5 if dtype == np.float64 else 1e-3)
    mixture = labelled(x, labels, family)
    reach = jnp.max(jnp.sum((x - jnp.mean(x, axis=0, keepdims=True)) ** 2, axis=1))
    assert reach * quadratic.prepare(mixture, quadratic.PAIRS).steepness > quadratic.limit(dtype)
    expected = residuals(mixture.family.statistic, mixture, x, weights)
    close(jaxgmm.e_step(mixture, x, weights)[0].scatter, expected[0].scatter, 30 * tolerance(dtype))


def test_a_wide_start_with_tight_clusters_is_done_again(dtype):
    """The bound holds for the mixture, and not for the moments that come of it: raw ones would be worthless."""
    spread = 1e-6 if dtype == np.float64 else 1e-3
    x, weights, labels = clusters(300, 2, 2, dtype, spread=spread, seed=4)
    means = np.stack([np.mean(np.asarray(x)[labels == k], axis=0) for k in range(2)])
    apart = np.linalg.norm(means[1] - means[0])
    wide = jaxgmm.make_mixture([0.5, 0.5], means, np.eye(2) * (0.08 * apart) ** 2, covariance_type="tied")
    wide = jaxgmm.project(jax.tree.map(lambda leaf: leaf.astype(dtype), wide), "full")
    reach = jnp.max(jnp.sum((x - jnp.mean(x, axis=0, keepdims=True)) ** 2, axis=1))
    assert reach * quadratic.prepare(wide, quadratic.PAIRS).steepness < quadratic.limit(dtype)
    moments, _ = jaxgmm.e_step(wide, x, weights)
    for k in range(2):
        rows, weight = np.asarray(x, np.float64)[labels == k], np.asarray(weights, np.float64)[labels == k]
        central = rows - weight @ rows / weight.sum()
        np.testing.assert_allclose(moments.scatter[k], (central * weight[:, None]).T @ central, rtol=2e-3)


def test_one_outlier_slows_one_chunk_only(dtype):
    x, weights, labels = clusters(2000, 2, 3, dtype)
    mixture = labelled(x, labels, "full")
    x = x.at[700].set(jnp.finfo(dtype).max / 1e3)
    moments, log_likelihood = jaxgmm.e_step(mixture, x, weights)
    assert log_likelihood == -jnp.inf
    counted = weights.at[700].set(0.0)
    expected = residuals(mixture.family.statistic, mixture, x, counted)
    close(moments, expected[0], 30 * tolerance(dtype))


@pytest.mark.parametrize("family", FAMILIES)
def test_derivatives_are_those_of_residuals(family, dtype):
    x, weights, labels = clusters(203, 3, 2, dtype)
    mixture = labelled(x, labels, family)
    statistic = mixture.family.statistic
    tangent = jax.tree.map(jnp.ones_like, mixture)

    def along(function):
        primals, tangents = (mixture, weights), (tangent, jnp.ones_like(weights))
        return jax.jit(lambda: jax.jvp(function, primals, tangents)[1])()

    by_chosen = along(lambda m, w: module.expectation(statistic, m, x, w, None))
    close(by_chosen, along(lambda m, w: residuals(statistic, m, x, w)), 100 * tolerance(dtype))
    total = jax.jit(jax.grad(lambda m: jnp.sum(jaxgmm.e_step(m, x, weights)[0].scatter)))(mixture)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(total))


@pytest.mark.exhaustive
def test_spare_components_stay_empty(dtype):
    x, weights, labels = clusters(203, 3, 2, dtype)
    mixture = labelled(x, labels, "full")
    spare = jaxgmm.model.slots.with_spares(mixture, 4)
    moments, log_likelihood = jaxgmm.e_step(spare, x, weights)
    expected = jaxgmm.e_step(mixture, x, weights)
    np.testing.assert_array_equal(moments.mass[2:], 0.0)
    close(log_likelihood, expected[1], tolerance(dtype))
    close(moments.scatter[:2], expected[0].scatter, 30 * tolerance(dtype))


@pytest.mark.needs_x64
def test_restarts_are_more_rows_of_two_plain_products():
    """The compiled pass over a stack holds two products a chunk by features, of two axes each: no batch, no loop."""
    x, weights = cases.rows(4096, 4, np.float32)
    mixture, _ = cases.mixture("full", 3, 4, np.float32)
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf] * 5), mixture)
    lowered = jax.jit(jax.vmap(lambda m: jaxgmm.e_step(m, x, weights))).lower(stack)
    shapes = re.findall(r"dot_general.*->\s*tensor<([0-9x]+)xf32>", lowered.as_text())
    features = quadratic.PAIRS.count(4)
    chunk = [shape for shape in shapes if shape.startswith("15x") or shape.endswith("x15")]
    assert len(chunk) == 2 and all(shape.count("x") == 1 for shape in chunk), shapes
    assert f"{features}x15" in chunk
