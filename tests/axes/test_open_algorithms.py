"""An algorithm written from the protocol alone: what those of the package do, it does too."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import EM, Accelerated, Rows, Status
from jaxgmm.fitting.problem import posed
from jaxgmm.model.priors.ridge import settle
from tests import cases
from tests.members.algorithms import Patient

pytestmark = pytest.mark.needs_x64
KEY = jax.random.key(0)
MEMBERS = pytest.mark.parametrize("algorithm", [Patient(EM()), Patient(Accelerated(EM()))], ids=["em", "accelerated"])


def given():
    start, x, weights = cases.drawn_rows("full", n_rows=120, n_components=2)
    return start, Rows(jnp.asarray(x), jnp.asarray(weights))


@MEMBERS
def test_it_climbs_to_the_optimum_of_em_and_never_falls(algorithm):
    start, rows = given()
    em, found = (jaxgmm.run(each, start, rows, tol=1e-12) for each in (EM(), algorithm))
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.log_likelihood, em.log_likelihood, rtol=1e-12)
    chex.assert_trees_all_close(found.mixture, em.mixture, atol=1e-4)
    history = np.asarray(found.history[: found.n_iter])
    assert np.all(np.diff(history) >= -1e-12 * np.abs(history[0]))


@MEMBERS
def test_state_is_carried_and_info_reported(algorithm):
    start, rows = given()
    problem = jax.jit(posed)(rows, settle(None, rows.x.dtype))
    init, step = jax.jit(algorithm.init), jax.jit(algorithm.step)
    (state, info), visited = init(start, problem), []
    assert info.n_passes == 0 and np.isnan(info.objective) and np.isposinf(info.gain)
    for _ in range(3):
        before = state
        state, info = step(state, problem)
        # A loop can carry it.
        chex.assert_trees_all_equal_shapes_and_dtypes(state, before)
        assert info.objective.shape == info.gain.shape == info.n_passes.shape == ()
        np.testing.assert_allclose(info.objective, jaxgmm.log_likelihood(state.mixture, rows), rtol=1e-12)
        np.testing.assert_allclose(state.log_likelihood, info.objective, rtol=1e-12)
        visited.append(int(info.n_passes))
    assert visited == [1, 1, 1]
    again = jax.tree.unflatten(jax.tree.structure(algorithm), jax.tree.leaves(algorithm))
    assert again == algorithm


@MEMBERS
def test_it_runs_under_jit_and_vmap_and_through_fit(algorithm):
    start, rows = given()
    alone = jaxgmm.run(algorithm, start, rows, tol=0, max_iter=20)
    starts = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), start)
    stacked = jax.jit(jax.vmap(lambda start: jaxgmm.run(algorithm, start, rows, tol=0, max_iter=20)))(starts)
    for place in range(2):
        one = jax.tree.map(lambda leaf, at=place: leaf[at], stacked)
        chex.assert_trees_all_close(one.mixture, alone.mixture, rtol=1e-7)
        assert one.n_passes == alone.n_passes == 21
    fitted = jaxgmm.fit(KEY, rows, 2, algorithm=algorithm, init=start)
    assert fitted.status == Status.CONVERGED


def test_it_waits_in_a_row():
    """It ends where what it wraps would have ended for so many steps, and what it wraps ends there by itself."""
    start, rows = given()
    plain = jaxgmm.run(EM(), start, rows, tol=1e-4)
    for length in (1, 5):
        patient = jaxgmm.run(Patient(EM(), length), start, rows, tol=1e-4)
        assert patient.status == Status.CONVERGED
        assert patient.n_iter == plain.n_iter + length - 1
    assert bool(patient.objective >= plain.objective)
