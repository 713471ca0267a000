import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from tests import cases, reference
from tests.cases import FAMILIES, tolerance
from tests.programs import programs_with


def twin(covariance_type, arrays, x):
    weights, means, covs = (np.asarray(a, np.float64) for a in arrays)
    dense = reference.dense_covariances(covariance_type, covs, *means.shape)
    return reference.log_joint(weights, means, dense, x)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_components,n_features", [(1, 1), (3, 3), (4, 2)])
def test_matches_the_twin(family, n_components, n_features, dtype):
    mixture, arrays = cases.mixture(family, n_components, n_features, dtype)
    x, weights = cases.rows(40, n_features, dtype)
    joint = twin(family, arrays, x)
    rtol = tolerance(dtype)
    np.testing.assert_allclose(jaxgmm.log_joint(mixture, x), joint, rtol=rtol, atol=10 * rtol)
    np.testing.assert_allclose(jaxgmm.log_prob(mixture, x), reference.log_prob(joint), rtol=rtol, atol=10 * rtol)
    resp = reference.responsibilities(joint)
    np.testing.assert_allclose(jaxgmm.responsibilities(mixture, x), resp, rtol=100 * rtol, atol=rtol)
    np.testing.assert_allclose(
        jnp.exp(jaxgmm.log_responsibilities(mixture, x)), jaxgmm.responsibilities(mixture, x), rtol=rtol
    )
    np.testing.assert_array_equal(jaxgmm.predict(mixture, x), resp.argmax(axis=1))
    others = np.sort(resp, axis=1)[:, :-1].sum(axis=1)
    np.testing.assert_allclose(jaxgmm.uncertainty(mixture, x), others, rtol=100 * rtol, atol=rtol)
    total = weights.astype(np.float64) @ reference.log_prob(joint)
    np.testing.assert_allclose(jaxgmm.log_likelihood(mixture, x, weights), total, rtol=10 * rtol)
    np.testing.assert_allclose(jaxgmm.score(mixture, x, weights), total / weights.sum(dtype=np.float64), rtol=10 * rtol)
    assert jaxgmm.log_prob(mixture, x).dtype == dtype


@pytest.mark.parametrize("family", FAMILIES)
def test_moments_match_the_twin_across_chunks(family, dtype):
    mixture, arrays = cases.mixture(family, 3, 3, dtype)
    x, weights = cases.rows(203, 3, dtype)
    with programs_with({"jaxgmm.numerics.chunks._ELEMENTS": 64 * 9}):
        moments, log_likelihood = jaxgmm.e_step(mixture, x, weights)
        per_row = jaxgmm.log_prob(mixture, x)
    joint = twin(family, arrays, x)
    mass, mean, scatter = reference.moments(x, weights, reference.responsibilities(joint))
    rtol = tolerance(dtype, 10)
    np.testing.assert_allclose(moments.mass, mass, rtol=10 * rtol)
    np.testing.assert_allclose(moments.mean, mean, rtol=10 * rtol, atol=10 * rtol)
    expected = {
        "full": scatter,
        "tied": scatter.sum(axis=0, keepdims=True),
        "diag": np.einsum("kii->ki", scatter),
        "spherical": np.einsum("kii->k", scatter),
    }[family]
    np.testing.assert_allclose(moments.scatter, expected, rtol=30 * rtol, atol=30 * rtol * np.abs(expected).max())
    np.testing.assert_allclose(log_likelihood, weights.astype(np.float64) @ reference.log_prob(joint), rtol=rtol)
    np.testing.assert_allclose(per_row, reference.log_prob(joint), rtol=rtol, atol=10 * rtol)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_any_shape(family, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    x, _ = cases.rows(24, dtype=dtype)
    flat = jaxgmm.log_prob(mixture, x)
    np.testing.assert_allclose(jaxgmm.log_prob(mixture, x.reshape(2, 3, 4, 3)), flat.reshape(2, 3, 4), rtol=1e-5)
    assert jaxgmm.log_prob(mixture, x[0]).shape == ()
    np.testing.assert_allclose(jaxgmm.log_prob(mixture, x[0]), flat[0], rtol=1e-5)
    np.testing.assert_allclose(jaxgmm.log_prob(mixture, x.tolist()), flat, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_far_rows_go_to_the_nearest_component(family, dtype):
    big = 1e25 if dtype == np.float32 else 1e200
    means = np.array([[-1.0, 0.0], [1.0, 0.0]], dtype)
    covs = cases.identities(family)
    mixture = jaxgmm.make_mixture(np.array([0.5, 0.5], dtype), means, np.asarray(covs, dtype), covariance_type=family)
    x = np.array([[1e3, 0.0], [-1e3, 0.0], [big, big], [-big, 0.0], [0.0, 0.0]], dtype)
    resp = np.asarray(jaxgmm.responsibilities(mixture, x))
    assert np.isfinite(resp).all()
    np.testing.assert_allclose(resp.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(resp[:2], [[0, 1], [1, 0]], atol=1e-6)
    # Equal covariances: the side on which a row lies decides, however far it is.
    np.testing.assert_allclose(resp[2:4], [[0, 1], [1, 0]], atol=1e-6)
    log_prob = np.asarray(jaxgmm.log_prob(mixture, x))
    assert not np.isnan(log_prob).any() and (log_prob[2:4] == -np.inf).all() and np.isfinite(log_prob[:2]).all()
    assert not np.isnan(jaxgmm.log_joint(mixture, x)).any()
    # A row of log-density −∞ has no slope; the others keep theirs.
    gradients = [
        jax.jit(jax.grad(jaxgmm.log_likelihood))(mixture, x),
        *jax.jit(jax.grad(lambda m, x: jnp.sum(jaxgmm.log_prob(m, x)), argnums=(0, 1)))(mixture, x),
    ]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    chex.assert_trees_all_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-3)
    wide = jaxgmm.make_mixture(
        np.array([0.5, 0.5], dtype), means, np.array([[1.0, 1.0], [4.0, 4.0]], dtype), covariance_type="diag"
    )
    # Far out the wider component is the nearer in Mahalanobis distance, on either side.
    np.testing.assert_allclose(jaxgmm.responsibilities(wide, x)[2:4], [[0, 1], [0, 1]], atol=1e-6)


def test_rows_at_any_distance_go_to_the_nearest_component(dtype):
    mixture = jaxgmm.make_mixture([0.9, 0.1], np.array([[0.0], [10.0]], dtype), [1.0, 1.0], covariance_type="spherical")
    x = 10.0 ** np.arange(2, 38 if dtype == np.float32 else 300)[:, None].astype(dtype)
    assert (np.asarray(jaxgmm.predict(mixture, x)) == 1).all() and (np.asarray(jaxgmm.predict(mixture, -x)) == 0).all()
    assert (np.asarray(jaxgmm.uncertainty(mixture, x)) == 0).all()
    # In between the rounding of squares would hide the means; log-densities are those of the rows where they are.
    near = x[: 15 if dtype == np.float32 else 100]
    expected = np.log(0.1) - 0.5 * (near[:, 0] - 10.0) ** 2 - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(jaxgmm.log_prob(mixture, near), expected, rtol=tolerance(dtype))


def test_a_far_row_between_tight_components_stays_where_it_is(dtype):
    tight = 1e-3 if dtype == np.float32 else 1e-7
    means = np.array([[-100.0], [80.0], [100.0]], dtype)
    mixture = jaxgmm.make_mixture([0.4, 0.3, 0.3], means, [tight**2] * 3, covariance_type="spherical")
    x = np.array([[105.0], [89.0], [91.0], [-20.0], [1e6], [1e13]], dtype)
    np.testing.assert_array_equal(jaxgmm.predict(mixture, x), [2, 1, 2, 0, 2, 2])
    assert (np.asarray(jaxgmm.uncertainty(mixture, x)) == 0).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_features", [1, 3])
def test_rows_beyond_the_square_go_to_the_nearest_of_components_far_apart(family, n_features, dtype):
    far = 1e25 if dtype == np.float32 else 1e200
    eye = np.eye(n_features)
    covs = {"full": np.stack([eye] * 4), "tied": eye, "diag": np.ones((4, n_features))}.get(family, np.ones(4))
    means = np.array([0.0, 1e4, 2e4, -5e4], dtype)[:, None] * np.ones((1, n_features), dtype)
    weights = np.array([0.3, 0.3, 0.4, 0.0], dtype)  # the nearest is absent
    mixture = jaxgmm.make_mixture(weights, means, covs.astype(dtype), covariance_type=family)
    x = far * np.array([-1, 1, -1e3, 1e3, 1e-3], dtype)[:, None] * np.ones((1, n_features), dtype)
    nearest = np.array([0, 2, 0, 2, 2])
    np.testing.assert_array_equal(jaxgmm.predict(mixture, x), nearest)
    np.testing.assert_array_equal(jaxgmm.responsibilities(mixture, x), np.eye(4)[nearest])
    np.testing.assert_array_equal(jaxgmm.uncertainty(mixture, x), 0.0)
    # With one covariance the log-odds are linear in the row.
    along = n_features * x[:, :1].astype(np.float64) * (means[:3, 0] - means[nearest, :1]).astype(np.float64)
    np.testing.assert_allclose(jaxgmm.log_responsibilities(mixture, x)[:, :3], along, rtol=1e-5)
    if n_features > 1:
        for row, k in zip(x[:2], nearest, strict=False):
            np.testing.assert_array_equal(jaxgmm.condition(mixture, [2, 0], row[:2]).weights, np.eye(4)[k])


def test_rows_beyond_the_square_weigh_widths_before_means(dtype):
    """By residuals in NumPy's widest floats: all of a row's log-odds, where the rounding of squares leaves them."""
    rng = np.random.default_rng(0)
    far = 1e21 if dtype == np.float32 else 1e170
    means = (rng.normal(size=(6, 2)) * [[1], [1], [1e3], [1e3], [1e9], [1e9]]).astype(dtype)
    scales = np.array([1.0, 1.0, 2.0, 2.0, 2.0, 1e-3], dtype)
    mixture = jaxgmm.make_mixture(
        np.full(6, 1 / 6, dtype), means, np.stack([scales**2] * 2, axis=1), covariance_type="diag"
    )
    x = (far * rng.normal(size=(40, 2)) * 10.0 ** rng.integers(0, 8, size=(40, 1))).astype(dtype)
    # The widest are nearest by 1 − ¼ of the square, and of those the one that lies farthest along the row.
    lead = (x.astype(np.float64) / far) @ means[2:5].astype(np.float64).T
    np.testing.assert_array_equal(jaxgmm.predict(mixture, x), 2 + lead.argmax(axis=1))
    spread = np.abs(np.asarray(jaxgmm.log_responsibilities(mixture, x)))
    assert np.isfinite(spread[np.arange(40), 2 + lead.argmax(axis=1)]).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_components_have_densities_whatever_their_weights(family, dtype):
    _, (_, means, covs) = cases.mixture(family, 4, 3, dtype)
    weights = np.array([0.0, 1e-30, 1.0, 0.0], dtype)
    mixture = jaxgmm.make_mixture(weights, means, covs, covariance_type=family)
    x, _ = cases.rows(90, dtype=dtype)
    expected = twin(family, (np.ones(4), means, covs), x)
    with programs_with({"jaxgmm.numerics.chunks._ELEMENTS": 64 * 12}):
        found = jaxgmm.log_components(mixture, x)
    rtol = tolerance(dtype)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=10 * rtol)
    joint = jaxgmm.log_joint(mixture, x)[:, 1:3] - mixture.log_weights[None, 1:3]
    np.testing.assert_allclose(found[:, 1:3], joint, rtol=10 * rtol, atol=100 * rtol)
    # About the components' own means nothing is lost where all of them lie far from the origin, or from each other.
    away = dtype(2.0**12) * np.ones(3, dtype)
    offset = jaxgmm.affine(mixture, dtype(1), away)
    np.testing.assert_allclose(jaxgmm.log_components(offset, x + away), expected, rtol=2e-3)
    slopes = jax.jit(jax.grad(lambda m, x: jnp.sum(jaxgmm.log_components(m, x)), argnums=(0, 1)))(mixture, x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
    np.testing.assert_array_equal(slopes[0].log_weights, 0.0)
    far = np.full((1, 3), 1e25 if dtype == np.float32 else 1e200, dtype)
    assert (np.asarray(jaxgmm.log_components(mixture, far)) == -np.inf).all()


def test_a_row_too_far_from_one_component_has_the_density_of_another():
    covs = np.array([1.3e-38, 1.0], np.float32)
    mixture = jaxgmm.make_mixture(np.float32([0, 1]), np.float32([[0], [0]]), covs, covariance_type="spherical")
    expected = [[-np.inf, -0.5 - 0.5 * np.log(2 * np.pi)]]
    np.testing.assert_allclose(jaxgmm.log_components(mixture, np.float32([[1]])), expected, rtol=1e-6)


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("between", [1e-3, 1e-4])
def test_far_rows_tell_components_apart_that_lie_close_together(family, between, dtype):
    """With one covariance the log-odds are linear in the row, however far it is: rounding of squares has no part."""
    covs = cases.identities(family)
    far = 1.0 if dtype == np.float32 else 1e4
    between = between / far
    means = np.array([[0.0, 0.0], [between, between]], dtype)
    mixture = jaxgmm.make_mixture(
        np.array([0.999, 0.001], dtype), means, np.asarray(covs, dtype), covariance_type=family
    )
    x = np.repeat(far * np.array([10.0, 100.0, 3e3, -3e3, -1e4, 1e4, 1e5, 1e7, 1e15], dtype)[:, None], 2, axis=1)
    odds = np.asarray(mixture.log_weights, np.float64) @ [-1.0, 1.0]
    expected = odds + 2 * between * (x[:, 0].astype(np.float64) - between / 2)
    with np.errstate(over="ignore"):
        second = 1 / (1 + np.exp(-expected))
    rtol = 1e-3 if dtype == np.float32 else 1e-6
    np.testing.assert_allclose(jaxgmm.responsibilities(mixture, x)[:, 1], second, rtol=rtol)
    np.testing.assert_array_equal(jaxgmm.predict(mixture, x), expected > 0)
    slopes = jax.vmap(jax.grad(lambda row: jaxgmm.responsibilities(mixture, row[None])[0, 1]))(jnp.asarray(x))
    rounding = 4 * float(np.finfo(dtype).eps) * 3e3 * far
    np.testing.assert_allclose(slopes[:3, 0], (between * second * (1 - second))[:3], rtol=10 * rtol, atol=rounding)
    assert np.isfinite(slopes).all()


@pytest.mark.parametrize("family", ["full", "diag", "spherical"])
def test_far_rows_tell_components_of_like_widths_apart(family, dtype):
    variances = np.array([1.0, 1.0002, 0.9999], dtype)
    covs = {"full": variances[:, None, None] * np.eye(2), "diag": variances[:, None] * np.ones(2)}.get(
        family, variances
    )
    mixture = jaxgmm.make_mixture(np.full(3, 1 / 3), np.zeros((3, 2)), covs.astype(dtype), covariance_type=family)
    x = np.array([[100.0, 0.0], [-60.0, 80.0], [0.0, 200.0], [30.0, 40.0]], dtype)
    dense = variances[:, None, None].astype(np.float64) * np.eye(2)
    expected = reference.responsibilities(reference.log_joint(np.full(3, 1 / 3), np.zeros((3, 2)), dense, x))
    assert (expected.max(axis=1) < 0.99).any()
    rtol = 3e-2 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(jaxgmm.responsibilities(mixture, x), expected, rtol=rtol)


def test_a_row_far_from_one_component_is_weighed_by_residuals_of_another(dtype):
    """Halfway between a component near the centre, whose square is multiplied out, and a rare one far from it."""
    means, weights = np.array([[0.0], [-100.0]], dtype), np.array([0.999, 0.001], dtype)
    mixture = jaxgmm.make_mixture(weights, means, np.ones(2, dtype), covariance_type="spherical")
    x = np.array([[-49.8], [-50.0], [-50.06], [-50.1], [-50.3]], dtype)
    odds = np.log(0.001 / 0.999) - 100.0 * (x[:, 0].astype(np.float64) + 50.0)
    expected = 1 / (1 + np.exp(-odds))
    rtol = 1e-2 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(jaxgmm.responsibilities(mixture, x)[:, 1], expected, rtol=rtol)


@pytest.mark.exhaustive
def test_far_rows_weigh_what_is_near_by_residuals():
    """Two tight components far from the centre, a wide one near it: a row is far from the wide one alone."""
    means, scales = np.array([[0.0], [1e4], [1e4 + 1e-1]], np.float32), np.array([50.0, 1e-1, 1e-1], np.float32)
    mixture = jaxgmm.make_mixture(np.full(3, 1 / 3, np.float32), means, scales**2, covariance_type="spherical")
    x = np.array([[1e4 + 0.04], [1e4 + 0.2], [1e4 - 5], [1e4 - 40.0], [9e3], [3e3], [-1e5]], np.float32)
    dense = scales[:, None, None].astype(np.float64) ** 2
    joint = reference.log_joint(np.full(3, 1 / 3), means.astype(np.float64), dense, x.astype(np.float64))
    expected = reference.responsibilities(joint)
    np.testing.assert_allclose(jaxgmm.responsibilities(mixture, x), expected, atol=2e-3)


@pytest.mark.parametrize("family", ["full", "diag"])
def test_columns_in_units_far_apart_hide_nothing(family):
    """A column of 1e10 beside deviations of 1e-9: their quotient is no distance."""

    def in_units(units):
        covs = np.stack([np.diag(units**2) if family == "full" else units**2] * 2)
        arrays = ([0.5, 0.5], [0 * units, 6 * units], covs)
        return jaxgmm.make_mixture(*(np.asarray(a, np.float32) for a in arrays), covariance_type=family)

    labels = np.arange(60) % 2
    z = (np.random.default_rng(0).normal(size=(60, 2)) + 6 * labels[:, None]).astype(np.float32)
    units = np.array([1e-9, 1e10])
    mixture, x = in_units(units), (z * units).astype(np.float32)
    np.testing.assert_array_equal(jaxgmm.predict(mixture, x), labels)
    expected = np.asarray(jaxgmm.log_prob(in_units(np.ones(2)), z)) - np.log(units).sum()
    np.testing.assert_allclose(jaxgmm.log_prob(mixture, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("unit", [1e-9, 1e18])
def test_an_absent_component_moves_no_centre_and_makes_no_row_far(unit):
    # Rows lose the digits below the rounding of their distance from the centre, and in float32 1e18 has just a square.
    means, covs = np.float32([[0, 0], [3 * unit, 0], [0, 0]]), np.float32([unit**2, 4 * unit**2, 1.0])
    mixture, there = (
        jaxgmm.make_mixture(w, means[: len(w)], covs[: len(w)], covariance_type="spherical")
        for w in (np.float32([0.5, 0.5, 0]), np.float32([0.5, 0.5]))
    )
    x = np.float32(unit) * np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    np.testing.assert_allclose(jaxgmm.log_prob(mixture, x), jaxgmm.log_prob(there, x), rtol=1e-6)
    found, expected = jaxgmm.e_step(mixture, x)[0], jaxgmm.e_step(there, x)[0]
    np.testing.assert_allclose(found.mean[:2], expected.mean, rtol=1e-5)
    np.testing.assert_allclose(found.scatter[:2], expected.scatter, rtol=1e-5)


def test_a_tight_component_that_is_absent_hides_no_other():
    covs = np.array([1.3e-38, 1.0, 1.0], np.float32)
    means = np.array([[0.0], [0.0], [3.0]], np.float32)
    mixture, there = (
        jaxgmm.make_mixture(w, means[k], covs[k], covariance_type="spherical")
        for w, k in ((np.float32([0, 0.5, 0.5]), slice(None)), (np.float32([0.5, 0.5]), slice(1, None)))
    )
    x = np.array([[1.0], [5.0], [20.0]], np.float32)
    np.testing.assert_allclose(jaxgmm.log_prob(mixture, x), jaxgmm.log_prob(there, x), rtol=1e-5)
    np.testing.assert_allclose(jaxgmm.responsibilities(mixture, x)[:, 1:], jaxgmm.responsibilities(there, x), rtol=1e-5)
    moments, log_likelihood = jaxgmm.e_step(mixture, x)
    assert np.isfinite(log_likelihood) and moments.mass[0] == 0
    np.testing.assert_allclose(moments.mean[1:], jaxgmm.e_step(there, x)[0].mean, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_derivative_in_a_weight_of_zero_is_that_of_its_row(family, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    x, weights = cases.rows(30, dtype=dtype)
    none = weights.copy()
    none[::3] = 0.0
    in_weights = jax.jit(jax.grad(jaxgmm.log_likelihood, argnums=2))
    slopes = in_weights(mixture, x, none)
    np.testing.assert_allclose(slopes, jaxgmm.log_prob(mixture, x), rtol=10 * tolerance(dtype))

    @jax.jit
    @jax.grad
    def slopes_of(weights, x):
        moments = jaxgmm.e_step(mixture, x, weights)[0]
        return jnp.sum(moments.mean) + jnp.sum(moments.scatter)

    slopes = np.asarray(slopes_of(none, x))
    up = np.maximum(none, np.finfo(dtype).eps)
    np.testing.assert_allclose(slopes, slopes_of(up, x), rtol=1e-3, atol=1e-3)
    assert (slopes[::3] != 0).all()
    # A row that cannot be asked for has none, and leaves the others theirs.
    spoiled = x.copy()
    spoiled[0], spoiled[3], spoiled[6] = np.nan, np.finfo(dtype).max, 10 * np.sqrt(np.finfo(dtype).max)
    found, bad = np.asarray(slopes_of(none, spoiled)), [0, 3, 6]
    np.testing.assert_array_equal(found[bad], 0.0)
    np.testing.assert_allclose(np.delete(found, bad), np.delete(slopes, bad), rtol=1e-3, atol=1e-3)
    unit = dtype(np.sqrt(np.finfo(dtype).max) / 2)
    wide, far = jaxgmm.affine(mixture, unit, dtype(0)), x * unit
    with np.errstate(over="ignore"):
        has_square = np.isfinite(np.sum((far - np.asarray(jaxgmm.total_moments(wide)[0])) ** 2, axis=1))
    expected = np.where(has_square | (none > 0), jaxgmm.log_prob(wide, far), 0.0)
    assert 0 < np.count_nonzero(expected == 0) < 10
    found = in_weights(wide, far, none)
    np.testing.assert_allclose(found, expected, rtol=10 * tolerance(dtype))


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_of_weight_zero_counts_as_left_out(family, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    x, weights = cases.rows(30, dtype=dtype)
    spoiled, none = x.copy(), weights.copy()
    spoiled[::3], none[::3] = np.nan, 0.0
    keep = none > 0
    moments, log_likelihood = jaxgmm.e_step(mixture, spoiled, none)
    expected, expected_log_likelihood = jaxgmm.e_step(mixture, x[keep], weights[keep])
    chex.assert_trees_all_close(moments, expected, rtol=100 * tolerance(dtype), atol=100 * tolerance(dtype))
    np.testing.assert_allclose(log_likelihood, expected_log_likelihood, rtol=tolerance(dtype))
    gradient = jax.jit(jax.grad(lambda m: jaxgmm.log_likelihood(m, spoiled, none)))(mixture)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("family", FAMILIES)
def test_log_weight_minus_infinity_is_legal(family, dtype):
    mixture, (weights, means, covs) = cases.mixture(family, dtype=dtype)
    x, _ = cases.rows(dtype=dtype)
    absent = jaxgmm.make_mixture(np.array([0.25, 0.0, 0.75], dtype), means, covs, covariance_type=family)
    two = [0, 2]
    kept = covs if family == "tied" else covs[two]
    present = jaxgmm.make_mixture(np.array([0.25, 0.75], dtype), means[two], kept, covariance_type=family)
    np.testing.assert_allclose(jaxgmm.log_prob(absent, x), jaxgmm.log_prob(present, x), rtol=1e-4)
    assert (np.asarray(jaxgmm.responsibilities(absent, x))[:, 1] == 0).all()
    for function in (jaxgmm.log_likelihood, lambda m, x: jnp.sum(jaxgmm.log_prob(m, x))):
        gradients = jax.jit(jax.grad(function, argnums=(0, 1)))(absent, x)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["log_joint", "responsibilities", "log_likelihood", "e_step"])
def test_jit_equals_eager_and_vmap_equals_a_loop(name, family, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    x, _ = cases.rows(12, dtype=dtype)
    function = getattr(jaxgmm, name)
    other, _ = cases.mixture(family, dtype=dtype, seed=5)
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), mixture, other)
    close = dict(rtol=300 * tolerance(dtype), atol=300 * tolerance(dtype))
    chex.assert_trees_all_close(jax.jit(function)(mixture, x), function(mixture, x), **close)
    over_mixtures = jax.vmap(function, (0, None))(stack, x)
    for r, single in enumerate((mixture, other)):
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, r=r: leaf[r], over_mixtures), function(single, x), **close
        )


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["log_likelihood", "e_step"])
def test_jit_equals_what_is_evaluated_operation_by_operation(name, family, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    x, _ = cases.rows(12, dtype=dtype)
    function = getattr(jaxgmm, name)
    compiled = jax.jit(function)(mixture, x)
    with jax.disable_jit():
        uncompiled = function(mixture, x)
    chex.assert_trees_all_close(compiled, uncompiled, rtol=300 * tolerance(dtype), atol=300 * tolerance(dtype))


@pytest.mark.parametrize("family", FAMILIES)
def test_vmap_over_rows_and_weights_equals_a_loop(family, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    x, weights = cases.rows(12, dtype=dtype)
    looped = jnp.stack([jaxgmm.log_prob(mixture, row) for row in x])
    np.testing.assert_allclose(jax.vmap(lambda row: jaxgmm.log_prob(mixture, row))(x), looped, rtol=1e-4)
    over_weights = jax.vmap(lambda w: jaxgmm.log_likelihood(mixture, x, w))(jnp.stack([weights, 2 * weights]))
    np.testing.assert_allclose(over_weights[1], 2 * over_weights[0], rtol=1e-5)


@pytest.mark.needs_x64
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_equal_finite_differences(family):
    mixture, _ = cases.mixture(family)
    x, weights = cases.rows(17)
    leaves, treedef = jax.tree.flatten(mixture)
    slopes = jax.jit(jax.grad(jaxgmm.log_likelihood, argnums=(0, 1, 2)))(mixture, jnp.asarray(x), jnp.asarray(weights))
    gradients = jax.tree.leaves(slopes[0])
    plain = jax.jit(jax.grad(lambda m: jnp.sum(jnp.asarray(weights) * jaxgmm.log_prob(m, x))))(mixture)
    chex.assert_trees_all_close(gradients, jax.tree.leaves(plain), rtol=1e-12, atol=1e-12)
    for i, gradient in enumerate(gradients):

        def value(leaf, i=i):
            changed = [jnp.asarray(leaf) if j == i else other for j, other in enumerate(leaves)]
            return jaxgmm.log_likelihood(jax.tree.unflatten(treedef, changed), x, weights)

        expected = reference.finite_difference(value, leaves[i])
        if gradient.ndim == 3:
            expected = np.tril(expected)
            gradient = np.tril(gradient)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)
    expected = reference.finite_difference(lambda x: jaxgmm.log_likelihood(mixture, x, weights), x)
    np.testing.assert_allclose(slopes[1], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(slopes[2], jaxgmm.log_prob(mixture, x), rtol=1e-12)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
@pytest.mark.parametrize("family", FAMILIES)
def test_hessian_and_forward_mode_through_fishers_identity(family):
    mixture, _ = cases.mixture(family)
    x, weights = cases.rows(17)
    params = jaxgmm.unconstrain(mixture)
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def fisher(v):
        return jaxgmm.log_likelihood(jaxgmm.constrain(unravel(v)), x, weights)

    def plain(v):
        return jnp.sum(jnp.asarray(weights) * jaxgmm.log_prob(jaxgmm.constrain(unravel(v)), x))

    np.testing.assert_allclose(jax.hessian(fisher)(flat), jax.hessian(plain)(flat), rtol=1e-8, atol=1e-8)
    direction = jnp.ones_like(flat)
    _, forward = jax.jvp(fisher, (flat,), (direction,))
    np.testing.assert_allclose(forward, jax.grad(fisher)(flat) @ direction, rtol=1e-10)


def test_new_numbers_do_not_retrace(dtype):
    chex.clear_trace_counter()
    mixture, _ = cases.mixture("full", dtype=dtype)
    x, weights = cases.rows(dtype=dtype)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def f(mixture, x, weights):
        return jaxgmm.log_likelihood(mixture, x, weights)

    for seed in range(3):
        f(cases.mixture("full", dtype=dtype, seed=seed)[0], x + dtype(seed), weights * dtype(seed + 1))


def test_dtypes_are_promoted_and_kept():
    single, _ = cases.mixture("full", dtype=np.float32)
    x = np.arange(12).reshape(4, 3)
    for given in (x.astype(np.int32), x.astype(np.float16), x.astype(np.float32), jnp.asarray(x, jnp.bfloat16), x > 5):
        assert jaxgmm.log_prob(single, given).dtype == np.float32
    wide = jaxgmm.log_prob(single, x.astype(np.float64)).dtype
    assert wide == (np.float64 if jax.config.jax_enable_x64 else np.float32)


def test_wrong_shapes_are_named():
    mixture, _ = cases.mixture("full")
    x, weights = cases.rows(30)
    with pytest.raises(ValueError, match=r"the weights of x must have shape \(30,\), one for each row, not \(29,\)"):
        jaxgmm.log_likelihood(mixture, jaxgmm.Rows(jnp.asarray(x), jnp.asarray(weights[1:])))
    with pytest.raises(ValueError, match=r"x has 4 columns .* the mixture has 3"):
        jaxgmm.log_prob(mixture, np.zeros((5, 4)))
    with pytest.raises(ValueError, match="shape"):
        jaxgmm.responsibilities(mixture, np.zeros(3))
    with pytest.raises(ValueError, match="sample_weight must have shape"):
        jaxgmm.log_likelihood(mixture, np.zeros((5, 3)), np.ones(4))
    rows = jaxgmm.Rows(jnp.zeros((5, 2)), jnp.ones(5))
    with pytest.raises(ValueError, match=r"x has 2 columns \(shape \(5, 2\)\), but the mixture has 3"):
        jaxgmm.log_likelihood(mixture, rows)
    with pytest.raises(ValueError, match="sample_weight must be None where x is a Data"):
        jaxgmm.log_likelihood(mixture, rows, np.ones(5))
    with pytest.raises(TypeError, match="strings"):
        jaxgmm.log_prob(mixture, np.array([["a", "b", "c"]]))


def test_uncertainty_keeps_the_digits_of_small_chances(dtype):
    mixture = jaxgmm.make_mixture([0.5, 0.5], [[-1.0], [1.0]], [1.0, 1.0], covariance_type="spherical")
    x = np.array([[20.0], [-15.0], [0.0]], dtype)
    np.testing.assert_allclose(jaxgmm.uncertainty(mixture, x), [np.exp(-40), np.exp(-30), 0.5], rtol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_and_distances_are_the_same_in_every_unit(family):
    mixture, _ = cases.mixture(family, 3, 2, np.float32)
    x, weights = cases.rows(40, 2, np.float32)

    @jax.jit
    def in_units(unit):
        covs = jax.tree.map(lambda leaf: leaf * unit, mixture.covs)
        there = jaxgmm.Mixture(mixture.log_weights, mixture.means * unit, covs, mixture.family)
        slope = jax.grad(jaxgmm.log_likelihood)(there, x * unit, weights)
        log_prob = jaxgmm.log_prob(there, x * unit) + 2 * jnp.log(unit)
        return log_prob, slope.log_weights, slope.means * unit, jax.tree.leaves(slope.covs)[0] * unit

    expected = in_units(np.float32(1))
    for unit in np.array([1e-15, 1e15, 1e18], np.float32):
        for found, plain in zip(in_units(unit), expected, strict=True):
            np.testing.assert_allclose(found, plain, atol=1e-4 * np.abs(plain).max())
