"""How often 95% intervals hold the truth: `python -m experiments.coverage`.

Data sets are drawn from a known mixture, fitted, and the intervals of two standard errors counted that hold the
parameters: by the observed information where the model is right, and by it and the sandwich where the data have heavier
tails than a mixture of Gaussians, and what is estimated is its best approximation.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxgmm
from jaxgmm import EM

QUANTILE = 1.959964
BATCH = 25


class Case(NamedTuple):
    """Data of one make.

    Attributes:
        name: as it stands in the table.
        family: of the fit.
        degrees: of freedom of the noise; None is Gaussian.
        sandwich: whether the standard errors are the sandwich's.
    """

    name: str
    family: str
    degrees: float | None
    sandwich: bool


CASES = (
    Case("full, model right", "full", None, False),
    Case("tied, model right", "tied", None, False),
    Case("diag, model right", "diag", None, False),
    Case("spherical, model right", "spherical", None, False),
    Case("diag, heavy tails, information", "diag", 12.0, False),
    Case("diag, heavy tails, sandwich", "diag", 12.0, True),
)


def main(n_sets: int = 500, n_rows: int = 1000) -> dict[str, np.ndarray]:
    """Print and return the share of intervals that hold the truth: of weights, means and covariances."""
    jax.config.update("jax_enable_x64", True)
    print(f"{n_sets} data sets of {n_rows} rows, K = 2, D = 2; share of 95% intervals that hold the truth\n")
    print(f"{'':<34}{'weights':>9}{'means':>9}{'covariances':>13}")
    found = {}
    for case in CASES:
        shares = covered(case, n_sets, n_rows)
        found[case.name] = shares
        print(f"{case.name:<34}{shares[0]:>9.3f}{shares[1]:>9.3f}{shares[2]:>13.3f}", flush=True)
    error = np.sqrt(0.95 * 0.05 / n_sets)
    print(f"\nof a share of 0.95 for one parameter chance alone makes ±{2 * error:.3f}")
    return found


def covered(case: Case, n_sets: int, n_rows: int) -> np.ndarray:
    """Shares for weights, means and covariances, (3,)."""
    variances = np.array([1.0, 1.0 if case.family == "tied" else 1.5])
    means = np.array([[0.0, 0.0], [3.5, 1.0]])
    source = jaxgmm.make_mixture(np.array([0.4, 0.6]), means, variances, covariance_type="spherical")
    start = jaxgmm.project(source, case.family)

    def draw(key: Array, n: int) -> Array:
        key_rows, key_tails = jax.random.split(key)
        x, labels = jaxgmm.sample(key_rows, source, n)
        if case.degrees is None:
            return x
        chi = 2 * jax.random.gamma(key_tails, case.degrees / 2, (n, 1), x.dtype)
        centre = source.means[labels]
        return centre + (x - centre) * jnp.sqrt((case.degrees - 2) / chi)

    def fit(x: Array) -> jaxgmm.Mixture:
        return jaxgmm.run(EM(), start, x, max_iter=3000, tol=1e-11).mixture

    truth = start if case.degrees is None else jax.jit(fit)(draw(jax.random.key(1), 1_000_000))

    def holds(key: Array) -> list[Array]:
        x = draw(key, n_rows)
        mixture = fit(x)
        errors = jaxgmm.standard_errors(mixture, x, sandwich=case.sandwich)
        pairs = ((getattr(mixture, name) - getattr(truth, name), getattr(errors, name)) for name in errors._fields)
        return [jnp.where(e > 0, jnp.abs(d) <= QUANTILE * e, jnp.nan) for d, e in pairs]

    run = jax.jit(lambda keys: jax.lax.map(holds, keys, batch_size=BATCH))
    return np.asarray([np.nanmean(share) for share in run(jax.random.split(jax.random.key(0), n_sets))])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n-sets", type=int, default=500)
    parser.add_argument("--n-rows", type=int, default=1000)
    main(**vars(parser.parse_args()))
