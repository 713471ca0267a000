"""Rows to time on: draws from a mixture whose components overlap, and a start near it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Parameters(NamedTuple):
    """A mixture as plain arrays, covariances in scikit-learn's shape for the type."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def astype(self, dtype: Any) -> Parameters:
        """The same in another dtype."""
        return Parameters(*(np.asarray(array, dtype) for array in self))


class Problem(NamedTuple):
    """Rows (N, D), and the parameters that every contender starts from."""

    x: np.ndarray
    start: Parameters


def draw(
    n: int,
    d: int,
    k: int,
    covariance_type: str = "full",
    dtype: Any = np.float32,
    tightness: float = 1.0,
    seed: int = 0,
) -> Problem:
    """Rows from a mixture of K overlapping components, and a start a tenth of a standard deviation away.

    Args:
        n: rows.
        d: columns.
        k: components.
        covariance_type: of the mixture that is drawn from, and of the start.
        dtype: of the rows and the start.
        tightness: how many times narrower than the data's spread the components are, beyond overlapping.
        seed: of the generator.

    Returns:
        The problem, in the dtype.
    """
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(k, 5.0))
    means = rng.normal(scale=3 / np.sqrt(d), size=(k, d))
    root = rng.normal(size=(k, d, d)) / np.sqrt(d)
    dense = (root @ root.transpose(0, 2, 1) + 0.2 * np.eye(d)) / tightness**2
    covariances = restrict(dense, covariance_type)
    factors = np.linalg.cholesky(densify(covariances, covariance_type, k, d))
    labels = np.sort(rng.choice(k, n, p=weights))
    x = np.empty((n, d), dtype)
    for component in range(k):
        own = slice(*np.searchsorted(labels, [component, component + 1]))
        x[own] = means[component] + rng.standard_normal((own.stop - own.start, d)) @ factors[component].T
    x = x[rng.permutation(n)]
    moved = means + 0.1 * (factors @ rng.standard_normal((k, d, 1)))[..., 0]
    return Problem(x, Parameters(np.full(k, 1 / k), moved, 1.2 * covariances).astype(dtype))


def restrict(dense: np.ndarray, covariance_type: str) -> np.ndarray:
    """Covariances (K, D, D) in scikit-learn's shape for a type, the nearest of that type."""
    variances = np.diagonal(dense, axis1=1, axis2=2)
    return {"full": dense, "tied": dense.mean(axis=0), "diag": variances, "spherical": variances.mean(axis=1)}[
        covariance_type
    ]


def densify(covariances: np.ndarray, covariance_type: str, k: int, d: int) -> np.ndarray:
    """Covariances (K, D, D) from scikit-learn's shape for a type."""
    if covariance_type == "spherical":
        return covariances[:, None, None] * np.eye(d)
    if covariance_type == "diag":
        return covariances[:, :, None] * np.eye(d)
    return np.broadcast_to(covariances, (k, d, d))


def distance(found: Parameters, judge: Parameters, covariance_type: str) -> float:
    """How far a mixture is from the judge's, largest entry: weights relatively, the rest in standard deviations."""
    k, d = judge.means.shape
    dense = [densify(np.asarray(p.covariances, np.float64), covariance_type, k, d) for p in (found, judge)]
    deviations = np.sqrt(np.diagonal(dense[1], axis1=1, axis2=2))
    weights = np.abs(found.weights / judge.weights - 1)
    means = np.abs(found.means - judge.means) / deviations
    covariances = np.abs(dense[0] - dense[1]) / (deviations[:, :, None] * deviations[:, None, :])
    return float(max(weights.max(), means.max(), covariances.max()))
