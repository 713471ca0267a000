"""Expectation-maximisation: the M-step, and EM as an algorithm."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxgmm._types import Info, Mixture, Moments
from jaxgmm.arrays import as_floats, as_numbers, check_rows, is_traced, names_of
from jaxgmm.centring import in_place
from jaxgmm.checks import check_mixture, check_moments, check_prior
from jaxgmm.data import Rows, as_rows
from jaxgmm.families import family_of
from jaxgmm.moments import Statistic, columns_of, convert, gather, merge, total
from jaxgmm.passes import weighted
from jaxgmm.priors import Penalty, prepare, settle
from jaxgmm.scaling import weigh
from jaxgmm.weights import check_responsibilities

WINDOW = 10
"""Steps over which the decay of the gain is measured."""


def m_step(
    moments: Moments, covariance_type: Any = "full", *, prior: Any = None, previous: Mixture | None = None
) -> Mixture:
    """The M-step: the mixture that maximises Q(θ; Moments) + log prior(θ).

    π_k = N_k / N, μ_k = mean_k, and the family's update of Σ_k; for "full", (S_k + λV) / (N_k + λ). A
    component without mass gets log-weight −∞ and keeps `previous`, else the pooled mean and covariance;
    with a prior its covariance is the prior's V.

    Args:
        moments: in the family's statistic, or one that holds more.
        covariance_type: a name or a family.
        prior: `Ridge`, or None for maximum likelihood.
        previous: the mixture before, whose empty components stay as they were.

    Returns:
        The mixture.

    Raises:
        TypeError: if the moments, the prior or `previous` are something else.
        ValueError: if the family is not known, the moments hold too little for it, or `previous` is of another
            family or shape.
    """
    check_moments(moments)
    check_prior(prior)
    family = family_of(covariance_type)
    if previous is not None:
        check_mixture(previous, "previous")
        if previous.family != family or previous.means.shape != moments.mean.shape:
            found = f"moments are of {moments.mean.shape} {family.name!r} means"
            raise ValueError(f"previous is {previous!r}, but the {found}")
    moments = convert(moments, family.statistic)
    return _m_step(moments, family, settle(prior, moments.mean.dtype), previous)


@functools.partial(jax.jit, static_argnums=1)
def _m_step(moments: Moments, family: Any, prior: Any, previous: Mixture | None) -> Mixture:
    return maximise(moments, family, prepare(prior, columns_of(moments)), previous)


def maximise(moments: Moments, family: Any, penalty: Penalty, previous: Mixture | None = None) -> Mixture:
    """The M-step under a prepared prior; see `m_step`."""
    n_components, n_features = moments.mean.shape
    mass = moments.mass
    chex.assert_shape(mass, (n_components,))
    empty = mass <= float(jnp.finfo(mass.dtype).tiny)
    covs = family.update(mass, moments.scatter, penalty, n_features)
    whole = total(moments)
    if previous is None:
        means = jnp.broadcast_to(whole.mean, moments.mean.shape)
        spare = family.update(whole.mass, whole.scatter, penalty, n_features)
    else:
        means, spare = previous.means, previous.covs
    means = jnp.where(empty[:, None], means, moments.mean)

    def keep(fresh: Array, kept: Array) -> Array:
        unseen = empty & (penalty.mass <= 0) if fresh.shape[0] == n_components else jnp.all(empty)
        return jnp.where(unseen.reshape(-1, *[1] * (fresh.ndim - 1)), kept, fresh)

    share = jnp.where(empty, 1.0, mass) / jnp.where(whole.mass > 0, whole.mass, 1.0)
    log_weights = jnp.where(empty, -jnp.inf, jnp.log(share))
    return Mixture(log_weights, means, jax.tree.map(keep, covs, spare), family)


def from_responsibilities(
    x: ArrayLike,
    resp: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    covariance_type: Any = "full",
    prior: Any = None,
) -> Mixture:
    """One M-step from responsibilities; with rows of a one-hot matrix, the mixture of labelled rows.

    Args:
        x: rows, (N, D).
        resp: responsibilities, (N, K), non-negative; those of a row need not sum to 1.
        sample_weight: non-negative weights, (N,); None is 1 for each row.
        covariance_type: a name or a family.
        prior: `Ridge`, or None for maximum likelihood.

    Returns:
        The mixture. Under a trace values are not checked, and bad ones give NaN.

    Raises:
        TypeError: if x, resp or the weights hold no real numbers, or the prior is none.
        ValueError: if shapes do not match, the family is not known, or, where they are concrete, values are not
            finite or overflow when squared, responsibilities or weights are bad or rows fewer than components.
    """
    check_prior(prior)
    family, given, names = family_of(covariance_type), as_numbers(x, "x"), names_of(x)
    x = as_floats(given, "x")
    check_rows(x)
    resp = as_floats(resp, "resp").astype(x.dtype)
    if resp.ndim != 2 or resp.shape[0] != x.shape[0] or resp.shape[1] == 0:
        raise ValueError(f"resp must have shape ({x.shape[0]}, K), not {resp.shape}")
    data = as_rows(x, sample_weight)
    if not is_traced(x, resp, sample_weight):
        weights, _ = weigh(np.asarray(given), sample_weight, resp.shape[1], family, x.dtype, names)
        check_responsibilities(np.asarray(resp), weights)
    return labelled_mixture(data, resp, family, settle(prior, x.dtype))


@functools.partial(jax.jit, static_argnums=2)
def labelled_mixture(data: Rows, resp: Array, family: Any, prior: Any) -> Mixture:
    """One M-step from given responsibilities (N, K), under a settled prior; see `from_responsibilities`."""
    columns = data.columns()
    return maximise(labelled_moments(data, resp, columns.mean, family.statistic), family, prepare(prior, columns))


def labelled_moments(data: Rows, resp: Array, centre: Array, statistic: Statistic) -> Moments:
    """Moments of rows under given responsibilities (N, K), gathered about a centre."""

    def chunk(x: Array, weights: Array, resp: Array) -> Moments:
        points, masses = in_place(x, weights, centre)
        return gather(weighted(masses[None, :], resp.T), points[None], statistic)

    gathered = data.fold(data.x.shape[1] * resp.shape[1], chunk, merge, resp)
    return gathered._replace(mean=gathered.mean + centre[None, :])


class EMState(NamedTuple):
    """What EM carries.

    Attributes:
        mixture: the current mixture.
        moments: of the rows under its responsibilities.
        log_likelihood: of the mixture, ().
        gains: the M-step's gain in Q, of the last `WINDOW` steps, oldest first, (WINDOW,).
    """

    mixture: Mixture
    moments: Moments
    log_likelihood: Array
    gains: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EM:
    """Expectation-maximisation (Dempster, Laird & Rubin 1977).

    A step is an M-step, then an E-step: one pass over the data. The gain that remains is estimated from
    the M-step's own gain in Q, g, a sum of Kullback–Leibler divergences without cancellation. Near the
    optimum errors shrink by ρ a step and g by ρ², so that g·ρ²/(1 − ρ) remains.
    """

    takes_spares: ClassVar[bool] = True
    """Components with log-weight −∞ may stand by: they stay as they are."""

    def init(self, mixture: Mixture, data: Any, penalty: Penalty) -> tuple[EMState, Info]:
        """One pass at the start."""
        moments, log_likelihood = data.moments(mixture, mixture.family.statistic)
        gains = jnp.full((WINDOW,), jnp.nan, log_likelihood.dtype)
        state = EMState(mixture, moments, log_likelihood, gains)
        objective = log_likelihood + penalty.log_prob(mixture)
        return state, Info(objective, jnp.full_like(objective, jnp.inf), jnp.ones((), jnp.int32))

    def step(self, state: EMState, data: Any, penalty: Penalty) -> tuple[EMState, Info]:
        """M, then E."""
        mixture = maximise(state.moments, state.mixture.family, penalty, state.mixture)
        gain = gain_in_q(state.mixture, mixture, state.moments.mass, penalty)
        moments, log_likelihood = data.moments(mixture, mixture.family.statistic)
        gains = jnp.concatenate([state.gains[1:], gain[None]])
        state = EMState(mixture, moments, log_likelihood, gains)
        objective = log_likelihood + penalty.log_prob(mixture)
        remaining = _remaining(gains, rounding_gain(mixture, state.moments.mass))
        return state, Info(objective, remaining, jnp.ones((), jnp.int32))


def gain_in_q(old: Mixture, new: Mixture, mass: Array, penalty: Penalty) -> Array:
    """Q(new) − Q(old), prior included, for new the M-step's answer to old's moments, ().

    Σ_k N_k [log π'_k/π_k + ½‖L_k⁻¹(μ'_k − μ_k)‖²] + Σ_j (N_j + λ) KL(N(0, Σ'_j) ‖ N(0, Σ_j)), j over the
    distinct covariances: the divergence from old to new, since the complete-data model is an
    exponential family.
    """
    held = mass > 0
    log_ratio = jnp.where(held, old.log_weights, 0.0) - jnp.where(held, new.log_weights, 0.0)
    # Σ N_k (e^d − 1) = 0 for d = log π/π', which takes the first order out of −Σ N_k d.
    weights = jnp.sum(jnp.where(held, mass * (jnp.expm1(log_ratio) - log_ratio), 0.0))
    shift = old.covs.solve(new.means - old.means)
    moved = 0.5 * jnp.sum(mass * jnp.sum(shift**2, axis=-1))
    divergence = new.covs.divergence(old.covs, new.n_features)
    shared = divergence.shape[0] < mass.shape[0]
    per_covariance = jnp.sum(mass, keepdims=True) if shared else mass
    return weights + moved + jnp.sum((per_covariance + penalty.mass) * divergence)


def rounding_gain(mixture: Mixture, mass: Array) -> Array:
    """Gains in Q that rounding alone makes, (): every parameter off by a few eps."""
    eps = float(jnp.finfo(mass.dtype).eps)
    return jnp.sum(mass) * mixture.n_parameters * (4 * eps) ** 2


def _remaining(gains: Array, noise: Array) -> Array:
    """The gain that remains after the last step, ().

    From the slower of two decays, over the window and over the last step: early steps shed what is fast,
    and say little of what is slow.
    """
    last = gains[-1]
    steps = jnp.sum(jnp.isfinite(gains)) - 1
    first = gains[jnp.clip(WINDOW - 1 - steps, 0, WINDOW - 1)]
    over_window = _ratio(last, first) ** (1.0 / jnp.maximum(steps, 1).astype(last.dtype))
    decay = jnp.maximum(over_window, _ratio(last, gains[-2]))
    decaying = (steps >= 2) & (decay < 1)
    rate = jnp.sqrt(jnp.where(decaying, decay, 0.0))
    remaining = jnp.where(decaying, last * rate**2 / (1 - rate), jnp.inf)
    return jnp.where(last <= noise, last, remaining)


def _ratio(numerator: Array, denominator: Array) -> Array:
    return jnp.where(denominator > 0, numerator / jnp.where(denominator > 0, denominator, 1.0), jnp.inf)
