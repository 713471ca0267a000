"""Functions with a rule of their own for `vmap` work where JAX maps over the arrays that stand in them."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.data.expectation import expectation
from tests import cases
from tests.cases import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_rows, n_features", [(60, 20), (20_000, 7)], ids=["residuals", "features"])
def test_branches_that_a_stack_takes_one_by_one(n_rows, n_features, family, dtype):
    """As in a line search: it failed from 16 columns on, and wherever rows are many."""
    mixture, (weights, means, covs) = cases.mixture(family, n_components=4, n_features=n_features, dtype=dtype)
    x, ones = cases.rows(n_rows, n_features, dtype)[0], jnp.ones(n_rows, dtype)

    def asked(shift):
        moved = jaxgmm.make_mixture(weights, means + shift, covs, covariance_type=family)
        return jax.lax.cond(shift > 0, lambda: expectation(moved.family.statistic, moved, x, ones)[1], lambda: shift)

    found = jax.jit(jax.vmap(asked))(jnp.asarray([-1.0, 1.0], dtype))
    joint = []
    for weight, mean, covariance in zip(weights, means + 1.0, np.asarray(mixture.covariances), strict=True):
        residuals = x.astype(np.float64) - mean
        distance = np.einsum("nd,de,ne->n", residuals, np.linalg.inv(covariance.astype(np.float64)), residuals)
        joint.append(np.log(weight) - (distance + np.linalg.slogdet(2 * np.pi * covariance)[1]) / 2)
    expected = np.logaddexp.reduce(joint, axis=0).sum()
    np.testing.assert_allclose(found, [-1, expected], rtol=cases.tolerance(dtype))


def test_no_other_module_takes_the_decorator_of_jax():
    sources = pathlib.Path(jaxgmm.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "jax.custom_batching.custom_vmap(" in path.read_text()] == ["stacks.py"]
    assert not [path for path in sources if "@jax.custom_batching" in path.read_text()]
