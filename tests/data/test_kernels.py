"""The arithmetic of one chunk, beside loops in NumPy and beside what its bounds promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.data.kernels import quadratic, whitened
from jaxgmm.data.kernels.quadratic import LINEAR, PAIRS, SQUARES
from jaxgmm.model.moments import DENSE, DIAGONAL, POOLED, SCALAR, gather
from tests import cases, reference
from tests.cases import FAMILIES, tolerance

FEATURES = {"full": PAIRS, "tied": LINEAR, "diag": SQUARES, "spherical": SQUARES}
HELD = {"full": DENSE, "tied": POOLED, "diag": DIAGONAL, "spherical": SCALAR}


def apart(family, dtype, n_features=3):
    """A mixture, its plain arrays with dense covariances, and rows as columns."""
    mixture, (weights, means, covs) = cases.mixture(family, 4, n_features, dtype)
    x, _ = cases.rows(30, n_features, dtype)
    dense = reference.dense_covariances(family, covs, 4, n_features)
    return mixture, weights, means, dense, x


def absent(mixture, k):
    """The mixture, component k with log-weight −∞."""
    return mixture.__class__(mixture.log_weights.at[k].set(-jnp.inf), mixture.means, mixture.covs, mixture.family)


def largest_eigenvalues(matrices):
    return np.linalg.eigvalsh(np.asarray(matrices, np.float64))[..., -1]


def bounded(bound, largest, n_features):
    """A bound of the largest eigenvalue, at most D^⅛ too large."""
    assert largest * (1 - 1e-5) <= bound <= largest * n_features**0.125 * (1 + 1e-5)


@pytest.mark.parametrize("n_features", [1, 2, 5])
def test_features_are_products_of_columns_then_columns_then_one(n_features):
    x = np.random.default_rng(0).normal(size=(n_features, 7)).astype(np.float32)
    squares = {
        PAIRS: [x[i] * x[j] for i in range(n_features) for j in range(i + 1)],
        SQUARES: [x[i] ** 2 for i in range(n_features)],
        LINEAR: [],
    }
    for features, products in squares.items():
        expected = np.stack([*products, *x, np.ones(7)])
        np.testing.assert_allclose(features.of(jnp.asarray(x)), expected, rtol=1e-6)
        assert features.count(n_features) == len(expected)


def test_a_family_takes_the_fewest_features():
    for family in FAMILIES:
        mixture, _ = cases.mixture(family, 3, 3, np.float32)
        assert quadratic.features_of(mixture, HELD[family]) == FEATURES[family]
        assert quadratic.features_of(mixture, DENSE) == PAIRS
    tied, _ = cases.mixture("tied", 3, 3, np.float32)
    assert quadratic.features_of(tied, DIAGONAL) == PAIRS
    alone, _ = cases.mixture("tied", 1, 3, np.float32)
    assert quadratic.features_of(alone, POOLED) == PAIRS
    diagonal, _ = cases.mixture("diag", 3, 3, np.float32)
    assert quadratic.features_of(diagonal, SCALAR) == SQUARES


@pytest.mark.parametrize("family", FAMILIES)
def test_log_joints_are_linear_in_the_features(family, dtype):
    mixture, weights, means, dense, x = apart(family, dtype)
    features = FEATURES[family]
    prepared = jax.jit(quadratic.prepare, static_argnums=1)(mixture, features)
    joint = np.asarray(prepared.coefficients @ features.of(jnp.asarray(x.T))).T
    if features == LINEAR:
        joint = joint - 0.5 * np.einsum("ni,ij,nj->n", x, prepared.precision, x)[:, None]
    else:
        assert prepared.precision.shape == ()
    expected = reference.log_joint(weights, means, dense, x)
    np.testing.assert_allclose(joint, expected, rtol=1e3 * tolerance(dtype), atol=1e3 * tolerance(dtype))
    bounded(prepared.steepness, largest_eigenvalues(np.linalg.inv(dense)).max(), 3)


@pytest.mark.parametrize("family", ["full", "diag"])
def test_an_absent_component_has_finite_coefficients_and_no_say_in_the_bound(family, dtype):
    mixture, _, _, dense, x = apart(family, dtype)
    steepest, k = largest_eigenvalues(np.linalg.inv(dense)), 1
    tight = jax.tree.map(lambda factors: factors.at[k].multiply(1e-3), mixture.covs)
    mixture = mixture.__class__(mixture.log_weights, mixture.means, tight, mixture.family)
    features = FEATURES[family]
    prepared = jax.jit(quadratic.prepare, static_argnums=1)(absent(mixture, k), features)
    assert np.isfinite(prepared.coefficients).all()
    joint = np.asarray(prepared.coefficients @ features.of(jnp.asarray(x.T)))
    assert (np.exp(joint[k] - joint.max(axis=0)) == 0).all()
    bounded(prepared.steepness, np.delete(steepest, k).max(), 3)


READS = [
    (PAIRS, DENSE),
    (PAIRS, POOLED),
    (PAIRS, DIAGONAL),
    (PAIRS, SCALAR),
    (LINEAR, POOLED),
    (SQUARES, DIAGONAL),
    (SQUARES, SCALAR),
]


@pytest.mark.parametrize("features,statistic", READS, ids=lambda value: value.name)
def test_raw_moments_are_read_as_central_ones(features, statistic, dtype):
    x, weights = cases.rows(40, 3, dtype)
    resp = np.random.default_rng(0).dirichlet(np.ones(4), size=40).astype(dtype)
    resp[:, 3] = 0.0
    resp /= resp.sum(axis=1, keepdims=True)
    resp[:, 2] *= 1e-3
    raw = features.of(jnp.asarray(x.T)) @ (resp * weights[:, None])
    square = jnp.asarray((x * (weights * resp.sum(axis=1))[:, None]).T @ x)
    found = quadratic.read(raw, square, features, 3, statistic)
    mass, mean, scatter = reference.moments(x, weights, np.where(resp == 0, 1e-300, resp.astype(np.float64)))
    close = dict(rtol=30 * tolerance(dtype), atol=100 * tolerance(dtype))
    np.testing.assert_allclose(found.mass, mass, **close)
    np.testing.assert_allclose(found.mean[:3], mean[:3], **close)
    np.testing.assert_array_equal(found.mean[3], 0.0)
    np.testing.assert_allclose(found.scatter, statistic.of_dense(jnp.asarray(scatter.astype(dtype))), **close)


def weighed(masses, scales, statistic, dtype):
    """Moments of components of given masses, with covariances of given scales."""
    factor = np.random.default_rng(2).normal(size=(len(masses), 3, 3))
    covariances = (factor @ np.swapaxes(factor, 1, 2) + np.eye(3)) * np.asarray(scales)[:, None, None]
    scatter = (covariances * np.asarray(masses)[:, None, None]).astype(dtype)
    held = statistic.of_dense(jnp.asarray(scatter))
    return jaxgmm.Moments(jnp.asarray(masses, dtype), jnp.zeros((len(masses), 3), dtype), held), covariances


@pytest.mark.parametrize("family", FAMILIES)
def test_the_bound_of_what_moments_give(family, dtype):
    # A hundred rows of weight 1: the third component is not there, the fourth just is.
    masses = np.array([60.0, 40.0, 0.9e-3, 1.2e-3])
    statistic = HELD[family]
    moments, covariances = weighed(masses, [1.0, 0.25, 1e-4, 1e-2], statistic, dtype)
    found = jax.jit(quadratic.steepness)(moments, 100)
    inverses = np.linalg.inv(covariances)
    if family == "tied":
        pooled = np.tensordot(masses / masses.sum(), covariances, 1)
        bounded(found, largest_eigenvalues(np.linalg.inv(pooled)), 3)
    elif family == "full":
        bounded(found, largest_eigenvalues(inverses[[0, 1, 3]]).max(), 3)
    else:
        variances = np.diagonal(covariances, axis1=1, axis2=2)[[0, 1, 3]]
        least = variances.min() if family == "diag" else variances.mean(axis=1).min()
        np.testing.assert_allclose(found, 1 / least, rtol=1e-5)


def test_the_bound_of_singular_moments_never_passes(dtype):
    moments, _ = weighed(np.array([60.0, 40.0]), [1.0, 1.0], DENSE, dtype)
    singular = moments._replace(scatter=moments.scatter.at[0].set(jnp.ones((3, 3), dtype)))
    assert not quadratic.steepness(singular, 100) * 1e-3 <= quadratic.limit(dtype)
    flat = moments._replace(scatter=jnp.asarray([0.0, 1.0], dtype))
    assert not quadratic.steepness(flat, 100) * 1e-3 <= quadratic.limit(dtype)


def test_no_component_that_is_there_leaves_a_bound_of_nothing(dtype):
    empty = jaxgmm.Moments(jnp.zeros(2, dtype), jnp.zeros((2, 3), dtype), jnp.zeros((1, 3, 3), dtype))
    assert quadratic.steepness(empty, 100) == 0


def test_the_bound_of_eigenvalues_survives_what_is_not_finite(dtype):
    matrices = jnp.stack([jnp.full((3, 3), value, dtype) for value in (1.0, np.inf, np.nan)])
    found = np.asarray(quadratic._largest_eigenvalue(matrices))
    np.testing.assert_allclose(found[0], 3.0, rtol=1e-5)
    assert found[1] == np.inf and np.isnan(found[2])


def test_features_are_trusted_to_the_digits_that_the_limit_names():
    for dtype, digits in ((np.float32, 1e-3), (np.float64, 1e-9)):
        error = quadratic.limit(np.dtype(dtype)) * float(np.finfo(dtype).eps)
        assert digits / 2 < error <= digits


@pytest.mark.parametrize("family", FAMILIES)
def test_residuals_give_log_joints(family, dtype):
    mixture, weights, means, dense, x = apart(family, dtype)
    prepared = jax.jit(whitened.prepare)(mixture)
    seen = jax.jit(whitened.joint)(prepared, jnp.asarray(x.T))
    expected = reference.log_joint(weights, means, dense, x)
    np.testing.assert_allclose(seen.log_joint.T, expected, rtol=100 * tolerance(dtype), atol=100 * tolerance(dtype))
    np.testing.assert_array_equal(seen.shrink, 1.0)
    steepness = np.abs(np.linalg.inv(np.linalg.cholesky(dense)))[np.asarray(weights) > 0].max(axis=(0, 1))
    np.testing.assert_allclose(prepared.steepness, steepness, rtol=1e-5)
    bounds = np.abs(np.asarray(x, np.float64)) @ steepness
    offsets = whitened.joint(prepared, jnp.zeros((x.shape[1], 1), dtype)).whitened
    assert (np.abs(np.asarray(seen.whitened - offsets)).max(axis=(0, 1)) <= bounds * (1 + 1e-5)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_too_far_to_be_squared_keep_their_order(family, dtype):
    mixture, *_ = apart(family, dtype)
    prepared = whitened.prepare(mixture)
    towards = np.array([1.0, -0.5, 0.25], dtype)
    slopes, inverse = np.abs(towards) @ np.asarray(prepared.steepness), np.asarray(prepared.inverse)
    residuals = inverse @ towards if inverse.ndim == 3 else inverse * towards
    # Beyond it the row is too far from every component.
    edge = float(np.sqrt(np.finfo(dtype).max)) / (4 * 3) / float(np.abs(residuals).max(axis=1).min())
    distances = edge * np.array([0.999, 1.001, 1e3, 1e15])
    columns = jnp.asarray(towards[:, None] * distances[None, :], dtype)
    seen = jax.jit(whitened.joint)(prepared, columns)
    assert np.isfinite(seen.log_joint).all()
    assert seen.shrink[0] == 1 and (np.asarray(seen.shrink[1:]) > 1).all()
    drawn_in = distances[1:] / np.asarray(seen.shrink[1:], np.float64) * slopes
    np.testing.assert_allclose(drawn_in, 1 / np.sqrt(np.finfo(dtype).eps), rtol=1e-4)
    # The direction alone decides: by the squared distance per unit length, and by the means where that is shared.
    nearest = np.asarray(jnp.argmax(seen.log_joint[:, 1:], axis=0))
    inverses = np.linalg.inv(np.asarray(mixture.covariances, np.float64))
    slope = np.einsum("i,kij,j->k", towards, inverses, towards)
    lead = np.einsum("i,kij,kj->k", towards, inverses, np.asarray(mixture.means, np.float64))
    assert (nearest == (np.argmax(lead) if family == "tied" else np.argmin(slope))).all()
    log_prob = whitened.unless_far(jnp.zeros(4, dtype), seen.shrink)
    np.testing.assert_array_equal(log_prob, [0.0, -np.inf, -np.inf, -np.inf])
    gradient = jax.grad(lambda c: jnp.sum(whitened.joint(prepared, c).log_joint))(columns)
    assert np.isfinite(gradient).all()


WHITENED = [(family, HELD[family]) for family in FAMILIES] + [
    ("diag", DENSE),
    ("full", DIAGONAL),
    ("spherical", POOLED),
]


@pytest.mark.parametrize("family,statistic", WHITENED, ids=lambda value: getattr(value, "name", value))
def test_whitened_moments_coloured_are_the_moments(family, statistic, dtype):
    mixture, _, _, _, x = apart(family, dtype)
    resp = np.random.default_rng(0).dirichlet(np.ones(4), size=30).astype(dtype)

    def moments(columns):
        prepared = whitened.prepare(mixture)
        seen = whitened.joint(prepared, columns)
        return whitened.moments(prepared, seen, jnp.asarray(resp.T), statistic)

    found = jax.jit(moments)(jnp.asarray(x.T))
    mixes = family in ("full", "tied") or statistic.products
    assert found.scatter.shape == ((4, 3, 3) if mixes else (4, 3))
    assert whitened.holds_products(mixture.covs, statistic) is mixes
    coloured = jax.jit(whitened.colour, static_argnums=2)(whitened.prepare(mixture), found, statistic)
    expected = gather(jnp.asarray(resp.T), jnp.asarray(x.T)[None], statistic)
    for a, b in zip(coloured, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=100 * tolerance(dtype), atol=300 * tolerance(dtype))
    far = jnp.asarray(x.T).at[:, 5].set(np.sqrt(np.finfo(dtype).max))
    left_out = jax.jit(moments)(far)
    np.testing.assert_allclose(left_out.mass, resp.sum(axis=0) - resp[5], rtol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in left_out)
