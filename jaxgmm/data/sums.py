"""The sums of rows by features, which many mixtures share: of a chunk, or of all rows at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxgmm.data.kernels import quadratic
from jaxgmm.data.passes import normalise, weighted_sum
from jaxgmm.model.moments import Moments, Statistic
from jaxgmm.numerics.linalg import product


class Sums(NamedTuple):
    """The sums of some rows by features; of many chunks, a compensated sum of each.

    Attributes:
        raw: Σ r φ, (F, R·K).
        square: Σ w x xᵀ where the features are linear, else empty, (R or 1, D, D).
        log_likelihood: less what `read_sums` takes from the squares, (R,).
    """

    raw: Any
    square: Any
    log_likelihood: Any


def sums_of(
    features: quadratic.Features,
    quick: quadratic.Prepared,
    columns: Array,
    weights: Array,
    shape: tuple[int, int],
    dtype: DTypeLike,
) -> Sums:
    """The sums of rows that are the columns of (D, C), with weights (R or 1, C) and exponentials in `dtype`.

    Args:
        features: the products of the rows' entries.
        quick: the stacked mixtures, prepared.
        columns: rows about the centre, as columns.
        weights: of the rows, in their dtype.
        shape: R and K.
        dtype: of the exponentials.
    """
    phi = features.of(columns)
    log_joint = product("kf,fc->kc", quick.coefficients.reshape(-1, phi.shape[0]), phi).reshape(*shape, -1)
    responsibilities, log_prob = normalise(log_joint, weights, dtype)
    # Features first: with the long axis last in both, this order of the product is the faster one.
    raw = product("fc,kc->fk", phi, responsibilities.reshape(-1, phi.shape[1]))
    square = jnp.zeros((weights.shape[0], 0, 0), phi.dtype)
    if features == quadratic.LINEAR:
        square = product("rdc,ec->rde", weights[:, None, :] * columns[None], columns)
    return Sums(raw, square, weighted_sum(weights, log_prob))


def unless_distrusted(log_likelihood: Array, reach: Array, steepness: Array, dtype: DTypeLike) -> Array:
    """Log-likelihoods by features in float64; NaN where these are not exact enough for results in a dtype.

    Args:
        log_likelihood: (...).
        reach: the largest squares of the rows' distances from the centre, (...) or ().
        steepness: of the mixtures, (...).
        dtype: of the results.
    """
    return jnp.where(reach * steepness <= quadratic.limit(jnp.float64, dtype), log_likelihood, jnp.nan)


def read_sums(
    features: quadratic.Features,
    quick: quadratic.Prepared,
    sums: Sums,
    shape: tuple[int, int],
    n_features: int,
    statistic: Statistic,
) -> tuple[Moments, Array]:
    """Moments about the centre and log-likelihoods, stacked (R, ...), from the sums of all rows."""
    raw = sums.raw.reshape(-1, *shape)
    square = jnp.broadcast_to(sums.square, (shape[0], *sums.square.shape[1:]))
    moments = jax.vmap(lambda r, s: quadratic.read(r, s, features, n_features, statistic), (1, 0))(raw, square)
    log_likelihood = sums.log_likelihood
    if features == quadratic.LINEAR:
        log_likelihood = log_likelihood - 0.5 * jnp.sum(quick.precision * square, axis=(1, 2))
    return moments, log_likelihood
