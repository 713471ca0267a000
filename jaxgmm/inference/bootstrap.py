"""The bootstrap: refits to resampled or simulated data from one start, so that components keep their order."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from numpy.typing import ArrayLike

from jaxgmm.data.conversion import reweighted, seen_through
from jaxgmm.data.protocol import is_data
from jaxgmm.fitting.algorithms.em import EM
from jaxgmm.fitting.algorithms.protocol import Algorithm
from jaxgmm.fitting.loop import climb_from
from jaxgmm.fitting.results import Status
from jaxgmm.host.arrays import is_traced
from jaxgmm.host.checks import as_count, as_key, as_tolerance, check_climber, keyed
from jaxgmm.inference.information import Parameters, as_scored_rows, parameters, rows_per_weight
from jaxgmm.model.fitted import Fitted
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.priors.penalty import Prior
from jaxgmm.model.priors.ridge import settle
from jaxgmm.probability.sampling import sample

KINDS = ("resampled", "parametric")
"""Names of the ways to make the data of a refit."""

_BATCH = 16
"""The number of refits in a vmapped batch."""

_MOST_COUNTED = 1e6
"""The largest weight for which counts are drawn from the Poisson distribution itself."""


class Bootstrap(NamedTuple):
    """The refits of a bootstrap, each begun at the fitted mixture.

    Attributes:
        mixtures: the refits, stacked along a leading axis, (n, ...).
        status: `Status` of each, (n,).
        standard_errors: standard deviation of each parameter over the refits that did not fail; NaN with fewer than
            two.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> fitted = jaxgmm.run(jaxgmm.EM(), mixture, x)
        >>> refits = jaxgmm.bootstrap(jax.random.key(1), fitted, x, 10)
        >>> refits.mixtures.means.shape, refits.standard_errors.means.shape
        ((10, 2, 2), (2, 2))
    """

    mixtures: Mixture
    status: Array
    standard_errors: Parameters


@keyed
def bootstrap(
    key: Array,
    mixture: Mixture | Fitted,
    x: Any,
    n: int,
    kind: str = "resampled",
    sample_weight: ArrayLike | None = None,
    *,
    algorithm: Algorithm = EM(),
    prior: Prior | None = None,
    max_iter: int = 1000,
    tol: ArrayLike = 1e-8,
) -> Bootstrap:
    """Refits of a mixture to n bootstrap samples of its data, and the standard errors from them.

    "resampled" counts row i Poisson(wᵢ) times, the bootstrap for a random number of rows: integer weights give the same
    as repeated rows, and no rows are copied. Weights whose sum is below the number of rows of positive weight cannot be
    counts; for this they are scaled to Kish's effective number of rows, (Σw)² / Σw², as `bic` counts, with a warning.
    "parametric" draws N rows from the mixture. Refits start at the mixture itself and run in vmapped batches.

    Args:
        key: a typed key, `jax.random.key(0)`.
        mixture: a fitted mixture.
        x: the rows that it was fitted to, (N, D).
        n: number of refits; static.
        kind: "resampled" or "parametric"; static.
        sample_weight: non-negative weights, (N,), that count as repeated rows; None is 1 for each row.
        algorithm: the algorithm of the refits.
        prior: the prior that the mixture was fitted under.
        max_iter: most iterations of each refit; static.
        tol: gain per unit weight, in nats, below which a refit stops; see `run`.

    Returns:
        The refits, and the standard errors computed from them.

    Raises:
        TypeError: if the key is not typed, or an argument is of the wrong type.
        ValueError: if shapes do not match, the kind is not known, n or `max_iter` is below 1, a parametric bootstrap
            is given weights other than 1, or, where they are concrete, `tol` or weights are negative or NaN.

    References:
        Efron (1979); Hanley & MacGibbon (2006), for Poisson counts; O'Hagan, Murphy, Scrucca & Gormley (2019), for
        mixtures.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> fitted = jaxgmm.run(jaxgmm.EM(), mixture, x)
        >>> refits = jaxgmm.bootstrap(jax.random.key(1), fitted, x, 10)
        >>> bool((refits.standard_errors.means > 0).all())
        True
    """
    key, n, max_iter, tol = as_key(key), as_count(n, "n"), as_count(max_iter, "max_iter"), as_tolerance(tol)
    check_climber(algorithm, prior)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, not {kind!r}")
    mixture, rows = as_scored_rows(mixture, x, sample_weight, prior)
    if kind == "parametric":
        _check_unweighted(x, sample_weight)
    dtype = mixture.means.dtype
    tol, unit = jnp.asarray(tol, dtype), rows_per_weight(x, sample_weight, "bootstrap takes", dtype)
    return _bootstrap(key, mixture, rows, settle(prior, dtype), algorithm, tol, unit, n, kind, max_iter)


def _check_unweighted(x: Any, sample_weight: ArrayLike | None) -> None:
    unequal = is_data(x) and not is_traced(x.weights) and bool(jnp.any(x.weights != 1))
    if sample_weight is not None or unequal:
        given = "the weights of x must all be 1" if unequal else "sample_weight must be None"
        raise ValueError(f"{given} for a parametric bootstrap, whose rows are drawn from the mixture")


@functools.partial(jax.jit, static_argnums=(7, 8, 9))
def _bootstrap(
    key: Array,
    mixture: Mixture,
    data: Any,
    prior: Prior | None,
    algorithm: Algorithm,
    tol: Array,
    unit: Array,
    n: int,
    kind: str,
    max_iter: int,
) -> Bootstrap:
    def drawn(key: Array) -> Any:
        if kind == "parametric":
            # Weights that could not be refused, since they were traced, spoil the refits.
            # A row of which nothing was seen has a weight of 0, whatever it was given.
            left_out = (data.weights == 0) & jnp.all(jnp.isnan(data.x), axis=1)
            plain = jnp.where((data.weights == 1) | left_out, data.weights, jnp.nan)
            true, _ = sample(key, mixture, data.x.shape[0])
            return reweighted(seen_through(data, jax.random.fold_in(key, 1), true), plain)
        # A weight of 0 stays, and so does one of NaN. The prior was weighed against weights in their own unit.
        drawn = _counts(key, unit * data.weights) / unit
        return reweighted(data, jnp.where(data.weights > 0, drawn, data.weights))

    def refit(key: Array) -> tuple[Mixture, Array]:
        result = climb_from(algorithm, mixture, drawn(key), prior, tol, max_iter)
        return result.mixture, result.status

    mixtures, status = lax.map(refit, jax.random.split(key, n), batch_size=min(_BATCH, n))
    return summary(mixtures, status)


def summary(mixtures: Mixture, status: Array) -> Bootstrap:
    """The refits, with standard deviations over those that did not fail."""
    sound = (status == Status.CONVERGED) | (status == Status.MAX_ITER)
    errors = jax.tree.map(functools.partial(_deviation, sound), jax.vmap(parameters)(mixtures))
    return Bootstrap(mixtures, status, errors)


def _counts(key: Array, rates: Array) -> Array:
    """Poisson counts; of rates beyond `_MOST_COUNTED` rounded normal draws, since JAX's Poisson counts are int32."""
    few = jax.random.poisson(_threefry(key), jnp.minimum(rates, _MOST_COUNTED)).astype(rates.dtype)
    many = rates + jnp.sqrt(rates) * jax.random.normal(jax.random.fold_in(key, 1), rates.shape, rates.dtype)
    return jnp.where(rates > _MOST_COUNTED, jnp.round(many), few)


def _threefry(key: Array) -> Array:
    """The key itself if it is a Threefry key, else one drawn from it: JAX's Poisson draws need that kind."""
    if str(jax.random.key_impl(key)) == "threefry2x32":
        return key
    return jax.random.wrap_key_data(jax.random.bits(key, (2,), jnp.uint32), impl="threefry2x32")


def _deviation(counted: Array, values: Array) -> Array:
    """The standard deviation over those entries of the leading axis that are `counted`, divisor their number less 1."""
    weights = counted.astype(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
    total = jnp.sum(weights)
    held = jnp.where(weights > 0, values, 0.0)
    mean = jnp.sum(held, axis=0, keepdims=True) / total
    square = jnp.sum(weights * (held - mean) ** 2, axis=0)
    return jnp.sqrt(square / jnp.where(total > 1, total - 1, jnp.nan))
