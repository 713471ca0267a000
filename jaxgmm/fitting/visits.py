"""The E-step of a mixture in NumPy, by whitened residuals in float64."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from jaxgmm.model.covariances.dense import Dense
from jaxgmm.model.covariances.diagonal import Diagonal
from jaxgmm.model.mixture import Mixture

_BLOCK = 1 << 14
"""The most numbers in a temporary array. More are slower: they leave the cache, are mapped and unmapped by the system
each time, and their products are shared out over threads that spin while they wait."""


class Visit(NamedTuple):
    """The results of an E-step; K counts components of positive weight.

    Attributes:
        mass: masses N_k, (K,).
        mean: weighted means of the rows, (K, D).
        log_likelihood: Σ wᵢ log p(xᵢ).
        noise: the error of that sum that rounding of whitened residuals in the fit's dtype can cause.
    """

    mass: np.ndarray
    mean: np.ndarray
    log_likelihood: float
    noise: float


class Whitening(NamedTuple):
    """The components of positive weight, on the host in float64.

    Attributes:
        log_weights: (K,).
        means: (K, D).
        inverse: L⁻¹, (K, D, D), or its diagonal, (K, D).
        log_det: log|Σ|, (K,).
    """

    log_weights: np.ndarray
    means: np.ndarray
    inverse: np.ndarray
    log_det: np.ndarray

    def whiten(self, component: int, residuals: np.ndarray) -> np.ndarray:
        """L_k⁻¹ r for vectors r, the columns of (D, n)."""
        inverse = self.inverse[component]
        return inverse @ residuals if inverse.ndim == 2 else inverse[:, None] * residuals


@functools.singledispatch
def visit_of(data: Any, mixture: Mixture, whitening: Whitening, chosen: np.ndarray, weights: np.ndarray) -> Visit:
    """The E-step of some rows of data.

    Args:
        data: plain rows, or data that register their own way.
        mixture: with NumPy leaves, in float64.
        whitening: of the mixture.
        chosen: indices of the rows, (n,).
        weights: of these, (n,).
    """
    return visit(whitening, np.asarray(data.x), chosen, weights, np.dtype(data.x.dtype))


@functools.singledispatch
def cost_of(data: Any) -> int:
    """How many times the multiplications of a whitened plain row a row of the data takes in `visit_of`."""
    return 1


def visit(whitening: Whitening, x: np.ndarray, chosen: np.ndarray, weights: np.ndarray, dtype: np.dtype) -> Visit:
    """The E-step of the chosen rows, block by block, by whitened residuals; each block a column for each row."""
    n_components, n_features = whitening.means.shape
    mass, first = np.zeros(n_components), np.zeros((n_components, n_features))
    log_likelihood, noise = 0.0, 0.0
    constant = whitening.log_weights - 0.5 * (n_features * np.log(2 * np.pi) + whitening.log_det)
    steepness = np.sqrt((whitening.inverse.reshape(n_components, -1) ** 2).sum(axis=1))
    centre = np.average(whitening.means, axis=0, weights=np.exp(whitening.log_weights))
    size = max(1, _BLOCK // max(n_components, n_features))
    for start in range(0, len(chosen), size):
        rows = np.ascontiguousarray(x[chosen[start : start + size]].T, np.float64)
        weight = weights[start : start + size]
        square = np.empty((n_components, rows.shape[1]))
        for k in range(n_components):
            whitened = whitening.whiten(k, rows - whitening.means[k][:, None])
            np.einsum("dn,dn->n", whitened, whitened, out=square[k])
        log_joint = constant[:, None] - 0.5 * square
        highest = log_joint.max(axis=0)
        responsibilities = np.exp(log_joint - highest)
        normaliser = responsibilities.sum(axis=0)
        log_likelihood += float(weight @ (np.log(normaliser) + highest))
        responsibilities *= weight / normaliser
        mass += responsibilities.sum(axis=1)
        first += responsibilities @ rows.T
        # The error of ½‖y‖², y = L⁻¹(x − μ), is |y| times that of y, which is eps·‖L⁻¹‖·‖x − centre‖.
        reach = np.sqrt(((rows - centre[:, None]) ** 2).sum(axis=0))
        noise += float(steepness @ (responsibilities * np.sqrt(square)) @ reach)
    mean = first / np.where(mass > 0, mass, 1.0)[:, None]
    return Visit(mass, mean, log_likelihood, noise * float(np.finfo(dtype).eps))


def whitening_of(mixture: Mixture) -> Whitening:
    """The `Whitening` of a mixture with NumPy leaves."""
    held = np.isfinite(np.asarray(mixture.log_weights))
    n_components, n_features = mixture.means.shape
    inverse = inverse_factors(mixture.covs, n_features)
    log_det = -2 * np.log(inverse if inverse.ndim == 2 else np.diagonal(inverse, axis1=1, axis2=2)).sum(axis=1)
    inverse = np.broadcast_to(inverse, (n_components, *inverse.shape[1:]))[held]
    log_det = np.broadcast_to(log_det, (n_components,))[held]
    return Whitening(np.asarray(mixture.log_weights)[held], np.asarray(mixture.means)[held], inverse, log_det)


@functools.singledispatch
def inverse_factors(covs: Any, n_features: int) -> np.ndarray:
    """L⁻¹ of covariances with NumPy leaves, (K, D, D), or its diagonal, (K, D), in NumPy; one stands for all."""
    return np.linalg.inv(np.linalg.cholesky(np.asarray(covs.dense(), np.float64)))


@inverse_factors.register
def _(covs: Dense, n_features: int) -> np.ndarray:
    return np.linalg.inv(np.tril(np.asarray(covs.cholesky)))


@inverse_factors.register
def _(covs: Diagonal, n_features: int) -> np.ndarray:
    scale = np.asarray(covs.scale)
    return 1 / np.broadcast_to(scale, (len(scale), n_features))
