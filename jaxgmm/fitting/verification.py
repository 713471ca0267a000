"""Whether a fit is what its own passes say: the winner is visited once more, in NumPy.

A compiler that miscomputes a product makes a fit that is wrong without a word (jax issue 39103). NumPy in float64 on
the host shares neither the compiler nor the arithmetic, and has nothing to compile.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.data.rows import ResidualRows, Rows
from jaxgmm.fitting.restarts import Outcome, choose, together
from jaxgmm.fitting.results import FitResult, Status
from jaxgmm.host.cautions import caution
from jaxgmm.model.covariances.dense import Dense
from jaxgmm.model.covariances.diagonal import Diagonal
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments
from jaxgmm.model.units import to_host

_JAXLIB = importlib.metadata.version("jaxlib")

_BAD_RELEASES = ("0.10.2",)
"""Releases of jaxlib whose compiler for CPUs miscomputes products of small matrices with many rows."""

_FREE_WORK = 1 << 26
"""Multiplications that NumPy may always spend: a few hundredths of a second."""

_SHARE = 500
"""NumPy spends at most one multiplication in so many of the fit's, each of which takes it some ten times as long."""

_FEWEST_ROWS = 1024
"""Rows that are looked at in any case."""

_BLOCK = 1 << 18
"""Numbers in NumPy's largest temporary."""

_LEAST_GAIN = 1e-2
"""Gain of one EM step, in nats per unit weight, up to which an estimate of what remains may be off."""


def verified(
    climb: Callable[[Rows, Any], tuple[Outcome, Any]], data: Rows, starts: Any, tol: float
) -> tuple[Outcome, Any]:
    """What `climb(data, starts)` gives, once NumPy has found nothing wrong with the best of it.

    Else the climbs are made again, one after another, by whitened residuals alone.

    Raises:
        RuntimeError: if NumPy finds that wrong too.
    """
    outcome, penalty = climb(data, starts)
    fault = _fault(outcome, data, tol)
    if fault is None:
        return outcome, penalty
    careful, outcomes = ResidualRows(data.x, data.weights), []
    for restart in range(len(outcome.collapses)):
        alone, penalty = climb(careful, jax.tree.map(lambda leaf, at=restart: leaf[at : at + 1], starts))
        outcomes.append(alone)
        if alone.interrupted.any():
            break
    outcome = together(outcomes)
    if _fault(outcome, careful, tol) is not None:
        raise RuntimeError(
            f"the fit is not to be trusted: {fault}. Climbing again, one start at a time, by another kernel, did not "
            f"mend it. The compiler of jaxlib {_JAXLIB} or the machine miscomputes: install another release "
            f"of jax and jaxlib (not 0.10.2), and report these numbers"
        )
    return outcome, penalty


def _fault(outcome: Outcome, data: Rows, tol: float) -> str | None:
    return disagreement(choose(outcome)[0], data, tol, int(np.sum(outcome.fits.n_passes)))


class Visit(NamedTuple):
    """A mixture as NumPy sees it.

    Attributes:
        mass: N_k of the components that are there, (K,).
        mean: of their rows, (K, D).
        log_likelihood: Σ wᵢ log p(xᵢ).
        noise: what rounding of whitened residuals in the fit's dtype can make of that sum.
    """

    mass: np.ndarray
    mean: np.ndarray
    log_likelihood: float
    noise: float


class _Whitening(NamedTuple):
    """Components that are there, on the host in float64.

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

    def whiten(self, component: int, rows: np.ndarray) -> np.ndarray:
        """L_k⁻¹ r for vectors r, (n, D)."""
        inverse = self.inverse[component]
        return rows @ inverse.T if inverse.ndim == 2 else rows * inverse


@functools.cache
def warn_of_compiler() -> None:
    """Warn, once in a process, where jaxlib is a release that is known to miscompute on this platform."""
    if _JAXLIB in _BAD_RELEASES and jax.default_backend() == "cpu":
        caution(
            f"jaxlib {_JAXLIB} silently miscomputes some matrix products on CPUs (jax issue 39103). jaxgmm "
            f"verifies its fits, but code beside it may be wrong: pip install 'jax!=0.10.2' 'jaxlib!=0.10.2'",
        )


def disagreement(fitted: FitResult, data: Rows, tol: float, lane_passes: int) -> str | None:
    """What NumPy finds wrong with a fit, or None.

    Its log-likelihood must be that of its mixture, to rounding; and where it says that it converged, an EM step must
    find next to nothing to gain in weights and means, which no prior on covariances moves. Where the rows are too many
    for NumPy, the question is put to the fit's own pass again, with weights of zero for all but some rows.

    Args:
        fitted: the fit, in the data's units.
        data: its rows.
        tol: its tolerance, in nats per unit weight.
        lane_passes: passes over the data that all starts have taken together.
    """
    mixture = to_host(fitted.mixture)
    if fitted.status == Status.NONFINITE or not np.isfinite(fitted.log_likelihood):
        return None
    whitening = _whitening(mixture)
    weights = np.asarray(data.weights, np.float64)
    counted = np.flatnonzero(weights > 0)
    work = whitening.inverse.size
    allowed = max(_FREE_WORK, lane_passes * len(counted) * work // _SHARE) // work
    if len(counted) <= allowed:
        claimed, chosen, moments = float(fitted.log_likelihood), counted, None
    else:
        # Backwards, so that the last rows are among them: they are the first that a faulty compiler spoils.
        step = -(-len(counted) // max(_FEWEST_ROWS, allowed))
        chosen = counted[::-1][::step][::-1]
        kept = np.zeros_like(weights)
        kept[chosen] = weights[chosen]
        sampled = dataclasses.replace(data, weights=jnp.asarray(kept, data.weights.dtype))
        moments, log_likelihood = jax.device_get(_pass(fitted.mixture, sampled))
        claimed = float(log_likelihood)
    seen = visit(whitening, np.asarray(data.x), chosen, weights[chosen], np.dtype(data.x.dtype))
    mass = float(seen.mass.sum())
    rounding = _rounding(seen, mass, data.x.dtype)
    if not abs(claimed - seen.log_likelihood) <= rounding * mass:
        return f"its passes give a log-likelihood of {claimed:.9g} where NumPy finds {seen.log_likelihood:.9g}"
    held = np.isfinite(mixture.log_weights)
    if moments is not None:
        apart = _apart(seen, np.asarray(moments.mass)[held], np.asarray(moments.mean)[held], whitening)
        promised = 0.0
    elif fitted.status == Status.CONVERGED:
        apart = _apart(seen, mass * np.exp(whitening.log_weights), whitening.means, whitening)
        promised = 10 * tol
    else:
        return None
    if not apart <= (_LEAST_GAIN + promised + rounding) * mass:
        return f"NumPy's E-step is {apart / mass:.3g} nats per row from its weights and means"
    return None


@jax.jit
def _pass(mixture: Mixture, data: Rows) -> tuple[Moments, Any]:
    return data.moments(mixture, mixture.family.statistic)


def visit(whitening: _Whitening, x: np.ndarray, chosen: np.ndarray, weights: np.ndarray, dtype: np.dtype) -> Visit:
    """The E-step of the chosen rows, block by block, by whitened residuals."""
    n_components, n_features = whitening.means.shape
    mass, first = np.zeros(n_components), np.zeros((n_components, n_features))
    log_likelihood, noise = 0.0, 0.0
    constant = whitening.log_weights - 0.5 * (n_features * np.log(2 * np.pi) + whitening.log_det)
    steepness = np.sqrt((whitening.inverse.reshape(n_components, -1) ** 2).sum(axis=1))
    centre = np.exp(whitening.log_weights) @ whitening.means
    size = max(1, _BLOCK // max(n_components, n_features))
    for start in range(0, len(chosen), size):
        rows = x[chosen[start : start + size]].astype(np.float64)
        weight = weights[start : start + size]
        square = np.empty((n_components, len(rows)))
        for k in range(n_components):
            square[k] = (whitening.whiten(k, rows - whitening.means[k]) ** 2).sum(axis=1)
        log_joint = constant[:, None] - 0.5 * square
        highest = log_joint.max(axis=0)
        exponential = np.exp(log_joint - highest)
        normaliser = exponential.sum(axis=0)
        log_likelihood += float(weight @ (np.log(normaliser) + highest))
        responsibilities = exponential * (weight / normaliser)
        mass += responsibilities.sum(axis=1)
        first += responsibilities @ rows
        # The error of ½‖y‖², y = L⁻¹(x − μ), is |y| times that of y, which is eps·‖L⁻¹‖·‖x − centre‖.
        reach = np.sqrt(((rows - centre) ** 2).sum(axis=1))
        noise += float((responsibilities * np.sqrt(square) * steepness[:, None]).sum(axis=0) @ reach)
    mean = first / np.where(mass > 0, mass, 1.0)[:, None]
    return Visit(mass, mean, log_likelihood, noise * float(np.finfo(dtype).eps))


def _whitening(mixture: Mixture) -> _Whitening:
    """The components of a mixture with NumPy leaves that are there."""
    held = np.isfinite(np.asarray(mixture.log_weights))
    n_components, n_features = mixture.means.shape
    inverse = inverse_factors(mixture.covs, n_features)
    log_det = -2 * np.log(inverse if inverse.ndim == 2 else np.diagonal(inverse, axis1=1, axis2=2)).sum(axis=1)
    inverse = np.broadcast_to(inverse, (n_components, *inverse.shape[1:]))[held]
    log_det = np.broadcast_to(log_det, (n_components,))[held]
    return _Whitening(np.asarray(mixture.log_weights)[held], np.asarray(mixture.means)[held], inverse, log_det)


@functools.singledispatch
def inverse_factors(covs: Any, n_features: int) -> np.ndarray:
    """L⁻¹ of covariances with NumPy leaves, (K, D, D), or its diagonal, (K, D), in NumPy; one stands for all."""
    return np.linalg.inv(np.linalg.cholesky(np.asarray(covs.dense(n_features), np.float64)))


@inverse_factors.register
def _(covs: Dense, n_features: int) -> np.ndarray:
    return np.linalg.inv(np.tril(np.asarray(covs.cholesky)))


@inverse_factors.register
def _(covs: Diagonal, n_features: int) -> np.ndarray:
    scale = np.asarray(covs.scale)
    return 1 / np.broadcast_to(scale, (len(scale), n_features))


def _apart(seen: Visit, mass: np.ndarray, means: np.ndarray, whitening: _Whitening) -> float:
    """What NumPy's weights and means gain in Q over others, in nats: Σ N_k [log N_k/N'_k + ½‖L_k⁻¹(m_k − m'_k)‖²]."""
    with np.errstate(all="ignore"):
        ratio = np.log(seen.mass / seen.mass.sum()) - np.log(mass / mass.sum())
        of_weights = np.where(seen.mass > 0, seen.mass * ratio, 0.0).sum()
    shift = np.stack([whitening.whiten(k, row[None])[0] for k, row in enumerate(seen.mean - means)])
    return float(of_weights + 0.5 * (seen.mass * (shift**2).sum(axis=1)).sum())


def _rounding(seen: Visit, mass: float, dtype: Any) -> float:
    """What rounding explains of a difference between two log-likelihoods, in nats per unit weight."""
    eps = float(jnp.finfo(dtype).eps)
    # The features' own bound, twice; that of residuals, with room for its constants; and the sum's.
    features = 2e-9 if eps < 1e-10 else 4e-3
    return features + 64 * (seen.noise / mass + eps * abs(seen.log_likelihood) / mass)
