"""What functions of a mixture take as x, converted to data: arrays, tables, `Rows`, and any other `Data`."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jaxgmm.data import draws
from jaxgmm.data.protocol import PLAIN, SCORED, Data, check_no_weights, has, is_data, require
from jaxgmm.data.rows import Rows, as_rows
from jaxgmm.host.arrays import Names, Table, as_numbers, as_table, float_dtype, is_traced, names_of
from jaxgmm.host.shapes import as_one_column, check_rows
from jaxgmm.host.weights import as_weights
from jaxgmm.model.fitted import Fitted, as_mixture
from jaxgmm.model.mixture import Mixture


@functools.singledispatch
def plain(x: Any) -> Any:
    """What the rows of an argument were given as: of `Rows` their array, of other arguments these themselves."""
    return x


@plain.register
def _(x: Rows) -> Any:
    return x.x


def unpacked(x: Any, sample_weight: ArrayLike | None) -> tuple[Any, Any]:
    """Rows as an array or a table, with their weights: those of `Rows`, or the arguments themselves.

    Raises:
        TypeError: if x is any other `Data`.
        ValueError: if x is a `Data` and weights are given beside it.
    """
    if not is_data(x):
        return x, sample_weight
    check_no_weights(sample_weight)
    require(x, *PLAIN)
    return x.x, x.weights


@functools.singledispatch
def completed(x: Any, sample_weight: ArrayLike | None, key: Array) -> tuple[Any, Any]:
    """As `unpacked`; rows with gaps or errors as true rows, drawn given what was seen of them, in their order.

    Raises:
        TypeError: if x is any other `Data`.
        ValueError: if x is a `Data` and weights are given beside it.
    """
    return unpacked(x, sample_weight)


class Weighed(NamedTuple):
    """What is given to several fits, and its weights on the host.

    Attributes:
        x: a table or data.
        sample_weight: weights beside it, or None for data, which hold their own.
        weights: of the rows, (N,), in float64.
        n_features: number of columns D.
    """

    x: Any
    sample_weight: np.ndarray | None
    weights: np.ndarray
    n_features: int


@functools.singledispatch
def weighed(x: Any, sample_weight: ArrayLike | None) -> Weighed:
    """An array, a table or `Rows` as a table with weights beside it; other data as they are.

    Raises:
        TypeError: if x or the weights hold no real numbers, or x is data that do not tell their rows.
        ValueError: if the weights are bad, or given beside data.
    """
    x, sample_weight = unpacked(x, sample_weight)
    table = as_table(x)
    weights = as_weights(sample_weight, len(table.rows))
    return Weighed(table, weights, weights, table.rows.shape[1])


@functools.singledispatch
def rows_of(data: Any, key: Array) -> Any:
    """Plain rows of data: all, where the data hold them, else as many as stand for them, drawn by weight."""
    return data if has(data, *PLAIN) else data.draw_rows(key, draws.MOST_ROWS)


@functools.singledispatch
def seen_rows(x: Any, key: Array) -> tuple[np.ndarray, np.ndarray]:
    """Rows of data on the host, (N, D), NaN where a value is missing, and their weights; see `rows_of`."""
    rows = rows_of(x, key)
    return np.asarray(rows.x), np.asarray(rows.weights)


@functools.singledispatch
def ordered(data: Any) -> Any:
    """The data in the order in which passes over all of them are fastest; most kinds as they are."""
    return data


def seen_through(data: Any, key: Array, true: Array) -> Any:
    """What would be seen of true rows (N, D) in place of those of the data."""
    return data.seeing(key, true) if has(data, *SCORED) else Rows(true, data.weights)


def reweighted(data: Any, weights: Array) -> Any:
    """The same rows with other weights, (N,)."""
    return data.weighted_by(weights) if has(data, *SCORED) else Rows(data.x, weights)


def names_of_data(x: Any) -> Names | None:
    """The names of a table's columns, where x is one; None for arrays and data."""
    rows = plain(x)
    return None if is_data(rows) else names_of(rows)


def as_data(
    mixture: Mixture | Fitted, x: Any, sample_weight: ArrayLike | None = None, needs: tuple[str, ...] = ()
) -> tuple[Mixture, Any]:
    """A mixture and data in one dtype, the wider; `Data` other than `Rows` as they are.

    Args:
        mixture: the mixture or the fit.
        x: rows, or data.
        sample_weight: weights of rows.
        needs: members that the data must have.

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit, x or the weights hold no real numbers, or the data lack
            a member that is needed.
        ValueError: if x is not (N, D) with the mixture's D, or the weights are not (N,).
    """
    rows = plain(x)
    known = as_mixture(mixture, None if is_data(rows) else rows)
    if is_data(x):
        check_no_weights(sample_weight)
    known, data = converted(x, known, sample_weight)
    require(data, *needs)
    if not needs or "log_likelihood" in needs:
        data = ordered(data)
    return known, data


@functools.singledispatch
def converted(x: Any, mixture: Mixture, sample_weight: ArrayLike | None) -> tuple[Mixture, Data]:
    """A mixture and data in one dtype, the wider; see `as_data`."""
    if not is_data(x):
        mixture, rows = _as_whole_rows(mixture, x)
        return mixture, as_rows(rows, sample_weight)
    require(x, "n_features")
    if x.n_features != mixture.n_features:
        raise ValueError(f"x has {x.n_features} columns, but the mixture has {mixture.n_features}")
    return mixture, x


@converted.register
def _(x: Table, mixture: Mixture, sample_weight: ArrayLike | None) -> tuple[Mixture, Data]:
    return converted(x.rows, mixture, sample_weight)


@converted.register
def _(x: Rows, mixture: Mixture, sample_weight: ArrayLike | None) -> tuple[Mixture, Data]:
    mixture, rows = _as_whole_rows(mixture, x.x)
    distances = jax.tree.map(lambda leaf: leaf.astype(rows.dtype), x.distances)
    weights = as_rows(rows, x.weights, "the weights of x").weights
    return mixture, dataclasses.replace(x, x=rows, weights=weights, distances=distances)


def _as_whole_rows(mixture: Mixture, x: Any) -> tuple[Mixture, Array]:
    rows = as_numbers(x, "x")
    check_rows(rows, x)
    return as_points(mixture, rows)


def as_weighted_data(
    mixture: Mixture | Fitted, x: Any, sample_weight: ArrayLike | None = None, needs: tuple[str, ...] = ()
) -> tuple[Mixture, Any]:
    """A mixture and data in one dtype, as `as_data`, with the values of the weights checked where they are concrete.

    Raises:
        TypeError: as `as_data`.
        ValueError: as `as_data`, or if weights are negative, not finite or all zero.
    """
    mixture, data = as_data(mixture, x, sample_weight, needs)
    weights = sample_weight if plain(x) is x else x.weights
    if weights is not None and not is_traced(weights):
        as_weights(weights, data.x.shape[0])
    return mixture, data


def as_points(mixture: Mixture | Fitted, x: Any) -> tuple[Mixture, Array]:
    """A mixture and points (..., D) in one dtype, the wider.

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit, or x holds no real numbers.
        ValueError: if the last axis is not the mixture's D.
    """
    mixture = as_mixture(mixture, x)
    given, x = x, as_numbers(x, "x")
    dtype = float_dtype(x, mixture.means)
    if x.ndim == 0 or x.shape[-1] != mixture.n_features:
        found = f"{x.shape[-1]} columns" if x.ndim else "no columns"
        hint = f": {as_one_column(given, 'x')}" if x.ndim == mixture.n_features == 1 else ""
        raise ValueError(f"x has {found} (shape {x.shape}), but the mixture has {mixture.n_features}{hint}")
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), mixture), jnp.asarray(x, dtype)
