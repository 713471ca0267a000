"""Blackjax on a mixture's unconstrained coordinates: `python -m experiments.composition.samplers`.

A log-density over weights, means and covariances becomes one over `Params` by adding `log_det_jacobian`. Two checks.
Without rows the sampler must return the prior, whose moments are known; with the penguins' bills its posterior stands
beside the Laplace approximation at the mode.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.diagnostics import effective_sample_size, potential_scale_reduction
from jax import Array
from jax.flatten_util import ravel_pytree

import jaxgmm
from experiments.composition import lenient
from experiments.composition.hierarchical import N_COMPONENTS, bills, fitted

N_CHAINS = 2


class Prior(NamedTuple):
    """Uniform weights, normal means and inverse-Wishart covariances; all proper, columns standardised.

    Attributes:
        spread: standard deviation of each mean's entries.
        degrees: degrees of freedom ν of the inverse Wishart.
        scale: its scale matrix is this times the identity.
    """

    spread: float = 2.0
    degrees: float = 8.0
    scale: float = 1.25

    def log_prob(self, mixture: jaxgmm.Mixture) -> Array:
        """Log-density of weights, means and covariances, up to a constant."""
        log_det = mixture.covs.log_det(mixture.n_features)
        traces = self.scale * jnp.trace(mixture.precisions, axis1=1, axis2=2)
        covariances = (self.degrees + mixture.n_features + 1) * log_det + traces
        return -0.5 * (jnp.sum((mixture.means / self.spread) ** 2) + jnp.sum(covariances))

    def deviation_of_weights(self, n_components: int) -> float:
        """Standard deviation of one weight; its mean is 1/K."""
        return float(np.sqrt((n_components - 1) / (n_components + 1)) / n_components)

    def mean_variance(self, n_features: int) -> float:
        """Mean of a covariance's diagonal entry."""
        return self.scale / (self.degrees - n_features - 1)


class Chains(NamedTuple):
    """Draws of the coordinates with what a sampler reports.

    Attributes:
        coordinates: (chains, draws, P).
        acceptance: mean acceptance rate.
        divergences: transitions that diverged.
        r_hat: largest potential scale reduction of a coordinate.
        ess: smallest effective sample size of a coordinate.
    """

    coordinates: Array
    acceptance: float
    divergences: int
    r_hat: float
    ess: float


class Figures(NamedTuple):
    """The prior and the posterior, sampled, beside what they should be.

    Attributes:
        prior: the prior's chains.
        prior_moments: mean and standard deviation of weights, root mean square of means, mean variance; sampled.
        prior_truth: the same, exact.
        posterior: the posterior's chains.
        mode: its mode, (P,).
        mean: posterior means of the coordinates, (P,).
        deviation: their posterior standard deviations, (P,).
        laplace: standard deviations of the Laplace approximation, (P,).
    """

    prior: Chains
    prior_moments: np.ndarray
    prior_truth: np.ndarray
    posterior: Chains
    mode: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    laplace: np.ndarray


def main(quick: bool = False) -> Figures:
    data = bills()
    x, prior, (n_warmup, n_draws) = jnp.asarray(data.x), Prior(), (300, 500) if quick else (500, 2000)
    start, restore = ravel_pytree(jaxgmm.unconstrain(fitted(data)))

    def log_density(coordinates: Array, sample_weight: Array) -> Array:
        params = restore(coordinates)
        mixture = jaxgmm.constrain(params)
        log_posterior = jaxgmm.log_likelihood(mixture, x, sample_weight) + prior.log_prob(mixture)
        return log_posterior + jaxgmm.log_det_jacobian(params)

    with lenient():
        rows, no_rows = jnp.ones(len(x)), jnp.zeros(len(x))
        draw = jax.jit(functools.partial(nuts, log_density, n_warmup=n_warmup, n_draws=n_draws))
        alone = chains_of(*draw(jax.random.key(1), start, no_rows))
        posterior = chains_of(*draw(jax.random.key(2), start, rows))
        mode, laplace = laplace_approximation(functools.partial(log_density, sample_weight=rows), start)
    figures = Figures(
        prior=alone,
        prior_moments=moments(jax.vmap(lambda at: jaxgmm.constrain(restore(at)))(jnp.concatenate(alone.coordinates))),
        prior_truth=np.array(
            [1 / N_COMPONENTS, prior.deviation_of_weights(N_COMPONENTS), prior.spread, prior.mean_variance(x.shape[1])]
        ),
        posterior=posterior,
        mode=np.asarray(mode),
        mean=np.asarray(posterior.coordinates.mean(axis=(0, 1))),
        deviation=np.asarray(posterior.coordinates.std(axis=(0, 1))),
        laplace=np.asarray(laplace),
    )
    report(figures)
    return figures


def nuts(
    log_density: Callable[..., Array], key: Array, start: Array, sample_weight: Array, *, n_warmup: int, n_draws: int
) -> tuple[Array, Any]:
    """Coordinates (chains, draws, P) by NUTS with window adaptation, and its information on each draw."""
    target = functools.partial(log_density, sample_weight=sample_weight)
    warmup = blackjax.window_adaptation(blackjax.nuts, target)

    def chain(key: Array) -> tuple[Array, Any]:
        key_warmup, key_draws = jax.random.split(key)
        (state, parameters), _ = warmup.run(key_warmup, start, num_steps=n_warmup)
        kernel = blackjax.nuts(target, **parameters)

        def draw(state: Any, key: Array) -> tuple[Any, tuple[Array, Any]]:
            state, info = kernel.step(key, state)
            return state, (state.position, (info.acceptance_rate, info.is_divergent))

        return jax.lax.scan(draw, state, jax.random.split(key_draws, n_draws))[1]

    return jax.vmap(chain)(jax.random.split(key, N_CHAINS))


def chains_of(coordinates: Array, info: Any) -> Chains:
    acceptance, diverged = info
    return Chains(
        coordinates=coordinates,
        acceptance=float(acceptance.mean()),
        divergences=int(diverged.sum()),
        r_hat=float(potential_scale_reduction(coordinates).max()),
        ess=float(effective_sample_size(coordinates).min()),
    )


@functools.partial(jax.jit, static_argnums=0)
def laplace_approximation(log_density: Callable[[Array], Array], start: Array) -> tuple[Array, Array]:
    """Mode and standard deviations of the normal approximation there, by Newton's steps from a start nearby."""

    def step(at: Array, _: None) -> tuple[Array, Array]:
        hessian = jax.hessian(log_density)(at)
        return at - jnp.linalg.solve(hessian, jax.grad(log_density)(at)), hessian

    mode, hessians = jax.lax.scan(step, start, length=10)
    return mode, jnp.sqrt(jnp.diagonal(jnp.linalg.inv(-hessians[-1])))


def moments(mixtures: jaxgmm.Mixture) -> np.ndarray:
    """Of draws: mean and standard deviation of the weights, root mean square of the means, mean variance."""
    variances = jnp.diagonal(jax.vmap(lambda mixture: mixture.covariances)(mixtures), axis1=2, axis2=3)
    weights = mixtures.weights
    return np.array(
        [weights.mean(), weights.std(), jnp.sqrt(jnp.mean(mixtures.means**2)), variances.mean()], dtype=np.float64
    )


def report(figures: Figures) -> None:
    print("The prior, sampled without rows, beside its exact moments")
    for name, found, truth in zip(
        ("mean of weights", "sd of weights", "rms of means", "mean variance"),
        figures.prior_moments,
        figures.prior_truth,
        strict=True,
    ):
        print(f"{name:<16} {found:>7.3f} {truth:>7.3f}")
    print("\nThe posterior of the penguins' bills beside the Laplace approximation, in unconstrained coordinates")
    header = f"{'coordinates':<12} {'|mean - mode| / sd':>18} {'sd / Laplace sd':>18}"
    print(f"{header}\n{'-' * len(header)}")
    shifts, ratios = np.abs(figures.mean - figures.mode) / figures.deviation, figures.deviation / figures.laplace
    n_means = N_COMPONENTS * 2
    parts = np.split(np.arange(len(figures.mode)), [N_COMPONENTS - 1, N_COMPONENTS - 1 + n_means])
    for name, part in zip(("weights", "means", "covariances"), parts, strict=True):
        spans = [f"{values[part].min():.2f} to {values[part].max():.2f}" for values in (shifts, ratios)]
        print(f"{name:<12} {spans[0]:>18} {spans[1]:>18}")
    for name, chains in (("prior", figures.prior), ("posterior", figures.posterior)):
        print(
            f"{name}: acceptance {chains.acceptance:.2f}, largest r-hat {chains.r_hat:.3f}, "
            f"smallest ESS {chains.ess:.0f}, {chains.divergences} divergences"
        )


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
