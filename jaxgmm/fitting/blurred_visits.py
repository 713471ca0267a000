"""The E-step of blurred rows in NumPy, each row with a factor of its own, in float64."""

from __future__ import annotations

import numpy as np

from jaxgmm.data.blurred import BlurredRows
from jaxgmm.data.noise import variances_of
from jaxgmm.fitting.visits import Visit, Whitening
from jaxgmm.model.mixture import Mixture

_BLOCK = 1 << 17
"""The most numbers in a temporary array."""

_COST = 16
"""The multiplications of a factor of its own for each row, in those of a whitening that all rows share."""


def cost_of_blurred(data: BlurredRows) -> int:
    """How many times the multiplications of a whitened plain row a blurred one takes."""
    return _COST


def visit_blurred(
    data: BlurredRows, mixture: Mixture, whitening: Whitening, chosen: np.ndarray, weights: np.ndarray
) -> Visit:
    """The E-step of some blurred rows; see `visit_of`."""
    n_components, n_features = whitening.means.shape
    inverse = whitening.inverse if whitening.inverse.ndim == 3 else whitening.inverse[:, :, None] * np.eye(n_features)
    roots = np.linalg.inv(inverse)
    covariances = roots @ roots.swapaxes(1, 2)
    # Factors are of Σ + S itself, not of a root of it: the error of ½‖y‖² + ½ log|T| is eps times the condition of Σ.
    condition = np.trace(covariances, axis1=1, axis2=2) * (whitening.inverse.reshape(n_components, -1) ** 2).sum(axis=1)
    mass, first = np.zeros(n_components), np.zeros((n_components, n_features))
    log_likelihood, noise, eye = 0.0, 0.0, np.eye(n_features)
    size = max(1, _BLOCK // covariances.size)
    for start in range(0, len(chosen), size):
        part, weight = chosen[start : start + size], weights[start : start + size]
        x = np.asarray(data.x)[part].astype(np.float64)
        observed, total = ~np.isnan(x), np.broadcast_to(covariances, (len(part), *covariances.shape))
        if data.noise is not None:
            error = np.asarray(data.noise)[part].astype(np.float64)
            observed = observed & np.isfinite(variances_of(error))
            seen = observed[:, :, None] & observed[:, None, :]
            error = np.where(observed, error, 0.0)[:, :, None] * eye if error.ndim == 2 else np.where(seen, error, 0.0)
            total = total + error[:, None]
        both = (observed[:, :, None] & observed[:, None, :])[:, None]
        residual = np.where(observed[:, None], x[:, None] - whitening.means, 0.0)
        total = np.where(both, total, eye)
        solved = np.linalg.solve(total, residual[..., None])[..., 0]
        square = (solved * residual).sum(axis=-1)
        level = np.linalg.slogdet(total)[1] + observed.sum(axis=1)[:, None] * np.log(2 * np.pi)
        log_joint = whitening.log_weights - 0.5 * (level + square)
        highest = log_joint.max(axis=1, keepdims=True)
        shares = np.exp(log_joint - highest)
        normaliser = shares.sum(axis=1, keepdims=True)
        log_likelihood += float(weight @ (np.log(normaliser) + highest)[:, 0])
        shares *= weight[:, None] / normaliser
        mass += shares.sum(axis=0)
        true = whitening.means + np.einsum("kij,nkj->nki", covariances, solved)
        first += np.einsum("nk,nki->ki", shares, true)
        noise += float((shares * (np.maximum(square, 0.0) + n_features)).sum(axis=0) @ condition)
    mean = first / np.where(mass > 0, mass, 1.0)[:, None]
    return Visit(mass, mean, log_likelihood, noise * float(np.finfo(np.asarray(data.x).dtype).eps))
