"""Bad rows with gaps or errors, weights and errors are refused, in the words of the argument that is at fault."""

import jax
import numpy as np
import pandas as pd
import pytest

import jaxgmm
from jaxgmm import EM, Incomplete, Noisy
from tests import blurred

KEY = jax.random.key(0)
NAMES = ["a", "b", "c"]

MIXTURE, X, WEIGHTS = blurred.problem("full")
WHOLE, VARIANCES = np.nan_to_num(X), np.ones_like(X)


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


def covariances(off, value):
    return changed(np.tile(np.eye(3), (len(X), 1, 1)), off, value)


FITS = {
    "fit": lambda data: jaxgmm.fit(KEY, data, 2),
    "select": lambda data: jaxgmm.select(KEY, data, [1]),
    "initialize": lambda data: jaxgmm.initialize(KEY, data, 2),
}
PURE = {
    "log_prob": lambda data: jaxgmm.log_prob(MIXTURE, data),
    "run": lambda data: jaxgmm.run(EM(), MIXTURE, data),
    "standard_errors": lambda data: jaxgmm.standard_errors(MIXTURE, data),
    "impute": lambda data: jaxgmm.impute(MIXTURE, data),
}


def test_errors_of_other_kinds_are_refused():
    for call in (FITS | PURE).values():
        check_errors(call)


def check_errors(call):
    shaped = r"noise must have shape \(48, 3\), a variance for each value of x, or \(48, 3, 3\), a cov.*, not \(48, 2"
    at_least = "noise must hold variances of at least 0, but holds "
    for noise, message in [
        (VARIANCES[:, :2], shaped),
        (covariances(0, 1.0)[:, :2], shaped),
        (changed(VARIANCES, (5, 1), -1.0), rf"{at_least}-1.0 in row 5, column 1"),
        (changed(VARIANCES, (5, 1), np.nan), rf"{at_least}nan in row 5, column 1"),
        (covariances((4, 1, 1), -2.0), rf"{at_least}-2.0 in row 4, column 1"),
        (covariances((4, 0, 1), 0.5), "noise must hold symmetric covariances, but row 4 is not symmetric"),
        (covariances((4, [0, 1], [1, 0]), np.inf), "noise must hold finite covariances, but row 4 is not finite"),
        (covariances((4, [0, 1], [1, 0]), 2.0), "noise must hold positive semi-definite covariances.* row 4 is not"),
    ]:
        with pytest.raises(ValueError, match=message):
            call(Noisy(WHOLE, noise))
    for noise in ("abc", None, VARIANCES.astype(str)):
        with pytest.raises(TypeError, match="noise must hold real numbers"):
            call(Noisy(WHOLE, noise))


def test_rows_and_weights_of_other_kinds_are_refused():
    for call in (FITS | PURE).values():
        check_rows(call)


def check_rows(call):
    table = pd.DataFrame(X, columns=NAMES)
    with pytest.raises(TypeError, match=r"column 1 \('b'\) of x must hold real numbers"):
        call(Incomplete(table.assign(b="text")))
    with pytest.raises(TypeError, match="x must hold real numbers, but has dtype <U3: strings"):
        call(Incomplete(np.full((9, 3), "one")))
    for make in (lambda *given: Incomplete(*given), lambda x, w=None: Noisy(x, np.ones(np.shape(x)), w)):
        with pytest.raises(ValueError, match=r"x must have shape \(N, D\), not \(48,\)"):
            call(make(X[:, 0]))
        with pytest.raises(ValueError, match=r"(sample_weight|the weights of x) must have shape \(48,\), one for each"):
            call(make(X, WEIGHTS[:5]))
        with pytest.raises(TypeError, match="(sample_weight|the weights of x) must hold real numbers"):
            call(make(X, ["one"] * len(X)))


def test_what_a_fit_could_not_use_is_refused():
    for call in FITS.values():
        check_use(call)


def check_use(call):
    for gap, noise in ((np.nan, VARIANCES), (1.0, changed(VARIANCES, np.s_[:, 1], np.inf))):
        never = changed(X, np.s_[:, 1], gap)
        table = pd.DataFrame(never, columns=NAMES)
        for data in (Noisy(table, noise), *([Incomplete(table)] if np.isnan(gap) else [])):
            with pytest.raises(ValueError, match=r"column 1 \('b'\) of x was never observed: leave the column out"):
                call(data)
    for value in (np.inf, -np.inf):
        wild = changed(X, (7, 2), value)
        with pytest.raises(ValueError, match=rf"x holds {value} in row 7, column 2 \('c'\): a missing value is NaN"):
            call(Incomplete(pd.DataFrame(wild, columns=NAMES)))
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"sample_weight must be finite and at least 0, but holds {bad} in row 7"):
            call(Incomplete(X, changed(WEIGHTS, 7, bad)))
    with pytest.raises(ValueError, match="sample_weight is zero for every row"):
        call(Incomplete(X, 0 * WEIGHTS))
    with pytest.raises(ValueError, match=r"x\s.*one row of positive weight|only 1 rows|x has one row"):
        call(Incomplete(X[:1] * 0 + 1))
    with pytest.raises(ValueError, match="pass jaxgmm.Incomplete"):
        call(X)


def test_weights_beside_data_are_refused():
    for data in (Incomplete(X), Noisy(X, VARIANCES)):
        for call in (
            lambda data: jaxgmm.fit(KEY, data, 2, WEIGHTS),
            lambda data: jaxgmm.select(KEY, data, [1], sample_weight=WEIGHTS),
            lambda data: jaxgmm.initialize(KEY, data, 2, WEIGHTS),
            lambda data: jaxgmm.run(EM(), MIXTURE, data, WEIGHTS),
            *(
                lambda data, name=name: getattr(jaxgmm, name)(MIXTURE, data, sample_weight=WEIGHTS)
                for name in ("log_likelihood", "score", "e_step", "bic", "standard_errors", "influence")
            ),
        ):
            with pytest.raises(ValueError, match="sample_weight must be None where x is a Data"):
                call(data)


def test_masked_entries_are_gaps(dtype):
    _, x, _ = blurred.problem("full", dtype)
    whole = np.ma.masked_array(np.arange(12).reshape(4, 3), np.eye(4, 3, dtype=bool))
    for masked, gaps in ((np.ma.masked_invalid(x), x), (whole, np.where(whole.mask, np.nan, whole.data))):
        found, expected = (jaxgmm.log_prob(MIXTURE, Incomplete(rows)) for rows in (masked, gaps))
        np.testing.assert_array_equal(found, expected)
