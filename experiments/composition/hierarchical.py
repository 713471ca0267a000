"""A mixture inside a numpyro model, sampled with NUTS: `python -m experiments.composition.hierarchical`.

The bills of three species of penguins. Species are drawn from a population of species, whose centre and spread are
unknown too; the rows' likelihood is one call of `jaxgmm.log_likelihood`. The posterior stands beside EM's optimum and
its asymptotic standard errors.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import MCMC, NUTS, init_to_value

import jaxgmm
from experiments import datasets
from experiments.composition import lenient
from experiments.datasets import Dataset

N_COMPONENTS = 3


class Figures(NamedTuple):
    """The posterior of the means, (K, D), beside EM's optimum, in the columns' standard deviations.

    Attributes:
        optimum: EM's means.
        errors: their asymptotic standard errors.
        mean: posterior means.
        deviation: posterior standard deviations.
        ess: effective sample sizes.
        r_hat: largest split potential scale reduction of any parameter.
        divergences: transitions that diverged.
        switched: share of the draws in which a component's mean is nearer to another's optimum.
    """

    optimum: np.ndarray
    errors: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    ess: np.ndarray
    r_hat: float
    divergences: int
    switched: float


def main(quick: bool = False) -> Figures:
    data = bills()
    x, optimum = data.x, fitted(data)
    errors = jaxgmm.standard_errors(optimum, x)
    with lenient():
        chains = sample(jax.random.key(1), x, optimum, n_chains=2, n_samples=300 if quick else 1000)
        figures = summarise(chains, optimum, np.asarray(errors.means))
    report(figures, data)
    return figures


def bills() -> Dataset:
    """Length and depth of the penguins' bills, in standard deviations."""
    data, _ = datasets.penguins()
    x = data.x[:, :2]
    return data._replace(x=(x - x.mean(axis=0)) / x.std(axis=0), columns=data.columns[:2])


def fitted(data: Dataset) -> jaxgmm.Mixture:
    """The maximum of the likelihood that EM reaches from the known groups, one component each."""
    start = jaxgmm.from_responsibilities(data.x, np.eye(len(data.groups))[data.labels])
    return jaxgmm.run(jaxgmm.EM(), start, data.x, max_iter=5000, tol=1e-12).mixture


def model(x: Array) -> None:
    """Rows of a mixture whose components come from one population."""
    n_features = x.shape[1]
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(N_COMPONENTS)))
    centre = numpyro.sample("centre", dist.Normal(0.0, 1.0).expand([n_features]).to_event(1))
    spread = numpyro.sample("spread", dist.HalfNormal(2.0).expand([n_features]).to_event(1))
    with numpyro.plate("components", N_COMPONENTS):
        means = numpyro.sample("means", dist.Normal(centre, spread).to_event(1))
        deviations = numpyro.sample("deviations", dist.HalfNormal(1.0).expand([n_features]).to_event(1))
        correlations = numpyro.sample("correlations", dist.LKJCholesky(n_features, concentration=1.5))
    factors = deviations[:, :, None] * correlations
    mixture = jaxgmm.make_mixture(weights, means, factors @ jnp.swapaxes(factors, 1, 2))
    numpyro.factor("rows", jaxgmm.log_likelihood(mixture, x))


def sample(key: Array, x: np.ndarray, start: jaxgmm.Mixture, n_chains: int, n_samples: int) -> MCMC:
    """NUTS from a fitted mixture: the posterior has K! equal modes, and chains that start in one of them stay there."""
    deviations = jnp.sqrt(jnp.diagonal(start.covariances, axis1=1, axis2=2))
    values = {
        "weights": start.weights,
        "means": start.means,
        "deviations": deviations,
        "correlations": jnp.linalg.cholesky(start.covariances) / deviations[:, :, None],
    }
    kernel = NUTS(model, init_strategy=init_to_value(values=values))
    chains = MCMC(
        kernel,
        num_warmup=n_samples // 2,
        num_samples=n_samples,
        num_chains=n_chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    chains.run(key, jnp.asarray(x))
    return chains


def summarise(chains: MCMC, optimum: jaxgmm.Mixture, errors: np.ndarray) -> Figures:
    draws = {name: np.asarray(draw) for name, draw in chains.get_samples(group_by_chain=True).items()}
    means, centres = draws["means"], np.asarray(optimum.means)
    distances = np.linalg.norm(means[:, :, :, None] - centres, axis=-1)
    # The upper triangle of a correlation matrix's factor is constant, and has no r-hat.
    r_hats = [np.nanmax(split_gelman_rubin(draw)) for name, draw in draws.items() if name != "correlations"]
    return Figures(
        optimum=centres,
        errors=errors,
        mean=means.mean(axis=(0, 1)),
        deviation=means.std(axis=(0, 1)),
        ess=effective_sample_size(means),
        r_hat=float(max(r_hats)),
        divergences=int(chains.get_extra_fields()["diverging"].sum()),
        switched=float(np.mean(np.any(distances.argmin(axis=-1) != np.arange(N_COMPONENTS), axis=-1))),
    )


def report(figures: Figures, data: Dataset) -> None:
    print("Means of the components, in standard deviations of the columns: NUTS beside EM's optimum")
    header = f"{'component':<10} {'column':<15} {'optimum':>8} {'error':>7} {'mean':>8} {'sd':>7} {'ESS':>6}"
    print(f"\n{header}\n{'-' * len(header)}")
    for k, d in np.ndindex(figures.optimum.shape):
        print(
            f"{data.groups[k]:<10} {data.columns[d]:<15} {figures.optimum[k, d]:>8.3f} {figures.errors[k, d]:>7.3f} "
            f"{figures.mean[k, d]:>8.3f} {figures.deviation[k, d]:>7.3f} {figures.ess[k, d]:>6.0f}"
        )
    print(
        f"\nlargest split r-hat {figures.r_hat:.3f}, {figures.divergences} divergences, "
        f"labels switched in {figures.switched:.1%} of the draws"
    )


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
