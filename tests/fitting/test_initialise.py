import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Ridge
from jaxgmm.fitting.starts.drawn import METHODS
from tests import cases
from tests.cases import FAMILIES
from tests.programs import programs_with

KEY = jax.random.key(0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_start_is_a_sound_mixture_of_the_family(method, family, dtype):
    _, x, weights = cases.drawn_rows(family, dtype=dtype)
    start = jaxgmm.initialize(KEY, x, 4, weights, method=method, covariance_type=family, prior=Ridge())
    assert (start.n_components, start.n_features, start.covariance_type) == (4, 3, family)
    assert start.means.dtype == dtype
    np.testing.assert_allclose(start.weights.sum(), 1, rtol=1e-5)
    assert (np.linalg.eigvalsh(np.asarray(start.covariances)) > 0).all()
    other = jaxgmm.initialize(jax.random.key(1), x, 4, weights, method=method, covariance_type=family)
    assert not np.allclose(other.means, start.means)
    again = jaxgmm.initialize(KEY, x, 4, weights, method=method, covariance_type=family, prior=Ridge())
    np.testing.assert_array_equal(again.means, start.means)


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", METHODS)
def test_padding_and_weights(method, dtype):
    _, x, weights = cases.drawn_rows("full", dtype=dtype)
    start = jaxgmm.initialize(KEY, x, 3, weights, method=method)
    padded = np.concatenate([x, np.full((50, 3), 1e6, dtype)])
    with_padding = jaxgmm.initialize(KEY, padded, 3, np.concatenate([weights, np.zeros(50, dtype)]), method=method)
    np.testing.assert_allclose(with_padding.means, start.means, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(with_padding.covariances, start.covariances, rtol=1e-3, atol=1e-3)
    stack = jax.vmap(lambda key: jaxgmm.initialize(key, x, 3, weights, method=method))(jax.random.split(KEY, 3))
    alone = jaxgmm.initialize(jax.random.split(KEY, 3)[2], x, 3, weights, method=method)
    np.testing.assert_allclose(stack.means[2], alone.means, rtol=1e-4, atol=1e-5)


def test_seeds_and_lloyd_find_separated_clusters(blobs, dtype):
    x, labels = blobs[0].astype(dtype), blobs[1]
    centres = np.stack([x[labels == k].mean(axis=0) for k in range(4)])
    for method in ("k-means++", "k-means"):
        start = jaxgmm.initialize(KEY, x, 4, method=method)
        distance = np.abs(np.asarray(start.means)[:, None] - centres[None]).sum(-1).min(axis=0)
        assert (distance < 0.5).all()
    lloyd = jaxgmm.initialize(KEY, x, 4, method="k-means", covariance_type="spherical")
    nearest = ((x[:, None] - np.asarray(lloyd.means)[None]) ** 2).sum(-1).argmin(axis=1)
    settled = np.stack([x[nearest == k].mean(axis=0) for k in range(4)])
    np.testing.assert_allclose(lloyd.means, settled, atol=1e-3)


def test_seeds_do_not_depend_on_the_columns_units(dtype):
    _, x, _ = cases.drawn_rows("full", dtype=dtype)
    scale = np.array([1e-3, 1.0, 1e3], dtype)
    for method in METHODS:
        start = jaxgmm.initialize(KEY, x, 3, method=method)
        scaled = jaxgmm.initialize(KEY, x * scale[None], 3, method=method)
        np.testing.assert_allclose(scaled.means / scale[None], start.means, rtol=1e-3, atol=1e-4)


def test_random_rows_are_different_rows_in_proportion_to_their_weights(dtype):
    x = np.arange(10, dtype=dtype)[:, None]
    weights = np.array([0, 0, 1, 1, 1, 8, 0, 1, 1, 0], dtype)

    def draw(key):
        return jaxgmm.initialize(key, x, 3, weights, method="random-rows").means[:, 0]

    drawn = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(KEY, 400)))
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    assert set(np.unique(drawn)) == {2, 3, 4, 5, 7, 8}
    assert abs((drawn[:, 0] == 5).mean() - 8 / 13) < 0.1


def test_duplicates_and_as_many_components_as_rows(dtype):
    x = np.repeat(np.array([[0.0, 1.0], [2.0, 3.0]], dtype), 3, axis=0)
    for method in METHODS:
        start = jaxgmm.initialize(KEY, x, 6, method=method, prior=Ridge())
        assert np.isfinite(start.means).all() and np.isfinite(start.covariances).all()
        moments, log_likelihood = jaxgmm.e_step(start, x)
        assert np.isfinite(log_likelihood) and jnp.isfinite(moments.mass).all()


def test_rows_without_weight_are_never_drawn(dtype):
    from jaxgmm.data.draws import index

    mass = np.random.default_rng(0).uniform(size=200_000).astype(dtype)
    mass[np.random.default_rng(1).uniform(size=200_000) < 0.9] = 0
    # A parallel sum rises at rows without mass too, by rounding: aim there.
    cumulative = np.asarray(jnp.cumsum(mass))
    risen = np.flatnonzero((mass[1:] == 0) & (np.diff(cumulative) > 0))[:200]
    assert risen.size
    uniforms = cumulative[risen] / cumulative.max()
    drawn = np.asarray(jax.jit(jax.vmap(index, (0, None)))(uniforms, mass))
    assert (mass[drawn] > 0).all()


@pytest.mark.parametrize("family", ["full", "spherical"])
def test_k_means_is_the_same_chunk_by_chunk(family, blobs, dtype):
    x = blobs[0].astype(dtype)
    options = dict(method="k-means", covariance_type=family)
    whole = jaxgmm.initialize(jax.random.key(1), x, 4, **options)
    with programs_with({"jaxgmm.numerics.chunks._ELEMENTS": 1}):
        by_chunks = jaxgmm.initialize(jax.random.key(1), x, 4, **options)
    for a, b in zip(jax.tree.leaves(by_chunks), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_large_data_are_thinned_by_weight(method, dtype):
    x = np.concatenate([np.zeros((500, 2)), np.ones((500, 2)), np.full((500, 2), 5.0)]).astype(dtype)
    x += np.random.default_rng(0).normal(scale=0.01, size=x.shape).astype(dtype)
    weights = np.repeat([1.0, 1.0, 0.0], 500).astype(dtype)
    weights[3] = 500.0
    with programs_with({"jaxgmm.data.draws.MOST_ROWS": 64}):
        start = jaxgmm.initialize(KEY, x, 2, weights, method=method)
    # Two thirds of the mass lie near the origin, on one heavy row and 499 light ones; none at 5.
    expected = weights @ x / weights.sum()
    if method != "random-rows":
        np.testing.assert_allclose(start.weights @ start.means, expected, atol=0.05)
    assert np.all(np.asarray(start.means) < 1.1) and np.linalg.norm(start.means[0] - start.means[1]) > 0


def test_many_rows_with_gaps_are_thinned(dtype):
    x = np.random.default_rng(0).normal([[0.0, 0.0], [9.0, 9.0]] * 50).astype(dtype)
    x[::5, 1] = np.nan
    with programs_with({"jaxgmm.data.blurred._FEW": 32, "jaxgmm.data.draws.MOST_ROWS": 64}):
        rows = jaxgmm.Incomplete(x, np.ones(100, dtype)).draw_rows(KEY, 64)
    np.testing.assert_allclose(rows.weights.sum(), 100, rtol=1e-5)
    assert rows.x.shape == (64, 2) and not np.isnan(rows.x).any()
