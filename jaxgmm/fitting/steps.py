"""Maximisation: the M-step, from moments and from given responsibilities."""

from __future__ import annotations

import chex
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jaxgmm.data.centring import in_place
from jaxgmm.data.conversion import unpacked
from jaxgmm.data.passes import weighted
from jaxgmm.data.rows import Rows, as_rows
from jaxgmm.data.scaling import weigh
from jaxgmm.fitting.collapse import Faults, check_not_singular, unless_singular
from jaxgmm.host.arrays import as_floats, as_numbers, is_traced, names_of
from jaxgmm.host.checks import check_prior
from jaxgmm.host.shapes import check_rows
from jaxgmm.host.weights import check_responsibilities
from jaxgmm.model.checks import check_moments
from jaxgmm.model.columns import Columns
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.families.table import family_of
from jaxgmm.model.fitted import Fitted, as_mixture
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, Statistic, columns_of, convert, gather, merge, total
from jaxgmm.model.priors.penalty import Penalty, Prior
from jaxgmm.model.priors.ridge import prepare, settle
from jaxgmm.model.slots import choose_covariances
from jaxgmm.numerics.programs import program


def m_step(
    moments: Moments,
    covariance_type: str | Family = "full",
    *,
    prior: Prior | None = None,
    previous: Mixture | Fitted | None = None,
) -> Mixture:
    """The M-step: the mixture that maximises Q(θ; Moments) + log prior(θ).

    π_k = N_k / N, μ_k = mean_k, and the family's update of Σ_k; for "full", (S_k + λV) / (N_k + λ). A
    component without mass gets log-weight −∞ and keeps `previous`, else the pooled mean and covariance;
    with a prior its covariance is the prior's V. Where a covariance is singular to rounding, as of fewer rows than
    columns, there is no maximum: an error says so, and under a trace that covariance is NaN.

    Args:
        moments: moments with the scatter that the family needs, or more.
        covariance_type: a name or a family.
        prior: `Ridge`, or None for maximum likelihood.
        previous: the mixture before the step, from which components without mass are taken.

    Returns:
        The mixture.

    Raises:
        TypeError: if the moments, the prior or `previous` are something else.
        ValueError: if the family is not known, the moments hold too little for it, or `previous` is of another
            family or shape; or if a covariance is singular to rounding, naming the component and the remedy.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> moments, log_likelihood = jaxgmm.e_step(mixture, x)
        >>> bool(jnp.allclose(jaxgmm.m_step(moments).means, moments.mean))
        True
    """
    check_moments(moments)
    check_prior(prior)
    family = family_of(covariance_type)
    if previous is not None:
        previous = as_mixture(previous, name="previous")
        if previous.family != family or previous.means.shape != moments.mean.shape:
            found = f"moments are of {moments.mean.shape} {family.name!r} means"
            raise ValueError(f"previous is {previous!r}, but the {found}")
    moments = convert(moments, family.statistic)
    mixture, faults = _m_step(moments, family, settle(prior, moments.mean.dtype), previous)
    check_not_singular(faults, mixture.n_components, prior)
    return mixture


@program(static_argnums=(1,))
def _m_step(moments: Moments, family: Family, prior: Prior | None, previous: Mixture | None) -> tuple[Mixture, Faults]:
    columns = columns_of(moments)
    return unless_singular(maximise(moments, family, columns, prepare(prior, columns), previous), columns)


def maximise(
    moments: Moments, family: Family, columns: Columns, penalty: Penalty, previous: Mixture | None = None
) -> Mixture:
    """The mixture after an M-step under a prepared prior; see `m_step`."""
    n_components, mass = moments.mean.shape[0], moments.mass
    chex.assert_shape(mass, (n_components,))
    empty = mass <= float(jnp.finfo(mass.dtype).tiny)
    floor, before = columns.resolution(), None if previous is None else previous.covs
    masses, added = penalty.added(moments, family.n_distinct(n_components))
    covs = family.update(added.mass, added.scatter, floor, before)
    if previous is None:
        whole = total(moments)
        means = jnp.broadcast_to(whole.mean, moments.mean.shape)
        _, added_whole = penalty.added(whole, 1)
        kept = family.update(added_whole.mass, added_whole.scatter, floor, None)
    else:
        means, kept = previous.means, previous.covs
    means = jnp.where(empty[:, None], means, added.mean)
    n_rows = jnp.sum(masses.weights)
    share = jnp.where(empty, 1.0, masses.weights) / jnp.where(n_rows > 0, n_rows, 1.0)
    log_weights = jnp.where(empty, -jnp.inf, jnp.log(share))
    unseen = empty & (penalty.mass <= 0) if covs.count == n_components else jnp.all(empty, keepdims=True)
    return Mixture(log_weights, means, choose_covariances(unseen, kept, covs), family)


def from_responsibilities(
    x: ArrayLike,
    resp: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    covariance_type: str | Family = "full",
    prior: Prior | None = None,
) -> Mixture:
    """The mixture after one M-step from responsibilities; from a one-hot matrix, that of labelled rows.

    Args:
        x: rows, (N, D).
        resp: responsibilities, (N, K), non-negative; those of a row need not sum to 1.
        sample_weight: non-negative weights, (N,); None is 1 for each row.
        covariance_type: a name or a family.
        prior: `Ridge`, or None for maximum likelihood.

    Returns:
        The mixture. Under a trace values are not checked, and bad ones give NaN; so does a covariance that is singular
        to rounding.

    Raises:
        TypeError: if x, resp or the weights hold no real numbers, or `prior` is no prior.
        ValueError: if shapes do not match, the family is not known, or, where they are concrete, values are not
            finite or overflow when squared, responsibilities or weights are bad, rows fewer than components, or a
            covariance is singular to rounding (fewer rows than columns, or a column that is constant in the
            component): the component is named.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> labelled = jaxgmm.from_responsibilities(x, jax.nn.one_hot(labels, 2))
        >>> bool(jnp.allclose(labelled.means[0], x[labels == 0].mean(axis=0), atol=1e-4))
        True
    """
    check_prior(prior)
    x, sample_weight = unpacked(x, sample_weight)
    family, given, names = family_of(covariance_type), as_numbers(x, "x"), names_of(x)
    check_rows(given, x)
    x = as_floats(given, "x")
    resp = as_floats(resp, "resp").astype(x.dtype)
    if resp.ndim != 2 or resp.shape[0] != x.shape[0] or resp.shape[1] == 0:
        raise ValueError(f"resp must have shape ({x.shape[0]}, K), not {resp.shape}")
    data = as_rows(x, sample_weight)
    if not is_traced(x, resp, sample_weight):
        weights, _ = weigh(np.asarray(given), sample_weight, resp.shape[1], family, x.dtype, names)
        check_responsibilities(np.asarray(resp), weights)
    mixture, faults = _labelled(data, resp, family, settle(prior, x.dtype))
    check_not_singular(faults, mixture.n_components, prior, names)
    return mixture


@program(static_argnums=(2,))
def _labelled(data: Rows, resp: Array, family: Family, prior: Prior | None) -> tuple[Mixture, Faults]:
    columns = data.columns()
    moments = labelled_moments(data, resp, columns.mean, family.statistic)
    return unless_singular(maximise(moments, family, columns, prepare(prior, columns)), columns)


def labelled_moments(data: Rows, resp: Array, centre: Array, statistic: Statistic) -> Moments:
    """Moments of rows under given responsibilities (N, K), summed about a centre."""

    def chunk(x: Array, weights: Array, resp: Array) -> Moments:
        points, masses = in_place(x, weights, centre)
        return gather(weighted(masses[None, :], resp.T), points[None], statistic)

    gathered = data.fold(data.x.shape[1] * resp.shape[1], chunk, merge, resp)
    return gathered._replace(mean=gathered.mean + centre[None, :])
