"""Random starts. Rows are drawn by the inverse CDF of their weights, so that rows of weight 0 change none."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxgmm.data import draws
from jaxgmm.data.conversion import completed
from jaxgmm.data.protocol import Data
from jaxgmm.data.rows import Rows, as_rows
from jaxgmm.data.scaling import weigh
from jaxgmm.fitting.problem import Problem
from jaxgmm.fitting.starts.kmeans import LEAST_SPREAD, greedy_seeds, lloyd, one_hot_nearest
from jaxgmm.fitting.steps import labelled_moments, maximise
from jaxgmm.host.arrays import as_floats, as_numbers, is_traced, names_of
from jaxgmm.host.checks import as_count, as_key, check_prior, keyed
from jaxgmm.host.shapes import check_rows
from jaxgmm.model.columns import Columns
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.families.table import family_of
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, gather, merge, spread
from jaxgmm.model.priors.penalty import Penalty, Prior
from jaxgmm.model.priors.ridge import prepare, settle
from jaxgmm.model.slots import choose_covariances
from jaxgmm.model.units import units_of
from jaxgmm.numerics.programs import program

METHODS = ("k-means++", "k-means", "random-rows", "random-responsibilities")
"""Names of the starts that are drawn with a key."""


@keyed
def initialize(
    key: Array,
    x: Any,
    n_components: int,
    sample_weight: ArrayLike | None = None,
    *,
    method: str = "k-means++",
    covariance_type: str | Family = "full",
    prior: Prior | None = None,
) -> Mixture:
    """A start for `run`. Distances are taken in columns scaled by their standard deviations.

    "k-means++": greedy seeds (Arthur & Vassilvitskii 2007, the best of 2 + log K candidates at each
    step), each row to its nearest. "k-means": Lloyd's iterations from there (Lloyd 1982).
    "random-rows": K different rows as means, the covariance of all rows. "random-responsibilities":
    an M-step from uniform draws on the simplex. Of more than 65,536 rows, so many are drawn by weight first.

    Args:
        key: a typed key, `jax.random.key(0)`.
        x: rows, (N, D).
        n_components: K; static.
        sample_weight: non-negative weights, (N,); None is 1 for each row.
        method: one of the four names ("kmeans" counts as "k-means"); static.
        covariance_type: a name or a family.
        prior: `Ridge`, or None.

    Returns:
        The start, in the family.

    Raises:
        TypeError: if the key is not typed, x or the weights hold no real numbers, or `prior` is no prior.
        ValueError: if the method is not known, shapes do not match, or, where they are concrete, values
            are not finite or overflow when squared, weights are bad or rows fewer than components.

    Example:
        >>> x = np.random.default_rng(0).normal([[0.0, 0.0], [4.0, 4.0]] * 50)
        >>> jaxgmm.initialize(jax.random.key(0), x, 2).means.shape
        (2, 2)
    """
    key, n_components = as_key(key), as_count(n_components, "n_components")
    method = as_method(method)
    check_prior(prior)
    x, sample_weight = completed(x, sample_weight, jax.random.fold_in(key, 1))
    family, given, names = family_of(covariance_type), as_numbers(x, "x"), names_of(x)
    check_rows(given, x)
    x = as_floats(given, "x")
    data = as_rows(x, sample_weight)
    if not is_traced(x, sample_weight):
        weigh(np.asarray(given), sample_weight, n_components, family, x.dtype, names)
    return _initialize(key, data, n_components, method, family, settle(prior, x.dtype))


def as_method(method: Any) -> str:
    """The name of a start as it stands in the table; "kmeans", scikit-learn's, is "k-means".

    Raises:
        ValueError: if it is not known; for another name of scikit-learn's the message gives ours.
    """
    name = method.replace("kmeans", "k-means") if isinstance(method, str) else method
    if not isinstance(name, str) or name not in METHODS:
        ours = {"random": "random-responsibilities", "random_from_data": "random-rows"}.get(str(method))
        hint = f": scikit-learn's {method!r} is {ours!r} here" if ours else ""
        raise ValueError(f"a start must be one of {', '.join(map(repr, METHODS))}, not {method!r}{hint}")
    return name


@program(static_argnums=(2, 3, 4), loops=True)
def _initialize(key: Array, data: Rows, n_components: int, method: str, family: Family, prior: Prior | None) -> Mixture:
    columns = data.columns()
    return start(key, Problem(data, columns, prepare(prior, columns)), n_components, method, family)


def start(key: Array, problem: Problem, n_components: int, method: str, family: Family) -> Mixture:
    """A start under a prepared prior."""
    key, data = _fewer(key, problem.data)
    columns, penalty = problem.columns, problem.penalty
    centre, statistic, shape = columns.mean, family.statistic, (data.x.shape[0], n_components)
    if method == "random-responsibilities":
        shares = jax.random.exponential(key, shape, data.x.dtype)
        resp = shares / jnp.sum(shares, axis=1, keepdims=True)
        return maximise(labelled_moments(data, resp, centre, statistic), family, columns, penalty)
    if method == "random-rows":
        rows = data.x[draws.different_rows(key, data.weights, n_components)]
        equal = jnp.full(shape, 1 / n_components, data.x.dtype)
        alike = maximise(labelled_moments(data, equal, centre, statistic), family, columns, penalty)
        return dataclasses.replace(alike, means=rows)
    scale = units_of(columns, family).scale
    centres = greedy_seeds(key, data, n_components, scale)
    if method == "k-means":
        centres = lloyd(centres, data, scale)
    return _about_centres(centres, data, scale, family, columns, penalty)


@program()
def placed_anew(key: Array, data: Rows, mixture: Mixture, absent: Array, prior: Prior | None) -> Mixture:
    """The mixture with its `absent` components (K,) placed anew, at centres that k-means++ draws after the others.

    Each takes the rows nearest to it, with their mean, covariance and share of the mass; the others share what remains.
    """
    columns = data.columns()
    key, rows = _fewer(key, data)
    scale = units_of(columns, mixture.family).scale
    shift = (rows.x[None, :, :] - mixture.means[:, None, :]) / scale[None, None, :]
    nearest = jnp.min(jnp.where(absent[:, None], jnp.inf, jnp.sum(shift**2, axis=-1)), axis=0)
    nearest, n_components = jnp.where(rows.weights != 0, nearest, 0.0), mixture.n_components
    seeds = greedy_seeds(key, rows, n_components, scale, nearest)
    place = jnp.maximum(jnp.cumsum(absent) - 1, 0)
    centres = jnp.where(absent[:, None], seeds[place], mixture.means)
    fresh = _about_centres(centres, rows, scale, mixture.family, columns, prepare(prior, columns))
    taken = jnp.sum(jnp.where(absent, fresh.weights, 0.0))
    left = jax.nn.log_softmax(jnp.where(absent, -jnp.inf, mixture.log_weights)) + jnp.log1p(-jnp.minimum(taken, 1.0))
    log_weights = jax.nn.log_softmax(jnp.where(absent, fresh.log_weights, left))
    replaced = absent if mixture.covs.count == n_components else jnp.all(absent, keepdims=True)
    covs = choose_covariances(replaced, fresh.covs, mixture.covs)
    return Mixture(log_weights, jnp.where(absent[:, None], fresh.means, mixture.means), covs, mixture.family)


def _fewer(key: Array, data: Data) -> tuple[Array, Rows]:
    """Rows for a start, no more than `draws.MOST_ROWS`, anew for each restart, and a key for what is drawn next."""
    key_rows, key_after = jax.random.split(key)
    rows = data.draw_rows(key_rows, draws.MOST_ROWS)
    return key if rows is data else key_after, rows


def _about_centres(
    centres: Array, data: Rows, scale: Array, family: Family, columns: Columns, penalty: Penalty
) -> Mixture:
    """The result of an M-step with each row assigned to its nearest centre.

    Every covariance also sees D + 1 pseudo-rows of the variance within clusters, and at least `LEAST_SPREAD` of the
    columns', so that a cluster of few rows does not start collapsed.
    """
    n_features = centres.shape[1]

    def chunk(x: Array, weights: Array) -> Moments:
        nearest = one_hot_nearest(x, centres, scale) * weights[None, :]
        points = jnp.where((weights != 0)[None, :], x.T - columns.mean[:, None], 0.0)[None]
        return gather(nearest, points, family.statistic)

    moments = data.fold(centres.size, chunk, merge)
    within = jnp.maximum(spread(moments) / columns.mass, LEAST_SPREAD * columns.unit())
    pseudo = (n_features + 1) * columns.mass / columns.count
    moments = moments._replace(mean=moments.mean + columns.mean[None, :])
    return maximise(moments, family, columns, penalty.with_rows(pseudo, pseudo * within))
