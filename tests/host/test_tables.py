"""Tables in, tables out: columns keep their names, in results, messages and notebooks."""

import datetime
import re

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.host.arrays import Names, names_of

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
NAMES = ("bill", "flipper")
OPTIONS = dict(n_init=1, max_iter=2)


def frames(x, names=NAMES):
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    pyarrow = pytest.importorskip("pyarrow")
    columns = {name: x[:, column] for column, name in enumerate(names)}
    return [pandas.DataFrame(columns), polars.DataFrame(columns), pyarrow.table(columns)]


class Exported:
    """Speaks DLPack alone."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def test_results_keep_the_names_of_columns():
    plain = jaxgmm.fit(KEY, X, 2, **OPTIONS)
    assert plain.feature_names is None
    for frame in frames(X):
        fitted = jaxgmm.fit(KEY, frame, 2, **OPTIONS)
        assert fitted.feature_names == NAMES
        np.testing.assert_array_equal(fitted.mixture.means, plain.mixture.means)
        np.testing.assert_array_equal(jaxgmm.log_prob(fitted.mixture, frame), jaxgmm.log_prob(plain.mixture, X))
        chosen = jaxgmm.select(KEY, frame, [2], ["full"], **OPTIONS)
        assert chosen.best.result.feature_names == NAMES


def test_names_are_static_and_survive_transformations():
    fitted = jaxgmm.fit(KEY, frames(X)[0], 2, **OPTIONS)
    assert len(jax.tree.leaves(fitted)) == len(jax.tree.leaves(fitted._replace(feature_names=None)))
    assert jax.jit(lambda result: result)(fitted).feature_names == NAMES


WITH_ROWS = {
    "log_prob": lambda m, x: jaxgmm.log_prob(m, x),
    "log_joint": lambda m, x: jaxgmm.log_joint(m, x),
    "log_components": lambda m, x: jaxgmm.log_components(m, x),
    "log_responsibilities": lambda m, x: jaxgmm.log_responsibilities(m, x),
    "responsibilities": lambda m, x: jaxgmm.responsibilities(m, x),
    "predict": lambda m, x: jaxgmm.predict(m, x),
    "uncertainty": lambda m, x: jaxgmm.uncertainty(m, x),
    "log_likelihood": lambda m, x: jaxgmm.log_likelihood(m, x),
    "score": lambda m, x: jaxgmm.score(m, x),
    "e_step": lambda m, x: jaxgmm.e_step(m, x),
    "aic": lambda m, x: jaxgmm.aic(m, x),
    "bic": lambda m, x: jaxgmm.bic(m, x),
    "icl": lambda m, x: jaxgmm.icl(m, x),
    "Rows": lambda m, x: jaxgmm.score(m, jaxgmm.Rows(x, np.ones(20, np.float32))),
    "reparameterise": lambda m, x: jaxgmm.reparameterise(m, x),
    "run": lambda m, x: jaxgmm.run(jaxgmm.EM(), m, x, max_iter=1),
    "solution": lambda m, x: jaxgmm.solution(jaxgmm.EM(), m, x, max_iter=1),
    "standard_errors": lambda m, x: jaxgmm.standard_errors(m, x),
    "influence": lambda m, x: jaxgmm.influence(m, x),
    "bootstrap": lambda m, x: jaxgmm.bootstrap(KEY, m, x, 2, max_iter=1),
    "fit": lambda m, x: jaxgmm.fit(KEY, x, 2, init=m, max_iter=1),
    "clusters": lambda m, x: pytest.importorskip("jaxgmm.plotting").clusters(m, x),
}
"""Doors that take a mixture, or a fit, together with rows."""


@pytest.fixture(scope="module")
def named_fit():
    return jaxgmm.fit(KEY, frames(X)[0], 2, **OPTIONS)


@pytest.mark.parametrize("door", WITH_ROWS)
def test_a_fit_asks_for_its_own_columns_in_their_order(door, named_fit):
    """The same names in another order, or other names, are an error that shows the remedy, under jit too."""
    function = WITH_ROWS[door]
    for turned, shown in zip(frames(X[:, ::-1], NAMES[::-1]), ("[[{}]]", "[[{}]]", ".select([{}])"), strict=True):
        message = "x has the columns ['flipper', 'bill'], but the mixture was fitted to ['bill', 'flipper']: pass x"
        with pytest.raises(ValueError, match=re.escape(message + shown.format("'bill', 'flipper'"))):
            function(named_fit, turned)
    other = frames(X, ("bill", "wing"))[0]
    with pytest.raises(ValueError, match=r"rename the one that is 'flipper', and pass x\[\['bill', 'flipper'\]\]"):
        function(named_fit, other)
    if door in ("fit", "clusters"):
        function(named_fit.mixture, other)
    else:
        jax.eval_shape(lambda: function(named_fit.mixture, other))
        with pytest.raises(ValueError, match="x has the columns"):
            jax.eval_shape(lambda fitted: function(fitted, other), named_fit)
        jax.eval_shape(function, named_fit, X)


def test_the_right_columns_give_what_their_numbers_give(named_fit):
    plain = jaxgmm.predict(named_fit.mixture, X)
    for frame in frames(X):
        np.testing.assert_array_equal(jaxgmm.predict(named_fit, frame), plain)
    np.testing.assert_array_equal(jaxgmm.predict(named_fit, X), plain)
    frame = frames(X)[0]
    assert jaxgmm.log_prob(named_fit, frame.iloc[3]) == jaxgmm.log_prob(named_fit, X[3])
    with pytest.raises(ValueError, match=r"pass x\[\['bill', 'flipper'\]\]"):
        jaxgmm.log_prob(named_fit, frame.iloc[3][["flipper", "bill"]])
    more = frame.assign(wing=1.0)
    with pytest.raises(ValueError, match=r"'wing'\], but .*: pass x\[\['bill', 'flipper'\]\]"):
        jaxgmm.predict(named_fit, more)
    np.testing.assert_array_equal(jaxgmm.predict(named_fit, more[["bill", "flipper"]]), plain)
    # Names of rows are none of columns.
    labelled = frame.set_axis([str(row) for row in range(20)]).set_axis(range(2), axis=1)
    np.testing.assert_array_equal(jaxgmm.predict(named_fit, labelled), plain)
    values = frame.iloc[3][["flipper"]]
    jaxgmm.condition(named_fit, [1], values)
    with pytest.raises(ValueError, match=r"values has the columns \['flipper'\], but"):
        jaxgmm.condition(named_fit, [0], values)


def test_a_run_keeps_the_names_of_its_rows_or_of_its_start(named_fit):
    run = lambda start, x: jaxgmm.run(jaxgmm.EM(), start, x, max_iter=1).feature_names  # noqa: E731
    frame = frames(X)[0]
    assert run(named_fit.mixture, frame) == run(named_fit, X) == run(named_fit, frame) == NAMES
    assert run(named_fit.mixture, jaxgmm.Rows(frame, np.ones(20))) == NAMES
    assert run(named_fit.mixture, X) is None
    assert jax.jit(lambda start: jaxgmm.run(jaxgmm.EM(), start, X, max_iter=1))(named_fit).feature_names == NAMES


def test_many_names_are_counted_not_listed():
    wide = np.random.default_rng(0).normal(size=(20, 30))
    names = [f"c{d}" for d in range(30)]
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(wide, columns=names)
    mixture = jaxgmm.make_mixture([1.0], wide[:1], [1.0], covariance_type="spherical")
    fitted = jaxgmm.FitResult(mixture, *[np.zeros(())] * 6, feature_names=Names(names))
    with pytest.raises(ValueError, match=r"'c11' and 18 more\]: pass x\[list\(result.feature_names\)\]") as raised:
        jaxgmm.score(fitted, frame[names[::-1]])
    assert len(str(raised.value)) < 400
    assert np.isfinite(jaxgmm.score(fitted, frame[names[::-1]][list(fitted.feature_names)]))


def test_only_text_names_a_column():
    pandas = pytest.importorskip("pandas")
    for columns in (None, [0, 1], ["a", 1], [("a", "b"), ("a", "c")]):
        assert names_of(pandas.DataFrame(X, columns=columns)) is None
    assert names_of(X) is None and names_of(X.tolist()) is None and names_of(None) is None


def test_messages_name_the_column():
    spoiled, constant = X.copy(), np.c_[X[:, 0], 1e8 + X[:, 1].astype(np.float64)]
    spoiled[7, 1] = np.nan
    for door in (jaxgmm.fit, jaxgmm.initialize):
        for frame in frames(spoiled):
            with pytest.raises(ValueError, match=r"x holds nan in row 7, column 1 \('flipper'\): drop such rows with"):
                door(KEY, frame, 2)
        for frame in frames(constant.astype(np.float64)):
            if not jax.config.jax_enable_x64:
                with pytest.raises(ValueError, match=r"column 1 \('flipper'\) of x has mean"):
                    door(KEY, frame, 2)


def test_a_column_without_numbers_is_named():
    columns = {"bill": X[:, 0], "species": ["Adelie"] * 20}
    pandas, polars, pyarrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    for frame in (pandas.DataFrame(columns), polars.DataFrame(columns), pyarrow.table(columns)):
        message = r"column 1 \('species'\) of x must hold real numbers, but has dtype .*; or leave the column out"
        with pytest.raises(TypeError, match=message):
            jaxgmm.fit(KEY, frame, 2)
    with pytest.raises(TypeError, match=r"a table that is not computed yet; pass x.collect\(\)"):
        jaxgmm.fit(KEY, polars.LazyFrame({"bill": X[:, 0]}), 2)
    records = np.zeros(3, [("bill", float), ("flipper", float)])
    with pytest.raises(TypeError, match="records; convert them with numpy.lib.recfunctions"):
        jaxgmm.fit(KEY, records, 2)


def test_a_column_of_dates_beside_one_of_numbers_is_named():
    """Conversions of a whole table cast what a column alone is refused for."""
    pandas, polars, pyarrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    day = datetime.datetime(2020, 1, 1)
    frames = [
        pandas.DataFrame({"when": pandas.to_datetime([day] * 20), "bill": X[:, 0]}),
        pandas.DataFrame({"when": pandas.to_datetime([day] * 20).tz_localize("UTC"), "bill": X[:, 0]}),
        pandas.DataFrame({"when": pandas.to_timedelta(range(20), unit="s"), "bill": X[:, 0]}),
        pandas.DataFrame({"when": pandas.array([day] * 20, "timestamp[ns][pyarrow]"), "bill": range(20)}),
        pandas.DataFrame({"when": pandas.Series([np.datetime64(day)] * 20, dtype=object), "bill": range(20)}),
        pandas.DataFrame({"when": pandas.Series([np.timedelta64(5, "D")] * 20, dtype=object), "bill": range(20)}),
        polars.DataFrame({"when": polars.Series(range(20), dtype=polars.Int128), "bill": X[:, 0]}),
        pandas.DataFrame({"when": X[:, 0] + 1j, "bill": pandas.array(range(20), "Int64")}),
        *(polars.DataFrame({"when": [v] * 20, "bill": X[:, 0]}) for v in (day.date(), day, day.time(), day - day)),
        pyarrow.table({"when": [day] * 20, "bill": X[:, 0]}),
    ]
    for frame in frames:
        with pytest.raises(TypeError, match=r"column 0 \('when'\) of x must hold real numbers, but has dtype"):
            jaxgmm.fit(KEY, frame, 2)
    zoned = pandas.Series(pandas.date_range("2020", periods=20, tz="UTC"))
    with pytest.raises(TypeError, match="sample_weight must hold real numbers"):
        jaxgmm.fit(KEY, X, 2, zoned)
    with pytest.raises(TypeError, match="x is a list of masked arrays with masked entries"):
        jaxgmm.fit(KEY, [np.ma.masked_array(row, row > 1) for row in X], 2)


def test_dlpack_alone_is_enough():
    np.testing.assert_array_equal(
        jaxgmm.fit(KEY, Exported(X), 2, **OPTIONS).mixture.means, jaxgmm.fit(KEY, X, 2, **OPTIONS).mixture.means
    )


def test_notebooks_show_mixtures_and_results_as_tables():
    fitted = jaxgmm.fit(KEY, frames(X, ("bill", "<script>"))[0], 2, **OPTIONS)
    text = fitted._repr_html_()
    assert "<th" in text and "bill" in text and "&lt;script&gt;" in text and "<script>" not in text
    assert repr(fitted).replace("<", "&lt;").split("(")[0] in text
    mean, deviation = fitted.mixture.means[1, 0], np.sqrt(fitted.mixture.covariances[1, 0, 0])
    assert f"{mean:.4g} ± {deviation:.2g}" in text
    assert "column 0" in fitted.mixture._repr_html_()


def test_large_mixtures_are_counted_not_shown():
    k, d = 40, 15
    mixture = jaxgmm.make_mixture(np.full(k, 1 / k), np.zeros((k, d)), np.ones(k), covariance_type="spherical")
    text = mixture._repr_html_()
    assert text.count("<tr>") == 1 + 30 + 1 and "and 10 more" in text and "and 3 more" in text


def test_stacks_and_traced_mixtures_have_no_table():
    one = jaxgmm.fit(KEY, X, 2, **OPTIONS)
    stacked = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), one._replace(status=np.asarray(int(one.status))))
    assert stacked._repr_html_() is None and stacked.mixture._repr_html_() is None
    seen = []
    jax.jit(lambda mixture: seen.append(mixture._repr_html_()) or mixture.means)(one.mixture)
    assert seen == [None]


def test_selections_have_a_table_with_the_best_emphasised():
    selection = jaxgmm.select(KEY, X, [1, 25], ["diag"], **OPTIONS)
    text = selection._repr_html_()
    assert text.count("<tr>") == 3 and "skipped: only 20 rows" in text
    assert f"<b>{selection.best.bic:.2f}</b>" in text
