"""The experiments in composition, small: each finds what it should."""

import jax
import numpy as np
import pytest

import jaxgmm

pytestmark = [pytest.mark.needs_x64, pytest.mark.exhaustive]


def test_numpyro_samples_around_ems_optimum():
    pytest.importorskip("numpyro", reason="the extra `composition` is not installed")
    from experiments.composition import hierarchical

    found = hierarchical.main(quick=True)
    assert found.r_hat < 1.1 and found.switched == 0.0 and found.divergences < 6
    assert np.all(found.ess > 50)
    # The population's prior and the likelihood's skewness move a mean by less than its own spread.
    assert np.all(np.abs(found.mean - found.optimum) < found.deviation)
    assert np.all((0.7 < found.deviation / found.errors) & (found.deviation / found.errors < 2.0))


def test_blackjax_returns_the_prior_without_rows_and_laplaces_posterior_with_them():
    pytest.importorskip("blackjax", reason="the extra `composition` is not installed")
    from experiments.composition import samplers

    found = samplers.main(quick=True)
    for chains in (found.prior, found.posterior):
        assert chains.r_hat < 1.1 and chains.ess > 100 and chains.divergences < 5
        assert 0.7 < chains.acceptance < 0.98
    np.testing.assert_allclose(found.prior_moments, found.prior_truth, rtol=0.15)
    assert np.all(np.abs(found.mean - found.mode) < 0.7 * found.deviation)
    assert np.all((0.8 < found.deviation / found.laplace) & (found.deviation / found.laplace < 1.5))


def test_an_autoencoder_learns_its_mixture_prior():
    pytest.importorskip("equinox", reason="the extra `composition` is not installed")
    from experiments.composition import latent

    found = latent.main(quick=True)
    # Measured: 4 nats gained; adjusted Rand index 0.75 beside a normal prior's 0.71 and the principal components' 0.74.
    assert found.bound_joint > found.bound_normal + 1.0
    assert found.joint > 0.6 and found.joint > found.normal - 0.1


def test_only_a_prior_of_several_components_is_trained():
    pytest.importorskip("equinox", reason="the extra `composition` is not installed")
    from experiments.composition import latent

    model = latent.networks(jax.random.key(0))
    assert not any(jax.tree.leaves(latent.trained(model).prior))
    both = jaxgmm.make_mixture(np.ones(2) / 2, np.eye(2, latent.N_LATENT), np.ones(2), covariance_type="spherical")
    flags = latent.trained(latent.eqx.tree_at(lambda model: model.prior, model, jaxgmm.unconstrain(both)))
    assert all(jax.tree.leaves(flags.prior)) and any(jax.tree.leaves(flags.encoder))


def test_weights_learned_through_a_fit_find_the_contaminated_rows():
    from experiments.composition import reweighting

    found = reweighting.main(quick=True)
    gap = found.oracle[:, 1] - found.before[:, 1]
    assert np.all(found.after[:, 0] > found.before[:, 0] + 0.3)
    assert np.all(found.after[:, 1] - found.before[:, 1] > 0.5 * gap) and np.all(gap > 0.3)
    assert np.all(found.auc > 0.95) and np.all(found.auc > found.auc_density + 0.05)
    assert np.all(found.weight_contaminated < 0.2) and np.all(found.weight_clean > 0.5)
