"""Standard errors, the bootstrap and the influence of rows agree with each other, with refits and with closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import EM, Ridge, Status
from jaxgmm.inference.information import Parameters
from tests import cases
from tests.cases import FAMILIES

KEY = jax.random.key(0)


def fitted(family, n_rows=150, prior=None, dtype=np.float64, n_components=2):
    start, x, weights = cases.drawn_rows(
        family, n_rows=n_rows, n_components=n_components, n_features=2, dtype=dtype, seed=3
    )
    refit = jax.jit(lambda w: jaxgmm.run(EM(), start, x, w, prior=prior, tol=0, max_iter=1500).mixture)
    return refit, x, weights


@pytest.mark.parametrize("family", FAMILIES)
def test_one_component_has_the_textbooks_standard_errors(family, dtype):
    refit, x, weights = fitted(family, n_components=1, dtype=dtype)
    mixture = refit(weights)
    errors = jaxgmm.standard_errors(mixture, x, weights)
    n, covariance = weights.sum(), np.asarray(mixture.covariances[0])
    np.testing.assert_allclose(errors.weights, 0, atol=1e-7)
    np.testing.assert_allclose(errors.means[0], np.sqrt(np.diag(covariance) / n), rtol=1e-4)
    variances = np.diag(covariance)
    expected = np.sqrt((covariance**2 + np.outer(variances, variances)) / n)
    if family in ("diag", "spherical"):
        expected = np.sqrt(2 * covariance**2 / n) / (np.sqrt(2) if family == "spherical" else 1)
    np.testing.assert_allclose(errors.covariances[0], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_the_sandwich_of_one_component_is_whites(family, dtype):
    refit, x, weights = fitted(family, n_components=1, dtype=dtype)
    mixture = refit(weights)
    errors = jaxgmm.standard_errors(mixture, x, weights, sandwich=True)
    n, shift = weights.sum(), x - np.asarray(mixture.means[0], np.float64)
    np.testing.assert_allclose(errors.means[0], np.sqrt(weights @ shift**2) / n, rtol=1e-4)
    if family in ("full", "tied", "diag"):
        fourth = weights @ (shift**2 - np.diag(mixture.covariances[0])) ** 2
        np.testing.assert_allclose(np.diag(errors.covariances[0]), np.sqrt(fourth) / n, rtol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
@pytest.mark.parametrize("kind,sandwich", [("resampled", True), ("parametric", False)])
@pytest.mark.parametrize("family", ["full", "spherical"])
def test_the_bootstrap_agrees_with_the_asymptotics(family, kind, sandwich):
    refit, x, _ = fitted(family, n_rows=600)
    mixture = refit(np.ones(len(x)))
    asymptotic = jaxgmm.standard_errors(mixture, x, sandwich=sandwich)
    again = jaxgmm.bootstrap(KEY, mixture, x, 120, kind, max_iter=5000)
    assert (np.asarray(again.status) == Status.CONVERGED).all() and again.mixtures.means.shape == (120, 2, 2)
    for name in Parameters._fields:
        # A standard deviation of 120 draws is off by 6.5%.
        expected, found = getattr(asymptotic, name), getattr(again.standard_errors, name)
        np.testing.assert_allclose(found, expected, rtol=0.25, atol=1e-12, err_msg=name)


@pytest.mark.exhaustive
def test_the_bootstrap_takes_keys_of_any_kind(dtype):
    mixture, x, _ = cases.drawn_rows("spherical", n_rows=60, n_components=2, n_features=2, dtype=dtype)
    again = jaxgmm.bootstrap(jax.random.key(0, impl="rbg"), mixture, x, 3, max_iter=20)
    means = np.asarray(again.mixtures.means)
    assert np.isfinite(means).all() and len(np.unique(means[:, 0, 0])) == 3


def test_the_bootstrap_counts_rows_of_any_weight():
    """Beyond 2³¹ a count is no int32: of a row that weighs w it has mean and variance w."""
    from jaxgmm.inference.bootstrap import _counts

    for weight in (3.0, 1e5, 1e8, 1e12):
        rates = jnp.full(20_000, weight, jnp.float32)
        off = (np.asarray(_counts(KEY, rates), np.float64) - weight) / np.sqrt(weight)
        assert abs(off.mean()) < 0.04 and abs(off.var() - 1) < 0.1, weight


@pytest.mark.needs_x64
def test_integer_weights_equal_repeated_rows():
    refit, x, _ = fitted("full")
    # As many rows again, so that both have one program.
    counts = np.bincount(np.random.default_rng(0).integers(0, len(x), len(x)), minlength=len(x))
    mixture = refit(counts.astype(float))
    repeated = np.repeat(x, counts, axis=0)
    for sandwich in (False, True):
        weighed = jaxgmm.standard_errors(mixture, x, counts, sandwich=sandwich)
        counted = jaxgmm.standard_errors(mixture, repeated, sandwich=sandwich)
        for one, other in zip(weighed, counted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.needs_x64
@pytest.mark.parametrize("sandwich", [False, True], ids=["information", "sandwich"])
@pytest.mark.parametrize("prior", [None, Ridge(1e-2)], ids=["flat", "ridge"])
def test_weights_that_are_no_counts_are_those_of_as_many_rows_as_bic_counts(prior, sandwich):
    refit, x, weights = fitted("full", prior=prior)
    mixture = refit(np.ones(len(x)))
    plain = jaxgmm.standard_errors(mixture, x, prior=prior, sandwich=sandwich)
    with pytest.warns(UserWarning, match="sums to 1 over 150 rows.*standard_errors takes the data as 150 rows, Kish"):
        shared = jaxgmm.standard_errors(mixture, x, np.full(len(x), 1 / len(x)), prior=prior, sandwich=sandwich)
    for one, other in zip(shared, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    # Of uneven ones 150 rows weigh as 130 do: 130 / 150 of the information, at any sum below 150.
    mixture, kish = refit(weights), weights.sum() ** 2 / (weights**2).sum()
    assert 125 < kish < 135
    counted = jaxgmm.standard_errors(mixture, x, weights / weights.mean(), prior=prior, sandwich=sandwich)
    for total in (1.0, 140.0):
        few = weights / weights.sum() * total
        with pytest.warns(UserWarning, match="Kish"):
            found = jaxgmm.standard_errors(mixture, jaxgmm.Rows(x, few), prior=prior, sandwich=sandwich)
        for one, other in zip(found, counted, strict=True):
            np.testing.assert_allclose(one, other * np.sqrt(150 / kish), rtol=1e-9, atol=1e-12)
    traced = jax.jit(lambda w: jaxgmm.standard_errors(mixture, x, w, prior=prior, sandwich=sandwich))(few)
    np.testing.assert_allclose(traced.means, found.means, rtol=1e-9)


@pytest.mark.parametrize("prior", [None, Ridge(1e-2)], ids=["flat", "ridge"])
def test_the_bootstrap_scales_weights_that_are_no_counts(prior, dtype):
    mixture, x, _ = cases.drawn_rows("diag", n_rows=150, n_components=2, n_features=2, dtype=dtype)
    plain = jaxgmm.bootstrap(KEY, mixture, x, 6, prior=prior, max_iter=20)
    with pytest.warns(UserWarning, match="bootstrap takes the data as 150 rows, Kish"):
        shared = jaxgmm.bootstrap(KEY, mixture, x, 6, sample_weight=np.full(150, 1 / 150), prior=prior, max_iter=20)
    assert (np.asarray(shared.status) <= Status.MAX_ITER).all()
    np.testing.assert_allclose(shared.mixtures.means, plain.mixtures.means, rtol=1e-3)
    np.testing.assert_allclose(shared.standard_errors.means, plain.standard_errors.means, rtol=1e-2)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
@pytest.mark.parametrize("prior", [None, Ridge(1e-2)], ids=["flat", "ridge"])
def test_influence_of_a_row_without_weight_is_the_same_by_every_way(prior):
    refit, x, weights = fitted("tied", prior=prior)
    none, up = (np.where(np.arange(len(x)) == 5, w, weights) for w in (0.0, 1e-5))
    mixture = refit(none)
    expected = (refit(up).means - mixture.means) / 1e-5
    np.testing.assert_allclose(jaxgmm.influence(mixture, x, none, prior=prior).means[5], expected, rtol=1e-3, atol=1e-6)
    one = jaxgmm.influence(mixture, x, none, prior=prior, function=lambda m: m.means[0, 0])
    np.testing.assert_allclose(one[5], expected[0, 0], rtol=1e-3, atol=1e-6)


@pytest.mark.needs_x64
@pytest.mark.parametrize("prior", [None, Ridge(1e-2)], ids=["flat", "ridge"])
@pytest.mark.parametrize("family", FAMILIES)
def test_influence_is_the_derivative_of_refits(family, prior):
    refit, x, weights = fitted(family, prior=prior)
    mixture, step = refit(weights), 1e-4
    found = jaxgmm.influence(mixture, x, weights, prior=prior)
    for row in (0, 7):
        change = step * np.eye(len(x))[row]
        up, down = refit(weights + change), refit(weights - change)
        for name in Parameters._fields:
            expected = (getattr(up, name) - getattr(down, name)) / (2 * step)
            np.testing.assert_allclose(getattr(found, name)[row], expected, atol=1e-7)
    # All rows' weights together, times any factor, leave the fit as it is.
    np.testing.assert_allclose(jnp.einsum("n,nkd->kd", weights, found.means), 0, atol=1e-9)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
def test_influence_foretells_what_leaving_a_row_out_does():
    refit, x, _ = fitted("full", n_rows=400)
    weights = np.ones(len(x))
    mixture = refit(weights)
    slopes = jaxgmm.influence(mixture, x, function=_spread)
    np.testing.assert_allclose(slopes[0], _along(jaxgmm.influence(mixture, x))[0], rtol=1e-9)
    rows = np.arange(0, 400, 20)
    left_out = np.asarray([_spread(refit(np.where(np.arange(400) == row, 0.0, 1.0))) for row in rows])
    change = left_out - float(_spread(mixture))
    np.testing.assert_allclose(change, -slopes[rows], atol=0.1 * np.abs(change).max())
    assert np.corrcoef(change, -slopes[rows])[0, 1] > 0.99


def _spread(mixture):
    return mixture.means[0, 0] - mixture.means[1, 0]


def _along(influence):
    return influence.means[:, 0, 0] - influence.means[:, 1, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_absent_components_and_rows_without_weight_leave_no_nan(family, dtype):
    start, x, weights = cases.drawn_rows(family, n_rows=150, n_components=2, n_features=2, dtype=dtype, seed=3)
    weights = np.where(np.arange(len(x)) % 3 == 0, 0, weights).astype(dtype)
    x = np.where(weights[:, None] > 0, x, np.nan)
    mixture = jaxgmm.run(EM(), start, x, weights, tol=0, max_iter=500).mixture
    leaves = [*jaxgmm.standard_errors(mixture, x, weights), *jaxgmm.influence(mixture, x, weights)]
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    alone = jaxgmm.Mixture(jnp.log(jnp.asarray([0.0, 1.0], dtype)), mixture.means, mixture.covs, mixture.family)
    alone = jaxgmm.run(EM(), alone, x, weights, max_iter=500, tol=0).mixture
    errors = jaxgmm.standard_errors(alone, x, weights)
    assert np.isinf(errors.means[0]).all() and np.isfinite(errors.means[1]).all()
    assert all((~np.isnan(leaf)).all() for leaf in [*errors, *jaxgmm.influence(alone, x, weights)])


@pytest.mark.exhaustive
@pytest.mark.needs_x64
def test_under_jit_and_vmap():
    refit, x, weights = fitted("diag")
    mixture = refit(weights)
    other = np.asarray(weights)[::-1].copy()
    both = jax.jit(jax.vmap(lambda w: jaxgmm.standard_errors(refit(w), x, w)))(np.stack([weights, other]))
    for place, w in enumerate((weights, other)):
        np.testing.assert_allclose(both.means[place], jaxgmm.standard_errors(refit(w), x, w).means, rtol=1e-9)
    np.testing.assert_allclose(
        jax.jit(jaxgmm.influence)(mixture, x, weights).weights, jaxgmm.influence(mixture, x, weights).weights, rtol=1e-9
    )


def test_wrong_arguments_are_named():
    refit, x, weights = fitted("diag", dtype=np.float32)
    mixture = refit(weights)
    with pytest.raises(TypeError, match="prior must be"):
        jaxgmm.standard_errors(mixture, x, prior=0.1)
    with pytest.raises(ValueError, match="kind must be one of 'resampled', 'parametric', not 'jackknife'"):
        jaxgmm.bootstrap(KEY, mixture, x, 10, "jackknife")
    with pytest.raises(ValueError, match="sample_weight must be None for a parametric bootstrap"):
        jaxgmm.bootstrap(KEY, mixture, x, 10, "parametric", weights)
    with pytest.raises(ValueError, match="the weights of x must all be 1 for a parametric bootstrap"):
        jaxgmm.bootstrap(KEY, mixture, jaxgmm.Rows(jnp.asarray(x), jnp.asarray(weights)), 10, "parametric")
    with pytest.raises(TypeError, match="typed key"):
        jaxgmm.bootstrap(0, mixture, x, 10)
    with pytest.raises(ValueError, match="function must give a scalar"):
        jaxgmm.influence(mixture, x, function=lambda m: m.means)
    with pytest.raises(TypeError, match="cannot be called"):
        jaxgmm.influence(mixture, x, function=3)
