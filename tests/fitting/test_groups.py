"""Fits of many data sets, each of which is what `fit` returns for it; and stacks of mixtures."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import jaxgmm
from jaxgmm.data.pooled import PooledRows
from jaxgmm.data.rows import Rows
from jaxgmm.fitting import groups as module
from jaxgmm.fitting import halving, tasks, turns
from jaxgmm.model.columns import Columns
from tests import cases
from tests.cases import FAMILIES, tolerance
from tests.programs import programs_with

KEY = jax.random.key(3)
SIZES = (40, 131, 48, 140, 47)
OPTIONS = dict(n_init=3, max_iter=200)


def drawn(n_rows, dtype, seed):
    rng = np.random.default_rng(seed)
    centres = 3 * rng.normal(size=(2, 2))
    return (centres[rng.integers(2, size=n_rows)] + rng.normal(size=(n_rows, 2))).astype(dtype)


@pytest.fixture
def rows(dtype):
    return [drawn(n, dtype, seed) for seed, n in enumerate(SIZES)]


def check(fitted, place, x, weights=None, rtol=1e-6, **options):
    """That the fit of a group is `fit`'s from the same starts."""
    expected = jaxgmm.fit(jax.random.fold_in(KEY, place), x, 2, weights, **{**OPTIONS, **options})
    found = fitted[place]
    assert found.status is expected.status
    assert (np.asarray(found.restarts.status) == np.asarray(expected.restarts.status)).all()
    for name in ("log_likelihood", "objective"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=rtol)
    np.testing.assert_allclose(found.restarts.objective, expected.restarts.objective, rtol=rtol)
    # Restarts with one objective but for rounding differ in the order of their components.
    again = jaxgmm.relabel(found.mixture, expected.mixture)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(expected.mixture), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e3 * rtol, atol=1e3 * rtol)


def test_each_group_is_fitted_as_if_alone(rows):
    rng = np.random.default_rng(1)
    weights = [rng.integers(0, 3, size=len(x)).astype(x.dtype) for x in rows]
    fitted = jaxgmm.fit_groups(KEY, rows, 2, weights, **OPTIONS)
    assert len(fitted) == len(rows) and fitted.labels == tuple(range(len(rows)))
    for place in (3, 4):
        check(fitted, place, rows[place], weights[place])


@pytest.mark.parametrize(
    "options",
    [
        *(dict(covariance_type=family) for family in FAMILIES),
        dict(algorithm=jaxgmm.Accelerated(jaxgmm.EM())),
        dict(prior=None, init="random-rows"),
        dict(tol=0, max_iter=20),
    ],
    ids=str,
)
@pytest.mark.exhaustive
def test_whatever_the_options(options, rows):
    fitted = jaxgmm.fit_groups(KEY, rows, 2, **{**OPTIONS, **options})
    for place, x in enumerate(rows):
        check(fitted, place, x, rtol=1e-5, **options)


def test_restarts_are_halved_as_those_of_fit(rows, monkeypatch):
    monkeypatch.setattr(halving, "_HALVING_WORK", 1)
    monkeypatch.setattr(halving, "_SHORT_RUN", 2)
    options = dict(n_init=6, tol=1e-9)
    fitted = jaxgmm.fit_groups(KEY, rows, 2, **{**OPTIONS, **options})
    assert (np.asarray(fitted.fits.restarts.status) == jaxgmm.Status.STOPPED).any()
    check(fitted, 3, rows[3], **options)


def test_one_set_of_programs_serves_all_sizes_and_few_lanes_all_groups(rows, monkeypatch):
    programs = turns.start_jobs, turns.advance_jobs, turns.end_jobs
    jaxgmm.fit_groups(KEY, rows, 2, **OPTIONS)
    before = [program.n_programs() for program in programs]
    others = [np.concatenate([x, x[:7]]) for x in rows]
    jaxgmm.fit_groups(KEY, others, 2, **OPTIONS)
    assert [program.n_programs() for program in programs] == before
    monkeypatch.setattr(turns, "_MOST_NUMBERS", 1 << 11)  # three lanes, which fifteen restarts share
    fitted = jaxgmm.fit_groups(KEY, rows, 2, **OPTIONS)
    check(fitted, 2, rows[2])


def test_what_a_pool_does_not_take_or_spoils_is_fitted_alone(rows, monkeypatch):
    expected = jaxgmm.fit_groups(KEY, rows, 2, **OPTIONS)
    monkeypatch.setattr(module, "fault_of", lambda *_: "a fault")
    spoiled = jaxgmm.fit_groups(KEY, rows, 2, **OPTIONS)
    monkeypatch.setattr(turns, "_MOST_NUMBERS", 1)
    alone = jaxgmm.fit_groups(KEY, rows, 2, **OPTIONS)
    for fitted in (spoiled, alone):
        np.testing.assert_allclose(fitted.mixture.means, expected.mixture.means, rtol=1e-6, atol=1e-6)


@pytest.mark.exhaustive
def test_groups_too_tight_for_features_are_fitted_alone(rows):
    expected = jaxgmm.fit_groups(KEY, rows[2:3], 2, **OPTIONS)
    with programs_with({"jaxgmm.data.kernels.quadratic.limit": lambda *_: 0.0}):
        fitted = jaxgmm.fit_groups(KEY, rows[2:3], 2, **OPTIONS)
    assert fitted[0].status is jaxgmm.Status.CONVERGED
    np.testing.assert_allclose(fitted.fits.restarts.objective, expected.fits.restarts.objective, rtol=1e-5)


def test_groups_come_as_a_list_a_mapping_or_one_table(rows):
    labels = np.repeat(["b", "a", "e", "d", "c"], SIZES)
    whole = np.concatenate(rows)
    weights = np.arange(1.0, 1 + len(whole))
    named = dict(zip("baedc", rows, strict=True))
    split = dict(zip("baedc", np.split(weights, np.cumsum(SIZES)[:-1]), strict=True))
    expected = jaxgmm.fit_groups(KEY, {k: named[k] for k in "abcde"}, 2, {k: split[k] for k in "abcde"}, **OPTIONS)
    assert expected.labels == tuple("abcde")
    table = pd.DataFrame(whole, columns=["x", "y"]).assign(species=labels)[["x", "species", "y"]]
    for x, by in (
        (whole, labels),
        (table, "species"),
        (pl.from_pandas(table), "species"),
        (pa.Table.from_pandas(table), "species"),
    ):
        fitted = jaxgmm.fit_groups(KEY, x, 2, weights, by=by, **OPTIONS)
        assert fitted.labels == expected.labels and fitted.n_rows.tolist() == [131, 40, 47, 140, 48]
        np.testing.assert_array_equal(fitted.mixture.means, expected.mixture.means)
    assert fitted.feature_names == ("x", "y") and fitted["c"].feature_names == ("x", "y")
    with pytest.raises(ValueError, match="columns"):
        jaxgmm.predict(fitted["c"], table[["y", "x"]])
    with pytest.raises(ValueError, match=r"take one of it, mixture\[0\]"):
        jaxgmm.predict(fitted, whole)


def test_results_are_indexed_iterated_and_printed(rows):
    fitted = jaxgmm.fit_groups(KEY, dict(zip("vwxyz", rows, strict=True)), 2, **OPTIONS)
    assert isinstance(fitted[0], jaxgmm.FitResult) and fitted[-1].status is jaxgmm.Status(int(fitted.status[-1]))
    np.testing.assert_array_equal(fitted["w"].mixture.means, fitted[1].mixture.means)
    np.testing.assert_array_equal(fitted.of("w").mixture.means, fitted.mixture[1].means)
    assert [fit.n_iter for fit in fitted] == np.asarray(fitted.fits.n_iter).tolist()
    assert jax.vmap(jaxgmm.total_moments)(fitted.mixture)[0].shape == (5, 2)
    lines = str(fitted).splitlines()
    assert lines[0].split() == ["group", "rows", "log-lik.", "iterations", "status"] and len(lines) == 7
    assert lines[2].split()[:2] == ["v", "40"] and "converged" in lines[2]
    assert "<table>" in fitted._repr_html_()
    for wrong, error in ((5, IndexError), (-6, IndexError), ("q", KeyError)):
        with pytest.raises(error):
            fitted[wrong]


def test_where_it_is_ended_the_groups_that_had_ended_are_returned(rows):
    seen = []

    def until_two(report):
        seen.append(report)
        return len(seen) == 2

    fitted = jaxgmm.fit_groups(KEY, rows, 2, callback=until_two, **OPTIONS)
    ended = fitted.status != jaxgmm.Status.INTERRUPTED
    assert ended.sum() == 2 and seen[-1].n_done == 1 and seen[-1].n_fits == 5
    assert np.isfinite(np.asarray(fitted.mixture.means)[ended]).all()
    assert np.isnan(np.asarray(fitted.mixture.means)[~ended]).all()
    assert (np.asarray(fitted.fits.restarts.status)[~ended] == jaxgmm.Status.INTERRUPTED).all()


def test_where_a_group_is_fitted_alone_no_other_follows_it(rows, monkeypatch):
    monkeypatch.setattr(turns, "_MOST_NUMBERS", 1)
    fitted = jaxgmm.fit_groups(KEY, rows, 2, callback=lambda report: report.n_done == 1, **OPTIONS)
    assert fitted.status[0] == jaxgmm.Status.CONVERGED
    assert (fitted.status[2:] == jaxgmm.Status.INTERRUPTED).all()


def test_a_fit_that_is_refused_does_not_lose_the_others(rows, monkeypatch):
    own = tasks.Task.result

    def refused(self, *args):
        if self.taken.n_given == SIZES[1]:
            raise ValueError("column 1 of x is too fine")
        return own(self, *args)

    monkeypatch.setattr(tasks.Task, "result", refused)
    with pytest.warns(UserWarning, match="group 1: column 1 of x is too fine"):
        fitted = jaxgmm.fit_groups(KEY, rows, 2, **OPTIONS)
    assert fitted[0].converged and fitted[2].converged and fitted.status[1] == jaxgmm.Status.NONFINITE
    assert np.isnan(fitted.mixture.means[1]).all()
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="no group could be fitted"):
        jaxgmm.fit_groups(KEY, rows[1:2], 2, **OPTIONS)


def test_long_histories_have_few_lanes(rows):
    options = [tasks.Options(n_init=3, max_iter=most) for most in (10, 1 << 19)]
    few, fewer = ([module.Entry(tasks.task_of(KEY, rows[0], 2, None, each))] * 20 for each in options)
    assert turns._sizes(few)[0] == 64 and turns._sizes(fewer)[0] == 2


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (
            np.array(["2020-01-02", "2020-01-01"], "datetime64[ns]"),
            np.array(["2020-01-01", "2020-01-02"], "datetime64[ns]"),
        ),
        (pd.Categorical(["b", "a"]), ["a", "b"]),
        ([True, False], [False, True]),
        ([2, 1.5], [1.5, 2]),
    ],
    ids=str,
)
def test_labels_keep_their_types(labels, expected):
    x = np.random.default_rng(0).normal(size=(8, 1))
    by = [labels[row % 2] for row in range(8)] if isinstance(labels, list) else labels[np.arange(8) % 2]
    fitted = jaxgmm.fit_groups(KEY, x, 1, by=by, n_init=1)
    assert list(fitted.labels) == list(expected)
    assert [type(label) for label in fitted.labels] == [type(label) for label in expected]


def test_a_label_is_no_place(rows):
    x = np.array([[0.0], [1.0], [5.0], [7.0]])
    fitted = jaxgmm.fit_groups(KEY, {True: x[:2], False: x[2:]}, 1, n_init=1)
    assert fitted[True].mixture.means == 0.5 and fitted.of(False).mixture.means == 6 and fitted[0].mixture.means == 0.5
    mixed = jaxgmm.fit_groups(KEY, {"a": x[:2], 1: x[2:], None: x[1:3]}, 1, n_init=1)
    assert mixed.labels == ("a", 1, None) and mixed[None].mixture.means == 3
    part = mixed[1:]
    assert part.labels == (1, None)
    assert part.mixture.means.shape == (2, 1, 1) and part != mixed and len({part, mixed}) == 2
    with pytest.raises(TypeError, match="several by a slice"):
        mixed[[0, 1]]


def test_columns_are_those_of_init_and_may_have_equal_names(rows):
    table = pd.DataFrame(rows[0], columns=["x", "y"])
    start = jaxgmm.fit(KEY, table[["y", "x"]], 2, **OPTIONS)
    with pytest.raises(ValueError, match="columns"):
        jaxgmm.fit_groups(KEY, [table], 2, init=start)
    twice = pd.DataFrame(np.concatenate([rows[0], rows[0] ** 3], axis=1), columns=["x", "y", "x", "z"])
    fitted = jaxgmm.fit_groups(KEY, twice.assign(g="only"), 1, by="g", n_init=1)
    assert fitted.mixture.means.shape == (1, 1, 4)


def test_where_nothing_has_ended_an_interrupt_goes_through(rows, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(turns, "end_jobs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        jaxgmm.fit_groups(KEY, rows[:1], 2, **OPTIONS)


def test_collapses_are_named_in_one_warning(rows):
    flat = np.zeros((SIZES[2], 2), rows[0].dtype)
    flat[:3] = np.eye(3)[:, :2]
    with pytest.warns(UserWarning, match=r"1 of 2 fits collapsed.*'flat'"):
        fitted = jaxgmm.fit_groups(KEY, {"sound": rows[0], "flat": flat}, 2, prior=jaxgmm.Ridge(1e-6), **OPTIONS)
    assert fitted["flat"].status is jaxgmm.Status.COLLAPSED and fitted["sound"].converged


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(groups=[]), ValueError, "groups is empty"),
        (dict(groups=np.ones((4, 2))), TypeError, "a list or a mapping.*by="),
        (dict(groups="rows"), TypeError, "a list or a mapping"),
        (dict(groups=pd.DataFrame({"x": [1.0, 2.0]})), TypeError, "which column.*by="),
        (dict(groups={"a": np.ones(4)}), ValueError, r"group 'a': x must have shape \(N, D\)"),
        (dict(groups={"a": [["p"]]}), TypeError, "group 'a': x must hold real numbers"),
        (dict(groups=[np.eye(4), np.ones((4, 2))]), ValueError, "group 1 has 2 columns and group 0 has 4"),
        (dict(groups=[np.eye(4), np.full((4, 4), np.nan)]), ValueError, "group 1: x"),
        (dict(groups=[np.eye(4), np.ones((1, 4))]), ValueError, "group 1: x has one row.*at least two"),
        (dict(sample_weight=[np.ones(5)]), ValueError, "a list of 2 arrays"),
        (dict(sample_weight={"a": 1}), ValueError, "a list of 2 arrays"),
        (dict(sample_weight=[np.ones(5), np.ones(3)]), ValueError, r"group 1: sample_weight must have shape \(4,\)"),
        (dict(init=np.zeros(4, int)), TypeError, "init must be a name"),
        (dict(by="species"), TypeError, "with by=, groups must be one array"),
        (dict(groups=np.eye(4), by="species"), ValueError, "by names the column 'species', .*x has no names"),
        (dict(groups=pd.DataFrame(np.eye(2)), by=2), ValueError, r"by names the column 2, .*the columns are \[0, 1\]"),
        (dict(groups=pd.DataFrame({"g": [1, 2]}).groupby("g")), TypeError, "pass the table, and the column's name"),
        (dict(groups=[("a", pd.DataFrame({"x": [1.0]}))]), TypeError, r"pass dict\(groups\)"),
        (dict(sample_weight=1.0), ValueError, "a list of 2 arrays"),
        (dict(n_init=0), ValueError, "^n_init must be"),
        (dict(covariance_type="fool"), ValueError, "^(?!group)"),
        (dict(groups=np.eye(4), by=np.ma.array([1, 2, 3, 4], mask=[0, 1, 0, 0])), ValueError, "no label in row 1"),
        (dict(groups=np.eye(4), by=[1, pd.NA, 3, 4]), ValueError, "no label in row 1"),
        (dict(groups=np.eye(4), by=[0, 1]), ValueError, "one label for each of 4 rows"),
        (dict(groups=np.eye(4), by=[0.0, 1, np.nan, 1]), ValueError, "no label in row 2"),
        (dict(groups=np.eye(4), by=np.array([0, "a", 1, 1], object)), TypeError, "cannot be sorted"),
        (dict(groups=np.eye(4), by=[0, 0, 1, 1], sample_weight=[1.0]), ValueError, r"must have shape \(4,\)"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(change, error, message):
    arguments = dict(groups=[np.arange(10.0).reshape(5, 2), np.arange(8.0).reshape(4, 2)], n_components=2, **OPTIONS)
    with pytest.raises(error, match=message):
        jaxgmm.fit_groups(KEY, **{**arguments, **change})


def test_a_traced_group_is_refused():
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda x: jaxgmm.fit_groups(KEY, [x], 1))(jnp.ones((4, 2)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pool_gives_each_data_set_its_own_sums(family, dtype):
    mixture, x, weights = cases.drawn_rows(family, 150, dtype=dtype)
    x, weights, n_features = np.asarray(x), np.asarray(weights), x.shape[1]
    parts = [slice(0, 70), slice(70, 150)]
    pool, owner = np.zeros((5, 64, n_features), dtype), np.asarray([1, 0, 2, 1, 0], np.int32)
    masses = np.zeros((5, 64), dtype)
    for place, part in enumerate(parts):
        held = np.flatnonzero(owner == place)
        n_rows = len(x[part])
        padded, mass = np.zeros((128, n_features), dtype), np.zeros(128, dtype)
        padded[:n_rows], mass[:n_rows] = x[part], weights[part]
        pool[held], masses[held] = padded.reshape(2, 64, -1), mass.reshape(2, 64)
    pool[2], masses[2] = 5.0, 1.0  # of nobody
    known = Columns(*(np.zeros((2, *shape), dtype) for shape in ((), (), (n_features,), (n_features,))))
    held = jax.tree.map(jnp.asarray, (pool.transpose(0, 2, 1), masses, owner, np.arange(2, dtype=np.int32), known))
    data = PooledRows(*held)
    stack, statistic = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), mixture), mixture.family.statistic
    found = jax.jit(jax.vmap(lambda d, m: d.moments(m, statistic), in_axes=(data.lanes(), 0)))(data, stack)
    alone = jax.tree.map(lambda leaf: leaf[1], found), PooledRows(*held[:3], jnp.int32(1), known)
    singly = alone[1].moments(mixture, statistic)
    for place, part in enumerate(parts):
        expected = Rows(jnp.asarray(x[part]), jnp.asarray(weights[part])).moments(mixture, statistic)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            scale = 30 * tolerance(dtype) * float(jnp.max(jnp.abs(b)))
            np.testing.assert_allclose(a[place], b, rtol=30 * tolerance(dtype), atol=scale)
    for a, b in zip(jax.tree.leaves(singly), jax.tree.leaves(alone[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=30 * tolerance(dtype), atol=30 * tolerance(dtype) * float(abs(b).max()))
    drawn_back = alone[1].draw_rows(KEY, 1000)
    np.testing.assert_array_equal(np.asarray(drawn_back.x)[np.asarray(drawn_back.weights) > 0], x[parts[1]])
    with pytest.raises(NotImplementedError, match="common to all lanes"):
        jax.vmap(lambda d: d.moments(mixture, statistic), in_axes=(data.lanes(),))(data)


def test_mixtures_are_stacked_and_taken_apart(dtype):
    first = jaxgmm.make_mixture(np.ones(2, dtype) / 2, np.eye(2, dtype=dtype), np.stack([np.eye(2, dtype=dtype)] * 2))
    second = jaxgmm.affine(first, 2 * np.eye(2, dtype=dtype), np.ones(2, dtype))
    both = jaxgmm.stack([first, second])
    assert both.means.shape == (2, 2, 2) and len(list(both)) == 2
    for found in (both[1], both[-1], jaxgmm.unstack(both)[1], both[np.array([0, 1])][1], both[1:][0]):
        np.testing.assert_array_equal(found.means, second.means)
    x = np.zeros((3, 2), dtype)
    results = [
        jaxgmm.run(jaxgmm.EM(), m, np.asarray(jaxgmm.sample(KEY, m, 30)[0]), max_iter=3) for m in (first, second)
    ]
    stacked = jaxgmm.stack(results)
    assert stacked.history.shape == (2, 3) and jaxgmm.unstack(stacked)[1].n_iter == results[1].n_iter
    assert jax.vmap(jaxgmm.log_prob, (0, None))(both, x).shape == (2, 3)
    with pytest.raises(IndexError, match="no place 2"):
        both[2]
    with pytest.raises(IndexError, match="no place"):
        both[np.array([5])]
    for place in (True, None, (slice(None), 0), np.bool_(False), "a", 1.0):
        with pytest.raises(TypeError, match="a place in a stack"):
            both[place]
    np.testing.assert_array_equal(jax.jit(lambda i: both[i].means)(1), second.means)
    with pytest.raises(TypeError, match="not a stack"):
        first[0]
    with pytest.raises(ValueError, match="not a stack"):
        jaxgmm.unstack(first)
    with pytest.raises(ValueError, match="empty"):
        jaxgmm.stack([])
    for wrong in (None, [jaxgmm.GroupFits((), np.zeros(0), results[0])]):
        with pytest.raises(TypeError, match="must be a"):
            jaxgmm.stack(wrong)
    with pytest.raises(TypeError, match="one type"):
        jaxgmm.stack([first, results[0]])
    with pytest.raises(TypeError, match=r"mixtures\[0\] must be a Mixture"):
        jaxgmm.stack([1.0])
    with pytest.raises(ValueError, match="must be the same"):
        jaxgmm.stack(
            [first, jaxgmm.make_mixture(np.ones(1, dtype), np.eye(2, dtype=dtype)[:1], np.eye(2, dtype=dtype)[None])]
        )
