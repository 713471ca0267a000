"""One table of inputs, good and bad, through every door: the same answer, or a refusal that names the argument.

`python -m tests.house.test_doors` prints the count of tried, right, refused and wrong.
"""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import sparse

import jaxgmm
from jaxgmm.host.arrays import Names
from tests.programs import programs_with

KEY = jax.random.key(0)
X = np.round(8 * np.random.default_rng(0).normal(size=(20, 2))) / 4  # exact in float16, and times four an integer
HALF = np.full((20, 2), 0.5)
MIXTURE = jaxgmm.make_mixture([0.4, 0.6], [[0, 0], [1, 1]], [1, 2], covariance_type="spherical")
QUICK = dict(n_init=1, max_iter=2)

ROW_BY_ROW = {
    "log_prob": lambda x: jaxgmm.log_prob(MIXTURE, x),
    "log_joint": lambda x: jaxgmm.log_joint(MIXTURE, x),
    "log_components": lambda x: jaxgmm.log_components(MIXTURE, x),
    "responsibilities": lambda x: jaxgmm.responsibilities(MIXTURE, x),
    "log_responsibilities": lambda x: jaxgmm.log_responsibilities(MIXTURE, x),
    "predict": lambda x: jaxgmm.predict(MIXTURE, x),
    "uncertainty": lambda x: jaxgmm.uncertainty(MIXTURE, x),
}
IN_ALL = {
    "log_likelihood": lambda x: jaxgmm.log_likelihood(MIXTURE, x),
    "score": lambda x: jaxgmm.score(MIXTURE, x),
    "e_step": lambda x: jaxgmm.e_step(MIXTURE, x)[1],
    "aic": lambda x: jaxgmm.aic(MIXTURE, x),
    "bic": lambda x: jaxgmm.bic(MIXTURE, x),
    "icl": lambda x: jaxgmm.icl(MIXTURE, x),
    "run": lambda x: jaxgmm.run(jaxgmm.EM(), MIXTURE, x, max_iter=1).objective,
}
OF_FITS = {
    "solution": lambda x: jaxgmm.solution(jaxgmm.EM(), MIXTURE, x, max_iter=1),
    "standard_errors": lambda x: jaxgmm.standard_errors(MIXTURE, x),
    "influence": lambda x: jaxgmm.influence(MIXTURE, x),
    "bootstrap": lambda x: jaxgmm.bootstrap(KEY, MIXTURE, x, 2, max_iter=1),
    "reparameterise": lambda x: jaxgmm.reparameterise(MIXTURE, x),
}
HOST = {
    "from_responsibilities": lambda x: jaxgmm.from_responsibilities(x, HALF).means,
    "fit": lambda x: jaxgmm.fit(KEY, x, 2, **QUICK).mixture.means,
    "select": lambda x: jaxgmm.select(KEY, x, [2], ["diag"], **QUICK).best.mixture.means,
    "initialize": lambda x: jaxgmm.initialize(KEY, x, 2).means,
}
DRAWN = ["clusters", "uncertainty", "contours", "curves", "pairs"]


def picture(name):
    def draw(x):
        matplotlib = pytest.importorskip("matplotlib")
        matplotlib.use("Agg")
        from jaxgmm import plotting

        return getattr(plotting, name)(MIXTURE, x)

    return draw


PLOTS = {f"plotting.{name}": picture(name) for name in [*DRAWN, "responsibilities"]}
DOORS = ROW_BY_ROW | IN_ALL | OF_FITS | HOST | PLOTS


def spoiled(value, row=7, column=1):
    x = X.copy()
    x[row, column] = value
    return x


def read_only():
    x = X.copy()
    x.flags.writeable = False
    return x


RIGHT = {
    "a list": X.tolist,
    "int64": lambda: (4 * X).astype(np.int64),
    "int8": lambda: (4 * X).astype(np.int8),
    "uint64": lambda: (4 * (X - X.min())).astype(np.uint64),
    "bool": lambda: X > 0,
    "float16": lambda: X.astype(np.float16),
    "bfloat16": lambda: jnp.asarray(X, jnp.bfloat16),
    "long double": lambda: X.astype(np.longdouble),
    "big-endian": lambda: X.astype(">f8"),
    "Fortran order": lambda: np.asfortranarray(X),
    "strided": lambda: np.repeat(X, 3, axis=1)[:, ::3],
    "backwards": lambda: X[::-1],
    "read-only": read_only,
    "masked, no mask": lambda: np.ma.masked_array(X, False),
    "of JAX": lambda: jnp.asarray(X),
}
"""Arrays of every make, which give what their numbers give."""


def beside(column):
    """A table of a column that holds no numbers and one that holds nullable ones."""
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"a": column, "b": pandas.array((4 * X[:, 1]).astype(int), "Int64")})


NUMBERS = r"{x} must hold real numbers, but has dtype .*: "
REFUSED = {
    "strings": (lambda: X.astype(str), TypeError, NUMBERS + "strings; convert to float first"),
    "bytes": (lambda: X.astype("S8"), TypeError, NUMBERS + "strings"),
    "StringDType": (lambda: X.astype(np.dtypes.StringDType()), TypeError, NUMBERS + "strings"),
    "objects": (lambda: X.astype(object), TypeError, NUMBERS + "objects; convert to float first"),
    "complex": (lambda: X + 1j, TypeError, NUMBERS + "complex; pass real and imaginary parts"),
    "complex of JAX": (lambda: jnp.asarray(X + 1j), TypeError, NUMBERS + "complex; pass real and imaginary parts"),
    "dates": (lambda: X.astype("datetime64[s]"), TypeError, NUMBERS + "dates; convert to numbers first"),
    "durations": (lambda: X.astype("timedelta64[s]"), TypeError, NUMBERS + "durations; convert to numbers first"),
    "records": (lambda: np.zeros(20, [("a", float), ("b", float)]), TypeError, NUMBERS + "records; convert them with"),
    "a key": (lambda: KEY, TypeError, NUMBERS + "keys; draw numbers with them first"),
    "keys": (lambda: jax.random.split(KEY, 20), TypeError, NUMBERS + "keys; draw numbers with them first"),
    "text": (lambda: "rows.csv", TypeError, NUMBERS + "strings"),
    "a dict": (lambda: {"a": 1}, TypeError, NUMBERS + "it is a dict, not an array or a table"),
    "a set": (lambda: {1.0, 2.0}, TypeError, NUMBERS + "it is a set, not an array or a table"),
    "a generator": (lambda: (row for row in X), TypeError, NUMBERS + "it is a generator, not an array or a table"),
    "a function": (lambda: len, TypeError, NUMBERS + "it is a builtin_function_or_method, not an array"),
    "a mixture": (lambda: MIXTURE, TypeError, NUMBERS + "it is a Mixture, not an array or a table"),
    "a fit": (lambda: jaxgmm.run(jaxgmm.EM(), MIXTURE, X, max_iter=1), TypeError, "{x}, a FitResult, cannot be read"),
    "batches of several sizes": (
        lambda: [X, X[:3]],
        TypeError,
        r"{x} must have shape \(N, D\): it is a list of 2 batches of rows, pass numpy.concatenate\({x}\)",
    ),
    "ragged": (lambda: [[1.0, 2.0], [3.0]], TypeError, "{x}, a list, cannot be read as an array of numbers"),
    "csr_matrix": (lambda: sparse.csr_matrix(X), TypeError, r"{x} is a sparse matrix; pass {x}.toarray\(\)"),
    "coo_array": (lambda: sparse.coo_array(X), TypeError, r"{x} is a sparse matrix; pass {x}.toarray\(\)"),
    "masked": (
        lambda: np.ma.masked_array(X, np.eye(20, 2, dtype=bool)),
        TypeError,
        "{x} is a masked array with masked entries; drop those rows or fill them first",
    ),
    "masked rows": (
        lambda: [np.ma.masked_array(row, row > 1) for row in X],
        TypeError,
        "{x} is a list of masked arrays with masked entries; drop those rows or fill them first",
    ),
    "dates beside numbers": (
        lambda: beside(X[:, 0].astype("datetime64[s]")),
        TypeError,
        r"column 0 \('a'\) of {x} must hold real numbers, but has dtype .*: dates",
    ),
    "durations beside numbers": (
        lambda: beside(X[:, 0].astype("timedelta64[s]")),
        TypeError,
        r"column 0 \('a'\) of {x} must hold real numbers, but has dtype .*: durations",
    ),
    "complex beside numbers": (
        lambda: beside(X[:, 0] + 1j),
        TypeError,
        r"column 0 \('a'\) of {x} must hold real numbers, but has dtype .*: complex",
    ),
}
"""What holds no real numbers, and what is said of it."""

VECTOR = r"{x} (has 20 columns|must have shape \(N, D\), not \(20,\): a single column is "
BATCHES = (
    r"{x} must (have shape \(N, D\), not \(2, 20, 2\): it is a (list|tuple) of 2 batches of rows, "
    r"pass numpy.concatenate\({x}\)|be a single row)"
)
SHAPES = {
    "a column": (lambda: X[:, 0], VECTOR + r"{x}.reshape\(-1, 1\)|must be a single row)"),
    "a column in a list": (lambda: X[:, 0].tolist(), VECTOR + r"numpy.reshape\({x}, \(-1, 1\)\)|must be a single row)"),
    "a Series": (
        lambda: pytest.importorskip("pandas").Series(X[:, 0]),
        VECTOR + r"{x}.to_frame\(\)|must be a single row)",
    ),
    "batches": (lambda: [X, X], BATCHES),
    "batches in a tuple": (lambda: (X.tolist(), X.tolist()), BATCHES),
    "a scalar": (lambda: 3.0, r"{x} (has no columns|must have shape \(N, D\), not|must be a single row)"),
    "a stack": (lambda: X[None], r"{x} must (have shape \(N, D\), not \(1, 20, 2\)|be a single row)"),
    "no columns": (lambda: X[:, :0], r"{x} (has 0 columns|is empty: its shape is \(20, 0\)|must be a single row)"),
    "no rows": (lambda: X[:0], r"{x} (is empty: its shape is \(0, 2\)|must be a single row)"),
}
STACKS = ("a stack", "no rows", "batches", "batches in a tuple")
ANY_SHAPE = {(door, shape) for door in ("log_prob", "reparameterise") for shape in STACKS}
"""Doors that take x (..., D)."""

OTHER_COLUMNS = {"wide": lambda: np.c_[X, X], "narrow": lambda: X[:, :1]}


def argument(door):
    return "row" if door == "plotting.responsibilities" else "x"


def outcome(door, value, error, message):
    """None where the door refuses a value as it should, else what it did."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            answer = DOORS[door](value)
    except error as raised:
        text = str(raised)
        return None if re.match(message.replace("{x}", argument(door)), text) else f"{door} says: {text}"
    except Exception as raised:
        return f"{door} raises {type(raised).__name__}: {raised}"
    return f"{door} answers {answer!r}"


def refusals():
    """Every bad input with the doors that must refuse it, the error and its message."""
    for name, (make, error, message) in REFUSED.items():
        yield name, list(DOORS), make, error, message
    for name, (make, message) in SHAPES.items():
        yield name, [door for door in DOORS if (door, name) not in ANY_SHAPE], make, ValueError, message
    of_the_mixture = [door for door in DOORS if door not in HOST and door != "plotting.responsibilities"]
    for name, make in OTHER_COLUMNS.items():
        yield name, of_the_mixture, make, ValueError, rf"x has {make().shape[1]} columns .*, but the mixture has 2"


def answers(name, door):
    """What a door makes of an array, and of the same numbers in float64."""
    given = RIGHT[name]()
    plain = np.asarray(given).astype(np.float64)
    return np.asarray(DOORS[door](given)), np.asarray(DOORS[door](plain))


@pytest.mark.parametrize("case", list(refusals()), ids=lambda case: case[0])
def test_every_door_refuses_it_and_says_why(case):
    _, doors, make, error, message = case
    assert [said for said in (outcome(door, make(), error, message) for door in doors) if said] == []


@pytest.mark.parametrize("name", RIGHT)
def test_every_make_of_array_gives_what_its_numbers_give(name):
    for door in [*ROW_BY_ROW, *IN_ALL, "from_responsibilities"]:
        found, wanted = answers(name, door)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-6, err_msg=door)


ONE_COLUMN = jaxgmm.make_mixture([0.4, 0.6], [[0], [1]], [1, 2], covariance_type="spherical")


@pytest.mark.parametrize("door", ["log_prob", "reparameterise", "predict", "score", "run"])
def test_a_grid_of_one_column_is_told_to_stand_upright(door):
    function = (lambda m, x: jaxgmm.run(jaxgmm.EM(), m, x, max_iter=1)) if door == "run" else getattr(jaxgmm, door)
    pandas, grid = pytest.importorskip("pandas"), X[:, 0]
    for x, remedy in (
        (grid, r"x.reshape\(-1, 1\)"),
        (jnp.asarray(grid), r"x.reshape\(-1, 1\)"),
        (grid.tolist(), r"numpy.reshape\(x, \(-1, 1\)\)"),
        (pandas.Series(grid), r"x.to_frame\(\)"),
    ):
        with pytest.raises(ValueError, match=f": a single column is {remedy}"):
            function(ONE_COLUMN, x)
    upright, of_series = (
        jax.tree.leaves(jax.eval_shape(lambda x=x: function(ONE_COLUMN, x)))
        for x in (grid.reshape(-1, 1), pandas.Series(grid).to_frame())
    )
    assert upright == of_series


def test_none_is_no_rows_except_for_a_picture_without_them():
    for door in DOORS:
        if door not in {f"plotting.{name}" for name in DRAWN}:
            assert outcome(door, None, TypeError, NUMBERS + "it is a NoneType, not an array or a table") is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_densities_of_a_row_that_is_not_finite_spoil_that_row_alone(value):
    others = np.arange(20) != 7
    for name, door in ROW_BY_ROW.items():
        found, plain = np.asarray(door(spoiled(value))), np.asarray(door(X))
        np.testing.assert_array_equal(found[others], plain[others], err_msg=name)
        if name != "predict":
            expected = -np.inf if np.isinf(value) and name in ("log_prob", "log_joint", "log_components") else np.nan
            assert np.all((found[7] == expected) | np.isnan(found[7])), name
    for name, door in IN_ALL.items():
        assert not np.isfinite(door(spoiled(value))), name
    assert jaxgmm.run(jaxgmm.EM(), MIXTURE, spoiled(value), max_iter=1).status == jaxgmm.Status.NONFINITE


def test_text_far_down_a_table_is_not_converted():
    pandas = pytest.importorskip("pandas")
    column = np.arange(2000).astype(object)
    column[1999] = "1999"
    table = pandas.DataFrame({"mass": column, "length": np.arange(2000.0)})
    with pytest.raises(TypeError, match=r"column 0 \('mass'\) of x must hold real numbers, but has dtype object"):
        jaxgmm.log_prob(MIXTURE, table)


# from_responsibilities and m_step


@pytest.mark.parametrize(
    "change,error,message",
    [
        (dict(x=spoiled(np.nan)), ValueError, r"x holds nan in row 7, column 1: drop such rows with x\[numpy.isfinite"),
        (dict(x=spoiled(-np.inf)), ValueError, "x holds -inf in row 7, column 1"),
        (dict(x=1e200 * X), ValueError, "column 0 of x .*overflow when squared in float"),
        (dict(x=X[:1], resp=HALF[:1]), ValueError, "x has one row of positive weight"),
        (
            dict(x=X[:2], resp=np.ones((2, 3))),
            ValueError,
            "n_components is 3, but x has only 2 rows of positive weight",
        ),
        (dict(resp=HALF.astype(str)), TypeError, "resp must hold real numbers, .*strings"),
        (dict(resp=None), TypeError, "resp must hold real numbers, .*it is a NoneType"),
        (dict(resp=np.arange(20) % 2), ValueError, r"resp must have shape \(20, K\), not \(20,\)"),
        (dict(resp=HALF - np.eye(20, 2)), ValueError, "but holds -0.5 in row 0, component 0"),
        (dict(resp=np.where(np.arange(20) == 3, np.nan, HALF.T).T), ValueError, "holds nan in row 3, component 0"),
        (dict(resp=0 * HALF), ValueError, "resp is zero for every row of positive weight"),
        (
            dict(sample_weight=-np.ones(20)),
            ValueError,
            "sample_weight must be .* at least 0, but holds -1.0 in",
        ),
        (dict(sample_weight=np.zeros(20)), ValueError, "sample_weight is zero for every row"),
        (dict(sample_weight=np.ones(19)), ValueError, r"sample_weight must have shape \(20,\)"),
        (dict(sample_weight=["a"] * 20), TypeError, "sample_weight must hold real numbers"),
        (dict(prior=0.1), TypeError, r"prior must be Ridge\(\) or None, not 0.1"),
        (dict(covariance_type="round"), ValueError, "covariance_type 'round' is not known"),
        (dict(covariance_type=None), TypeError, "covariance_type must be a name or a family, not NoneType"),
    ],
)
def test_one_m_step_from_responsibilities(change, error, message):
    with pytest.raises(error, match=message):
        jaxgmm.from_responsibilities(**(dict(x=X, resp=HALF) | change))


def test_rows_without_weight_may_hold_anything_in_responsibilities_too():
    weights = (np.arange(20) != 7).astype(float)
    whole = jaxgmm.from_responsibilities(spoiled(np.nan), np.where(weights == 0, np.nan, HALF.T).T, weights)
    left_out = jaxgmm.from_responsibilities(X[weights > 0], HALF[weights > 0])
    for found, wanted in zip(jax.tree.leaves(whole), jax.tree.leaves(left_out), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    traced = jax.jit(lambda x: jaxgmm.from_responsibilities(x, jnp.asarray(HALF, x.dtype)).means)
    assert np.isnan(traced(jnp.asarray(spoiled(np.nan)))).any()


def test_columns_keep_their_names_in_what_is_said_of_responsibilities():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(spoiled(np.nan), columns=["bill", "flipper"])
    with pytest.raises(ValueError, match=r"x holds nan in row 7, column 1 \('flipper'\)"):
        jaxgmm.from_responsibilities(frame, HALF)


def test_m_step_asks_what_it_is_given():
    moments, log_likelihood = jaxgmm.e_step(MIXTURE, X)
    for given, options, error, message in (
        ((moments, log_likelihood), {}, TypeError, "moments must be Moments, not tuple: e_step returns them first"),
        (None, {}, TypeError, "moments must be Moments, not NoneType"),
        (moments, dict(prior=jaxgmm.Ridge), TypeError, r"prior must be Ridge\(\) or None"),
        (moments, dict(prior=jaxgmm.Ridge("a")), TypeError, "strength of the prior must be a number, not 'a'"),
        (moments, dict(prior=jaxgmm.Ridge(-1.0)), ValueError, "strength of the prior must be at least 0, not -1.0"),
        (moments, dict(prior=jaxgmm.Ridge(np.nan)), ValueError, "strength of the prior must be at least 0, not nan"),
        (moments, dict(prior=jaxgmm.Ridge(np.inf)), ValueError, "strength of the prior must be finite"),
        (moments, dict(prior=jaxgmm.Ridge(1.0, "yes")), TypeError, "floor_is_fine of the prior must be True or False"),
        (moments, dict(previous=X), TypeError, "previous must be a Mixture or a FitResult, not ndarray"),
        (moments, dict(covariance_type="full"), ValueError, "moments hold scalar scatter, from which no dense"),
    ):
        with pytest.raises(error, match=message):
            jaxgmm.m_step(given, **(dict(covariance_type="spherical") | options))


OF_MIXTURES = {
    "project": lambda m: jaxgmm.project(m, "full"),
    "log_prob": lambda m: jaxgmm.log_prob(m, X),
    "predict": lambda m: jaxgmm.predict(m, X),
    "e_step": lambda m: jaxgmm.e_step(m, X),
    "bic": lambda m: jaxgmm.bic(m, X),
    "run": lambda m: jaxgmm.run(jaxgmm.EM(), m, X, max_iter=1),
    "solution": lambda m: jaxgmm.solution(jaxgmm.EM(), m, X, max_iter=1),
    "standard_errors": lambda m: jaxgmm.standard_errors(m, X),
    "influence": lambda m: jaxgmm.influence(m, X),
    "bootstrap": lambda m: jaxgmm.bootstrap(KEY, m, X, 2, max_iter=1),
    "reparameterise": lambda m: jaxgmm.reparameterise(m, X),
    "sample": lambda m: jaxgmm.sample(KEY, m, 3),
    "sample_reparameterised": lambda m: jaxgmm.sample_reparameterised(KEY, m, 3),
    "marginal": lambda m: jaxgmm.marginal(m, [0]),
    "condition": lambda m: jaxgmm.condition(m, [0], [0.0]),
    "affine": lambda m: jaxgmm.affine(m, 2.0),
    "total_moments": jaxgmm.total_moments,
    "unconstrain": jaxgmm.unconstrain,
    "component_order": lambda m: jaxgmm.component_order(m, "weight"),
    **{name: lambda m, name=name: getattr(jaxgmm, name)(m, X) for name in ("log_joint", "responsibilities", "aic")},
    **{name: lambda m, name=name: getattr(jaxgmm, name)(m, X) for name in ("log_responsibilities", "uncertainty")},
    **{name: lambda m, name=name: getattr(jaxgmm, name)(m, X) for name in ("log_likelihood", "score", "icl")},
}
PAIRS = {
    "kl_divergence": lambda p, q: jaxgmm.kl_divergence(KEY, p, q, 100),
    **{name: getattr(jaxgmm, name) for name in ("kl_variational", "kl_upper_bound", "l2_divergence")},
    **{name: getattr(jaxgmm, name) for name in ("cauchy_schwarz_divergence", "wasserstein")},
}


@pytest.mark.parametrize("door", OF_MIXTURES)
def test_what_is_no_mixture_is_named(door):
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), MIXTURE)
    for given, error, message in (
        (X, TypeError, "mixture must be a Mixture or a FitResult, not ndarray"),
        ("full", TypeError, "mixture must be a Mixture or a FitResult, not str"),
        (jaxgmm.Mixture, TypeError, "mixture must be a Mixture or a FitResult, not the class Mixture"),
        (None, TypeError, "mixture must be a Mixture or a FitResult, not NoneType"),
        (jaxgmm.FitResult, TypeError, "mixture must be a Mixture or a FitResult, not the class FitResult"),
        (
            jaxgmm.Selection((), "bic"),
            TypeError,
            "mixture must be a Mixture or a FitResult, not Selection: pass its .best",
        ),
        (stack, ValueError, r"mixture is a stack \(2,\) of mixtures: map over it with jax.vmap"),
    ):
        with pytest.raises(error, match=message):
            OF_MIXTURES[door](given)


def same(found, wanted):
    found, structure = jax.tree.flatten(found)
    return structure == jax.tree.structure(wanted) and all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(found, jax.tree.leaves(wanted), strict=True)
    )


@pytest.mark.parametrize("door", [*OF_MIXTURES, *PAIRS])
def test_a_fit_is_taken_in_place_of_its_mixture(door):
    """Eagerly, and under jit whether it is an argument or closed over."""
    fitted = jaxgmm.run(jaxgmm.EM(), MIXTURE, X, max_iter=1)._replace(feature_names=Names(["a", "b"]))
    other = jaxgmm.affine(MIXTURE, 2.0)
    function = OF_MIXTURES[door] if door in OF_MIXTURES else lambda m: PAIRS[door](m, other)
    wanted = function(fitted.mixture)
    for thing in (fitted, jaxgmm.Candidate(2, "spherical", 1, result=fitted)):
        found = function(thing)
        if door == "run":
            assert found.feature_names == ("a", "b")
            found = found._replace(feature_names=None)
        assert same(found, wanted)
    if door in PAIRS:
        assert same(PAIRS[door](other, fitted), PAIRS[door](other, fitted.mixture))
    shapes = jax.tree.leaves(jax.eval_shape(function, fitted.mixture))
    assert jax.tree.leaves(jax.eval_shape(function, fitted)) == shapes
    assert jax.tree.leaves(jax.eval_shape(lambda: function(fitted))) == shapes


@pytest.mark.parametrize("door", PAIRS)
def test_pairs_are_of_the_same_columns(door):
    fitted = jaxgmm.run(jaxgmm.EM(), MIXTURE, X, max_iter=1)
    first, second = (fitted._replace(feature_names=Names(names)) for names in (["a", "b"], ["b", "a"]))
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), MIXTURE)
    for p, q, error, message in (
        (first, second, ValueError, r"p was fitted to the columns \['a', 'b'\], but q to \['b', 'a'\]"),
        (X, MIXTURE, TypeError, "p must be a Mixture or a FitResult, not ndarray"),
        (MIXTURE, None, TypeError, "q must be a Mixture or a FitResult, not NoneType"),
        (MIXTURE, stack, ValueError, r"q is a stack \(2,\) of mixtures: map over it with jax.vmap"),
        (MIXTURE, jaxgmm.marginal(MIXTURE, [0]), ValueError, "p has 2 columns, but q has 1"),
    ):
        with pytest.raises(error, match=message):
            PAIRS[door](p, q)
    assert same(PAIRS[door](first, fitted), PAIRS[door](fitted, first))
    with pytest.raises(ValueError, match=r"mixture was fitted to the columns \['a', 'b'\], but order to \['b', 'a'\]"):
        jaxgmm.relabel(first, second)


def test_what_is_no_point_in_unconstrained_coordinates_is_named():
    params = jaxgmm.unconstrain(MIXTURE)
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
    for function in (jaxgmm.constrain, jaxgmm.log_det_jacobian):
        for given, error, message in (
            (MIXTURE, TypeError, "params must be Params, as unconstrain returns them, not Mixture: pass it to unconst"),
            (X, TypeError, "params must be Params, as unconstrain returns them, not ndarray"),
            (None, TypeError, "params must be Params, as unconstrain returns them, not NoneType"),
            ("full", TypeError, "params must be Params, as unconstrain returns them, not str"),
            (stack, ValueError, r"params are of a stack \(2,\) of mixtures: map over it with jax.vmap"),
        ):
            with pytest.raises(error, match=message):
                function(given)
    np.testing.assert_allclose(jax.vmap(jaxgmm.constrain)(stack).means[1], MIXTURE.means)


def test_columns_are_asked_for_by_index():
    for dims in (["a"], [0.5], None, "a", [True], [[0, 1]]):
        with pytest.raises(TypeError, match="each of dims must be an integer, not"):
            jaxgmm.marginal(MIXTURE, dims)
        with pytest.raises(TypeError, match="each of dims must be an integer, not"):
            jaxgmm.condition(MIXTURE, dims, [0.0])


# Weights: refused by fits where they are seen, NaN where they are traced or in a density

FITS_OF_WEIGHTS = {
    "run": lambda w: jaxgmm.run(jaxgmm.EM(), MIXTURE, X, w, max_iter=3),
    "run of Rows": lambda w: jaxgmm.run(jaxgmm.EM(), MIXTURE, jaxgmm.Rows(jnp.asarray(X), jnp.asarray(w)), max_iter=3),
    "accelerated": lambda w: jaxgmm.run(jaxgmm.Accelerated(jaxgmm.EM()), MIXTURE, X, w, max_iter=3),
    "gradient": lambda w: jaxgmm.run(jaxgmm.Gradient(optax.adam(0.1)), MIXTURE, X, w, max_iter=3),
    "L-BFGS": lambda w: jaxgmm.run(jaxgmm.Gradient(optax.lbfgs()), MIXTURE, X, w, max_iter=3),
    "solution": lambda w: jaxgmm.solution(jaxgmm.EM(), MIXTURE, X, w, max_iter=3),
    "standard_errors": lambda w: jaxgmm.standard_errors(MIXTURE, X, w),
    "influence": lambda w: jaxgmm.influence(MIXTURE, X, w),
    "influence on one": lambda w: jaxgmm.influence(MIXTURE, X, w, function=lambda m: m.means[0, 0]),
    "bootstrap": lambda w: jaxgmm.bootstrap(KEY, MIXTURE, X, 2, sample_weight=w, max_iter=2),
}
STARTS_OF_WEIGHTS = {
    "from_responsibilities": lambda w: jaxgmm.from_responsibilities(X, HALF, w),
    **{
        name: lambda w, name=name: jaxgmm.initialize(KEY, X, 2, w, method=name)
        for name in jaxgmm.fitting.starts.drawn.METHODS
    },
}
DENSITIES_OF_WEIGHTS = {
    "log_likelihood": lambda w: jaxgmm.log_likelihood(MIXTURE, X, w),
    "score": lambda w: jaxgmm.score(MIXTURE, X, w),
    "e_step": lambda w: jaxgmm.e_step(MIXTURE, X, w),
    "aic": lambda w: jaxgmm.aic(MIXTURE, X, w),
    "bic": lambda w: jaxgmm.bic(MIXTURE, X, w),
    "icl": lambda w: jaxgmm.icl(MIXTURE, X, w),
}
COUNTS_OF_ROWS = {
    "aic": lambda n: jaxgmm.aic(MIXTURE, X, n=n),
    "bic": lambda n: jaxgmm.bic(MIXTURE, X, n=n),
    "icl": lambda n: jaxgmm.icl(MIXTURE, X, n=n),
    "select": lambda n: jaxgmm.select(KEY, X, [1], n=n),
}
BAD_WEIGHTS = [-1.0, np.nan, np.inf]


def weighted(value, row=7):
    weights = np.ones(20)
    weights[row] = value
    return weights


@pytest.mark.parametrize("door", [*FITS_OF_WEIGHTS, *STARTS_OF_WEIGHTS])
def test_a_bad_weight_is_refused_where_it_is_seen(door):
    function = (FITS_OF_WEIGHTS | STARTS_OF_WEIGHTS)[door]
    for bad in BAD_WEIGHTS:
        with pytest.raises(ValueError, match=f"sample_weight must be finite and at least 0, but holds {bad} in row 7"):
            function(weighted(bad))
    with pytest.raises(ValueError, match="sample_weight is zero for every row"):
        function(np.zeros(20))


@pytest.mark.parametrize("bad", BAD_WEIGHTS)
@pytest.mark.parametrize("door", FITS_OF_WEIGHTS)
def test_a_bad_weight_that_is_traced_never_makes_a_fit(door, bad):
    answer = jax.jit(FITS_OF_WEIGHTS[door])(weighted(bad))
    status = getattr(answer, "status", None)
    if status is not None:
        assert np.all(status == jaxgmm.Status.NONFINITE)
    else:
        assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(answer))


@pytest.mark.parametrize("door", STARTS_OF_WEIGHTS)
def test_a_bad_weight_that_is_traced_makes_a_start_of_nan(door):
    for bad in BAD_WEIGHTS:
        start = jax.jit(STARTS_OF_WEIGHTS[door])(weighted(bad))
        assert np.isnan(jaxgmm.log_prob(start, X)).all()


def test_a_bad_weight_that_is_traced_is_not_lost_among_drawn_rows():
    with programs_with({"jaxgmm.data.draws.MOST_ROWS": 16}):
        initialize = jax.jit(lambda w: jaxgmm.initialize(KEY, X, 2, w))
        for row in (0, 7, 19):
            assert np.isnan(jaxgmm.log_prob(initialize(weighted(-1.0, row)), X)).all()


@pytest.mark.parametrize("bad", BAD_WEIGHTS)
@pytest.mark.parametrize("door", DENSITIES_OF_WEIGHTS)
def test_a_bad_weight_makes_nan_of_a_density(door, bad):
    for function in (DENSITIES_OF_WEIGHTS[door], jax.jit(DENSITIES_OF_WEIGHTS[door])):
        answer = function(weighted(bad))
        value = answer[1] if door == "e_step" else answer
        assert np.isnan(value)
        assert door != "e_step" or np.isnan(answer[0].mass).all()


@pytest.mark.parametrize("door", COUNTS_OF_ROWS)
def test_a_criterion_asks_for_a_number_of_rows(door):
    for bad in (0, 0.5, -3, np.nan, np.inf):
        with pytest.raises(ValueError, match="n must be finite and at least 1, a number of rows, not"):
            COUNTS_OF_ROWS[door](bad)
    for bad in ("20", [20.0, 20.0]):
        with pytest.raises(TypeError, match="n must be a number, not"):
            COUNTS_OF_ROWS[door](bad)
    if door != "select":
        compiled = jax.jit(COUNTS_OF_ROWS[door])
        np.testing.assert_allclose(compiled(len(X)), COUNTS_OF_ROWS[door](None), rtol=1e-6)
        assert all(np.isnan(compiled(bad)) for bad in (0.5, -3.0, np.nan, np.inf))


def test_one_bad_weight_leaves_the_other_fits_of_a_vmap_alone():
    weights = np.stack([np.ones(20), weighted(np.nan), weighted(-1.0), weighted(0.0)])
    fits = jax.vmap(lambda w: jaxgmm.run(jaxgmm.EM(), MIXTURE, X, w, max_iter=3))(weights)
    nonfinite = jaxgmm.Status.NONFINITE
    assert [status == nonfinite for status in fits.status] == [False, True, True, False]
    np.testing.assert_allclose(fits.objective[0], jaxgmm.run(jaxgmm.EM(), MIXTURE, X, max_iter=3).objective, rtol=1e-5)


@pytest.mark.exhaustive
def test_rows_without_weight_may_hold_anything_in_a_traced_fit_too():
    kept = np.arange(20) != 7
    expected = jaxgmm.run(jaxgmm.EM(), MIXTURE, X[kept], max_iter=5)
    found = jax.jit(lambda x, w: jaxgmm.run(jaxgmm.EM(), MIXTURE, x, w, max_iter=5))(spoiled(np.nan), weighted(0.0))
    np.testing.assert_allclose(found.objective, expected.objective, rtol=1e-5)
    np.testing.assert_allclose(found.mixture.means, expected.mixture.means, rtol=1e-4, atol=1e-5)
    start = jax.jit(lambda x, w: jaxgmm.initialize(KEY, x, 2, w))(spoiled(np.nan), weighted(0.0))
    assert np.isfinite(start.covariances).all()


# What the core asks for


def test_the_core_asks_for_a_tolerance():
    for tol, error, message in (
        ("a", TypeError, "tol must be a number, not 'a'"),
        ("1e-6", TypeError, "tol must be a number, not '1e-6'"),
        (b"1", TypeError, "tol must be a number, not b'1'"),
        (None, TypeError, "tol must be a number, not None"),
        (-1.0, ValueError, "tol must be at least 0, not -1.0"),
        (np.nan, ValueError, "tol must be at least 0, not nan"),
        (jnp.asarray(-1.0), ValueError, "tol must be at least 0, not -1.0"),
    ):
        for door in (
            lambda tol: jaxgmm.run(jaxgmm.EM(), MIXTURE, X, max_iter=1, tol=tol),
            lambda tol: jaxgmm.solution(jaxgmm.EM(), MIXTURE, X, max_iter=1, tol=tol),
            lambda tol: jaxgmm.bootstrap(KEY, MIXTURE, X, 2, max_iter=1, tol=tol),
        ):
            with pytest.raises(error, match=message):
                door(tol)
    traced = jax.vmap(lambda tol: jaxgmm.run(jaxgmm.EM(), MIXTURE, X, max_iter=30, tol=tol).n_iter)(jnp.array([0, 1.0]))
    assert traced[0] == 30 > traced[1]


def test_starts_ask_for_a_prior_and_for_responsibilities_of_the_rows_that_count():
    for prior, error, message in (
        (0.1, TypeError, r"prior must be Ridge\(\) or None, not 0.1"),
        (jaxgmm.Ridge, TypeError, r"prior must be Ridge\(\) or None"),
        (jaxgmm.Ridge(-1.0), ValueError, "strength of the prior must be at least 0"),
    ):
        with pytest.raises(error, match=message):
            jaxgmm.initialize(KEY, X, 2, prior=prior)
    nothing = r"init as responsibilities is zero for every row of positive weight"
    with pytest.raises(ValueError, match=nothing):
        jaxgmm.fit(KEY, X, 2, init=0 * HALF)
    with pytest.raises(ValueError, match=nothing):
        jaxgmm.fit(KEY, X, 2, weighted(0.0), init=np.where(np.arange(20)[:, None] == 7, HALF, 0.0))
    with pytest.raises(
        ValueError, match="init as responsibilities must be finite and at least 0, but holds nan in row 3"
    ):
        jaxgmm.fit(KEY, X, 2, init=np.where(np.arange(20)[:, None] == 3, np.nan, HALF))


def test_a_grid_asks_for_candidates_by_name():
    for options, error, message in (
        (dict(covariance_types=None), TypeError, "each of covariance_types must be a name or a family, not NoneType"),
        (dict(covariance_types=[None]), TypeError, "each of covariance_types must be a name or a family, not NoneType"),
        (dict(covariance_types=3), TypeError, "each of covariance_types must be a name or a family, not int"),
        (dict(covariance_types=()), ValueError, "covariance_types is empty: it must name at least one candidate"),
        (dict(n_components=()), ValueError, "n_components is empty: it must name at least one candidate"),
        (dict(n_components=None), TypeError, "n_components must be an integer, not None"),
    ):
        with pytest.raises(error, match=message):
            jaxgmm.select(KEY, X, **(dict(n_components=[1]) | options))
    single = jaxgmm.select(KEY, X, 1, jaxgmm.model.families.diagonal.DIAG, **QUICK)
    assert [(c.n_components, c.covariance_type) for c in single] == [(1, "diag")]


# Labels


@pytest.mark.parametrize("function", [jaxgmm.predict, jax.jit(jaxgmm.predict)], ids=["eager", "jit"])
def test_a_row_with_nan_has_no_label_and_a_far_row_has_the_nearest(function):
    big = float(jnp.finfo(jnp.asarray(X).dtype).max) / 10
    x = np.array([[0.0, 0.0], [np.nan, 0.0], [0.0, np.nan], [9.0, 9.0], [big, -big]])
    labels = function(MIXTURE, x)
    assert labels[1] == labels[2] == -1 and jnp.issubdtype(labels.dtype, jnp.integer)
    assert labels[0] == 0 and labels[3] == labels[4] == 1, "the wider component is the nearer to far rows"
    one = jaxgmm.make_mixture([1.0], [[0, 0]], [1], covariance_type="spherical")
    np.testing.assert_array_equal(function(one, x), [0, -1, -1, 0, 0])
    np.testing.assert_array_equal(np.isnan(jaxgmm.uncertainty(one, x)), [False, True, True, False, False])


def test_draws_from_weights_that_are_nan_are_nan():
    weights = jnp.array([0.5, np.nan])
    mixture = jax.jit(lambda w: jaxgmm.make_mixture(w, [[0, 0], [1, 1]], [1, 2], covariance_type="spherical"))(weights)
    x, labels = jaxgmm.sample(KEY, mixture, 3)
    assert np.isnan(x).all() and (np.asarray(labels) == -1).all()


def test_algorithms_and_priors_are_asked_to_the_core():
    for algorithm, message in (
        (jaxgmm.Gradient(None), "Gradient needs an optax optimiser such as .*, not None"),
        (jaxgmm.Accelerated("EM"), r"algorithm must be EM\(\), .*, not 'EM'"),
        (jaxgmm.Accelerated(jaxgmm.EM), r"algorithm must be EM\(\), .*class"),
        (jaxgmm.Accelerated(jaxgmm.Accelerated()), r"Accelerated needs EM\(\), not Accelerated"),
        (jaxgmm.Accelerated(jaxgmm.Gradient(optax.adam(0.1))), r"Accelerated needs EM\(\), not Gradient"),
        (jaxgmm.Accelerated(order=2.0), "order must be an integer, not 2.0"),
        (None, r"algorithm must be EM\(\), .*, not None"),
    ):
        with pytest.raises(TypeError, match=message):
            jaxgmm.run(algorithm, MIXTURE, X, max_iter=1)
        with pytest.raises(TypeError, match=message):
            jaxgmm.fit(KEY, X, 2, algorithm=algorithm)
        with pytest.raises(TypeError, match=message):
            jaxgmm.select(KEY, X, [1], algorithm=algorithm)
    with pytest.raises(ValueError, match="order must be at least 1, not 0"):
        jaxgmm.run(jaxgmm.Accelerated(order=0), MIXTURE, X)
    for strength, error in ((-1.0, ValueError), (np.nan, ValueError), ("1", TypeError), ([1.0, 2.0], TypeError)):
        with pytest.raises(error, match="strength of the prior must be"):
            jaxgmm.fit(KEY, X, 2, prior=jaxgmm.Ridge(strength))
    with pytest.raises(TypeError, match="tol must be a number, not '1'"):
        jaxgmm.fit(KEY, X, 2, tol="1")


# make_mixture: the rows that test_errors does not have


@pytest.mark.parametrize("place,name", [(0, "weights"), (1, "means"), (2, "covariances")])
@pytest.mark.parametrize("kind", REFUSED)
def test_each_array_of_a_mixture_must_hold_numbers(place, name, kind):
    make, error, message = REFUSED[kind]
    arrays = [[0.5, 0.5], np.zeros((2, 2)), [1.0, 1.0]]
    arrays[place] = make()
    with pytest.raises(error, match=message.replace("{x}", name)):
        jaxgmm.make_mixture(*arrays, covariance_type="spherical")


@pytest.mark.parametrize(
    "weights,means,covariances,covariance_type,message",
    [
        (1.0, [[0.0]], [1.0], "spherical", r"weights must have shape \(1,\), one for each of means, not \(\)"),
        ([[1.0]], [[0.0]], [1.0], "spherical", r"weights must have shape \(1,\), .*not \(1, 1\)"),
        ([], np.zeros((0, 2)), [], "spherical", r"means must have shape \(K, D\), not \(0, 2\)"),
        ([1.0], [[0.0]], [np.inf], "spherical", "finite and positive, but component 0 has inf"),
        ([1.0], [[0.0]], np.array([1e-310]), "spherical", "component 0 has 1e-310, which counts as 0 in float64"),
        ([1.0], [[0.0]], np.array([[[1e-310]]]), "full", "positive definite, but component 0 is not in float64"),
        (np.float32([1]), [[1e60]], np.float32([1]), "spherical", "means must be finite, but component 0 has inf in"),
        ([1.0], [[0.0, 0.0]], [[[1.0, np.inf], [np.inf, 1.0]]], "full", "component 0 holds NaN or infinity"),
        ([1.0], [[0.0, 0.0]], [[[-1.0, 0.0], [0.0, 1.0]]], "full", "positive definite, but component 0 is not"),
        ([0.5, 0.5], [[0.0], [0.0]], [[1.0], [-1.0]], "diag", "positive, but component 1 has -1.0"),
        ([1, 1], [[0.0], [0.0]], [1.0, 1.0], "spherical", "weights must sum to 1, not 2"),
    ],
)
def test_mixtures_from_more_bad_arrays(weights, means, covariances, covariance_type, message):
    if "float64" in message and not jax.config.jax_enable_x64:
        pytest.skip("its numbers are 0 in float32")
    with pytest.raises(ValueError, match=message):
        jaxgmm.make_mixture(weights, means, covariances, covariance_type=covariance_type)


def test_mixtures_from_arrays_of_every_make():
    pandas = pytest.importorskip("pandas")
    plain = jaxgmm.make_mixture([0.5, 0.5], [[0.0, 1.0], [2.0, 3.0]], [1.0, 2.0], covariance_type="spherical")
    for dtype in (np.float16, ">f8", np.longdouble):
        arrays = [np.array(array, dtype) for array in ([0.5, 0.5], [[0, 1], [2, 3]], [1, 2])]
        found = jaxgmm.make_mixture(*arrays, covariance_type="spherical")
        np.testing.assert_allclose(found.means, plain.means)
        np.testing.assert_allclose(found.covariances, plain.covariances, rtol=1e-6)
    tables = pandas.Series([0.5, 0.5]), pandas.DataFrame([[0, 1], [2, 3]]), pandas.Series([1, 2])
    np.testing.assert_allclose(jaxgmm.make_mixture(*tables, covariance_type="spherical").means, plain.means)


# scikit-learn's manner

METHODS = ("predict", "predict_proba", "score_samples", "score", "aic", "bic")


def estimators():
    ours, theirs = pytest.importorskip("jaxgmm.sklearn"), pytest.importorskip("sklearn.mixture")
    return ours.GaussianMixture, theirs.GaussianMixture


def said(call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except Exception as error:
            return type(error), str(error)
    return None


CONVERTED = ["strings", "bytes", "StringDType", "dates", "durations", "masked", "masked rows"]
"""What scikit-learn makes numbers of, and this library does not."""


@pytest.mark.parametrize("name", CONVERTED)
def test_the_estimator_converts_no_text_no_dates_and_no_masks(name):
    ours, theirs = estimators()
    make, error, message = REFUSED[name]
    assert said(lambda: theirs(2, random_state=0, max_iter=2).fit(make())) is None
    model = ours(2, random_state=0, max_iter=2)
    with pytest.raises(error, match=message.replace("{x}", "X")):
        model.fit(make())
    said(lambda: model.fit(X))
    for method in METHODS:
        with pytest.raises(error, match=message.replace("{x}", "X")):
            getattr(model, method)(make())


def test_the_estimator_converts_no_text_in_lists_and_tables():
    pandas = pytest.importorskip("pandas")
    ours, _ = estimators()
    text = X.astype(object)
    text[19, 1] = "1.5"
    named = r"column 1 \('b'\) of X must hold real numbers, but has dtype object: objects; convert to float first"
    for x, message in (
        (X.astype(str).tolist(), "X must hold real numbers, .*strings; convert to float first"),
        (text, "X must hold real numbers, but has dtype object: objects; convert to float first"),
        (pandas.DataFrame(text, columns=["a", "b"]), named),
        (pandas.DataFrame(X).astype(str), "X must hold real numbers"),
        (beside(X[:, 0] + 1j), r"column 0 \('a'\) of X must hold real numbers, .*complex"),
        (pandas.DataFrame({"a": pandas.to_datetime(X[:, 0])}), "of X must hold real numbers, .*dates"),
        (np.ma.masked_array(X, X > 1), "X is a masked array with masked entries"),
    ):
        with pytest.raises(TypeError, match=message):
            ours(2).fit(x)
    plain, objects, unmasked = (
        ours(2, random_state=0, tol=1.0).fit(x).means_ for x in (X, X.astype(object), np.ma.masked_array(X, False))
    )
    np.testing.assert_array_equal(objects, plain)
    np.testing.assert_array_equal(unmasked, plain)


IN_ITS_WORDS = [name for name in (*REFUSED, *SHAPES, "inf", "None") if name not in CONVERTED]


@pytest.mark.parametrize("name", [name for name in IN_ITS_WORDS if not name.endswith("beside numbers")])
def test_the_estimator_refuses_what_scikit_learns_does_in_its_words(name):
    others = {"inf": lambda: spoiled(np.inf), "None": lambda: None}
    make = others.get(name) or (REFUSED.get(name) or SHAPES[name])[0]
    ours, theirs = (kind(2, random_state=0, max_iter=2) for kind in estimators())
    refusal = said(lambda: ours.fit(make()))
    assert refusal == said(lambda: theirs.fit(make()))
    said(lambda: ours.fit(X))
    for method in METHODS if refusal else ():
        with pytest.raises(refusal[0]):
            getattr(ours, method)(make())


@pytest.mark.parametrize("name", OTHER_COLUMNS)
def test_the_estimator_counts_columns(name):
    ours, _ = estimators()
    model = ours(2, random_state=0, max_iter=2)
    said(lambda: model.fit(X))
    for method in METHODS:
        with pytest.raises(ValueError, match="X has . features, but GaussianMixture is expecting 2 features"):
            getattr(model, method)(OTHER_COLUMNS[name]())


@pytest.mark.parametrize(
    "weights,error,message",
    [
        (["a"] * 20, TypeError, "sample_weight must hold real numbers"),
        (np.ones(19), ValueError, r"sample_weight must have shape \(20,\)"),
        (-np.ones(20), ValueError, "holds -1.0 in row 0"),
        (np.zeros(20), ValueError, "sample_weight is zero for every row"),
        (np.where(np.arange(20) == 3, np.nan, 1.0), ValueError, "holds nan in row 3"),
    ],
)
def test_the_estimator_asks_of_weights(weights, error, message):
    ours, _ = estimators()
    model = ours(2, random_state=0, max_iter=2)
    said(lambda: model.fit(X))
    for method in ("fit", "fit_predict", "score", "aic", "bic"):
        with pytest.raises(error, match=message):
            getattr(model, method)(X, sample_weight=weights)


@pytest.mark.parametrize(
    "others", [{}, dict(weights_init=[0.5, 0.5], precisions_init=[1.0, 1.0])], ids=["part", "whole"]
)
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_the_estimator_asks_of_means_to_start_from(others, bad):
    ours, _ = estimators()
    model = ours(2, covariance_type="spherical", means_init=[[0.0, 0.0], [1.0, bad]], **others)
    with pytest.raises(ValueError, match=f"^means_init must be finite, but component 1 has {bad} in column 1"):
        model.fit(X)


# save and load


def test_what_is_no_mixture_is_not_saved(tmp_path):
    for value in (None, X, tmp_path, jaxgmm.unconstrain(MIXTURE), jaxgmm.Mixture):
        with pytest.raises(TypeError, match="save takes a Mixture or a FitResult, not"):
            jaxgmm.save(tmp_path / "new.npz", value)
    for path in (None, 3, MIXTURE):
        with pytest.raises(TypeError, match="os.PathLike object"):
            jaxgmm.save(path, MIXTURE)
        with pytest.raises(TypeError, match="os.PathLike object"):
            jaxgmm.load(path)
    with pytest.raises(ValueError, match="'.' cannot be loaded: it is not a regular file"):
        jaxgmm.load("")
    jaxgmm.save(tmp_path / "mixture.npz", MIXTURE)
    for dtype in ("float16", "real", 3, X, {"a": 1}, "f4,]", int):
        with pytest.raises(ValueError, match="dtype must be float32, float64 or None, not "):
            jaxgmm.load(tmp_path / "mixture.npz", dtype=dtype)
    for dtype in ("float32", np.float32, jnp.float32, np.dtype("<f4")):
        assert jaxgmm.load(tmp_path / "mixture.npz", dtype=dtype).means.dtype == np.float32


# Pictures


@pytest.mark.parametrize("name", DRAWN)
def test_pictures_ask_of_weights_and_of_values(name):
    draw = getattr(pytest.importorskip("jaxgmm.plotting"), name)
    for x, options, error, message in (
        (spoiled(np.nan), {}, ValueError, "x holds nan in row 7, column 1: drop such rows"),
        (spoiled(np.inf), {}, ValueError, "x holds inf in row 7, column 1: drop such rows"),
        (X, dict(sample_weight=-np.ones(20)), ValueError, "sample_weight must be finite and at least 0"),
        (X, dict(sample_weight=np.zeros(20)), ValueError, "sample_weight is zero for every row"),
        (X, dict(sample_weight=["a"] * 20), TypeError, "sample_weight must hold real numbers"),
        (X, dict(dims=[2, 3]), ValueError, "dims names column 2, but the mixture has 2"),
    ):
        with pytest.raises(error, match=message):
            draw(MIXTURE, x, **options)
    for mixture in (None, X, "full", jaxgmm.Mixture):
        with pytest.raises(TypeError, match="mixture must be a Mixture or a FitResult, not"):
            draw(mixture, X)


@pytest.mark.parametrize(
    "options,error,message",
    [
        (dict(n_rows="a"), TypeError, "n_rows must be a number, not 'a'"),
        (dict(n_rows="20"), TypeError, "n_rows must be a number, not '20'"),
        (dict(n_rows=0), ValueError, "n_rows must be above 0 and finite, not 0.0"),
        (dict(n_rows=-3), ValueError, "n_rows must be above 0 and finite, not -3.0"),
        (dict(n_rows=np.nan), ValueError, "n_rows must be above 0 and finite, not nan"),
        (dict(n_rows=X), TypeError, "n_rows must be a number, not array"),
        (dict(best="a"), TypeError, "best must be a number, not 'a'"),
        (dict(best=np.nan), ValueError, "best must be finite, not nan"),
        (dict(best=-np.inf), ValueError, "best must be finite, not -inf"),
    ],
)
def test_traces_ask_for_numbers(options, error, message):
    traces = pytest.importorskip("jaxgmm.plotting").traces
    result = jaxgmm.run(jaxgmm.EM(), MIXTURE, X, max_iter=2)
    with pytest.raises(error, match=message):
        traces(result, **options)


def count():
    """How many inputs were tried at how many doors, and what came of it."""
    wrong = [
        said
        for _, doors, make, error, message in refusals()
        for said in (outcome(door, make(), error, message) for door in doors)
        if said
    ]
    refused = sum(len(doors) for _, doors, *_ in refusals()) - len(wrong)
    right = 0
    for name in RIGHT:
        for door in [*ROW_BY_ROW, *IN_ALL, *HOST]:
            found, wanted = answers(name, door)
            if found.shape == wanted.shape and np.allclose(found, wanted, rtol=2e-6, atol=1e-6):
                right += 1
            else:
                wrong.append(f"{door} of {name}: {found} in place of {wanted}")
    for line in wrong:
        print(line)
    print(f"{right + refused + len(wrong)} tried, {right} right, {refused} refused, {len(wrong)} wrong")


if __name__ == "__main__":
    count()


def test_columns_by_name_are_not_known_to_a_mixture():
    mixture = jaxgmm.make_mixture([1.0], [[0.0, 0.0]], [1.0], covariance_type="spherical")
    for dims in (["mass"], "mass", [0.5], [True]):
        with pytest.raises(TypeError, match="each of dims must be an integer, not"):
            jaxgmm.marginal(mixture, dims)


def test_rows_of_integers_or_lists_are_rows_of_floats():
    """Integers of eight bits would wrap where rows are centred."""
    small = (40 * np.arange(20) % 250)[:, None].astype(np.uint8)
    mixture = jaxgmm.make_mixture(
        [0.5, 0.5], np.float32([[50], [200]]), np.float32([900, 900]), covariance_type="spherical"
    )
    prior, weights = jaxgmm.Ridge(1e-2), jnp.ones(20)
    expected = jaxgmm.run(jaxgmm.EM(), mixture, small, prior=prior)
    for rows in (jaxgmm.Rows(jnp.asarray(small), weights), jaxgmm.Rows(small.tolist(), [1] * 20)):
        found = jaxgmm.run(jaxgmm.EM(), mixture, rows, prior=prior)
        np.testing.assert_allclose(found.mixture.covariances, expected.mixture.covariances, rtol=1e-6)
    with pytest.raises(TypeError, match="the weights of x must hold real numbers"):
        jaxgmm.log_likelihood(mixture, jaxgmm.Rows(small, np.array(["a"] * 20)))


def test_four_bit_integers_are_numbers():
    mixture = jaxgmm.make_mixture([1.0], [[0.0]], [1.0], covariance_type="spherical")
    x = np.arange(-3, 4)[:, None]
    for array in (x.astype(jnp.int4), jnp.asarray(x, jnp.int4)):
        np.testing.assert_allclose(jaxgmm.log_prob(mixture, array), jaxgmm.log_prob(mixture, x), rtol=1e-6)


def test_moments_of_different_kinds_are_not_merged():
    x = np.random.default_rng(0).normal(size=(40, 2))
    full = jaxgmm.from_responsibilities(x, np.eye(2)[np.arange(40) % 2])
    held = jaxgmm.e_step(full, x)[0]
    one = jax.tree.map(lambda leaf: leaf[:1], held)
    for family, kind in (("tied", "pooled"), ("diag", "diagonal"), ("spherical", "scalar")):
        other = held._replace(scatter=jaxgmm.FAMILIES[family].statistic.of_dense(held.scatter))
        with pytest.raises(ValueError, match=rf"one has dense scatter and \(2, 2\) means, the other {kind} scatter"):
            jaxgmm.merge(held, other)
    with pytest.raises(ValueError, match=r"the other dense scatter and \(1, 2\) means"):
        jaxgmm.merge(held, one)
