"""Families written from the protocol alone, mclust's VEI, EEV and EEI: what the four of the package do, they do too."""

import json
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgmm
from jaxgmm import EM, Accelerated, Gradient, Ridge, Rows, Status
from jaxgmm.fitting.algorithms.em import gain_in_q
from jaxgmm.fitting.problem import posed
from jaxgmm.fitting.steps import maximise
from jaxgmm.inference.information import inverse_factor
from jaxgmm.inference.solution import information, place_of, slope
from jaxgmm.model.priors.ridge import settle
from jaxgmm.probability.likelihood import expected_log_likelihood
from tests import cases
from tests.members.families import EEI, EEV, VEI

pytestmark = pytest.mark.needs_x64
MCLUST = json.loads((pathlib.Path(__file__).parent.parent / "values" / "mclust14.json").read_text())
OPEN = pytest.mark.parametrize("family", [VEI, EEV, EEI], ids=lambda family: family.name)
KEY = jax.random.key(0)


def problem(family, prior=None):
    """A mixture of the family that is no optimum, and rows that spread."""
    full, x, weights = cases.drawn_rows("full", n_rows=60, n_components=2)
    return jaxgmm.project(full, family), Rows(jnp.asarray(x), jnp.asarray(weights)), settle(prior, x.dtype)


@pytest.mark.parametrize("family", [VEI, EEV], ids=lambda family: family.name)
def test_fits_are_mclusts(family, iris, faithful):
    data = {"iris": iris[0], "faithful": faithful[0]}
    for case in (case for case in MCLUST if case["model"] == family.name):
        x = data[case["data"]]
        fitted = jaxgmm.fit(KEY, x, case["K"], covariance_type=family, n_init=5, tol=1e-12)
        assert fitted.status == Status.CONVERGED
        np.testing.assert_allclose(fitted.log_likelihood, case["loglik"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(jaxgmm.bic(fitted, x), -case["bic"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(np.sort(fitted.mixture.weights), np.sort(case["pro"]), atol=1e-6)
        assert fitted.mixture.n_parameters == case["df"]


@OPEN
@pytest.mark.parametrize("prior", [None, Ridge(0.1)], ids=["flat", "ridge"])
def test_the_gain_is_the_difference_of_q(family, prior):
    """Of N·KL the first M-step's gain would be read wrong: mixtures of common parts are no exponential family."""
    mixture, rows, prior = problem(family, prior)
    columns, penalty = (posed(rows, prior))[1:]

    def q_of(mixture, moments):
        return expected_log_likelihood(mixture, moments) + penalty.log_prob(mixture)

    @jax.jit
    def step(old):
        moments, _ = rows.moments(old, family.statistic)
        new = maximise(moments, family, columns, penalty, old)
        return new, gain_in_q(old, new, moments, penalty), q_of(new, moments) - q_of(old, moments)

    for _ in range(3):
        mixture, gain, expected = step(mixture)
        assert gain > 0
        np.testing.assert_allclose(gain, expected, rtol=1e-6, atol=1e-10)


@OPEN
def test_coordinates_and_counts(family):
    mixture, _, _ = problem(family)
    packed = family.pack(mixture.covs)
    n = family.n_distinct(2)
    back = family.unpack(packed, n, 3)
    chex.assert_trees_all_close(back, mixture.covs, rtol=1e-10, atol=1e-12)
    assert packed.size == family.n_parameters(2, 3) == jaxgmm.n_parameters(family, 2, 3) - 1 - 2 * 3
    anything = family.unpack(packed + jnp.asarray(np.random.default_rng(0).normal(size=packed.shape)), n, 3)
    chex.assert_trees_all_close(family.unpack(family.pack(anything), n, 3).dense(), anything.dense(), rtol=1e-9)
    again = family.update(jnp.ones(n), family.statistic.of_dense(anything.dense()), jnp.zeros(3), None)
    chex.assert_trees_all_close(again.dense(), anything.dense(), rtol=1e-7)
    absent = family.update(jnp.zeros(n), 0 * family.statistic.of_dense(anything.dense()), jnp.full(3, 1e-9), None)
    assert np.isfinite(absent.dense()).all()


@OPEN
def test_the_jacobian_is_that_of_as_many_entries(family):
    """Entries of c·Σ are c times those of Σ, and coordinates that are logs and angles only move: P log c more."""
    mixture, _, _ = problem(family)
    n = family.n_distinct(2)

    @jax.jit
    def change_of(covs):
        packed, larger = family.pack(covs), family.pack(covs.rescale(jnp.full(3, 3.0**0.5)))
        return family.log_det_jacobian(larger, n, 3) - family.log_det_jacobian(packed, n, 3)

    change = change_of(mixture.covs)
    np.testing.assert_allclose(change, family.n_parameters(2, 3) * np.log(3.0), rtol=1e-9)


@OPEN
def test_one_column_comes_back_from_its_coordinates(family):
    wide = jaxgmm.make_mixture([0.3, 0.7], [[0.0], [3.0]], [[[1.0]], [[4.0]]])
    mixture = jaxgmm.project(wide, family)
    back = jaxgmm.constrain(jaxgmm.unconstrain(mixture))
    np.testing.assert_allclose(back.covariances, mixture.covariances, rtol=1e-9)


@pytest.mark.exhaustive
@OPEN
def test_the_information_is_the_hessian(family):
    start, rows, prior = problem(family, Ridge(1e-3))
    optimum = jaxgmm.run(EM(), start, rows, prior=prior, tol=0, max_iter=1000).mixture
    around, penalty = place_of(optimum, rows, prior), posed(rows, prior).penalty
    assert around.origin.size == optimum.n_parameters and bool(around.held.all())

    def objective(steps):
        return jnp.sum(rows.weights * jaxgmm.log_prob(around.at(steps), rows.x)) + penalty.log_prob(around.at(steps))

    expected = -jax.jit(jax.hessian(objective))(around.origin)
    by_products = jax.jit(jax.vmap(information(around, rows)))(jnp.eye(around.origin.size))
    inverse = jax.jit(inverse_factor)(around, rows)
    np.testing.assert_allclose(by_products, expected, atol=1e-8)
    np.testing.assert_allclose(inverse.T @ inverse @ expected, np.eye(len(expected)), atol=1e-7)
    assert np.abs(slope(around, rows, prior)).max() < 1e-6


@pytest.mark.exhaustive
@OPEN
def test_standard_errors_are_those_of_any_coordinates(family):
    """By the delta method from the family's own coordinates, with the Hessian by differences of exact gradients."""
    start, rows, _ = problem(family)
    optimum = jaxgmm.run(EM(), start, rows, tol=0, max_iter=1000).mixture
    flat, unravel = jax.flatten_util.ravel_pytree(jaxgmm.unconstrain(optimum))

    def objective(v):
        return jnp.sum(rows.weights * jaxgmm.log_prob(jaxgmm.constrain(unravel(v)), rows.x))

    def parameters(v):
        mixture = jaxgmm.constrain(unravel(v))
        return jnp.concatenate([mixture.weights, mixture.means.ravel(), mixture.covariances.ravel()])

    covariance = np.linalg.inv(-np.asarray(jax.jit(jax.hessian(objective))(flat)))
    jacobian = np.asarray(jax.jit(jax.jacobian(parameters))(flat))
    expected = np.sqrt(np.einsum("ip,pq,iq->i", jacobian, covariance, jacobian))
    found = jaxgmm.standard_errors(optimum, rows)
    flat_found = np.concatenate([np.asarray(leaf).ravel() for leaf in (found.weights, found.means, found.covariances)])
    np.testing.assert_allclose(flat_found, expected, rtol=1e-5, atol=1e-9)


@OPEN
@pytest.mark.parametrize("algorithm", [Accelerated(EM()), Gradient(optax.lbfgs())], ids=["accelerated", "lbfgs"])
def test_every_algorithm_finds_the_optimum_of_em(family, algorithm):
    start, rows, _ = problem(family)
    em = jaxgmm.run(EM(), start, rows, tol=1e-12)
    found = jaxgmm.run(algorithm, start, rows, tol=1e-11, max_iter=2000)
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.log_likelihood, em.log_likelihood, rtol=1e-9)
    chex.assert_trees_all_close(found.mixture.covariances, em.mixture.covariances, atol=1e-3)


@OPEN
def test_what_leaves_the_family_is_of_the_least_restricted(family):
    mixture, rows, _ = problem(family)
    x = np.asarray(rows.x[:5])
    wide = family.name if family.closed else "full" if mixture.covs.mixes else "diag"
    widest = "full" if family.n_distinct(2) == 2 else "tied"
    plain = jaxgmm.make_mixture(mixture.weights, mixture.means, mixture.covariances)
    for one, other in (
        (jaxgmm.marginal(mixture, [2, 0]), jaxgmm.marginal(plain, [2, 0])),
        (jaxgmm.condition(mixture, [1], x[0, 1:2]), jaxgmm.condition(plain, [1], x[0, 1:2])),
    ):
        assert one.covariance_type == wide
        np.testing.assert_allclose(jaxgmm.log_prob(one, x[:, :2]), jaxgmm.log_prob(other, x[:, :2]), rtol=1e-9)
    turned = jaxgmm.affine(mixture, np.eye(3)[:2] + 0.1)
    assert turned.covariance_type == widest
    samples, _ = jaxgmm.sample(KEY, mixture, 20_000)
    np.testing.assert_allclose(np.cov(samples.T), jaxgmm.total_moments(plain)[1], atol=0.15)
