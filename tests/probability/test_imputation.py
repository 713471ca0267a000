"""What was not seen of rows: closed forms, draws of the right moments, and tables that stay as they were."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest

import jaxgmm
from jaxgmm import Incomplete, Noisy, Rows
from tests import blurred
from tests.blurred import check_close
from tests.cases import FAMILIES

KEY = jax.random.key(0)

draws = jax.jit(lambda keys, mixture, data: jax.vmap(lambda key: jaxgmm.impute(mixture, data, key=key))(keys))


def tolerance(dtype):
    return 1e-8 if dtype == np.float64 else 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_moments_are_those_of_the_conditional_mixture(family, dtype):
    check_conditional(family, [True, False, True], dtype)


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_moments_given_one_column_are_those_of_the_conditional_mixture(family, dtype):
    check_conditional(family, [False, False, True], dtype)


def check_conditional(family, pattern, dtype):
    """Row by row; `condition` takes many rows at once as it takes each."""
    mixture, x, _ = blurred.problem(family, dtype)
    seen = ~np.isnan(x)
    mean, covariance = jaxgmm.conditional_moments(mixture, x)
    np.testing.assert_array_equal(np.asarray(mean)[seen], x[seen])
    rows = np.flatnonzero((seen == np.array(pattern)).all(axis=1))
    known, others = np.flatnonzero(pattern), np.flatnonzero(np.logical_not(pattern))
    assert len(rows) > 1
    stack = jaxgmm.condition(mixture, known.tolist(), x[rows][:, known])
    assert stack.means.shape == (len(rows), 2, len(others))
    for place, row in enumerate(rows[:2]):
        alone = jaxgmm.condition(mixture, known.tolist(), x[row, known])
        check_close(jax.tree.map(lambda leaf, place=place: leaf[place], stack), alone, tolerance(dtype))
        expected = jaxgmm.total_moments(alone)
        found = mean[row][others], covariance[row][np.ix_(others, others)]
        check_close(found, tuple(expected), tolerance(dtype))
    assert not np.asarray(covariance)[rows][:, known].any()


@pytest.mark.exhaustive
def test_condition_takes_names_of_a_table(dtype):
    mixture, x, _ = blurred.problem("full", dtype)
    table = pd.DataFrame(np.nan_to_num(x), columns=["a", "b", "c"])
    fitted = jaxgmm.fit(KEY, table, 2, init=mixture, max_iter=2)
    expected = jaxgmm.condition(fitted.mixture, [2, 0], table[["c", "a"]].to_numpy())
    check_close(jaxgmm.condition(fitted, ["c", "a"], table[["c", "a"]]), expected, 0)
    check_close(jaxgmm.condition(fitted, ["c", 0], table[["c", "a"]].to_numpy()), expected, 0)
    for given, message in (
        ((fitted, ["d"], [1.0]), r"dims names 'd', but the columns of the fit are \['a', 'b', 'c'\]"),
        ((mixture, ["a"], [1.0]), "the mixture has no names of columns: pass a fit of a table, or indices"),
        ((fitted, ["c"], table[["c", "a"]]), "values"),
        ((mixture, [0, 1], np.ones((4, 3))), r"values must have shape \(2,\), one for each of dims, or \(N, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxgmm.condition(*given)


def test_draws_have_the_moments_and_keep_what_was_seen(dtype):
    check_draws(Noisy, dtype)


@pytest.mark.exhaustive
def test_draws_of_gaps_alone_have_the_moments_and_keep_what_was_seen(dtype):
    check_draws(Incomplete, dtype)


def check_draws(kind, dtype):
    mixture, x, weights = blurred.problem("full", dtype, 16)
    noise = np.where(np.isnan(x), 1.0, np.random.default_rng(0).uniform(0.5, 2.0, x.shape)).astype(dtype)
    n_draws = 4000
    data = Incomplete(x, weights) if kind is Incomplete else Noisy(x, noise, weights)
    drawn = np.asarray(draws(jax.random.split(KEY, n_draws), mixture, data), np.float64)
    seen = ~np.isnan(x)
    np.testing.assert_array_equal(drawn[:, seen], np.broadcast_to(x[seen], (n_draws, seen.sum())))
    mean, covariance = (np.asarray(leaf, np.float64) for leaf in jaxgmm.conditional_moments(mixture, data))
    deviation = np.sqrt(np.einsum("nii->ni", covariance))
    off = (drawn.mean(axis=0) - mean) / np.where(seen, 1, deviation) * np.sqrt(n_draws)
    assert np.abs(off[~seen]).max() < 4.5, "standard errors"
    shift = drawn - drawn.mean(axis=0)
    found = np.einsum("rni,rnj->nij", shift, shift) / n_draws
    both = ~seen[:, :, None] & ~seen[:, None, :]
    scale = deviation[:, :, None] * deviation[:, None, :]
    np.testing.assert_allclose((found - covariance)[both] / scale[both], 0, atol=0.15)


@pytest.mark.parametrize("kind", ["variances", "covariances"])
@pytest.mark.parametrize("family", FAMILIES)
def test_denoised_rows_are_the_twins_and_a_blend_in_one_dimension(family, kind, dtype):
    mixture, x, weights = blurred.problem(family, dtype)
    noise = blurred.noise_of(x, kind)
    expected = blurred.twin(family, mixture, x, weights, noise)["true"]
    check_close(tuple(jaxgmm.denoise(mixture, Noisy(x, noise))), expected, tolerance(dtype))
    clean = np.nan_to_num(x)
    mean, covariance = jaxgmm.denoise(mixture, Noisy(clean, np.zeros_like(noise)))
    np.testing.assert_array_equal(mean, clean)
    assert not np.asarray(covariance).any()


def test_one_gaussian_draws_a_value_towards_its_mean(dtype):
    one = jaxgmm.make_mixture([1.0], np.array([[3.0]], dtype), np.array([[[2.0]]], dtype))
    rows, noise = np.array([[5.0], [1.0], [np.nan]], dtype), np.array([[2.0], [6.0], [1.0]], dtype)
    mean, covariance = jaxgmm.denoise(one, Noisy(rows, noise))
    np.testing.assert_allclose(mean, [[4.0], [2.5], [3.0]], rtol=1e-5)
    np.testing.assert_allclose(covariance[:, 0, 0], [1.0, 1.5, 2.0], rtol=1e-5)
    plain = jaxgmm.denoise(one, rows[:2])
    np.testing.assert_array_equal(plain.mean, rows[:2])


def test_tables_stay_what_they_are():
    mixture, x, _ = blurred.problem("full")
    x = x.copy()
    x[:, 0] = np.arange(len(x)) % 4
    expected = np.asarray(jaxgmm.impute(mixture, x))
    index = [f"r{i}" for i in range(len(x))]
    table = pd.DataFrame({"a": x[:, 0].astype(np.int64), "b": x[:, 1], "c": x[:, 2].astype(np.float32)}, index=index)
    for given in (table, Incomplete(table)):
        found = jaxgmm.impute(mixture, given)
        assert list(found.columns) == ["a", "b", "c"] and list(found.index) == index
        assert found.dtypes.tolist() == [np.int64, np.float64, np.float32]
        np.testing.assert_allclose(found.to_numpy(np.float64), expected, rtol=1e-5)
        kept = table.notna().to_numpy()
        np.testing.assert_array_equal(found.to_numpy()[kept], table.to_numpy()[kept])
    assert table["b"].isna().any(), "the given table is left alone"
    nullable = pd.DataFrame({"a": x[:, 0], "b": pd.array(np.where(np.isnan(x[:, 1]), 7, 1), "Int64"), "c": x[:, 2]})
    nullable.loc[nullable["b"] == 7, "b"] = pd.NA
    found = jaxgmm.impute(mixture, nullable)
    assert found["b"].dtype == np.float64 and not found.isna().any().any()
    frame = pl.DataFrame({"a": x[:, 0].astype(np.int32), "b": x[:, 1], "c": x[:, 2].astype(np.float32)})
    nulls = frame.with_columns(pl.col("b").fill_nan(None), pl.col("c").fill_nan(None))
    for given in (frame, nulls):
        found = jaxgmm.impute(mixture, given)
        assert found.columns == ["a", "b", "c"] and found.dtypes == [pl.Int32, pl.Float64, pl.Float32]
        np.testing.assert_allclose(found.to_numpy(), expected, rtol=1e-5)
    drawn = jaxgmm.impute(mixture, table, key=KEY)
    assert drawn.dtypes.tolist() == table.dtypes.tolist() and not drawn.isna().any().any()


def test_arrays_stay_what_they_are(dtype):
    mixture, x, weights = blurred.problem("diag", dtype)
    expected = np.where(np.isnan(x), jaxgmm.conditional_moments(mixture, x).mean, x)
    for given in (x, jnp.asarray(x), x.tolist(), np.ma.masked_invalid(x), Incomplete(x, weights), Rows(x, weights)):
        found = jaxgmm.impute(mixture, given)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert isinstance(found, np.ndarray) or not isinstance(given, np.ndarray)
        assert found.dtype == dtype or isinstance(given, list)
    compiled = jax.jit(jaxgmm.impute)(mixture, x)
    np.testing.assert_allclose(compiled, expected, rtol=1e-6)
    whole = np.nan_to_num(x)
    np.testing.assert_array_equal(jaxgmm.impute(mixture, whole), whole)
    integers = np.arange(12).reshape(4, 3)
    np.testing.assert_array_equal(jaxgmm.impute(mixture, integers), integers)
    with pytest.raises(TypeError, match="typed key"):
        jaxgmm.impute(mixture, x, key=0)
    with pytest.raises(ValueError, match="x has 2 columns"):
        jaxgmm.impute(mixture, x[:, :2])


@pytest.mark.parametrize("kind", ["variances", "covariances"])
def test_samples_have_the_errors_that_they_are_given(kind, dtype):
    mixture, _, _ = blurred.problem("full", dtype)
    n = 4000
    covariance = np.array([[2.0, 0.9, 0.0], [0.9, 0.5, 0.0], [0.0, 0.0, 0.0]], dtype)
    one = covariance if kind == "covariances" else np.array([2.0, 0.5, 0.0], dtype)
    noise = np.broadcast_to(one, (n, *one.shape))
    plain, labels = jaxgmm.sample(KEY, mixture, n)
    rows, again = jaxgmm.sample(KEY, mixture, n, noise=noise)
    np.testing.assert_array_equal(labels, again)
    errors = np.asarray(rows - plain, np.float64)
    wanted = covariance if kind == "covariances" else np.diag(one)
    np.testing.assert_allclose(errors.T @ errors / n, wanted, atol=0.12)
    np.testing.assert_allclose(errors[:, 2], 0, atol=1e-2 if dtype == np.float32 else 1e-6)
    assert rows.dtype == dtype
    with pytest.raises(ValueError, match=r"noise must have shape \(5, 3\), a variance for each value of x"):
        jaxgmm.sample(KEY, mixture, 5, noise=noise)
