"""How many components BIC takes, beside how many there are."""

from __future__ import annotations

import itertools
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

import jaxgmm
from experiments.recovery.truths import N_COMPONENTS, draws, reference
from jaxgmm import Mixture

COUNTS = range(1, 7)
N_INIT = 5
"""Starts for each K, here and in scikit-learn."""


class Choice(NamedTuple):
    """What was chosen, over data sets.

    Attributes:
        counts: of K too small, right and too large.
        family: how often the family was right.
    """

    counts: tuple[int, ...]
    family: int


def choose(mixture: Mixture, families: tuple[str, ...], n: int, n_sets: int) -> tuple[Choice, Choice]:
    """Let BIC choose K and the family: by `select`, and in scikit-learn from the same rows."""
    ours, theirs = [], []
    for seed, (key, x, _) in enumerate(draws(mixture, n, n_sets)):
        best = jaxgmm.select(key, x, COUNTS, families, n_init=N_INIT).best
        ours.append((best.n_components, best.covariance_type))
        theirs.append(_choice_of_sklearn(x, families, seed))
    return _choice(ours, mixture.covariance_type), _choice(theirs, mixture.covariance_type)


def _choice_of_sklearn(x: np.ndarray, families: tuple[str, ...], seed: int) -> tuple[int, str]:
    offered = itertools.product(families, COUNTS)
    grid = [GaussianMixture(k, covariance_type=name, n_init=N_INIT, random_state=seed) for name, k in offered]
    # Its threads wait for each other many times longer than they work on so few rows; what it warns of is K too large.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        best = min((model.fit(x) for model in grid), key=lambda model: model.bic(x))
    return best.n_components, best.covariance_type


def _choice(chosen: list[tuple[int, str]], family: str) -> Choice:
    sides = np.sign([k - N_COMPONENTS for k, _ in chosen])
    return Choice(tuple(int(np.sum(sides == side)) for side in (-1, 0, 1)), sum(name == family for _, name in chosen))


def rows_that_pay(mixture: Mixture, n: int = 20_000) -> float:
    """The N at which the last component is expected to pay its price: 2N KL(truth ‖ best with one less) = ΔP log N."""
    x = np.asarray(reference(mixture, n))
    fewer = jaxgmm.fit(jax.random.key(0), x, N_COMPONENTS - 1, covariance_type=mixture.covariance_type).mixture
    log_ratio = jaxgmm.log_prob(fewer, x) - jaxgmm.log_prob(mixture, x)
    divergence = float(jnp.mean(jnp.expm1(log_ratio) - log_ratio))
    price = mixture.n_parameters - fewer.n_parameters
    rows = 100.0
    for _ in range(100):
        rows = max(price * np.log(rows) / (2 * divergence), np.e)
    return rows
