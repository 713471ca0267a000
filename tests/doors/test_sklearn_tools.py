"""The façade under scikit-learn's tools; its regularisation, draws and warnings."""

import dataclasses
import pickle
import warnings

import jax
import numpy as np
import pandas
import polars
import pytest
import sklearn
import sklearn.mixture
from joblib import Parallel, delayed
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import jaxgmm.sklearn.climbs
from jaxgmm import Status, log_joint
from jaxgmm.sklearn import GaussianMixture, from_sklearn
from tests import cases
from tests.cases import FAMILIES

pytestmark = pytest.mark.needs_x64


@pytest.fixture(scope="module")
def x():
    return cases.drawn_rows("full", 200)[1]


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_reg_covar_is_scikit_learns_for_one_component(x, family):
    x = x * [1.0, 3.0, 0.2] + 5
    options = dict(covariance_type=family, reg_covar=0.25)
    ours, theirs = GaussianMixture(**options).fit(x), sklearn.mixture.GaussianMixture(**options).fit(x)
    np.testing.assert_allclose(ours.covariances_, theirs.covariances_, rtol=1e-9, atol=1e-9)


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", ["tied", "full"])
def test_reg_covar_is_scikit_learns_for_components_apart(x, family):
    apart = np.concatenate([x, x[:120] + 30])
    options = dict(n_components=2, covariance_type=family, reg_covar=0.25, random_state=0)
    ours, theirs = GaussianMixture(**options).fit(apart), sklearn.mixture.GaussianMixture(**options).fit(apart)
    found, expected = np.sort(ours.covariances_, axis=0), np.sort(theirs.covariances_, axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_with_reg_covar_there_is_an_objective_that_never_falls(x, family):
    model = GaussianMixture(3, covariance_type=family, reg_covar=0.3, random_state=0, max_iter=1000, tol=1e-9).fit(x)
    assert model.converged_ and (np.diff(model.lower_bounds_) > -1e-12).all()

    def objective(moved):
        mixture = from_sklearn(model)
        mixture = dataclasses.replace(mixture, means=np.asarray(mixture.means) + moved)
        traces = np.trace(mixture.precisions, axis1=1, axis2=2)
        return logsumexp(np.asarray(log_joint(mixture, x)) - 0.15 * traces, axis=1).mean()

    np.testing.assert_allclose(model.lower_bound_, objective(0.0), rtol=1e-9)
    assert model.lower_bound_ < model.score(x)
    assert max(objective(0.01), objective(-0.01)) < objective(0.0)


@pytest.mark.parametrize("family", ["full", "spherical"])
@pytest.mark.parametrize("reg_covar", [1e-6, None, 0])
def test_regularised_or_not_degenerate_rows_are_fitted_or_told_of(reg_covar, family):
    x = np.repeat(np.eye(3), 5, axis=0)
    model = GaussianMixture(6, covariance_type=family, random_state=0, reg_covar=reg_covar)
    if reg_covar:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x)
        assert np.linalg.eigvalsh(from_sklearn(model).covariances).min() > 0
    else:
        with pytest.warns(ConvergenceWarning, match="collapsed"):
            model.fit(x)
        assert not model.converged_
    assert np.isfinite(model.score(x))


def test_without_reg_covar_units_do_not_matter(x):
    model = GaussianMixture(3, random_state=0).fit(x)
    tiny = GaussianMixture(3, random_state=0).fit(x * 2.0**-30)
    np.testing.assert_allclose(tiny.covariances_, model.covariances_ * 2.0**-60, rtol=1e-9)


def test_random_state(x):
    def sizes(random_state):
        return GaussianMixture(3, random_state=random_state, max_iter=0, init_params="random_from_data").fit(x).means_

    np.testing.assert_array_equal(sizes(7), sizes(7))
    np.testing.assert_array_equal(sizes(np.random.RandomState(7)), sizes(7))
    assert not np.array_equal(sizes(7), sizes(8))
    assert not np.array_equal(sizes(None), sizes(None))
    advancing = np.random.RandomState(7)
    assert not np.array_equal(sizes(advancing), sizes(advancing))


def test_samples(x):
    model = GaussianMixture(3, random_state=0).fit(x)
    drawn, labels = model.sample(4000)
    assert drawn.shape == (4000, 3) and labels.shape == (4000,) and (np.diff(labels) >= 0).all()
    for k in range(3):
        np.testing.assert_allclose(np.mean(labels == k), model.weights_[k], atol=0.03)
        np.testing.assert_allclose(drawn[labels == k].mean(axis=0), model.means_[k], atol=0.2)
        np.testing.assert_allclose(np.cov(drawn[labels == k].T), model.covariances_[k], atol=0.5)
    assert [model.sample(n)[0].shape for n in (1, 2, 63)] == [(1, 3), (2, 3), (63, 3)]
    np.testing.assert_array_equal(model.sample(5)[0], model.sample(5)[0])
    with pytest.raises(ValueError, match="n_samples must be at least 1"):
        model.sample(0)
    with pytest.raises(NotFittedError):
        GaussianMixture().sample(0)


def test_progress_is_shown_where_asked(x, capsys):
    GaussianMixture(3, random_state=0).fit(x)
    assert capsys.readouterr() == ("", "")
    GaussianMixture(3, random_state=0, verbose=2).fit(x)
    assert "objective" in "".join(capsys.readouterr())


def test_an_interruption_goes_through_and_leaves_the_best_so_far(x, monkeypatch):
    climb = jaxgmm.sklearn.climbs.fit_given
    calls = []

    def interrupted(*arguments, **options):
        calls.append(1)
        return climb(*arguments, **options)._replace(status=Status.INTERRUPTED)

    monkeypatch.setattr(jaxgmm.sklearn.climbs, "fit_given", interrupted)
    model = GaussianMixture(3, random_state=0, n_init=3, weights_init=np.ones(3) / 3)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x)
    assert len(calls) == 1 and not model.converged_ and model.predict(x).shape == (200,)


def test_a_collapse_is_told_once_and_a_dead_component_comes_back(x):
    table = pandas.DataFrame(x, columns=["a", "b", "c"]).assign(c=7.0)
    with pytest.warns(ConvergenceWarning, match=r"collapsed from every start: column 2 \('c'\) is constant") as told:
        GaussianMixture(3, random_state=0).fit(table)
    assert len(told) == 1
    model = GaussianMixture(3, random_state=0, warm_start=True).fit(x)
    before, model.weights_ = model.lower_bound_, np.array([0.0, 0.5, 0.5])
    with pytest.warns(UserWarning, match="component 0 of init holds less than one row") as told:
        model.fit(x)
    assert len(told) == 1 and model.weights_.min() > 0.05
    np.testing.assert_allclose(model.lower_bound_, before, rtol=1e-3)


def test_a_fit_that_failed_says_so(x, monkeypatch):
    climb = jaxgmm.sklearn.climbs.fit_given
    failed = lambda *arguments, **options: climb(*arguments, **options)._replace(status=Status.NONFINITE)  # noqa: E731
    monkeypatch.setattr(jaxgmm.sklearn.climbs, "fit_given", failed)
    with pytest.raises(ValueError, match="every start ended in NaN"):
        GaussianMixture(3, random_state=0).fit(x)


def test_tables_and_names_of_columns(x):
    names = ["a", "b", "c"]
    tables = [pandas.DataFrame(x, columns=names), polars.DataFrame(x, schema=names)]
    for table in tables:
        model = GaussianMixture(3, random_state=0).fit(table)
        assert list(model.feature_names_in_) == names
        assert model.predict(table).shape == (200,)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(pandas.DataFrame(x, columns=["c", "b", "a"]))
    assert not hasattr(GaussianMixture(3, random_state=0).fit(x), "feature_names_in_")


def test_pickle_clone_and_pipeline(x):
    model = GaussianMixture(3, random_state=0).fit(x)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(x), model.predict_proba(x))
    assert not hasattr(clone(model), "means_") and clone(model).get_params() == model.get_params()
    assert not any(isinstance(value, jax.Array) for value in vars(model).values())
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(3, random_state=0))
    pipeline.fit(x, gaussianmixture__sample_weight=np.ones(len(x)))
    assert pipeline.predict(x).shape == (200,) and np.isfinite(pipeline.score(x))


def test_grid_search_with_routed_weights(x):
    weights = np.r_[np.ones(150), np.zeros(50)]
    with sklearn.config_context(enable_metadata_routing=True):
        model = GaussianMixture(random_state=0)
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        grid = {"n_components": [1, 3], "covariance_type": ["full", "diag"]}
        search = GridSearchCV(model, grid, cv=[(np.arange(200), np.arange(200))]).fit(x, sample_weight=weights)
    best = search.best_estimator_
    assert search.best_params_ == {"n_components": 3, "covariance_type": "full"}
    np.testing.assert_allclose(search.best_score_, best.score(x[:150]), rtol=1e-9)


@pytest.mark.exhaustive
def test_processes_of_joblib(x):
    expected = GaussianMixture(3, random_state=0).fit(x)
    jobs = [delayed(GaussianMixture(3, random_state=0).fit)(x)]
    (found,) = Parallel(n_jobs=2, backend="loky")(jobs)
    np.testing.assert_allclose(found.means_, expected.means_, rtol=1e-9)
    search = GridSearchCV(
        GaussianMixture(random_state=0), {"n_components": [1, 3]}, cv=[(range(200), range(200))], n_jobs=2
    )
    assert search.fit(x).best_params_ == {"n_components": 3}
