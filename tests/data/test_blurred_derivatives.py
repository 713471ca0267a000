"""Derivatives of densities and moments of rows with gaps and errors, beside finite differences, in every mode."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from tests import blurred, cases
from tests.blurred import KINDS
from tests.cases import FAMILIES

FEW = 8
"""Rows: a step in a random direction moves all that they hold."""


def given(family, kind):
    mixture, x, weights = blurred.problem(family, n_rows=FEW, n_features=2)
    return jaxgmm.unconstrain(mixture), jnp.asarray(x), jnp.asarray(weights), blurred.noise_of(x, kind)


def check_slopes(family, kind):
    params, x, weights, noise = given(family, kind)

    def figure(params, x, weights, noise):
        mixture, data = jaxgmm.constrain(params), blurred.as_data(x, weights, noise)
        moments, _ = jaxgmm.e_step(mixture, data)
        summed = [jnp.sum(jnp.sin(jnp.arange(leaf.size, dtype=leaf.dtype)) * leaf.ravel()) for leaf in moments]
        by_row = jnp.sum(jnp.cos(jnp.arange(FEW, dtype=x.dtype)) * jaxgmm.log_prob(mixture, data))
        return jaxgmm.log_likelihood(mixture, data), jnp.stack(summed), by_row

    primals = (params, x, weights) if noise is None else (params, x, weights, jnp.asarray(noise))
    rng = np.random.default_rng(3)
    tangents = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), primals)
    if kind == "covariances":
        tangents = (*tangents[:3], tangents[3] + jnp.swapaxes(tangents[3], 1, 2))

    @jax.jit
    def along(*primals):
        at = figure if noise is not None else functools.partial(figure, noise=None)
        value, forward = jax.jvp(at, primals, tangents)
        return value, forward, jax.vjp(at, *primals)[1](jax.tree.map(jnp.cos, value))

    value, forward, backward = along(*primals)
    step = 1e-6
    up, down = (along(*jax.tree.map(lambda p, t, s=s: p + s * t, primals, tangents))[0] for s in (step, -step))
    blurred.check_close(forward, jax.tree.map(lambda a, b: (a - b) / (2 * step), up, down), 1e-6)
    pulled = jax.tree.map(lambda slope, tangent: np.sum(slope * tangent), backward, tangents)
    pushed = jax.tree.map(lambda value, change: np.sum(np.cos(value) * change), value, forward)
    np.testing.assert_allclose(sum(jax.tree.leaves(pulled)), sum(jax.tree.leaves(pushed)), rtol=1e-9)


@pytest.mark.needs_x64
def test_slopes_in_everything_are_finite_differences():
    check_slopes("full", "covariances")


@pytest.mark.exhaustive
@pytest.mark.needs_x64
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_slopes_of_every_kind_are_finite_differences(family, kind):
    check_slopes(family, kind)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_slope_in_a_weight_of_zero_is_the_density_over_the_mixtures(family, dtype):
    """Of the log-likelihood, and of what components have of a row; the moments take no part of it but mass."""
    mixture, x, row_weights = blurred.problem(family, dtype)
    (_, _, covs), shares = cases.mixture(family, *mixture.means.shape, dtype)[1], np.array([1.0, 0.0])
    data = blurred.as_data(x, row_weights, blurred.noise_of(x, "variances"))
    slope, of_shares, of_mass = _slopes_in_weights(jnp.asarray(shares, dtype), mixture.means, covs, data, family)
    density = np.exp(blurred.twin(family, mixture, x, row_weights, data.noise)["log_components"])
    ratio = density / (density @ shares)[:, None]
    expected = np.eye(2)[None] * ratio[:, :, None] - (shares * ratio)[:, :, None] * ratio[:, None, :]
    taken = np.asarray(row_weights, np.float64)
    rtol = 1e-4 if dtype == np.float32 else 1e-8
    blurred.check_close(slope, taken @ (ratio - 1), rtol)
    blurred.check_close(of_shares, expected, rtol)
    blurred.check_close(of_mass, np.einsum("n,nij->ij", taken, expected), rtol)


@functools.partial(jax.jit, static_argnums=4)
def _slopes_in_weights(weights, means, covs, data, family):
    def figures(weights):
        mixture = jaxgmm.make_mixture(weights, means, covs, covariance_type=family)
        shares, moments = jaxgmm.responsibilities(mixture, data), jaxgmm.e_step(mixture, data)[0]
        return jaxgmm.log_likelihood(mixture, data), shares, moments.mass

    return jax.jacrev(figures)(weights)
