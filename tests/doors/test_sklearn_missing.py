"""Values missing at random, in the façade: rows with NaN fitted and evaluated by `Incomplete`, and the imputer."""

import pickle

import jax
import numpy as np
import pandas
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

import jaxgmm
from jaxgmm.sklearn import GaussianMixture, GaussianMixtureImputer, from_sklearn, to_sklearn
from tests.cases import FAMILIES

pytestmark = pytest.mark.needs_x64

WHOLE = np.random.default_rng(0).multivariate_normal([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]], 100)
WHOLE = WHOLE + np.where(np.arange(100)[:, None] % 2, [5.0, -3.0], 0.0)
X = np.where(np.random.default_rng(1).random(WHOLE.shape) < 0.2, np.nan, WHOLE)
X[:, 0] = np.where(np.isnan(X).all(axis=1), WHOLE[:, 0], X[:, 0])
NAMES = ["a", "b"]
NEVER = np.c_[X[:, :1], np.full(100, np.nan)]
EVERY = [GaussianMixture(missing="marginalize"), GaussianMixtureImputer(), GaussianMixtureImputer(add_indicator=True)]


OPTIONS = dict(n_components=2, random_state=0, tol=1e-9, max_iter=1000)
"""The same for all, so that fits share one program."""


def marginalized(**parameters):
    return GaussianMixture(**({"missing": "marginalize"} | OPTIONS | parameters))


@pytest.fixture(scope="module")
def model():
    return marginalized().fit(X)


@pytest.fixture(scope="module")
def imputer():
    return GaussianMixtureImputer(**OPTIONS).fit(X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(EVERY)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_nan_is_allowed_where_it_is_marginalised():
    allowed = [get_tags(estimator).input_tags.allow_nan for estimator in (GaussianMixture(), *EVERY)]
    assert allowed == [False, True, True, True]


def test_fits_and_methods_are_the_librarys_of_incomplete_rows(model):
    mixture, data, mass = from_sklearn(model), jaxgmm.Incomplete(X), len(X)
    np.testing.assert_allclose(model.lower_bound_, jaxgmm.log_likelihood(mixture, data) / mass, rtol=1e-12)
    assert (
        model.converged_
        and model.lower_bound_ == model.lower_bounds_[-1]
        and np.all(np.diff(model.lower_bounds_) > -1e-12)
    )
    np.testing.assert_allclose([model.score(X), model.score_samples(X).mean()], model.lower_bound_, rtol=1e-12)
    np.testing.assert_allclose(model.score_samples(X), jaxgmm.log_prob(mixture, data), rtol=1e-12)
    np.testing.assert_allclose(model.predict_proba(X), jaxgmm.responsibilities(mixture, data), atol=1e-12)
    np.testing.assert_array_equal(model.predict(X), jaxgmm.predict(mixture, data))
    np.testing.assert_array_equal(clone(model).fit_predict(X), model.predict(X))
    np.testing.assert_allclose(model.bic(X), jaxgmm.bic(mixture, data), rtol=1e-12)
    np.testing.assert_allclose(model.aic(X), jaxgmm.aic(mixture, data), rtol=1e-12)
    alone = [model.score_samples(row[None])[0] for row in X[:9]]
    np.testing.assert_allclose(alone, model.score_samples(X)[:9], rtol=1e-12)


@pytest.mark.exhaustive
def test_fits_without_gaps_and_with_whole_weights(model):
    plain, other = marginalized(missing="error").fit(WHOLE), marginalized().fit(WHOLE)
    np.testing.assert_array_equal(plain.means_, other.means_)
    np.testing.assert_array_equal(plain.score_samples(WHOLE), other.score_samples(WHOLE))
    counts = np.arange(len(X)) % 3
    start = dict(means_init=model.means_, weights_init=model.weights_, precisions_init=model.precisions_)
    weighted = marginalized(**start).fit(X, sample_weight=counts)
    plain = marginalized(**start).fit(np.repeat(X, counts, axis=0))
    np.testing.assert_allclose(weighted.covariances_, plain.covariances_, rtol=1e-4)
    np.testing.assert_allclose(weighted.lower_bound_, plain.lower_bound_, rtol=1e-8)


def test_nan_where_it_is_an_error_is_named_with_the_way_out():
    row, column = np.argwhere(np.isnan(X))[0]
    table = pandas.DataFrame(X, columns=NAMES)
    refusal = (
        rf"X contains NaN, first in row {row}, column {column}{{}}: drop such rows, or set missing=\"marginalize\""
    )
    with pytest.raises(ValueError, match=refusal.format("")):
        GaussianMixture(2).fit(X)
    fitted = marginalized().fit(table).set_params(missing="error")
    for method in ("predict", "predict_proba", "score_samples", "score", "aic", "bic", "fit_predict"):
        with pytest.raises(ValueError, match=refusal.format(rf" \('{NAMES[column]}'\)")):
            getattr(fitted, method)(table)
    assert np.isfinite(fitted.set_params(missing="marginalize").score(table))


@pytest.mark.parametrize("estimator", [marginalized(), GaussianMixtureImputer(2), marginalized(missing="error")])
def test_what_no_value_can_be_is_refused(estimator):
    for bad, error, message in (
        (np.where(WHOLE == WHOLE[3, 1], np.inf, WHOLE), ValueError, "X contains infinity"),
        (np.where(WHOLE == WHOLE[3, 1], -np.inf, X), ValueError, "X contains infinity"),
        (X.astype(str), TypeError, "X must hold real numbers"),
        (pandas.DataFrame(NEVER, columns=NAMES), ValueError, r"column 1 \('b'\)"),
        (np.full((5, 2), np.nan), ValueError, "column 0"),
        (X[:1], ValueError, f"a minimum of 2 is required by {type(estimator).__name__}"),
    ):
        with pytest.raises(error, match=message):
            clone(estimator).fit(bad)


def test_a_row_of_which_nothing_was_observed_counts_for_nothing(model):
    more = np.insert(X, 7, np.nan, axis=0)
    with pytest.warns(UserWarning, match="row 7 of X has no observed value, and counts for nothing") as told:
        fitted = clone(model).fit(more)
    assert len(told) == 1 and told[0].filename == __file__
    np.testing.assert_allclose(fitted.lower_bound_, model.lower_bound_, rtol=1e-8)
    for method in ("score", "aic", "bic"):
        np.testing.assert_allclose(getattr(model, method)(more), getattr(model, method)(X), rtol=1e-12)
    assert model.score_samples(more)[7] == 0
    np.testing.assert_allclose(model.predict_proba(more)[7], model.weights_, rtol=1e-12)
    with pytest.raises(ValueError, match="no value of X was observed"):
        model.score(more[[7, 7]])


def test_whole_weights_are_repeated_rows(model):
    counts = np.arange(len(X)) % 3
    repeated = np.repeat(X, counts, axis=0)
    for method in ("score", "aic", "bic"):
        found, expected = getattr(model, method)(X, sample_weight=counts), getattr(model, method)(repeated)
        np.testing.assert_allclose(found, expected, rtol=1e-10)
    with pytest.raises(ValueError, match=r"sample_weight must have shape \(100,\)"):
        clone(model).fit(X, sample_weight=np.ones(3))


def test_warm_starts_go_on():
    warm = marginalized(warm_start=True, tol=10.0).fit(X)
    first = warm.lower_bound_
    again = warm.set_params(tol=1e-9).fit(X).lower_bounds_
    assert warm.converged_ and first <= again[0] + 1e-12 and first < again[-1]


def test_clones_pickles_and_scikit_learns_own(model):
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), model.predict_proba(X))
    assert clone(model).get_params() == model.get_params() and model.get_params()["missing"] == "marginalize"
    np.testing.assert_allclose(to_sklearn(model).score_samples(WHOLE), model.score_samples(WHOLE), rtol=1e-9)


def test_tables_lists_and_masked_arrays(model):
    expected, masked = model.score_samples(X), np.ma.masked_array(WHOLE, np.isnan(X))
    for rows in ([[None if np.isnan(value) else value for value in row] for row in X], masked, X.astype(object)):
        np.testing.assert_array_equal(model.score_samples(rows), expected)
    table = pandas.DataFrame(X, columns=NAMES).astype("Float64")
    named = clone(model).set_params(max_iter=0).fit(table)
    assert list(named.feature_names_in_) == NAMES and table.isna().to_numpy().sum() == np.isnan(X).sum()
    np.testing.assert_array_equal(named.score_samples(table), named.score_samples(table.astype(float)))


def test_a_collapse_is_told_of_rows_with_gaps():
    flat = pandas.DataFrame(X, columns=NAMES).assign(b=7.0)
    with pytest.warns(ConvergenceWarning, match=r"collapsed from every start: column 1 \('b'\) is constant"):
        marginalized().fit(flat)


def test_reg_covar_is_an_objective_of_rows_with_gaps():
    model = marginalized(reg_covar=0.3).fit(X)
    assert model.converged_ and np.all(np.diff(model.lower_bounds_) > -1e-12)
    assert model.lower_bound_ < model.score(X) and np.linalg.eigvalsh(model.covariances_).min() > 0.3


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_every_family_and_start_fits(family, init_params):
    model = marginalized(init_params=init_params, n_init=5, covariance_type=family).fit(X)
    best = jaxgmm.fit(jax.random.key(0), jaxgmm.Incomplete(X), 2, covariance_type=family)
    np.testing.assert_allclose(model.lower_bound_, best.log_likelihood / len(X), rtol=1e-4)
    given = clone(model).set_params(means_init=model.means_, max_iter=0).fit(X)
    np.testing.assert_array_equal(given.means_, model.means_)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_of_rows_is_kept_whatever_jax_has(dtype, model, imputer):
    with jax.enable_x64(False):
        x = X.astype(dtype)
        fitted = clone(imputer).fit(x)
        whole, scores = fitted.transform(x), clone(model).fit(x).score_samples(x)
    assert fitted.means_.dtype == whole.dtype == scores.dtype == dtype
    np.testing.assert_allclose(whole, imputer.transform(X), atol=1e-2 if dtype == np.float32 else 1e-9)


def test_gaps_are_filled_by_conditional_means(model, imputer):
    given = X.copy()
    whole = imputer.transform(given)
    np.testing.assert_array_equal(given, X)
    np.testing.assert_array_equal(whole[~np.isnan(X)], X[~np.isnan(X)])
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_array_equal(getattr(imputer, name), getattr(model, name))
    assert (imputer.n_iter_, imputer.converged_, imputer.n_features_in_) == (model.n_iter_, True, 2)
    np.testing.assert_allclose(whole, jaxgmm.conditional_moments(from_sklearn(model), X).mean, rtol=1e-9)
    np.testing.assert_array_equal(clone(imputer).fit_transform(X), whole)
    np.testing.assert_array_equal(imputer.transform(WHOLE), WHOLE)
    np.testing.assert_allclose(imputer.transform(NEVER[:1] * np.nan)[0], model.weights_ @ model.means_, rtol=1e-9)
    np.testing.assert_array_equal(to_sklearn(imputer).means_, model.means_)
    np.testing.assert_array_less(np.abs(whole - WHOLE).mean(), np.abs(SimpleImputer().fit_transform(X) - WHOLE).mean())


def test_draws_have_the_conditional_distribution_and_repeat_with_an_integer(imputer):
    drawing = pickle.loads(pickle.dumps(imputer)).set_params(sample_posterior=True)
    rows = np.tile([[2.5, np.nan]], (4096, 1))
    drawn = drawing.transform(rows)[:, 1]
    moments = jaxgmm.conditional_moments(from_sklearn(imputer), rows[:1])
    np.testing.assert_allclose(drawn.mean(), moments.mean[0, 1], atol=0.15)
    np.testing.assert_allclose(drawn.var(), moments.covariance[0, 1, 1], rtol=0.15)
    np.testing.assert_array_equal(drawing.transform(rows)[:, 1], drawn)
    drawing.set_params(random_state=np.random.RandomState(0))
    assert not np.array_equal(drawing.transform(rows), drawing.transform(rows))


def test_the_indicator_and_names_are_simple_imputers(imputer):
    table = pandas.DataFrame(X, columns=NAMES).assign(b=WHOLE[:, 1])
    theirs = SimpleImputer(add_indicator=True).fit(table)
    ours = clone(imputer).set_params(add_indicator=True).set_output(transform="pandas").fit(table)
    whole = ours.transform(table)
    assert list(whole.columns) == list(theirs.get_feature_names_out()) == ["a", "b", "missingindicator_a"]
    np.testing.assert_array_equal(whole.iloc[:, 1:], theirs.transform(table)[:, 1:])
    assert ours.transform(table.fillna(0.0)).shape == (100, 3)
    with pytest.raises(ValueError, match="feature names should match"):
        ours.transform(table[["b", "a"]])
    assert list(imputer.get_feature_names_out()) == ["x0", "x1"]


def test_the_imputer_stands_in_pipelines_where_simple_imputer_stood(imputer):
    target = WHOLE @ [1.0, -2.0]
    ours, simple = (
        make_pipeline(first, StandardScaler(), LinearRegression()).fit(X, target).score(X, target)
        for first in (clone(imputer), SimpleImputer())
    )
    assert ours > simple


@pytest.mark.parametrize("parameters", [{"n_components": 0}, {"sample_posterior": "yes"}, {"add_indicator": None}])
def test_the_imputer_names_its_parameters(parameters):
    (name,) = parameters
    with pytest.raises(ValueError, match=f"The '{name}' parameter of GaussianMixtureImputer must be"):
        GaussianMixtureImputer(**parameters).fit(X)
    with pytest.raises(NotFittedError):
        GaussianMixtureImputer().transform(X)
