"""Slopes in weights of exactly 0, whose logs are −∞, beside the closed forms in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.numerics.zero_weights import most_log_odds, unit
from tests import cases, reference
from tests.cases import FAMILIES
from tests.programs import programs_with

WEIGHTS = np.array([0.0, 0.45, 0.0, 0.55])


def rows_and_arrays(family, dtype):
    _, (_, means, covs) = cases.mixture(family, 4, 2, dtype)
    x, row_weights = cases.rows(70, 2, dtype)
    return means, covs, x, row_weights


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("slope_of", [jax.jacrev, jax.jacfwd])
def test_the_slope_in_a_weight_of_zero_is_the_density_over_the_mixtures(slope_of, family, dtype):
    means, covs, x, row_weights = rows_and_arrays(family, dtype)

    def figures(weights):
        mixture = jaxgmm.make_mixture(weights, means, covs, covariance_type=family)
        moments, total = jaxgmm.e_step(mixture, x, row_weights)
        by_row = jaxgmm.log_prob(mixture, x), jaxgmm.responsibilities(mixture, x), jaxgmm.uncertainty(mixture, x)
        summed = jaxgmm.log_likelihood(mixture, x, row_weights), jaxgmm.score(mixture, x, row_weights), total
        conditional = jaxgmm.condition(mixture, [0], x[0, :1]).weights
        return *by_row, *summed, moments.mass, mixture.weights, jaxgmm.total_moments(mixture)[0], conditional

    with programs_with({"jaxgmm.numerics.chunks._ELEMENTS": 64 * 8}):  # two chunks
        found = jax.jit(slope_of(figures))(jnp.asarray(WEIGHTS, dtype))
    dense = reference.dense_covariances(family, covs, 4, 2)
    density = np.exp(reference.log_joint(np.ones(4), means, dense, x))
    ratio = density / (density @ WEIGHTS)[:, None]
    shares = WEIGHTS * ratio
    of_shares = np.eye(4)[None] * ratio[:, :, None] - shares[:, :, None] * ratio[:, None, :]
    others = np.arange(4)[None] != shares.argmax(axis=1)[:, None]
    slope, row_weights = ratio - 1, row_weights.astype(np.float64)
    known = reference.log_joint(np.ones(4), means[:, :1], dense[:, :1, :1], x[:1, :1])[0]
    known = np.exp(known) / (np.exp(known) @ WEIGHTS)
    expected = [slope, of_shares, np.sum(of_shares * others[:, :, None], axis=1), row_weights @ slope]
    expected += [row_weights @ slope / row_weights.sum(), row_weights @ slope]
    expected += [np.einsum("n,nij->ij", row_weights, of_shares), np.eye(4) - WEIGHTS[:, None]]
    expected += [(means - WEIGHTS @ means).T, np.diag(known) - np.outer(WEIGHTS * known, known)]
    rtol = 1e-4 if dtype == np.float32 else 1e-9
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


def test_the_figure_of_the_issue(dtype):
    def log_prob(weights):
        mixture = jaxgmm.make_mixture(weights, [[0.0], [1.0], [2.0]], [1.0, 1.0, 1.0], covariance_type="spherical")
        return jaxgmm.log_prob(mixture, np.array([[0.3]], dtype))[0]

    weights = jnp.asarray([0.0, 0.5, 0.5], dtype)
    np.testing.assert_allclose(jax.jit(jax.grad(log_prob))(weights)[0], 0.87736, rtol=1e-4)
    # log p is log Σ w N − log Σ w, whose second derivative is −N N'/p² + 1.
    slopes = np.exp(-0.5 * (0.3 - np.arange(3.0)) ** 2)
    slopes = slopes / (slopes[1:].sum() / 2)
    both = jax.jit(jax.hessian(log_prob))(weights), jax.jit(jax.jacfwd(jax.vmap(jax.grad(log_prob))))(weights[None])
    for found in (both[0], both[1][0, :, 0]):
        np.testing.assert_allclose(found, 1 - np.outer(slopes, slopes), rtol=1e-4, atol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize("distance", [3.0, 12.0, 40.0])
def test_a_logit_of_minus_infinity_has_no_slope_and_leaves_the_others_theirs(distance, dtype):
    """Also where a row lies at the masked component and far from all others: the slope in its weight is then huge."""
    means = jnp.asarray([[0.0], [distance], [1.0]], dtype)
    family = jaxgmm.FAMILIES["spherical"]
    covs = family.from_array(jnp.ones(3, dtype), 1)
    x = jnp.asarray([[distance], [0.4]], dtype)

    def of(kept):
        def log_prob(logits):
            held = jax.tree.map(lambda leaf: leaf[kept], covs)
            mixture = jaxgmm.Mixture(jax.nn.log_softmax(logits), means[kept], held, family)
            figures = (
                jaxgmm.log_likelihood(mixture, x),
                jaxgmm.log_prob(mixture, x),
                jaxgmm.responsibilities(mixture, x),
            )
            return jnp.stack([jnp.sum(jnp.square(figure)) for figure in figures])

        return jax.jit(jax.jacrev(log_prob))

    found = of(np.arange(3))(jnp.asarray([0.0, -np.inf, 1.0], dtype))
    plain = of(np.array([0, 2]))(jnp.asarray([0.0, 1.0], dtype))
    np.testing.assert_allclose(found[:, [0, 2]], plain, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[:, 1], 0.0, atol=1e-4)
    # The slope in the weight is right up to a bound, which it then is.
    most = most_log_odds(dtype)

    def in_weight(weights):
        mixture = jaxgmm.make_mixture(weights, means, jnp.ones(3, dtype), covariance_type="spherical")
        return jaxgmm.log_prob(mixture, x)[0]

    slope = jax.jit(jax.grad(in_weight))(jnp.asarray([0.5, 0.0, 0.5], dtype))[1]
    beside = np.logaddexp(-(distance**2) / 2, -((distance - 1) ** 2) / 2) + np.log(0.5)
    np.testing.assert_allclose(slope, np.exp(min(-beside, most)) - 1, rtol=1e-4)
    np.testing.assert_allclose(np.exp(most) * unit(dtype), np.finfo(dtype).eps / 2, rtol=1e-9)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
@pytest.mark.parametrize("family", ["full", "diag"])
def test_divergences_have_the_slope_in_a_weight_of_zero(family):
    """Beside one-sided differences; the upper bound, whose best plan changes its form, in the first mixture alone."""
    (means, covs, _, _), (_, (_, others, _)) = rows_and_arrays(family, np.float64), cases.mixture(family, 4, 2, seed=3)

    @jax.jit
    def figures(of_p, of_q):
        p = jaxgmm.make_mixture(of_p, means, covs, covariance_type=family)
        q = jaxgmm.make_mixture(of_q, others, covs, covariance_type=family)
        two = [jaxgmm.kl_upper_bound(p, jax.lax.stop_gradient(q)), jaxgmm.kl_variational(p, q)]
        return jnp.stack([*two, jaxgmm.l2_divergence(p, q), jaxgmm.cauchy_schwarz_divergence(p, q)])

    at, step, most = (WEIGHTS, WEIGHTS[[1, 0, 3, 2]]), 1e-6, slice(1, None)
    found = jax.jit(jax.jacrev(figures, argnums=(0, 1)))(*at)
    for side, kept in ((0, slice(None)), (1, most)):
        for k in np.flatnonzero(at[side] == 0):
            beside = [np.array(weights) for weights in at]
            ahead = [np.array(weights) for weights in at]
            beside[side][k], ahead[side][k] = step, 2 * step
            values = [np.asarray(figures(*(w / w.sum() for w in weights))) for weights in (at, beside, ahead)]
            expected = (4 * values[1] - 3 * values[0] - values[2]) / (2 * step)
            np.testing.assert_allclose(found[side][kept, k], expected[kept], rtol=1e-3, atol=1e-4)
