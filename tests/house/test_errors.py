"""Every row of the design's table of bad inputs, through the host doors."""

import jax
import numpy as np
import pytest

import jaxgmm
from tests import cases

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(20, 2))


def spoiled(value, row=7, column=1):
    x = X.copy()
    x[row, column] = value
    return x


def fit(x, n_components=2, sample_weight=None):
    return jaxgmm.fit(KEY, x, n_components, sample_weight, n_init=1, max_iter=2)


def select(x, n_components=2, sample_weight=None):
    return jaxgmm.select(KEY, x, [n_components], ["diag"], sample_weight, n_init=1, max_iter=2)


def initialize(x, n_components=2, sample_weight=None):
    return jaxgmm.initialize(KEY, x, n_components, sample_weight)


DOORS = [fit, select, initialize]
doors = pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)


@doors
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_name_the_place_and_the_remedy(door, value):
    with pytest.raises(ValueError, match=rf"x holds {value} in row 7, column 1: drop such rows with x\[numpy.isfinite"):
        door(spoiled(value))


@doors
def test_shapes(door):
    for x, message in (
        (np.zeros((0, 2)), "x is empty"),
        (np.zeros((5, 0)), "x is empty"),
        (X[:, 0], r"shape \(N, D\), not \(20,\): a single column is x.reshape\(-1, 1\)"),
        (X[None], r"shape \(N, D\), not \(1, 20, 2\)"),
        (np.float64(3), r"shape \(N, D\), not \(\)"),
        (X[:1], "x has one row of positive weight"),
    ):
        with pytest.raises(ValueError, match=message):
            door(x, 1)


def test_fewer_rows_than_components():
    for door in (fit, initialize):
        with pytest.raises(ValueError, match="n_components is 5, but x has only 3 rows of positive weight"):
            door(X[:3], 5)
        with pytest.raises(ValueError, match="n_components is 5, but x has only 4 rows of positive weight"):
            door(X, 5, np.r_[np.ones(4), np.zeros(16)])
    assert "skipped: only 3 rows" in str(select(X[:3], 5))


@doors
def test_what_holds_no_real_numbers(door):
    from scipy import sparse

    masked = np.ma.masked_array(X, np.eye(20, 2, dtype=bool))
    for x, message in (
        (X.astype(str), "dtype .*strings; convert to float first"),
        (X.astype(object), "dtype object: objects; convert to float first"),
        (X + 1j, "complex; pass real and imaginary parts"),
        (X.astype("datetime64[s]"), "dates; convert to numbers"),
        (X.astype("timedelta64[s]"), "durations; convert to numbers"),
        (sparse.csr_matrix(X), r"sparse matrix; pass x.toarray\(\)"),
        (masked, "masked array with masked entries; drop those rows or fill them first"),
        ([[1.0, 2.0], [3.0]], "cannot be read as an array of numbers"),
        (None, "dtype object"),
    ):
        with pytest.raises(TypeError, match=message):
            door(x)


@pytest.mark.exhaustive
@doors
@pytest.mark.filterwarnings("ignore:.* collapsed, and")  # columns of zeros and ones have little spread
def test_arrays_of_every_make_are_accepted(door):
    frozen = X.astype(np.float32)
    frozen.flags.writeable = False
    for x in (
        (10 * X).astype(np.int64),
        X > 0,
        X.astype(np.float16),
        X.astype(">f8"),
        np.asfortranarray(X),
        np.repeat(X, 3, axis=1)[:, ::3],
        np.ma.masked_array(X, False),
        frozen,
        X[::-1],
    ):
        door(x)


@doors
@pytest.mark.parametrize("n_components,error", [(0, ValueError), (2.0, TypeError), (True, TypeError), ("2", TypeError)])
def test_number_of_components(door, n_components, error):
    with pytest.raises(error, match="n_components must be"):
        door(X, n_components)


@doors
def test_sample_weights(door):
    ones = np.ones(20)
    for weights, message in (
        (-ones, "sample_weight must be finite and at least 0, but holds -1.0 in row 0"),
        (np.where(np.arange(20) == 3, np.nan, 1.0), "holds nan in row 3"),
        (0 * ones, "sample_weight is zero for every row"),
        (np.ones(19), r"sample_weight must have shape \(20,\)"),
        (np.ones((20, 1)), r"sample_weight must have shape \(20,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            door(X, 2, weights)
    with pytest.raises(TypeError, match="sample_weight must hold real numbers"):
        door(X, 2, ["a"] * 20)


def test_keys_tolerances_and_counts():
    for key in (0, jax.random.PRNGKey(0), None):
        for door in (jaxgmm.fit, jaxgmm.initialize):
            with pytest.raises(TypeError, match=r"key must be a typed key such as jax.random.key\(0\)"):
                door(key, X, 2)
        with pytest.raises(TypeError, match="key must be a typed key"):
            jaxgmm.select(key, X, [2])
    for options, error, message in (
        (dict(tol=-1), ValueError, "tol must be at least 0"),
        (dict(tol="x"), TypeError, "tol must be a number"),
        (dict(max_iter=0), ValueError, "max_iter must be at least 1"),
        (dict(n_init=0), ValueError, "n_init must be at least 1"),
        (dict(n_init=1.5), TypeError, "n_init must be an integer"),
        (dict(covariance_type="round"), ValueError, "covariance_type 'round' is not known"),
        (dict(init="kmean"), ValueError, "a start must be one of"),
        (dict(init="random"), ValueError, "scikit-learn's 'random' is 'random-responsibilities' here"),
        (dict(init="random_from_data"), ValueError, "scikit-learn's 'random_from_data' is 'random-rows' here"),
    ):
        with pytest.raises(error, match=message):
            jaxgmm.fit(KEY, X, 2, **options)
    start, _ = cases.mixture("full", 2, 2)
    with pytest.raises(ValueError, match="max_iter must be at least 1"):
        jaxgmm.run(jaxgmm.EM(), start, X, max_iter=0)
    with pytest.raises(ValueError, match="x has 2 columns"):
        jaxgmm.run(jaxgmm.EM(), cases.mixture("full", 2, 3)[0], X)


def test_a_missing_key_is_said_to_be():
    """The arguments that are there stand one place too far to the left: the last is not what is missing."""
    mixture, _ = cases.mixture("full", 2, 2)
    for call, found in (
        (lambda: jaxgmm.fit(X, 3), r"an array of float64 with shape \(20, 2\)"),
        (lambda: jaxgmm.fit(X.tolist(), 3), "a list"),
        (lambda: jaxgmm.select(X), "an array"),
        (lambda: jaxgmm.initialize(X, 2, method="k-means"), "an array"),
        (lambda: jaxgmm.sample(mixture, 3), "Mixture"),
        (lambda: jaxgmm.sample_reparameterised(mixture, 3), "Mixture"),
        (lambda: jaxgmm.kl_divergence(mixture, mixture), "Mixture"),
        (lambda: jaxgmm.bootstrap(mixture, X, 3), "Mixture"),
    ):
        with pytest.raises(TypeError, match=rf"key must be .*, not {found}.*: it comes first, and is missing"):
            call()
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'n_components'"):
        jaxgmm.fit(KEY, X)


@pytest.mark.exhaustive
def test_starts_by_k_means_may_be_written_as_scikit_learn_does():
    for ours, theirs in (("k-means", "kmeans"), ("k-means++", "kmeans++")):
        found, wanted = (jaxgmm.initialize(KEY, X, 2, method=name).means for name in (theirs, ours))
        np.testing.assert_array_equal(found, wanted)


def test_k_means_may_be_written_as_scikit_learn_does():
    fits = [jaxgmm.fit(KEY, X, 2, init=name, n_init=1, max_iter=2).mixture.means for name in ("kmeans", "k-means")]
    np.testing.assert_array_equal(*fits)


def test_algorithms_and_priors():
    start, _ = cases.mixture("full", 2, 2)
    for options, message in (
        (dict(algorithm="em"), r"algorithm must be EM\(\), Accelerated\(EM\(\)\) or Gradient\(optimizer\), not 'em'"),
        (dict(algorithm=jaxgmm.EM), "algorithm must be EM"),
        (dict(algorithm=jaxgmm.Gradient("adam")), "optax optimiser such as .*not 'adam'"),
        (dict(prior=0.1), r"prior must be Ridge\(\) or None, not 0.1"),
        (dict(prior=jaxgmm.Ridge), "prior must be"),
    ):
        with pytest.raises(TypeError, match=message):
            jaxgmm.fit(KEY, X, 2, **options)
        options = {"algorithm": jaxgmm.EM(), **options}
        with pytest.raises(TypeError, match=message):
            jaxgmm.run(options.pop("algorithm"), start, X, **options)
    with pytest.raises(TypeError, match="jaxgmm.run"):
        jax.vmap(lambda key: jaxgmm.fit(key, X, 2).objective)(jax.random.split(KEY))
    with pytest.raises(ValueError, match="previous is Mixture"):
        jaxgmm.m_step(jaxgmm.e_step(start, X)[0], "full", previous=cases.mixture("full", 3, 2)[0])


@pytest.mark.parametrize("door", [fit, initialize], ids=["fit", "initialize"])
def test_magnitudes_that_overflow_when_squared(door):
    with pytest.raises(ValueError, match="column 0 .*overflow when squared in float32"):
        door((X * 1e25).astype(np.float32))


def test_covariances_that_the_dtype_cannot_factor():
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        factor = rng.normal(size=(4, 2))
        near = (factor @ factor.T + 2e-7 * np.eye(4)).astype(np.float32)
        try:
            mixture = jaxgmm.make_mixture([1.0], np.zeros((1, 4), np.float32), near[None])
        except ValueError as error:
            assert "positive definite" in str(error)
            refused += 1
        else:
            assert np.isfinite(mixture.covs.cholesky).all() and mixture.means.dtype == np.float32
    assert 0 < refused < 100


@pytest.mark.parametrize(
    "weights,means,covariances,covariance_type,message",
    [
        ([0.5, 0.4], np.zeros((2, 2)), [np.eye(2)] * 2, "full", "weights must sum to 1, not 0.9"),
        ([1.5, -0.5], np.zeros((2, 2)), [np.eye(2)] * 2, "full", "at least 0, but component 1 has -0.5"),
        ([0.5, np.nan], np.zeros((2, 2)), [np.eye(2)] * 2, "full", "but component 1 has nan"),
        ([0.5, 0.5], np.zeros((2, 2)), [np.eye(2), [[1, 2], [2, 1]]], "full", "positive definite, but component 1"),
        ([0.5, 0.5], np.zeros((2, 2)), [[[1, 0.5], [0, 1]], np.eye(2)], "full", "symmetric, but component 0"),
        ([0.5, 0.5], np.zeros((2, 2)), [[1, np.nan], [np.nan, 1]], "tied", "component 0 holds NaN"),
        ([0.5, 0.5], np.zeros((2, 2)), [[1, 1], [1, 0]], "diag", "positive, but component 1 has 0"),
        ([0.5, 0.5], np.zeros((2, 2)), [1, -1], "spherical", "positive, but component 1 has -1"),
        ([0.5, 0.5], [[0, 0], [0, np.inf]], [1, 1], "spherical", "means must be finite, but component 1 has inf"),
        ([0.5, 0.5], np.zeros((2, 2)), np.eye(2), "full", r"must have shape \(2, 2, 2\), not \(2, 2\)"),
        ([0.5, 0.5], np.zeros((2, 3)), np.ones((3, 2)), "diag", r"must have shape \(2, 3\), not \(3, 2\)"),
        ([1.0], np.zeros((2, 2)), [1, 1], "spherical", r"weights must have shape \(2,\)"),
        ([0.5, 0.5], np.zeros(2), [1, 1], "spherical", r"means must have shape \(K, D\)"),
        ([0.5, 0.5], np.zeros((2, 2)), [1, 1], "ball", "covariance_type 'ball' is not known"),
    ],
)
def test_mixtures_from_arrays(weights, means, covariances, covariance_type, message):
    with pytest.raises(ValueError, match=message):
        jaxgmm.make_mixture(weights, means, covariances, covariance_type=covariance_type)


def test_make_mixture_under_a_trace_gives_nan_for_bad_values():
    def density(variance):
        mixture = jaxgmm.make_mixture([1.0], np.zeros((1, 1)), variance[None], covariance_type="spherical")
        return jaxgmm.log_prob(mixture, np.zeros(1))

    assert np.isnan(jax.jit(density)(np.float32(-1.0)))
    assert np.isfinite(jax.jit(density)(np.float32(1.0)))
    assert np.isfinite(jax.grad(density)(np.float32(2.0)))


def test_responsibilities_of_the_wrong_shape():
    for resp in (np.ones((19, 2)), np.ones(20), np.ones((20, 0))):
        with pytest.raises(ValueError, match=r"resp must have shape \(20, K\)"):
            jaxgmm.from_responsibilities(X, resp)
