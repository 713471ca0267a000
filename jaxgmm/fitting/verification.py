"""Verification of a fit: one more E-step in NumPy, compared with what the compiled passes found.

A compiler that miscomputes a product makes a fit that is wrong without an error (jax issue 39103). NumPy in float64
on the host shares neither the compiler nor the arithmetic, and has nothing to compile.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jaxgmm.data.blurred import BlurredRows
from jaxgmm.data.noisy import Noisy
from jaxgmm.data.protocol import Data
from jaxgmm.data.rows import ResidualRows, Rows
from jaxgmm.fitting.algorithms.protocol import Algorithm, visited_by
from jaxgmm.fitting.blurred_visits import cost_of_blurred, visit_blurred
from jaxgmm.fitting.restarts import Outcome, choose, together
from jaxgmm.fitting.results import FitResult, Status
from jaxgmm.fitting.visits import Visit, Whitening, cost_of, visit_of, whitening_of
from jaxgmm.host.cautions import caution
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments
from jaxgmm.model.priors.penalty import Penalty
from jaxgmm.model.units import to_host
from jaxgmm.numerics.programs import HostProgram

Climber = Callable[[Any, Any], tuple[Outcome, Penalty]]
"""A function from data and starts to the outcome of climbs from these, and the prior that they were under."""

_JAXLIB = importlib.metadata.version("jaxlib")

_BAD_RELEASES = ("0.10.2",)
"""Releases of jaxlib whose compiler for CPUs miscomputes products of small matrices with many rows."""

_FREE_WORK = 1 << 26
"""Multiplications that the check may always take: a few hundredths of a second."""

_SHARE = 500
"""The check may take one multiplication for this many of the fit's; in NumPy each takes some ten times as long."""

_FEWEST_ROWS = 1024
"""The number of rows that are checked in any case."""

_LEAST_GAIN = 1e-2
"""The gain of an EM step, in nats per unit weight, that a converged fit may leave since `tol` is an estimate."""


visit_of.register(BlurredRows, visit_blurred)
cost_of.register(BlurredRows, cost_of_blurred)


@functools.singledispatch
def verified(data: Data, algorithm: Algorithm, climb: Climber, starts: Any, tol: float) -> tuple[Outcome, Penalty]:
    """The result of `climb(data, starts)`, if NumPy finds nothing wrong with its best fit.

    Else the climbs are repeated, one after another, by whitened residuals alone.

    Raises:
        RuntimeError: if NumPy finds that result wrong too.
    """
    return climb(data, starts)


@verified.register
def _(data: Rows, algorithm: Algorithm, climb: Climber, starts: Any, tol: float) -> tuple[Outcome, Penalty]:
    return _verified(data, ResidualRows(data.x, data.weights), algorithm, climb, starts, tol)


@verified.register
def _(
    data: BlurredRows,
    algorithm: Algorithm,
    climb: Climber,
    starts: Any,
    tol: float,
) -> tuple[Outcome, Penalty]:
    # Rows with errors go one by one, by no features, and so do those whose errors are 0.
    noise = jnp.zeros_like(data.x) if data.noise is None else data.noise
    return _verified(data, Noisy(data.x, noise, data.weights), algorithm, climb, starts, tol)


def _verified(
    data: Any,
    careful: Any,
    algorithm: Algorithm,
    climb: Climber,
    starts: Any,
    tol: float,
) -> tuple[Outcome, Penalty]:
    """The same for data of which there is a `careful` kind, whose passes share no more with theirs than they must."""
    outcome, penalty = climb(data, starts)
    fault = fault_of(algorithm, outcome, data, tol, penalty)
    if fault is None:
        return outcome, penalty
    outcomes = []
    for restart in range(len(outcome.collapses)):
        alone, penalty = climb(careful, jax.tree.map(lambda leaf, at=restart: leaf[at : at + 1], starts))
        outcomes.append(alone)
        if alone.interrupted.any():
            break
    outcome = together(outcomes)
    again = fault_of(algorithm, outcome, careful, tol, penalty)
    if again is not None:
        raise RuntimeError(
            f"the fit is not to be trusted: {fault}. Climbing again, one start at a time, by another kernel, did not "
            f"mend it: {again}. The compiler of jaxlib {_JAXLIB} or the machine miscomputes: install another release "
            f"of jax and jaxlib (not 0.10.2), and report these numbers"
        )
    return outcome, penalty


def fault_of(algorithm: Algorithm, outcome: Outcome, data: Any, tol: float, penalty: Penalty) -> str | None:
    """A sentence on what NumPy finds wrong with the best fit of an outcome, or None; see `disagreement`."""
    return disagreement(algorithm, choose(outcome)[0], data, tol, int(np.sum(outcome.fits.n_passes)), penalty)


@functools.cache
def warn_of_compiler() -> None:
    """Warn, once in a process, where jaxlib is a release that is known to miscompute on this platform."""
    if _JAXLIB in _BAD_RELEASES and jax.default_backend() == "cpu":
        caution(
            f"jaxlib {_JAXLIB} silently miscomputes some matrix products on CPUs (jax issue 39103). jaxgmm "
            f"verifies its fits, but code beside it may be wrong: pip install 'jax!=0.10.2' 'jaxlib!=0.10.2'",
        )


def disagreement(
    algorithm: Algorithm, fitted: FitResult, data: Any, tol: float, lane_passes: int, penalty: Penalty | None = None
) -> str | None:
    """A sentence on what NumPy finds wrong with a fit, or None.

    The fit's log-likelihood must be that of its mixture, to rounding; and if it converged, an EM step must gain next to
    nothing in weights and means. Most priors do not move these; where they seem to be wrong, the prior is asked what it
    makes of them. Where there are too many rows for NumPy, a compiled pass with weights of 0 for all but some rows is
    checked in its place.

    Args:
        algorithm: the algorithm of the fit.
        fitted: the fit, in the data's units.
        data: the rows of the fit.
        tol: its tolerance, in nats per unit weight.
        lane_passes: passes over the data by all starts together.
        penalty: the prior of the fit, in the data's units; None is one on covariances alone.
    """
    visited = visited_by(algorithm, fitted.mixture)
    mixture, weights_held = to_host(visited), np.exp(np.asarray(fitted.mixture.log_weights, np.float64))
    if fitted.status == Status.NONFINITE or not np.isfinite(fitted.log_likelihood):
        return None
    whitening = whitening_of(mixture)
    weights = np.asarray(data.weights, np.float64)
    counted = np.flatnonzero(weights > 0)
    work = whitening.inverse.size * cost_of(data)
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
        moments, log_likelihood = jax.device_get(_pass(visited, sampled))
        claimed = float(log_likelihood)
    seen = visit_of(data, mixture, whitening, chosen, weights[chosen])
    mass = float(seen.mass.sum())
    rounding = _rounding(seen, mass, data.x.dtype)
    if not abs(claimed - seen.log_likelihood) <= rounding * mass:
        return f"its passes give a log-likelihood of {claimed:.9g} where NumPy finds {seen.log_likelihood:.9g}"
    held = np.isfinite(mixture.log_weights)
    if moments is not None:
        apart = _apart(seen, np.asarray(moments.mass)[held], np.asarray(moments.mean)[held], whitening)
        promised = 0.0
    elif fitted.status == Status.CONVERGED:
        apart = _apart(seen, mass * weights_held[held], whitening.means, whitening)
        promised = 10 * tol
    else:
        return None
    allowed_gain = (_LEAST_GAIN + promised + rounding) * mass
    if moments is None and penalty is not None and not apart <= allowed_gain:
        seen = _believed(seen, penalty, data.x.dtype)
        apart = _apart(seen, float(seen.mass.sum()) * weights_held[held], whitening.means, whitening)
    if not apart <= allowed_gain:
        return f"NumPy's E-step is {apart / mass:.3g} nats per row from its weights and means"
    return None


@HostProgram
def _pass(mixture: Mixture, data: Any) -> tuple[Moments, Array]:
    return data.moments(mixture, mixture.family.statistic)


def _apart(seen: Visit, mass: np.ndarray, means: np.ndarray, whitening: Whitening) -> float:
    """The gain in Q of NumPy's weights and means over others, in nats: Σ N_k [log N_k/N'_k + ½‖L_k⁻¹(m_k − m'_k)‖²]."""
    with np.errstate(all="ignore"):
        ratio = np.log(seen.mass / seen.mass.sum()) - np.log(mass / mass.sum())
        of_weights = np.where(seen.mass > 0, seen.mass * ratio, 0.0).sum()
    shift = np.stack([whitening.whiten(k, row[:, None])[:, 0] for k, row in enumerate(seen.mean - means)])
    return float(of_weights + 0.5 * (seen.mass * (shift**2).sum(axis=1)).sum())


def _believed(seen: Visit, penalty: Penalty, dtype: DTypeLike) -> Visit:
    """The visit with a prior's pseudo-rows in masses and means: those of the mixture that an M-step would make."""
    mass, mean = jnp.asarray(seen.mass, dtype), jnp.asarray(seen.mean, dtype)
    masses, added = penalty.added(Moments(mass, mean, jnp.zeros_like(mean)), len(seen.mass))
    return seen._replace(mass=np.asarray(masses.weights, np.float64), mean=np.asarray(added.mean, np.float64))


def _rounding(seen: Visit, mass: float, dtype: DTypeLike) -> float:
    """The difference between two log-likelihoods that rounding explains, in nats per unit weight."""
    eps = float(jnp.finfo(dtype).eps)
    # The features' own bound, twice; that of residuals, with room for its constants; and the sum's.
    features = 2e-9 if eps < 1e-10 else 4e-3
    return features + 64 * (seen.noise / mass + eps * abs(seen.log_likelihood) / mass)
