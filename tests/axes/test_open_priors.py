"""Priors, the package's and one that is written from the protocol alone: every prior obeys these laws."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import EM, Accelerated, Ridge, Rows, Status
from jaxgmm.fitting.problem import posed
from jaxgmm.fitting.steps import maximise
from jaxgmm.model.priors.ridge import settle
from jaxgmm.probability.likelihood import expected_log_likelihood
from tests import cases
from tests.members.priors import Conjugate

pytestmark = pytest.mark.needs_x64
KEY = jax.random.key(0)
PRIORS = [Ridge(0.1), Conjugate(strength=0.2, pull=0.1)]
CASES = pytest.mark.parametrize(
    ("prior", "family"),
    [(prior, family) for prior in PRIORS for family in ("full", "tied", "diag")],
    ids=[f"{prior}-{family}" for prior in ("ridge", "conjugate") for family in ("full", "tied", "diag")],
)


def given(family):
    start, x, weights = cases.drawn_rows("full", n_rows=120, n_components=2)
    return jaxgmm.project(start, family), Rows(jnp.asarray(x), jnp.asarray(weights))


def flat_objective(mixture, rows, prior):
    """ℓ + log prior as a function of unconstrained numbers, and these numbers for a mixture."""
    flat, unravel = jax.flatten_util.ravel_pytree(jaxgmm.unconstrain(mixture))
    penalty = posed(rows, settle(prior, rows.x.dtype)).penalty

    def objective(v):
        moved = jaxgmm.constrain(unravel(v))
        return jnp.sum(rows.weights * jaxgmm.log_prob(moved, rows.x)) + penalty.log_prob(moved)

    return objective, flat, unravel


@CASES
def test_em_ends_where_the_gradient_is_zero(prior, family):
    start, rows = given(family)
    found = jaxgmm.run(EM(), start, rows, prior=prior, tol=1e-14)
    assert found.status == Status.CONVERGED
    objective, flat, _ = flat_objective(found.mixture, rows, prior)
    value, slope = jax.jit(jax.value_and_grad(objective))(flat)
    np.testing.assert_allclose(slope, 0, atol=1e-4)
    np.testing.assert_allclose(found.objective, value, rtol=1e-12)
    history = np.asarray(found.history[: found.n_iter])
    assert np.all(np.diff(history) >= -1e-12 * np.abs(history[0]))


@pytest.mark.exhaustive
@CASES
def test_accelerated_em_ends_there_too(prior, family):
    start, rows = given(family)
    found = jaxgmm.run(EM(), start, rows, prior=prior, tol=1e-14)
    quick = jaxgmm.run(Accelerated(EM()), start, rows, prior=prior, tol=1e-14)
    np.testing.assert_allclose(quick.objective, found.objective, rtol=1e-12)


@CASES
def test_the_m_step_from_added_moments_is_the_mode(prior, family):
    start, rows = given(family)
    _, columns, penalty = posed(rows, settle(prior, rows.x.dtype))
    moments, _ = jaxgmm.e_step(start, rows)
    after = maximise(moments, start.family, columns, penalty, start)
    masses, added = penalty.added(moments, start.covs.count)
    chex.assert_trees_all_close(masses, penalty.masses(moments.mass, start.covs.count))
    assert masses.weights.shape == masses.means.shape == (2,) and added.mass.shape == (start.covs.count,)
    covs = start.family.update(added.mass, added.scatter, jnp.zeros(3), None)
    np.testing.assert_allclose(after.covs.dense(), covs.dense(), rtol=1e-12)
    np.testing.assert_allclose(after.means, added.mean, rtol=1e-12)
    np.testing.assert_allclose(after.weights, masses.weights / masses.weights.sum(), rtol=1e-12)
    flat, unravel = jax.flatten_util.ravel_pytree(jaxgmm.unconstrain(after))

    def q_of(v):
        mixture = jaxgmm.constrain(unravel(v))
        return expected_log_likelihood(mixture, moments) + penalty.log_prob(mixture)

    np.testing.assert_allclose(jax.jit(jax.grad(q_of))(flat), 0, atol=1e-10)
    per_covariance = moments.mass if start.covs.count == 2 else moments.mass.sum(keepdims=True)
    np.testing.assert_allclose(masses.covariances - per_covariance, penalty.mass, rtol=1e-9)


@CASES
def test_it_is_the_same_belief_in_other_units(prior, family):
    start, rows = given(family)
    scale, shift = np.asarray([1e-3, 2.0, 50.0]), np.asarray([3.0, -4.0, 5.0])
    found = jaxgmm.run(EM(), start, rows, prior=prior, tol=0, max_iter=30)
    scaled = Rows(jnp.asarray(np.asarray(rows.x) * scale + shift), 3.0 * rows.weights)
    other = jaxgmm.run(EM(), jaxgmm.affine(start, scale, shift), scaled, prior=prior, tol=0, max_iter=30)
    expected = jaxgmm.affine(found.mixture, scale, shift)
    for one, its in (
        (other.mixture.means, expected.means),
        (other.mixture.covs.deviations(), expected.covs.deviations()),
    ):
        np.testing.assert_allclose(np.asarray(one) / scale, np.asarray(its) / scale, rtol=1e-6)
    fitted = jaxgmm.fit(KEY, scaled, 2, prior=prior, covariance_type=family, init=expected, tol=1e-12)
    assert fitted.status == Status.CONVERGED
    penalty = posed(scaled, settle(prior, rows.x.dtype)).penalty
    objective = fitted.log_likelihood + penalty.log_prob(fitted.mixture)
    np.testing.assert_allclose(fitted.objective, objective, rtol=1e-10)


@pytest.mark.exhaustive
@CASES
def test_standard_errors_are_those_of_the_objective(prior, family):
    start, rows = given(family)
    optimum = jaxgmm.run(EM(), start, rows, prior=prior, tol=0, max_iter=300).mixture
    objective, flat, unravel = flat_objective(optimum, rows, prior)
    covariance = np.linalg.inv(-np.asarray(jax.jit(jax.hessian(objective))(flat)))
    jacobian = np.asarray(jax.jit(jax.jacobian(lambda v: jaxgmm.constrain(unravel(v)).means.ravel()))(flat))
    expected = np.sqrt(np.einsum("ip,pq,iq->i", jacobian, covariance, jacobian))
    errors = jaxgmm.standard_errors(optimum, rows, prior=prior)
    np.testing.assert_allclose(errors.means.ravel(), expected, rtol=1e-5)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in errors)
