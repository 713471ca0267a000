"""The façade: scikit-learn's checks, scripts and tools over this library's fits."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
import sklearn.mixture
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import jaxgmm
from jaxgmm.sklearn import GaussianMixture, from_sklearn, to_sklearn
from tests import cases
from tests.cases import FAMILIES

pytestmark = pytest.mark.needs_x64

PARAMETERS = sklearn.mixture.GaussianMixture().get_params()
ARRAYS = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")


def rows(family="full", dtype=np.float64):
    """Rows, (200, 3), and positive weights."""
    return cases.drawn_rows(family, 200, dtype)[1:]


def start(family="full"):
    """Where both libraries can start from."""
    mixture, (weights, means, _) = cases.mixture(family)
    held = to_sklearn(mixture)
    return {"weights_init": weights, "means_init": means, "precisions_init": held.precisions_}


# One of the checks has fewer distinct rows than columns, where a collapse is told.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([GaussianMixture()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_parameters_are_scikit_learns_but_for_missing_and_the_default_of_reg_covar():
    ours = GaussianMixture().get_params()
    assert set(ours) == {*PARAMETERS, "missing"} and ours["missing"] == "error"
    assert {name for name in PARAMETERS if ours[name] != PARAMETERS[name]} == {"reg_covar"}


TEXTBOOK = """
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
from sklearn.datasets import make_blobs
from sklearn.mixture import GaussianMixture

X, y_true = make_blobs(n_samples=400, centers=4, cluster_std=0.60, random_state=0)
X = X[:, ::-1]
gmm = GaussianMixture(n_components=4, random_state=42)
gmm.fit(X)
labels = gmm.predict(X)
probs = gmm.predict_proba(X)
plt.scatter(X[:, 0], X[:, 1], c=labels, s=50 * probs.max(1) ** 2, cmap="viridis")
plt.close("all")
"""


def test_the_textbook_script_with_its_import_line_changed():
    theirs, ours = {}, {}
    exec(TEXTBOOK, theirs)
    exec(TEXTBOOK.replace("from sklearn.mixture", "from jaxgmm.sklearn"), ours)
    assert isinstance(ours["gmm"], GaussianMixture)
    assert adjusted_rand_score(theirs["labels"], ours["labels"]) == 1
    assert ours["probs"].shape == (400, 4) and ours["gmm"].converged_
    # What `tol` promises, from either library's optimum.
    best = theirs["gmm"].set_params(tol=1e-10, max_iter=1000).fit(ours["X"]).score(ours["X"])
    assert -1e-6 < best - ours["gmm"].score(ours["X"]) < 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_attributes_and_methods_are_scikit_learns(family):
    x, _ = rows(family)
    options = dict(n_components=3, covariance_type=family, max_iter=5, tol=0, random_state=0, **start(family))
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        ours = GaussianMixture(**options).fit(x)
    with pytest.warns(ConvergenceWarning):
        theirs = sklearn.mixture.GaussianMixture(**options, reg_covar=0).fit(x)
    fitted = [{name for name in vars(model) if name.endswith("_")} for model in (ours, theirs)]
    assert fitted[0] == fitted[1] | {"lower_bounds_"}
    for name in ARRAYS:
        assert getattr(ours, name).dtype == np.float64 and type(getattr(ours, name)) is np.ndarray
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-8, atol=1e-8)
    assert (ours.converged_, ours.n_iter_, ours.n_features_in_) == (False, 5, 3)
    # scikit-learn's bound is that of the mixture before the last step.
    np.testing.assert_allclose(ours.lower_bounds_[:-1], theirs.lower_bounds_[1:], rtol=1e-9)
    assert ours.lower_bound_ == ours.lower_bounds_[-1] and len(ours.lower_bounds_) == 5
    np.testing.assert_allclose(ours.lower_bound_, ours.score(x), rtol=1e-9)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))
    for method in ("predict_proba", "score_samples"):
        np.testing.assert_allclose(getattr(ours, method)(x), getattr(theirs, method)(x), rtol=1e-7, atol=1e-9)
    for method in ("score", "aic", "bic"):
        assert type(getattr(ours, method)(x)) is float
        np.testing.assert_allclose(getattr(ours, method)(x), getattr(theirs, method)(x), rtol=1e-9)
    assert ours._n_parameters() == theirs._n_parameters()


def test_float64_is_kept_where_jax_has_x64_off_and_nothing_is_switched_on():
    x, _ = rows()
    expected = GaussianMixture(3, random_state=0).fit(x)
    found = {}

    def work():
        # A thread's own setting is the global one: here, off.
        with jax.enable_x64(False):
            found["model"] = model = GaussianMixture(3, random_state=0).fit(x)
            found["arrays"] = model.score_samples(x), model.predict_proba(x), model.sample(5)[0]
            found["after"] = jax.config.jax_enable_x64, from_sklearn(model).means.dtype  # pyright: ignore
            found["single"] = GaussianMixture(3, random_state=0).fit(x.astype(np.float32))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found["model"], name), getattr(expected, name))
        assert getattr(found["single"], name).dtype == np.float32
    assert all(array.dtype == np.float64 for array in found["arrays"])
    assert found["after"] == (False, np.float32)
    assert jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]


def test_single_precision_rows_are_fitted_and_evaluated_in_it():
    x, _ = rows(dtype=np.float32)
    model = GaussianMixture(3, random_state=0).fit(x)
    assert all(getattr(model, name).dtype == np.float32 for name in ARRAYS)
    assert model.score_samples(x).dtype == model.predict_proba(x).dtype == model.sample(3)[0].dtype == np.float32
    assert model.score_samples(x.astype(np.float64)).dtype == np.float64


def test_whole_weights_are_repeated_rows():
    x, _ = rows()
    counts = np.arange(len(x)) % 3
    repeated = np.repeat(x, counts, axis=0)
    weighted = GaussianMixture(3, **start(), tol=1e-10).fit(x, sample_weight=counts)
    plain = GaussianMixture(3, **start(), tol=1e-10).fit(repeated)
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(weighted, name), getattr(plain, name), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(weighted.lower_bound_, plain.lower_bound_, rtol=1e-12)
    np.testing.assert_allclose(weighted.score(x, sample_weight=counts), plain.score(repeated), rtol=1e-12)
    np.testing.assert_allclose(weighted.bic(x, counts), plain.bic(repeated), rtol=1e-10)
    np.testing.assert_allclose(weighted.aic(x, counts), plain.aic(repeated), rtol=1e-10)
    np.testing.assert_array_equal(plain.fit_predict(x, sample_weight=counts), weighted.predict(x))
    with pytest.raises(ValueError, match=r"sample_weight must have shape \(200,\)"):
        plain.fit(x, sample_weight=np.ones(3))


def test_weights_that_are_no_counts_are_kishs_number_of_rows():
    x, weights = rows()
    model = GaussianMixture(2, random_state=0, max_iter=5, tol=10).fit(x)
    kish = weights.sum() ** 2 / (weights**2).sum()
    scaled = weights * kish / weights.sum()
    for criterion in (model.aic, model.bic):
        with pytest.warns(UserWarning, match="sums to 1 over 200 rows, so it holds no counts") as caught:
            found = criterion(x, weights / weights.sum())
        assert len(caught) == 1 and caught[0].filename == __file__
        np.testing.assert_allclose([found, criterion(x, weights, n=kish)], criterion(x, scaled), rtol=1e-10)


def test_functions_are_the_librarys():
    x, weights = rows()
    model = GaussianMixture(3, random_state=0).fit(x, sample_weight=weights)
    mixture = from_sklearn(model)
    np.testing.assert_allclose(model.score(x, None, weights), jaxgmm.score(mixture, x, weights), rtol=1e-12)
    np.testing.assert_allclose(model.bic(x, weights), jaxgmm.bic(mixture, x, weights), rtol=1e-12)
    np.testing.assert_allclose(model.predict_proba(x), jaxgmm.responsibilities(mixture, x), atol=1e-12)
    assert model._n_parameters() == mixture.n_parameters
    np.testing.assert_array_equal(model.predict(jnp.asarray(x)), model.predict(x.tolist()))


@pytest.mark.parametrize("family", FAMILIES)
def test_conversion_both_ways(family, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    x, _ = cases.rows(dtype=dtype)
    model = to_sklearn(mixture)
    assert type(model) is sklearn.mixture.GaussianMixture and model.covariance_type == family
    assert (model.n_components, model.n_features_in_, model.converged_, model.n_iter_) == (3, 3, False, 0)
    assert all(getattr(model, name).dtype == dtype for name in ARRAYS)
    np.testing.assert_allclose(model.score_samples(x), jaxgmm.log_prob(mixture, x), rtol=cases.tolerance(dtype))
    back = from_sklearn(model)
    assert jax.tree.structure(back) == jax.tree.structure(mixture) and back.means.dtype == dtype
    np.testing.assert_allclose(jaxgmm.log_prob(back, x), model.score_samples(x), rtol=cases.tolerance(dtype))
    for leaf, expected in zip(jax.tree.leaves(back), jax.tree.leaves(mixture), strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=cases.tolerance(dtype, 12), atol=cases.tolerance(dtype, 12))


@pytest.mark.parametrize("family", FAMILIES)
def test_densities_of_the_estimator_are_scikit_learns(family):
    x, _ = rows()
    model = GaussianMixture(2, covariance_type=family, random_state=0, max_iter=5, tol=10).fit(x)
    np.testing.assert_allclose(model.score_samples(x), to_sklearn(model).score_samples(x), rtol=1e-9)


def test_a_covariance_close_to_singular_survives_conversion():
    direction = np.array([1.0, 2.0, -1.0])
    covariance = 4 * np.outer(direction, direction) + 1e-13 * np.eye(3)
    factor = np.linalg.cholesky(covariance)
    theirs = to_sklearn(jaxgmm.make_mixture([1.0], np.zeros((1, 3)), np.eye(3)[None]))
    theirs.precisions_cholesky_ = np.linalg.inv(factor).T[None]
    z = np.random.default_rng(0).normal(size=(50, 3))
    expected = -0.5 * (z**2).sum(axis=1) - np.log(np.diag(factor)).sum() - 1.5 * np.log(2 * np.pi)
    found = jaxgmm.log_prob(from_sklearn(theirs), z @ factor.T)
    np.testing.assert_allclose(found, expected, atol=0.05)
    np.testing.assert_allclose(found, theirs.score_samples(z @ factor.T), atol=0.05)


def test_an_estimator_converts_with_parameters_and_course():
    x, _ = rows()
    table = pandas.DataFrame(x, columns=["a", "b", "c"])
    ours = GaussianMixture(3, random_state=0, tol=1e-6, max_iter=1000).fit(table)
    theirs = to_sklearn(ours)
    kept = {name: value for name, value in ours.get_params().items() if name != "missing"}
    assert theirs.get_params() == kept | {"reg_covar": PARAMETERS["reg_covar"]}
    assert list(theirs.feature_names_in_) == ["a", "b", "c"]
    assert (theirs.converged_, theirs.n_iter_, theirs.lower_bound_) == (True, ours.n_iter_, ours.lower_bound_)
    theirs.means_ += 1
    assert not np.array_equal(theirs.means_, ours.means_)
    theirs = to_sklearn(ours).set_params(warm_start=True).fit(table)
    assert theirs.n_iter_ <= 3 and theirs.converged_
    np.testing.assert_allclose(theirs.score(table), ours.score(table), rtol=1e-3)


def test_conversion_of_empty_components_of_bayesian_models_and_of_nothing():
    mixture = jaxgmm.make_mixture([0.0, 1.0], [[0.0], [1.0]], [1.0, 2.0], covariance_type="spherical")
    assert to_sklearn(mixture).weights_[0] == 0
    assert from_sklearn(to_sklearn(mixture)).log_weights[0] == -np.inf
    x, _ = rows()
    bayesian = sklearn.mixture.BayesianGaussianMixture(n_components=2, random_state=0, max_iter=200).fit(x)
    np.testing.assert_allclose(from_sklearn(bayesian).covariances, bayesian.covariances_, rtol=1e-9)
    with pytest.raises(TypeError, match="a Mixture, a FitResult or a fitted estimator, not int"):
        to_sklearn(3)
    for convert in (to_sklearn, from_sklearn):
        with pytest.raises(NotFittedError):
            convert(GaussianMixture())
    with pytest.raises(ValueError, match=r"'full', weights_ must be \(2,\) and precisions_cholesky_ \(2, 1, 1\)"):
        from_sklearn(to_sklearn(mixture).set_params(covariance_type="full"))


def test_a_fit_lends_scikit_learns_estimator_its_names():
    table = pandas.DataFrame(rows()[0][:20, :2], columns=["a", "b"])
    fitted = jaxgmm.fit(jax.random.key(0), table, 1, n_init=1)
    theirs = to_sklearn(fitted)
    assert list(theirs.feature_names_in_) == ["a", "b"] and theirs.converged_ and theirs.n_iter_ == fitted.n_iter
    with pytest.raises(ValueError, match="feature names should match"):
        theirs.predict(table[["b", "a"]])
    assert not hasattr(to_sklearn(fitted.mixture), "feature_names_in_")


def test_warm_start_goes_on():
    x, _ = rows()
    options = dict(n_components=3, random_state=0, tol=0, max_iter=5)
    with pytest.warns(ConvergenceWarning):
        cold = GaussianMixture(**options).fit(x)
    warm = GaussianMixture(**options, warm_start=True, means_init=cold.means_)
    with pytest.warns(ConvergenceWarning):
        warm.fit(x).fit(x)
        first = warm.lower_bounds_
        warm.fit(x)
    assert first[-1] <= warm.lower_bounds_[0] and warm.n_iter_ == 5
    restarted = GaussianMixture(3, random_state=0, warm_start=True).fit(x)
    n_iter, score = restarted.n_iter_, restarted.score(x)
    assert restarted.fit(x).n_iter_ <= n_iter and restarted.score(x) >= score
    one = GaussianMixture(3, random_state=0, warm_start=True, max_iter=1, tol=1e-5)
    with pytest.warns(ConvergenceWarning):
        scores = [one.fit(x).lower_bound_]
        while not one.converged_ and len(scores) < 500:
            scores.append(one.fit(x).lower_bound_)
    assert one.converged_ and scores[-1] - scores[-2] < 1e-5 <= min(np.diff(scores[:-1]))
    for other in (1.3 * x, x / 1.3):  # of lower and of higher density
        with pytest.warns(ConvergenceWarning, match="had not converged"):
            assert not one.fit(x).fit(other).converged_
    with pytest.raises(ValueError, match="init has 3 components"):
        restarted.set_params(n_components=2).fit(x)


@pytest.mark.exhaustive
@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_every_start_fits(init_params):
    x, _ = rows()
    models = [GaussianMixture(3, init_params=init_params, random_state=0, n_init=2, max_iter=1000) for _ in range(2)]
    for model in models:
        model.fit(x)
    assert models[0].converged_ and models[0].score(x) > -6
    np.testing.assert_array_equal(models[0].means_, models[1].means_)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_iterations_is_the_start(family):
    x, _ = rows(family)
    given = start(family)
    model = GaussianMixture(3, covariance_type=family, max_iter=0, **given).fit(x)
    np.testing.assert_allclose(model.weights_, given["weights_init"], rtol=1e-12)
    np.testing.assert_array_equal(model.means_, given["means_init"])
    np.testing.assert_allclose(model.precisions_, given["precisions_init"], rtol=1e-9, atol=1e-12)
    assert (model.n_iter_, model.lower_bound_, model.lower_bounds_, model.converged_) == (0, -np.inf, [], False)
    drawn = GaussianMixture(3, covariance_type=family, max_iter=0, random_state=0)
    assert np.unique(drawn.fit(x).means_, axis=0).shape == (3, 3)
    half = clone(drawn).set_params(precisions_init=given["precisions_init"]).fit(x)
    np.testing.assert_array_equal(half.means_, drawn.means_)
    np.testing.assert_allclose(half.precisions_, given["precisions_init"], rtol=1e-9, atol=1e-12)


def test_means_given_take_the_rest_from_the_nearest_drawn():
    x, _ = rows()
    drawn = GaussianMixture(3, max_iter=0, random_state=0).fit(x)
    means = drawn.means_[[2, 0, 1]] + 0.01
    given = GaussianMixture(3, max_iter=0, random_state=0, means_init=means).fit(x)
    np.testing.assert_array_equal(given.means_, means)
    np.testing.assert_allclose(given.weights_, drawn.weights_[[2, 0, 1]], rtol=1e-12)
    np.testing.assert_allclose(given.covariances_, drawn.covariances_[[2, 0, 1]], rtol=1e-9)
    several = GaussianMixture(3, n_init=3, init_params="random", random_state=0, means_init=means).fit(x)
    assert several.converged_


def test_bad_starts_are_named():
    x, _ = rows()
    for parameters, message in [
        ({"weights_init": [[0.5, 0.5]]}, r"weights_init must have shape \(3,\), not \(1, 2\)"),
        ({"means_init": np.ones((2, 3))}, r"means_init must have shape \(3, 3\)"),
        ({"precisions_init": np.ones((3, 3))}, r"precisions_init must have shape \(3, 3, 3\)"),
        ({"weights_init": [0.5, 0.5, 0.5]}, "weights_init: weights must sum to 1"),
        ({"weights_init": [1.5, 0.5, -1.0]}, "weights_init: .* component 2 has -1"),
        ({"precisions_init": -np.stack([np.eye(3)] * 3)}, "precisions_init: precisions must be positive definite"),
        ({"precisions_init": np.stack([np.triu(np.ones((3, 3)))] * 3)}, "precisions_init: precisions must be symm"),
    ]:
        with pytest.raises(ValueError, match=message):
            GaussianMixture(3, random_state=0, **parameters).fit(x)


@pytest.mark.parametrize(
    "parameters",
    [{"n_components": 0}, {"covariance_type": "round"}, {"tol": -1}, {"reg_covar": -1e-6}, {"max_iter": -1}]
    + [
        {"n_init": 0},
        {"init_params": "best"},
        {"random_state": "now"},
        {"verbose_interval": 0},
        {"warm_start": 3},
        {"missing": "drop"},
    ],
)
def test_bad_parameters_are_named_as_scikit_learn_does(parameters):
    (name,) = parameters
    with pytest.raises(ValueError, match=f"The '{name}' parameter of GaussianMixture must be"):
        GaussianMixture(**parameters).fit(rows()[0])


def test_bad_rows():
    x, _ = rows()
    with pytest.raises(ValueError, match="n_components is 12, but x has only 10 rows"):
        GaussianMixture(12).fit(x[:10])
    with pytest.raises(NotFittedError):
        GaussianMixture().predict(x)
    with pytest.raises(ValueError, match="NaN"):
        GaussianMixture().fit(np.full((5, 2), np.nan))
    with pytest.raises(ValueError, match="2 features"):
        GaussianMixture(3, random_state=0).fit(x).predict(x[:, :2])
