"""Marginals and conditionals of mixtures, in closed form."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.data.centring import about, centre_of
from jaxgmm.data.kernels.shares import log_shares
from jaxgmm.data.kernels.whitened import farthest, prepare
from jaxgmm.host.arrays import Names, as_floats
from jaxgmm.host.checks import as_count
from jaxgmm.model.covariances.dense import Dense, as_dense
from jaxgmm.model.covariances.diagonal import Diagonal
from jaxgmm.model.covariances.protocol import Covariances
from jaxgmm.model.fitted import Fitted, as_mixture, check_names, names_in
from jaxgmm.model.general import unrestricted
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics.factors import inverse_lower, lower_factor
from jaxgmm.numerics.programs import program


def marginal(mixture: Mixture | Fitted, dims: Sequence[int]) -> Mixture:
    """The marginal distribution of some columns, in the same family.

    Args:
        mixture: the mixture.
        dims: indices of the columns to keep, in the order wanted; static.

    Returns:
        The mixture of x[dims].

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit, or dims holds no integers.
        ValueError: if dims is empty, repeats a column or names one that does not exist.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> print(jaxgmm.marginal(mixture, [1]).means)
        [[0.]
         [4.]]
    """
    mixture = as_mixture(mixture)
    return _marginal(mixture, tuple(_columns(mixture, dims)))


@program(static_argnums=(1,))
def _marginal(mixture: Mixture, columns: tuple[int, ...]) -> Mixture:
    kept = list(columns)
    covs = _of_columns(mixture.covs, kept)
    return _in_family(Mixture(mixture.log_weights, mixture.means[:, kept], covs, mixture.family))


@functools.singledispatch
def _of_columns(covs: Covariances, kept: list[int]) -> Covariances:
    """Covariances of some of the columns."""
    return Dense(lower_factor(as_dense(covs).cholesky[:, kept, :]))


@_of_columns.register
def _(covs: Diagonal, kept: list[int]) -> Diagonal:
    return Diagonal(covs.scale[:, kept]) if covs.n_columns is None else Diagonal(covs.scale, len(kept))


def _in_family(parts: Mixture) -> Mixture:
    """Parts of a mixture in its family, where that is closed, else in the least restricted one."""
    return parts if parts.family.closed else unrestricted(parts)


def condition(mixture: Mixture | Fitted, dims: Sequence[int | str], values: Any) -> Mixture:
    """The conditional distribution of the other columns, given the values of some.

    With a the other columns, b = dims and v = values: π_k ∝ π_k N(v; μ_b, Σ_bb), μ_k = μ_a + Σ_ab Σ_bb⁻¹ (v − μ_b) and
    Σ_k = Σ_aa − Σ_ab Σ_bb⁻¹ Σ_ba; in the same family.

    Args:
        mixture: the mixture.
        dims: indices of the columns whose values are given, or for a fit of a table their names, at least one and not
            all; static.
        values: v, their values, (len(dims),); or those of N rows, (N, len(dims)), an array or a table.

    Returns:
        The mixture of the other columns, in their order; a stack of N for N rows.

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit, dims holds no integers, and no names of a fit's columns,
            or values no real numbers.
        ValueError: if dims is empty, names every column, repeats one or names one that does not exist, or if
            values has another shape.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> print(np.asarray(jaxgmm.condition(mixture, [0], [3.0]).weights).round(3))
        [0.012 0.988]
    """
    names, mixture = names_in(mixture), as_mixture(mixture)
    known = _columns(mixture, _places(dims, names))
    check_names(values, None if names is None else Names(names[d] for d in known), "values")
    other = [d for d in range(mixture.n_features) if d not in set(known)]
    if not other:
        raise ValueError(f"dims {tuple(known)} are all {mixture.n_features} columns: none is left to describe")
    values = as_floats(values, "values", mixture.means).astype(mixture.means.dtype)
    if values.ndim not in (1, 2) or values.shape[-1] != len(known):
        wanted = f"({len(known)},), one for each of dims, or (N, {len(known)})"
        raise ValueError(f"values must have shape {wanted}, not {values.shape}")
    return (_condition if values.ndim == 1 else _condition_each)(mixture, tuple(known), tuple(other), values)


@program(static_argnums=(1, 2))
def _condition_each(mixture: Mixture, dims: tuple[int, ...], others: tuple[int, ...], values: Array) -> Mixture:
    return jax.vmap(lambda row: _conditional(mixture, list(dims), list(others), row))(values)


@program(static_argnums=(1, 2))
def _condition(mixture: Mixture, dims: tuple[int, ...], others: tuple[int, ...], values: Array) -> Mixture:
    return _conditional(mixture, list(dims), list(others), values)


def _conditional(mixture: Mixture, known: list[int], other: list[int], values: Array) -> Mixture:
    means = mixture.means
    observed, rest, whitened, shift = _split(mixture.covs, known, other, values[None, :] - means[:, known])
    # A component too far to be squared, beside one that is not, has no part in what is left.
    near = jnp.max(jnp.abs(whitened), axis=-1) < farthest(whitened.dtype, len(known))
    there = near | ~jnp.any(near & (mixture.log_weights > -jnp.inf))
    marginal = Mixture(jnp.where(there, mixture.log_weights, -jnp.inf), means[:, known], observed, mixture.family)
    centre = centre_of(marginal)
    log_weights = log_shares(prepare(about(marginal, centre)), (values - centre)[:, None])[:, 0]
    return _in_family(Mixture(log_weights, means[:, other] + shift, rest, mixture.family))


@functools.singledispatch
def _split(
    covs: Covariances, known: list[int], other: list[int], residual: Array
) -> tuple[Covariances, Covariances, Array, Array]:
    """Σ_bb, the Schur complement of Σ_bb, L_bb⁻¹ r and Σ_ab Σ_bb⁻¹ r for known columns b and residuals r, (K, ·).

    With the known columns first, L = [[L_bb, 0], [L_ab, L_aa]]: Σ_ab Σ_bb⁻¹ = L_ab L_bb⁻¹, and L_aa is the factor of
    the Schur complement.
    """
    n_known = len(known)
    factors = lower_factor(as_dense(covs).cholesky[:, [*known, *other], :])
    observed = Dense(factors[:, :n_known, :n_known])
    whitened = jnp.sum(inverse_lower(observed.cholesky) * residual[:, None, :], axis=-1)
    shift = jnp.sum(factors[:, n_known:, :n_known] * whitened[:, None, :], axis=-1)
    return observed, Dense(factors[:, n_known:, n_known:]), whitened, shift


@_split.register
def _(
    covs: Diagonal, known: list[int], other: list[int], residual: Array
) -> tuple[Covariances, Covariances, Array, Array]:
    observed = _of_columns(covs, known)
    return observed, _of_columns(covs, other), observed.solve(residual), jnp.zeros((), residual.dtype)


def _places(dims: Sequence[int | str], names: Names | None) -> Any:
    """The columns that are meant by indices or names."""
    listed: Any = [dims] if isinstance(dims, str) or np.ndim(dims) == 0 else list(dims)
    if not any(isinstance(dim, str) for dim in listed):
        return dims
    if names is None:
        first = next(dim for dim in listed if isinstance(dim, str))
        raise TypeError(f"each of dims must be an integer, not {first!r}: only a fit of a table has names of columns")
    unknown = [dim for dim in listed if isinstance(dim, str) and dim not in names]
    if unknown:
        raise ValueError(f"dims names {unknown[0]!r}, but the columns of the fit are {list(names)}")
    return [names.index(dim) if isinstance(dim, str) else dim for dim in listed]


def _columns(mixture: Mixture, dims: Sequence[int]) -> list[int]:
    n_features = mixture.n_features
    columns = [as_count(d, "each of dims", -n_features) for d in ([dims] if np.ndim(dims) == 0 else list(dims))]
    beyond = [d for d in columns if not -n_features <= d < n_features]
    if beyond:
        raise ValueError(f"dims names column {beyond[0]}, but the mixture has {n_features} columns")
    columns = [d % n_features for d in columns]
    if not columns or len(set(columns)) < len(columns):
        raise ValueError(f"dims must name one or more different columns, not {tuple(columns)}")
    return columns
