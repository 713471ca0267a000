"""The right answer, in long double, and how far a mixture is from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import linear_sum_assignment

from experiments.torture.problems import Problem


class Arrays(NamedTuple):
    """A mixture as plain arrays.

    Attributes:
        weights: (K,).
        means: (K, D).
        covariances: dense for every family, (K, D, D).
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray


class Frame(NamedTuple):
    """Rows in columns of mean 0 and deviation 1, in which everything is compared: no square over- or underflows.

    Attributes:
        shift: (D,), long double.
        scale: (D,), long double.
    """

    shift: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, problem: Problem) -> Frame:
        """The frame of a problem's rows that count."""
        x = problem.x[problem.labels >= 0].astype(np.longdouble)
        shift = x.mean(axis=0)
        deviation = np.sqrt(np.mean((x - shift) ** 2, axis=0))
        return cls(shift, np.where(deviation > 0, deviation, 1))

    def rows(self, x: np.ndarray) -> np.ndarray:
        """Rows in the frame."""
        return (x.astype(np.longdouble) - self.shift) / self.scale

    def mixture(self, arrays: Arrays) -> Arrays:
        """A mixture in the frame."""
        weights, means, covariances = (np.asarray(a, np.longdouble) for a in arrays)
        covariances = covariances / self.scale[:, None] / self.scale[None, :]
        return Arrays(weights, (means - self.shift) / self.scale, covariances)


def constrained(weights: np.ndarray, covariances: np.ndarray, family: str) -> np.ndarray:
    """Covariances (K, D, D) of maximum likelihood in a family, from each label's own."""
    n_components, n_features, _ = covariances.shape
    eye = np.eye(n_features, dtype=covariances.dtype)
    if family == "tied":
        return np.broadcast_to((weights[:, None, None] * covariances).sum(axis=0), covariances.shape)
    if family == "diag":
        return covariances * eye
    if family == "spherical":
        return np.trace(covariances, axis1=1, axis2=2)[:, None, None] / n_features * eye
    return covariances


def of_labels(problem: Problem, family: str, frame: Frame) -> Arrays:
    """The labels' mixture. A spherical one has its covariances constrained in the user's columns, not the frame's."""
    x, labels = frame.rows(problem.x), problem.labels
    counts = [labels == k for k in range(labels.max() + 1)]
    weights = np.array([rows.sum() for rows in counts], np.longdouble) / (labels >= 0).sum()
    means = np.stack([x[rows].mean(axis=0) for rows in counts])
    scatter = [(x[rows] - mean).T @ (x[rows] - mean) / rows.sum() for rows, mean in zip(counts, means, strict=True)]
    # Relative scales alone: their squares are within reach whatever the data's unit.
    scale = frame.scale / frame.scale.max()
    unit = scale[:, None] * scale[None, :]
    covariances = constrained(weights, np.stack(scatter) * unit, family) / unit
    return Arrays(weights, means, covariances)


def error(fitted: Arrays, truth: Arrays) -> float:
    """The largest error: weights' relative, means' in deviations, covariances' relative to the truth's, whitened."""
    if not all(np.isfinite(a.astype(np.float64)).all() for a in fitted) or fitted.weights.shape != truth.weights.shape:
        return float("nan")
    lower = np.stack([np.linalg.cholesky(covariance.astype(np.float64)) for covariance in truth.covariances])
    apart = fitted.means[:, None, :] - truth.means[None, :, :]
    costs = np.stack([[np.abs(solve_triangular(lower[k], apart[j, k].astype(np.float64), lower=True)).max()
                       for k in range(len(lower))] for j in range(len(apart))])  # fmt: skip
    found, meant = linear_sum_assignment(np.minimum(costs, 1e30))
    worst = 0.0
    for j, k in zip(found, meant, strict=True):
        half = solve_triangular(lower[k], fitted.covariances[j].astype(np.float64), lower=True)
        whitened = solve_triangular(lower[k], half.T, lower=True)
        weight = abs(float(fitted.weights[j] / truth.weights[k]) - 1)
        worst = max(worst, weight, costs[j, k], np.abs(whitened - np.eye(len(half))).max())
    return float(worst)


def log_likelihood(problem: Problem, arrays: Arrays, frame: Frame) -> float:
    """Per row that counts, in the frame; −inf where a covariance is not one."""
    x = frame.rows(problem.x[problem.labels >= 0]).astype(np.float64)
    joint = []
    for weight, mean, covariance in zip(*(a.astype(np.float64) for a in arrays), strict=True):
        try:
            lower = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            return float("-inf")
        whitened = solve_triangular(lower, (x - mean).T, lower=True)
        log_det = np.log(np.diag(lower)).sum()
        with np.errstate(divide="ignore"):
            constant = np.log(weight) - log_det - 0.5 * len(mean) * np.log(2 * np.pi)
        joint.append(constant - 0.5 * np.sum(whitened**2, axis=0))
    return float(np.logaddexp.reduce(joint, axis=0).mean())


def shortfall(problem: Problem, fitted: Arrays, truth: Arrays, frame: Frame) -> float:
    """How much less likely the rows are under a fit than under the labels' mixture, nats per row; 0 if not at all."""
    if not all(np.isfinite(a.astype(np.float64)).all() for a in fitted):
        return float("nan")
    return max(0.0, log_likelihood(problem, truth, frame) - log_likelihood(problem, fitted, frame))
