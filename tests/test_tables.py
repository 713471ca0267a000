"""Tables in, tables out: columns keep their names, in results, messages and notebooks."""

import datetime

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.arrays import names_of

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
        chosen = jaxgmm.select(KEY, frame, [1], ["diag"], **OPTIONS)
        assert chosen.best.result.feature_names == NAMES


def test_names_are_static_and_survive_transformations():
    fitted = jaxgmm.fit(KEY, frames(X)[0], 2, **OPTIONS)
    assert len(jax.tree.leaves(fitted)) == len(jax.tree.leaves(fitted._replace(feature_names=None)))
    assert jax.jit(lambda result: result)(fitted).feature_names == NAMES


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
