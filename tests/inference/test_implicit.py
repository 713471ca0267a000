"""The derivative of a fit is that of refits, and the observed information is the Hessian's."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import EM, Ridge, Rows
from jaxgmm.inference import solution as implicit
from jaxgmm.inference.information import inverse_factor, parameters, scores
from jaxgmm.inference.solution import information, place_of, slope
from jaxgmm.model.priors.ridge import prepare, settle
from tests import cases
from tests.cases import FAMILIES


def problem(family, dtype=np.float64, n_rows=120):
    start, x, weights = cases.drawn_rows(family, n_rows=n_rows, n_components=2, n_features=2, dtype=dtype)
    return start, jnp.asarray(x), jnp.asarray(weights)


def directions(x, weights, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=np.shape(a)), x.dtype) for a in (x, weights))


def check_derivative(family, forwards):
    start, x, weights = problem(family)
    strength = jnp.asarray(1e-2)
    tangents = (*directions(x, weights), jnp.asarray(3e-3))

    @jax.jit
    def fitted(x, weights, strength):
        return parameters(jaxgmm.run(EM(), start, x, weights, prior=Ridge(strength), tol=0, max_iter=1500).mixture)

    @jax.jit
    def implicit(x, weights, strength):
        found = jaxgmm.solution(EM(), start, x, weights, prior=Ridge(strength), tol=0, max_iter=1500)
        return parameters(found)

    primals, step = (x, weights, strength), 1e-5
    up, down = (fitted(*(p + s * t for p, t in zip(primals, tangents, strict=True))) for s in (step, -step))
    refits = jax.tree.map(lambda a, b: (a - b) / (2 * step), up, down)
    value, forward = fitted(*primals), refits
    if forwards:
        found, forward = jax.jit(lambda *primals: jax.jvp(implicit, primals, tangents))(*primals)
        chex.assert_trees_all_close(found, value, rtol=1e-12)
        chex.assert_trees_all_close(forward, refits, atol=1e-6)
        along_em = jax.jit(lambda *primals: jax.jvp(fitted, primals, tangents)[1])(*primals)
        chex.assert_trees_all_close(forward, along_em, rtol=1e-8, atol=1e-8)

    cotangents = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), value)

    @jax.jit
    def pulled_back(*primals):
        found, pull = jax.vjp(implicit, *primals)
        return found, pull(cotangents)

    found, backward = pulled_back(*primals)
    chex.assert_trees_all_close(found, value, rtol=1e-12)
    along = sum(float(jnp.sum(g * t)) for g, t in zip(backward, tangents, strict=True))
    expected = sum(float(jnp.sum(c * t)) for c, t in zip(cotangents, forward, strict=True))
    np.testing.assert_allclose(along, expected, **(dict(rtol=1e-9) if forwards else dict(rtol=0, atol=1e-6)))


@pytest.mark.needs_x64
@pytest.mark.parametrize("family", FAMILIES)
def test_the_derivative_is_that_of_a_converged_refit(family):
    check_derivative(family, forwards=False)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
@pytest.mark.parametrize("family", FAMILIES)
def test_the_derivative_is_that_of_unrolled_em_and_the_same_forwards(family):
    check_derivative(family, forwards=True)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
@pytest.mark.parametrize("family", FAMILIES)
def test_the_information_is_the_hessian_three_ways(family):
    start, x, weights = problem(family, n_rows=60)
    prior = settle(Ridge(1e-3), x.dtype)
    optimum = jaxgmm.run(EM(), start, x, weights, prior=prior, tol=0, max_iter=2000).mixture
    rows = Rows(x, weights)
    around, penalty = place_of(optimum, rows, prior), prepare(prior, rows.columns())

    def objective(steps):
        mixture = around.at(steps)
        return jnp.sum(weights * jaxgmm.log_prob(mixture, x)) + penalty.log_prob(mixture)

    expected = -jax.jit(jax.hessian(objective))(around.origin)
    by_products = jax.jit(jax.vmap(information(around, rows)))(jnp.eye(around.origin.size))
    inverse = jax.jit(inverse_factor)(around, rows)
    np.testing.assert_allclose(by_products, expected, atol=1e-12)
    np.testing.assert_allclose(inverse.T @ inverse @ expected, np.eye(len(expected)), atol=1e-10)
    assert np.linalg.eigvalsh(expected)[-1] < 1 + 1e-12
    assert np.abs(slope(around, rows, prior)).max() < 1e-10
    by_row = jax.jit(jax.vmap(jax.grad(lambda steps, row: jaxgmm.log_prob(around.at(steps), row)), (None, 0)))
    np.testing.assert_allclose(scores(around, rows), by_row(around.origin, x), atol=1e-12)


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", ["full", "spherical"])
def test_under_vmap_and_with_an_absent_component(family, dtype):
    start, x, weights = problem(family, dtype)
    absent = jaxgmm.Mixture(jnp.log(jnp.asarray([0.0, 1.0], dtype)), start.means, start.covs, start.family)

    def spread(start, weights):
        found = jaxgmm.solution(EM(), start, x, weights, tol=0, max_iter=200)
        return jnp.sum(found.covariances[1]) + jnp.sum(found.weights**2)

    slopes = jax.jit(jax.vmap(jax.grad(spread, argnums=1), (None, 0)))
    stack = jnp.stack([weights, weights.at[::4].set(0.0)])
    found = slopes(start, stack)
    singly = jax.jit(jax.grad(spread, argnums=1))
    close = dict(rtol=1e-3, atol=1e-5) if dtype == np.float32 else dict(rtol=1e-8, atol=1e-10)
    for row, given in zip(found, stack, strict=True):
        np.testing.assert_allclose(row, singly(start, given), **close)
    # One component fits all rows: its covariance is theirs, whose derivative is known.
    mass, rows = np.asarray(weights, np.float64), np.asarray(x, np.float64)
    shift = rows - mass @ rows / mass.sum()
    square = shift.sum(axis=1) ** 2 if family == "full" else (shift**2).sum(axis=1)
    expected = (square - mass @ square / mass.sum()) / mass.sum()
    np.testing.assert_allclose(singly(absent, weights), expected, rtol=2e-3 if dtype == np.float32 else 1e-9, atol=1e-6)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
def test_second_derivatives_of_a_fit():
    start, x, weights = problem("spherical", n_rows=60)
    direction, step = directions(x, weights)[1], 1e-5

    def figure(weights):
        found = jaxgmm.solution(EM(), start, x, weights, prior=Ridge(1e-2), tol=0, max_iter=300)
        return jnp.sum(found.weights**2) + jnp.sum(jnp.sin(found.means)) + jnp.sum(found.covariances**2)

    _, bend = jax.jit(lambda w: jax.jvp(jax.grad(figure), (w,), (direction,)))(weights)
    gradient = jax.jit(jax.grad(figure))
    expected = (gradient(weights + step * direction) - gradient(weights - step * direction)) / (2 * step)
    np.testing.assert_allclose(bend, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_the_derivative_is_the_same_in_every_unit(family, dtype):
    start, x, weights = problem(family, dtype)

    @jax.jit
    def gradients(unit):
        covs = jax.tree.map(lambda leaf: leaf * unit, start.covs)
        there = jaxgmm.Mixture(start.log_weights, start.means * unit, covs, start.family)

        def figure(x, weights):
            means = jaxgmm.solution(EM(), there, x, weights, tol=0, max_iter=200).means
            return jnp.sum(jnp.sin(jnp.arange(4, dtype=dtype)).reshape(2, 2) * means)

        of_rows, of_weights = jax.grad(figure, (0, 1))(x * unit, weights)
        return of_rows, of_weights / unit

    expected = gradients(jnp.ones((), dtype))
    for unit in np.array([1e-15, 1e15] if dtype == np.float32 else [1e-100, 1e100], dtype):
        for found, plain in zip(gradients(unit), expected, strict=True):
            np.testing.assert_allclose(found, plain, atol=(1e-3 if dtype == np.float32 else 1e-8) * np.abs(plain).max())


def test_nothing_depends_on_the_start(dtype):
    start, x, weights = problem("diag", dtype)
    gradient = jax.grad(lambda start: jnp.sum(jaxgmm.solution(EM(), start, x, weights, max_iter=5).means))(start)
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(gradient))


def test_an_optimum_held_in_all_but_its_own_start_does_not_move(faithful, dtype):
    x = faithful[0].astype(dtype)
    mixture = jaxgmm.from_responsibilities(x, np.eye(2)[faithful[1]])
    still = jax.tree.map(jnp.ones_like, mixture)
    data, prior = jaxgmm.Rows(x, jnp.ones(len(x), dtype)), jaxgmm.Ridge(0.0)
    _, change = jax.jvp(lambda start: implicit.optimum(start, data, prior), (mixture,), (still,))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(change))


def test_a_fit_that_failed_is_nan(dtype):
    start, x, weights = problem("diag", dtype)
    spoiled = x.at[3, 1].set(jnp.nan)
    found = jaxgmm.solution(EM(), start, spoiled, weights, max_iter=5)
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(found))
    healthy = jaxgmm.solution(EM(), start, spoiled, weights.at[3].set(0.0), max_iter=5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(healthy))


def test_wrong_arguments_are_named():
    start, x, _ = problem("full", np.float32)
    with pytest.raises(TypeError, match="algorithm must be"):
        jaxgmm.solution("em", start, x)
    with pytest.raises(TypeError, match="prior must be"):
        jaxgmm.solution(EM(), start, x, prior=1e-3)
    with pytest.raises(ValueError, match="x has 1 columns"):
        jaxgmm.solution(EM(), start, x[:, :1])
    with pytest.raises(ValueError, match="max_iter must be at least 1"):
        jaxgmm.solution(EM(), start, x, max_iter=0)
