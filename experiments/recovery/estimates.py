"""How far fits are from the truth, beside how far theory says that they must be."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from sklearn.metrics import adjusted_rand_score

import jaxgmm
from experiments.recovery.truths import N_COMPONENTS, N_REFERENCE, draws, reference
from jaxgmm import FitResult, Mixture, Status


class Recovery(NamedTuple):
    """Of many fits to data from one mixture.

    Attributes:
        errors: root mean squares over fits and entries: of the weights; of the means, in standard deviations of the
            component; of L⁻¹ Σ̂ L⁻ᵀ − I, with Σ = L Lᵀ the true covariance.
        ratios: root mean squares of (estimate − truth) / asymptotic standard error: weights, means, covariances.
        divergence: mean of 2N KL(truth ‖ fit) / P, with P free parameters.
        agreement: mean adjusted Rand index of the fit's labels with the true ones.
        best_agreement: the same of the best classifier.
        n_unsound: fits that are not `CONVERGED`.
    """

    errors: tuple[float, float, float]
    ratios: tuple[float, float, float]
    divergence: float
    agreement: float
    best_agreement: float
    n_unsound: int


def recover(mixture: Mixture, n: int, n_sets: int) -> Recovery:
    """Fit data sets of n rows by `fit`, as it is by default."""

    def fit(key: Array, x: np.ndarray) -> FitResult:
        return jaxgmm.fit(key, x, N_COMPONENTS, covariance_type=mixture.covariance_type)

    return compare(mixture, ((fit(key, x), x, labels) for key, x, labels in draws(mixture, n, n_sets)))


def compare(
    mixture: Mixture, fits: Iterable[tuple[FitResult, np.ndarray, np.ndarray]], n_reference: int = N_REFERENCE
) -> Recovery:
    """Hold fits, their rows (N, D) and labels (N,) against the mixture that the rows were drawn from."""
    x_reference = reference(mixture, n_reference)
    log_p = jaxgmm.log_prob(mixture, x_reference)
    # Of an estimate from as many rows as the reference has, at the truth.
    errors = jaxgmm.standard_errors(mixture, x_reference)
    divergences, agreements, squares, scaled, n_unsound = [], [], [], [], 0
    for result, x, labels in fits:
        n_unsound += int(result.status) != Status.CONVERGED
        differences, relative = _differences(result.mixture, mixture)
        squares.append([np.mean(d**2) for d in relative])
        expected = [np.asarray(e) * np.sqrt(n_reference / len(x)) for e in errors]
        # Entries that the family holds at zero have no error, expected or found.
        scaled.append([np.mean((d[e > 0] / e[e > 0]) ** 2) for d, e in zip(differences, expected, strict=True)])
        log_ratio = jaxgmm.log_prob(result.mixture, x_reference) - log_p
        # E_p[q / p − 1] = 0: with it, no term is negative, and the mean of them has a small variance.
        divergence = float(jnp.mean(jnp.expm1(log_ratio) - log_ratio))
        divergences.append(2 * len(x) * divergence / mixture.n_parameters)
        agreements.append([adjusted_rand_score(labels, jaxgmm.predict(m, x)) for m in (result.mixture, mixture)])
    return Recovery(
        errors=tuple(np.sqrt(np.mean(squares, axis=0))),
        ratios=tuple(np.sqrt(np.mean(scaled, axis=0))),
        divergence=float(np.mean(divergences)),
        agreement=float(np.mean(agreements, axis=0)[0]),
        best_agreement=float(np.mean(agreements, axis=0)[1]),
        n_unsound=n_unsound,
    )


def _differences(fitted: Mixture, mixture: Mixture) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Of weights, means and covariances: in their units, and in the metric of the true components."""
    whiten = np.linalg.inv(np.linalg.cholesky(mixture.covariances))
    means, covariances = np.asarray(mixture.means), np.asarray(mixture.covariances)

    def distance(order: tuple[int, ...]) -> float:
        return float(np.sum(np.einsum("kij,kj->ki", whiten, fitted.means[np.array(order)] - means) ** 2))

    order = np.array(min(itertools.permutations(range(len(means))), key=distance))
    own = [np.asarray(fitted.weights[order] - mixture.weights), np.asarray(fitted.means[order] - means)]
    own.append(np.asarray(fitted.covariances[order] - covariances))
    deviations = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    return own, [own[0], own[1] / deviations, np.einsum("kij,kjl,kml->kim", whiten, own[2], whiten)]
