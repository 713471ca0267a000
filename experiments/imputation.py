"""Values deleted at random and filled in again: `python -m experiments.imputation`.

Of scikit-learn's wine and diabetes a tenth, three and five tenths of the values are deleted, completely at random. A
mixture of which BIC chose K and the covariances is fitted to what is left, and fills the gaps by `impute`, beside
scikit-learn's three imputers. Two figures for each: how far the values filled in lie from those deleted, and how often
intervals that should hold nine tenths of the deleted values do so.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from sklearn.datasets import load_diabetes, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer as enable_iterative_imputer  # Before the imputer.

# isort: split
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

import jaxgmm

SHARES = (0.1, 0.3, 0.5)
COUNTS = range(1, 5)

N_DRAWS = 19
"""Between the smallest and the largest of 19 draws a value of the same distribution lies with probability 0.9."""

DATA: dict[str, Callable[[], np.ndarray]] = {
    "wine": lambda: load_wine().data,
    "diabetes": lambda: load_diabetes(scaled=False).data,
}


class Filled(NamedTuple):
    """What one imputer made of one data set with gaps.

    Attributes:
        values: filled in where values were deleted, (n,).
        draws: the same, drawn several times, (N_DRAWS, n); None where the imputer draws nothing.
        model: the mixture in a few characters; empty for the others.
    """

    values: np.ndarray
    draws: np.ndarray | None = None
    model: str = ""


def main(n_sets: int = 3, data: str = "wine,diabetes") -> list[dict[str, object]]:
    """Print a table and return its rows."""
    jax.config.update("jax_enable_x64", True)
    print(f"{n_sets} deletions for each line; errors in standard deviations of the column, intervals from draws\n")
    header = f"{'data':<10}{'deleted':>8}  {'by':<30}{'error':>8}{'90% interval':>14}{'seconds':>9}"
    print(f"{header}\n{'-' * len(header)}")
    rows: list[dict[str, object]] = []
    for name in data.split(","):
        x = DATA[name]()
        for share in SHARES:
            found: dict[str, list[tuple[float, float, float]]] = {}
            models = []
            for number in range(n_sets):
                gappy, deleted = delete(x, share, number)
                for by, imputer in IMPUTERS.items():
                    began = time.perf_counter()
                    filled = imputer(gappy, deleted, number)
                    taken = time.perf_counter() - began
                    found.setdefault(by, []).append((*judge(x, deleted, filled), taken))
                    models += [filled.model] if filled.model else []
            for by, figures in found.items():
                error, covered, seconds = np.mean(figures, axis=0)
                rows.append({"data": name, "deleted": share, "by": by, "error": error, "covered": covered})
                told = "-" if np.isnan(covered) else f"{covered:.3f}"
                print(f"{name:<10}{share:>8.0%}  {by:<30}{error:>8.3f}{told:>14}{seconds:>9.1f}", flush=True)
            print(f"{'':<20}chosen: {', '.join(models)}", flush=True)
    return rows


def delete(x: np.ndarray, share: float, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows with values deleted, NaN, and which ones, (N, D); each row keeps at least one."""
    rng = np.random.default_rng(number)
    deleted = rng.random(x.shape) < share
    deleted[np.arange(len(x)), rng.integers(x.shape[1], size=len(x))] &= ~deleted.all(axis=1)
    return np.where(deleted, np.nan, x), deleted


def judge(x: np.ndarray, deleted: np.ndarray, filled: Filled) -> tuple[float, float]:
    """Root mean squared error, and the share of intervals that hold the deleted value; NaN without draws."""
    truth, scale = x[deleted], np.broadcast_to(x.std(axis=0), x.shape)[deleted]
    error = float(np.sqrt(np.mean(((filled.values - truth) / scale) ** 2)))
    if filled.draws is None:
        return error, np.nan
    low, high = filled.draws.min(axis=0), filled.draws.max(axis=0)
    return error, float(np.mean((low <= truth) & (truth <= high)))


def by_mixture(x: np.ndarray, deleted: np.ndarray, number: int) -> Filled:
    """Conditional means and draws under the mixture that BIC chooses."""
    chosen = jaxgmm.select(jax.random.key(number), jaxgmm.Incomplete(x), COUNTS, n_init=5, progress=False).best
    keys = jax.random.split(jax.random.key(number + 1000), N_DRAWS)
    draws = np.stack([np.asarray(jaxgmm.impute(chosen, x, key=key))[deleted] for key in keys])
    means = np.asarray(jaxgmm.impute(chosen, x))[deleted]
    return Filled(means, draws, f"{chosen.n_components} {chosen.covariance_type}")


def by_means(x: np.ndarray, deleted: np.ndarray, number: int) -> Filled:
    """The column's mean."""
    return Filled(SimpleImputer().fit_transform(x)[deleted])


def by_neighbours(x: np.ndarray, deleted: np.ndarray, number: int) -> Filled:
    """The mean of five neighbours, by distances in standard deviations."""
    scale = np.nanstd(x, axis=0)
    return Filled((KNNImputer().fit_transform(x / scale) * scale)[deleted])


def by_chains(x: np.ndarray, deleted: np.ndarray, number: int) -> Filled:
    """Regressions of each column on the others, in turns; draws from their posteriors."""
    mean, scale = np.nanmean(x, axis=0), np.nanstd(x, axis=0)

    def filled(imputer: IterativeImputer) -> np.ndarray:
        return (imputer.fit_transform((x - mean) / scale) * scale + mean)[deleted]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        seeds = 1000 * number + np.arange(N_DRAWS)
        draws = [filled(IterativeImputer(sample_posterior=True, random_state=int(seed))) for seed in seeds]
        return Filled(filled(IterativeImputer(random_state=number)), np.stack(draws))


IMPUTERS: dict[str, Callable[[np.ndarray, np.ndarray, int], Filled]] = {
    "jaxgmm.impute": by_mixture,
    "SimpleImputer": by_means,
    "KNNImputer, scaled": by_neighbours,
    "IterativeImputer, scaled": by_chains,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n-sets", type=int, default=3)
    parser.add_argument("--data", default="wine,diabetes")
    main(**vars(parser.parse_args()))
