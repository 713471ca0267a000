"""Random starts. Rows are drawn by the inverse CDF of their weights, so that rows of weight 0 change none."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxgmm.data import draws
from jaxgmm.data.intake import weigh
from jaxgmm.data.rows import Rows, as_rows
from jaxgmm.fitting.steps import labelled_moments, maximise
from jaxgmm.host.arrays import as_floats, as_numbers, is_traced, names_of
from jaxgmm.host.checks import as_count, as_key, check_prior, keyed
from jaxgmm.host.shapes import check_rows
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.families.table import family_of
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, gather, merge, spread
from jaxgmm.model.priors.penalty import Penalty
from jaxgmm.model.priors.ridge import prepare, settle
from jaxgmm.model.units import units_of
from jaxgmm.numerics.linalg import varying_as

METHODS = ("k-means++", "k-means", "random-rows", "random-responsibilities")
"""Names of the starts that are drawn with a key."""

_LLOYD_ITERATIONS = 50


@keyed
def initialize(
    key: Array,
    x: Any,
    n_components: int,
    sample_weight: Any = None,
    *,
    method: str = "k-means++",
    covariance_type: Any = "full",
    prior: Any = None,
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


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _initialize(key: Array, data: Rows, n_components: int, method: str, family: Family, prior: Any) -> Mixture:
    return start(key, data, n_components, method, family, prepare(prior, data.columns()), n_components)


def start(
    key: Array,
    data: Rows,
    n_components: ArrayLike,
    method: str,
    family: Family,
    penalty: Penalty,
    n_slots: int,
) -> Mixture:
    """A start under a prepared prior, with `n_components` components and spare ones up to `n_slots`."""
    if data.x.shape[0] > draws.MOST_ROWS:
        key_rows, key = jax.random.split(key)
        data = draws.thinned(key_rows, data)
    there = jnp.arange(n_slots) < n_components
    share = there.astype(data.x.dtype)
    centre, statistic = penalty.columns.mean, family.statistic
    if method == "random-responsibilities":
        shares = draws.nested(jax.random.exponential, key, data.x.shape[0], n_slots, n_components, data.x.dtype)
        shares = shares * share[None, :]
        resp = shares / jnp.sum(shares, axis=1, keepdims=True)
        return maximise(labelled_moments(data, resp, centre, statistic), family, penalty)
    if method == "random-rows":
        rows = data.x[draws.different_rows(key, data.weights, n_slots)]
        equal = share / jnp.sum(share)
        resp = jnp.broadcast_to(equal[None, :], (data.x.shape[0], n_slots))
        alike = maximise(labelled_moments(data, resp, centre, statistic), family, penalty)
        return dataclasses.replace(alike, means=rows)
    scale = units_of(penalty.columns, family).scale
    centres = _greedy_seeds(key, data, n_components, n_slots, scale)
    if method == "k-means":
        centres = _lloyd(centres, there, data, scale)
    return _about_centres(centres, there, data, scale, family, penalty)


@jax.jit
def placed_anew(key: Array, data: Rows, mixture: Mixture, absent: Array, prior: Any) -> Mixture:
    """The mixture with its `absent` components (K,) placed anew, at centres that k-means++ draws after the others.

    Each takes the rows nearest to it, with their mean, covariance and share of the mass; the others share what remains.
    """
    penalty = prepare(prior, data.columns())
    if data.x.shape[0] > draws.MOST_ROWS:
        key_rows, key = jax.random.split(key)
        data = draws.thinned(key_rows, data)
    scale = units_of(penalty.columns, mixture.family).scale
    shift = (data.x[None, :, :] - mixture.means[:, None, :]) / scale[None, None, :]
    nearest = jnp.min(jnp.where(absent[:, None], jnp.inf, jnp.sum(shift**2, axis=-1)), axis=0)
    nearest, n_components = jnp.where(data.weights != 0, nearest, 0.0), mixture.n_components
    seeds = _greedy_seeds(key, data, n_components, n_components, scale, nearest)
    place = jnp.maximum(jnp.cumsum(absent) - 1, 0)
    centres = jnp.where(absent[:, None], seeds[place], mixture.means)
    fresh = _about_centres(centres, jnp.ones_like(absent), data, scale, mixture.family, penalty)

    def keep(new: Array, old: Array) -> Array:
        replaced = absent if new.shape[0] == absent.shape[0] else jnp.all(absent)
        return jnp.where(replaced.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    taken = jnp.sum(jnp.where(absent, fresh.weights, 0.0))
    left = jax.nn.log_softmax(jnp.where(absent, -jnp.inf, mixture.log_weights)) + jnp.log1p(-jnp.minimum(taken, 1.0))
    log_weights = jax.nn.log_softmax(jnp.where(absent, fresh.log_weights, left))
    covs = jax.tree.map(keep, fresh.covs, mixture.covs)
    return Mixture(log_weights, keep(fresh.means, mixture.means), covs, mixture.family)


def _greedy_seeds(
    key: Array, data: Rows, n_components: ArrayLike, n_slots: int, scale: Array, nearest: Array | None = None
) -> Array:
    """Greedy k-means++ seeds, (n_slots, D): at each step the candidate that leaves the least distance.

    Whatever `n_slots`. If there are centres already, `nearest` holds the rows' squared distances from those, (N,).
    """
    by_count = 2 + np.log(np.arange(1, n_slots + 1)).astype(int)
    n_candidates, most_candidates = jnp.asarray(by_count)[n_components - 1], int(by_count[-1])
    tried = jnp.arange(most_candidates) < n_candidates
    key_first, key_rest = jax.random.split(key)
    counted = data.weights != 0
    rows = jnp.where(counted[:, None], data.x, 0.0)

    def distances(seed: Array) -> Array:
        return jnp.sum(((rows - seed[None, :]) / scale[None, :]) ** 2, axis=1)

    def add(nearest: Array, uniforms: Array) -> tuple[Array, Array]:
        mass = data.weights * nearest
        # Before the first seed none is near, and once every distinct row is one, all are: then any row will do.
        mass = jnp.where(jnp.isinf(nearest) | ~(jnp.sum(mass) > 0), data.weights, mass)
        candidates = rows[jax.vmap(draws.index, (0, None))(uniforms, mass)]
        after = jax.vmap(lambda seed: jnp.minimum(nearest, distances(seed)))(candidates)
        left = jnp.sum(data.weights[None, :] * after, axis=1)
        best = jnp.argmin(jnp.where(tried, left, jnp.inf))
        return after[best], candidates[best]

    n_first = 1 if nearest is None else 0
    uniform = jax.random.uniform(key_first, (n_first, 1), rows.dtype)
    n_drawn = n_slots - n_first
    uniforms = draws.nested(jax.random.uniform, key_rest, n_drawn, most_candidates, n_candidates, rows.dtype)
    # The first seed of all has one candidate, in each column, so that one loop, compiled once, finds all seeds.
    uniforms = jnp.concatenate([jnp.broadcast_to(uniform, (n_first, most_candidates)), uniforms])
    begun = jnp.full(rows.shape[0], jnp.inf, rows.dtype) if nearest is None else nearest
    return lax.scan(add, varying_as(begun, rows[0, 0] + uniforms[0, 0]), uniforms)[1]


def _lloyd(centres: Array, there: Array, data: Rows, scale: Array) -> Array:
    """The centres, (K, D), after Lloyd's k-means from given ones; a centre without rows stays."""

    def unsettled(carried: tuple[Array, Array, Array]) -> Array:
        return (carried[1] > 1e-4) & (carried[2] < _LLOYD_ITERATIONS)

    def iterate(carried: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        centres, _, iteration = carried

        def chunk(x: Array, weights: Array) -> tuple[Array, Array]:
            nearest = _one_hot_nearest(x, centres, there, scale) * weights[None, :]
            shift = jnp.where((weights != 0)[None, None, :], x.T[None] - centres[:, :, None], 0.0)
            return jnp.sum(nearest, axis=1), jnp.sum(nearest[:, None, :] * shift, axis=2)

        def combine(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
            return a[0] + b[0], a[1] + b[1]

        mass, shift = data.fold(centres.size, chunk, combine)
        shift = shift / jnp.where(mass > 0, mass, 1.0)[:, None]
        return centres + shift, jnp.max(jnp.abs(shift) / scale[None, :]), iteration + 1

    begun = (centres, jnp.full((), jnp.inf, centres.dtype), jnp.zeros((), jnp.int32))
    return lax.while_loop(unsettled, iterate, varying_as(begun, centres[0, 0] + data.x[0, 0]))[0]


def _one_hot_nearest(x: Array, centres: Array, there: Array, scale: Array) -> Array:
    """The one-hot assignment of rows to their nearest centres, (K, C)."""
    distances = jnp.sum(((x.T[None] - centres[:, :, None]) / scale[None, :, None]) ** 2, axis=1)
    distances = jnp.where(there[:, None], distances, jnp.inf)
    return jax.nn.one_hot(jnp.argmin(distances, axis=0), centres.shape[0], axis=0, dtype=x.dtype)


def _about_centres(centres: Array, there: Array, data: Rows, scale: Array, family: Family, penalty: Penalty) -> Mixture:
    """The result of an M-step with each row assigned to its nearest centre.

    Every covariance also sees D + 1 pseudo-rows of the variance within clusters, and at least 1e-4 of the
    columns', so that a cluster of few rows does not start collapsed.
    """
    n_features, columns = centres.shape[1], penalty.columns

    def chunk(x: Array, weights: Array) -> Moments:
        nearest = _one_hot_nearest(x, centres, there, scale) * weights[None, :]
        points = jnp.where((weights != 0)[None, :], x.T - columns.mean[:, None], 0.0)[None]
        return gather(nearest, points, family.statistic)

    moments = data.fold(centres.size, chunk, merge)
    within = jnp.maximum(spread(moments) / columns.mass, 1e-4 * columns.unit())
    pseudo = (n_features + 1) * columns.mass / columns.count
    shrunk = Penalty(penalty.mass + pseudo, penalty.scatter + pseudo * within, columns)
    return maximise(moments._replace(mean=moments.mean + columns.mean[None, :]), family, shrunk)
