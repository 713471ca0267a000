"""Inference from rows with gaps and errors agrees with the numerical Hessian, refits, the bootstrap and plain rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import EM, Incomplete, Noisy, Ridge, Rows, Status
from jaxgmm.inference.information import Parameters, parameters
from tests import blurred, cases
from tests.blurred import KINDS, check_close
from tests.cases import FAMILIES

KEY = jax.random.key(0)
pytestmark = pytest.mark.needs_x64

N_ROWS = 80


def problem(family, kind, n_rows=N_ROWS):
    """A start, and data of two columns: two components, well apart, so that each has a maximum."""
    start, x, weights = cases.drawn_rows(family, n_rows, n_components=2, n_features=2, seed=3)
    noise = blurred.noise_of(np.pad(x, ((0, 0), (0, 1))), "variances")[:, [0, 2]] if kind != "gaps" else None
    if kind == "covariances":
        noise = noise[:, :, None] * np.array([[1.0, 0.3], [0.3, 1.0]])[None] * np.sqrt(noise / noise.max())[:, :, None]
        noise = (noise + np.swapaxes(noise, 1, 2)) / 2
        noise = noise @ np.swapaxes(noise, 1, 2)
    return start, jax.tree.map(jnp.asarray, blurred.as_data(blurred.gappy(x, 0.2), weights, noise))


@jax.jit
def refit(start, data):
    return jaxgmm.run(EM(), start, data, tol=0, max_iter=20_000).mixture


def check_standard_errors(family, kind, sandwiches=(False, True)):
    """The delta method from coordinates of another kind, by the Hessian that JAX takes of the rows' densities."""
    start, data = problem(family, kind)
    mixture = refit(start, data)

    @jax.jit
    def told(params, data):
        def total(params):
            return jnp.sum(data.weights * jaxgmm.log_prob(jaxgmm.constrain(params), data))

        def of_row(params):
            return jaxgmm.log_prob(jaxgmm.constrain(params), data)

        values, unravel = jax.flatten_util.ravel_pytree(params)
        hessian = jax.jacfwd(jax.grad(lambda values: total(unravel(values))))(values)
        scores = jax.jacfwd(lambda values: of_row(unravel(values)))(values)
        slopes = jax.jacfwd(lambda values: parameters(jaxgmm.constrain(unravel(values))))(values)
        return hessian, scores, slopes

    hessian, scores, slopes = told(jaxgmm.unconstrain(mixture), data)
    inverse = np.linalg.inv(-np.asarray(hessian))
    scatter = np.einsum("n,np,nq->pq", data.weights, scores, scores)
    for sandwich in sandwiches:
        covariance = inverse @ scatter @ inverse if sandwich else inverse
        found = jaxgmm.standard_errors(mixture, data, sandwich=sandwich)
        expected = jax.tree.map(lambda s, c=covariance: np.sqrt(np.einsum("...p,pq,...q->...", s, c, s)), slopes)
        check_close(found, Parameters(*expected), 1e-6)


def test_standard_errors_are_those_of_the_numerical_hessian():
    check_standard_errors("spherical", "gaps", sandwiches=[False])


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_standard_errors_of_every_family_are_those_of_the_numerical_hessian(family, kind):
    check_standard_errors(family, kind)


def check_solution(family, kind):
    start, data = problem(family, kind)
    rng = np.random.default_rng(1)
    moves = {"x": rng.normal(size=data.x.shape), "weights": rng.normal(size=N_ROWS)}
    if kind != "gaps":
        moves["noise"] = np.where(np.asarray(data.noise) > 0, rng.normal(size=data.noise.shape), 0.0)
    if kind == "covariances":
        moves["noise"] = (moves["noise"] + np.swapaxes(moves["noise"], 1, 2)) / 2

    def moved(by):
        return dataclasses.replace(data, **{name: getattr(data, name) + by * move for name, move in moves.items()})

    @jax.jit
    def slope(by):
        def fitted(by):
            return parameters(jaxgmm.solution(EM(), start, moved(by), prior=None, tol=0, max_iter=20_000))

        value, pull = jax.vjp(fitted, by)
        return value, pull(jax.tree.map(jnp.cos, value))[0]

    step = 1e-5
    value, backward = slope(0.0)
    up, down = (parameters(refit(start, moved(by))) for by in (step, -step))
    check_close(parameters(refit(start, data)), value, 1e-10)
    change = jax.tree.map(lambda v, a, b: np.sum(np.cos(v) * (a - b)) / (2 * step), value, up, down)
    # Differences are off by the square of the step: at ten times the step a derivative of 108 is off by 1, not by 0.01.
    np.testing.assert_allclose(backward, sum(jax.tree.leaves(change)), rtol=3e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_derivative_of_a_solution_is_that_of_refits(family, kind):
    check_solution(family, kind)


@pytest.mark.exhaustive
@pytest.mark.parametrize("prior", [None, Ridge(1e-2)], ids=["flat", "ridge"])
@pytest.mark.parametrize("kind", KINDS)
def test_influence_is_the_derivative_of_refits(kind, prior):
    start, data = problem("full", kind)
    again = jax.jit(lambda w: jaxgmm.run(EM(), start, data.weighted_by(w), prior=prior, tol=0, max_iter=20_000).mixture)
    mixture, step = again(data.weights), 1e-4
    found = jaxgmm.influence(mixture, data, prior=prior)
    one = jaxgmm.influence(mixture, data, prior=prior, function=lambda m: m.means[0, 0])
    np.testing.assert_allclose(one, found.means[:, 0, 0], rtol=1e-6, atol=1e-9)
    for row in (0, 7):
        change = step * np.eye(N_ROWS)[row]
        up, down = again(data.weights + change), again(data.weights - change)
        for name in Parameters._fields:
            expected = (getattr(up, name) - getattr(down, name)) / (2 * step)
            np.testing.assert_allclose(getattr(found, name)[row], expected, atol=1e-6)


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_without_gaps_or_errors_are_plain(family):
    start, x, weights = cases.drawn_rows(family, N_ROWS, n_components=2, n_features=2, seed=3)
    rows = Rows(jnp.asarray(x), jnp.asarray(weights))
    mixture = refit(start, rows)
    ones = Rows(rows.x, jnp.ones(N_ROWS))
    resampled = jaxgmm.bootstrap(KEY, mixture, rows, 3, max_iter=20)
    for data in (Incomplete(rows.x, rows.weights), Noisy(rows.x, jnp.zeros((N_ROWS, 2)), rows.weights)):
        check_close(refit(start, data).means, mixture.means, 1e-8)
        for sandwich in (False, True):
            found, expected = (jaxgmm.standard_errors(mixture, each, sandwich=sandwich) for each in (data, rows))
            check_close(found, expected, 1e-6)
        found, expected = (jaxgmm.influence(mixture, each, prior=Ridge(1e-3)) for each in (data, rows))
        check_close(found, expected, 1e-6)
        again = jaxgmm.bootstrap(KEY, mixture, data, 3, max_iter=20)
        check_close(again.mixtures.means, resampled.mixtures.means, 1e-6)
        plain, other = (dataclasses.replace(each, weights=jnp.ones(N_ROWS)) for each in (ones, data))
        plain, other = (jaxgmm.bootstrap(KEY, mixture, each, 3, "parametric", max_iter=20) for each in (plain, other))
        check_close(other.mixtures.means, plain.mixtures.means, 1e-6)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind,sandwich", [("resampled", True), ("parametric", False)])
@pytest.mark.parametrize("data_kind", ["gaps", "variances"])
def test_the_bootstrap_agrees_with_the_asymptotics(data_kind, kind, sandwich):
    start, data = problem("spherical", data_kind, 600)
    data = data.weighted_by(jnp.ones(600))
    mixture = refit(start, data)
    asymptotic = jaxgmm.standard_errors(mixture, data, sandwich=sandwich)
    again = jaxgmm.bootstrap(KEY, mixture, data, 120, kind, max_iter=5000)
    assert (np.asarray(again.status) == Status.CONVERGED).all()
    for name in Parameters._fields:
        # A standard deviation of 120 draws is off by 6.5%.
        expected, found = getattr(asymptotic, name), getattr(again.standard_errors, name)
        np.testing.assert_allclose(found, expected, rtol=0.25, atol=1e-12, err_msg=name)


@pytest.mark.exhaustive
def test_rows_of_which_nothing_was_seen_and_rows_of_weight_zero_leave_no_trace():
    start, data = problem("full", "variances")
    mixture = refit(start, data)
    more = jnp.concatenate([data.x, jnp.full((2, 2), jnp.nan), jnp.full((1, 2), 1.0)])
    noise = jnp.concatenate([data.noise, jnp.ones((2, 2)), jnp.full((1, 2), jnp.inf)])
    longer = Noisy(more, noise, jnp.append(data.weights, jnp.ones(3)))
    check_close(jaxgmm.standard_errors(mixture, longer), jaxgmm.standard_errors(mixture, data), 1e-7)
    found, expected = jaxgmm.influence(mixture, longer), jaxgmm.influence(mixture, data)
    check_close(jax.tree.map(lambda leaf: leaf[:N_ROWS], found), expected, 1e-7)
    assert all(np.abs(leaf[N_ROWS:]).max() < 1e-7 for leaf in found)
