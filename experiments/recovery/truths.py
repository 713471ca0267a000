"""Mixtures of three components whose best classifier errs as often as asked, and data drawn from them."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxgmm
from jaxgmm import Mixture

N_COMPONENTS = 3
WEIGHTS = np.array([0.5, 0.3, 0.2])
VOLUMES = np.array([1.0, 0.6, 1.5])
RATIOS = (1.0, 4.0, 10.0)
"""Of each component's largest variance to its smallest."""

N_REFERENCE = 200_000
"""Rows that stand for the truth itself: for its Bayes error, its Fisher information and divergences from it."""


def truth(family: str, n_features: int, bayes_error: float, n_reference: int = N_REFERENCE) -> Mixture:
    """Three components, of unequal weights, volumes and shapes, so far apart that the best classifier errs so often.

    The means are corners of an equilateral triangle, which bisection scales.
    """
    rng = np.random.default_rng(n_features)
    shapes = np.stack([ratio ** np.linspace(-0.5, 0.5, n_features) for ratio in RATIOS])
    variances = VOLUMES[:, None] * shapes
    turns = np.stack([np.linalg.qr(rng.normal(size=(n_features, n_features)))[0] for _ in RATIOS])
    full = np.einsum("kij,kj,klj->kil", turns, variances, turns)
    covariances = {"full": full, "tied": full[1], "diag": variances, "spherical": VOLUMES}[family]
    corners = np.zeros((N_COMPONENTS, n_features))
    angles = 2 * np.pi * np.arange(N_COMPONENTS) / N_COMPONENTS
    corners[:, 0], corners[:, 1] = np.sin(angles), np.cos(angles)

    def at(scale: float) -> Mixture:
        return jaxgmm.make_mixture(WEIGHTS, scale * corners, covariances, covariance_type=family)

    near, far = 0.0, 30.0
    for _ in range(20):
        middle = (near + far) / 2
        near, far = (middle, far) if error_of_best(at(middle), n_reference) > bayes_error else (near, middle)
    return at((near + far) / 2)


def error_of_best(mixture: Mixture, n: int = N_REFERENCE) -> float:
    """Share of rows that the classifier by the true mixture gets wrong: E[1 − max_k p(k | x)]."""
    return float(jnp.mean(jaxgmm.uncertainty(mixture, reference(mixture, n))))


def reference(mixture: Mixture, n: int = N_REFERENCE) -> Array:
    return jaxgmm.sample(jax.random.key(2), mixture, n)[0]


def draws(mixture: Mixture, n: int, n_sets: int) -> Iterator[tuple[Array, np.ndarray, np.ndarray]]:
    """Keys for the fits, rows (N, D) and labels (N,)."""
    for key in jax.random.split(jax.random.fold_in(jax.random.key(0), n), n_sets):
        key_rows, key_fit = jax.random.split(key)
        x, labels = jaxgmm.sample(key_rows, mixture, n)
        yield key_fit, np.asarray(x), np.asarray(labels)
