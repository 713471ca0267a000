"""Rows with gaps and errors at the ends of what floats hold, and tables of them in every form."""

import jax
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import jaxgmm
from jaxgmm import Incomplete, Noisy

KEY = jax.random.key(0)
PAIR = [[[1.0, 0.5], [0.5, 1.0]], np.eye(2)]


def mixture_of(dtype, weights=(0.5, 0.5), means=((0.0, 0.0), (5.0, 5.0)), covariances=PAIR):
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype), jaxgmm.make_mixture(list(weights), np.asarray(means), np.stack(covariances))
    )


def test_a_far_row_is_shared_by_weight_where_its_distances_are_equal(dtype):
    alike = mixture_of(dtype, (0.3, 0.3, 0.4), ((0.0, 10.0), (0.0, 20.0), (0.0, 30.0)), [np.eye(2)] * 3)
    rows = np.array([[10.0**power, np.nan] for power in (3, 5, 8, 25)], dtype)
    shares = jaxgmm.responsibilities(alike, Incomplete(rows))
    np.testing.assert_allclose(shares, np.tile([0.3, 0.3, 0.4], (4, 1)), rtol=1e-5)
    np.testing.assert_allclose(jaxgmm.impute(alike, rows)[:, 1], 21.0, rtol=1e-5)
    np.testing.assert_allclose(jaxgmm.responsibilities(alike, Noisy(rows, np.ones_like(rows)))[0], shares[0], rtol=1e-5)


def test_errors_have_their_own_scales_and_digits(dtype):
    mixture = mixture_of(dtype)
    noise = np.tile(np.diag([1e4, 1e-6]), (4000, 1, 1)).astype(dtype)
    with_errors, _ = jaxgmm.sample(KEY, mixture, 4000, noise=noise)
    plain, _ = jaxgmm.sample(KEY, mixture, 4000)
    # A value rounds to 2e-7 of it, a tenth of a thousandth of the lesser errors.
    np.testing.assert_allclose(np.std(with_errors - plain, axis=0), [100.0, 1e-3], rtol=0.1)
    for least in (1e-6, 1e-8, 1e-30):
        seen = jaxgmm.denoise(mixture, Noisy(np.array([[2.0, 3.0]], dtype), np.full((1, 2), least, dtype)))
        np.testing.assert_allclose(np.diagonal(seen.covariance[0]), least, rtol=1e-5)


def test_errors_that_cannot_be_are_told():
    mixture, table = mixture_of(np.float32), pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    for noise, told in {np.nan: "variances of at least 0", np.inf: "be finite", -1.0: "of at least 0"}.items():
        with pytest.raises(ValueError, match=f"noise must .*{told}"):
            jaxgmm.sample(KEY, mixture, 2, noise=np.full((2, 2), noise))
    for call in (lambda data: jaxgmm.log_likelihood(mixture, data), lambda data: jaxgmm.fit(KEY, data, 1)):
        with pytest.raises(ValueError, match=r"noise has the columns \['b', 'a'\], but x has \['a', 'b'\]: pass noise"):
            call(Noisy(table, table[["b", "a"]]))


def test_what_is_imputed_is_as_it_was_given():
    mixture, exact = mixture_of(np.float32), 16777217.0
    found = jaxgmm.impute(mixture, np.array([[exact, np.nan]]))
    assert found.dtype == np.float64 and found[0, 0] == exact and np.isfinite(found).all()
    frame = jaxgmm.impute(mixture, pl.DataFrame({"a": [exact, None], "b": [1, None]}))
    assert frame["a"][0] == exact and frame["b"].dtype == pl.Float64 and not frame["b"].has_nulls()
    for columns in (["a", "a"], [0, 1], pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])):
        table = pd.DataFrame([[1.0, np.nan], [exact, 3.0]], index=[5, 6], columns=columns)
        filled = jaxgmm.impute(mixture, table)
        assert filled.columns.equals(table.columns) and filled.index.equals(table.index)
        assert filled.iloc[1, 0] == exact and filled.notna().all(axis=None)
    assert np.isfinite(jaxgmm.impute(mixture, pa.table({"a": [1.0, None], "b": [2.0, 3.0]}))).all()
    gappy = [[2.0, np.nan]]
    for rows in ([[2.0, None]], np.array([[2.0, None]], object), np.ma.masked_invalid(gappy)):
        found, expected = (jaxgmm.log_likelihood(mixture, Incomplete(given)) for given in (rows, gappy))
        np.testing.assert_array_equal(found, expected)
