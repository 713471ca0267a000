"""Blurred rows as they are given, in the forms that functions take: arrays and tables checked, weighed and scaled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jaxgmm.data.blurred import BlurredRows
from jaxgmm.data.conversion import Weighed, as_points, completed, plain, rows_of, seen_rows, weighed
from jaxgmm.data.gaps import check_gaps, check_noise, check_noise_names, check_noise_shape, without_masks
from jaxgmm.data.intake import Intake, scaled
from jaxgmm.data.noise import variances_of
from jaxgmm.data.protocol import check_no_weights
from jaxgmm.data.rows import Rows, as_rows
from jaxgmm.data.scaling import measure
from jaxgmm.host.arrays import Table, as_numbers, as_table, float_dtype, is_traced, names_of
from jaxgmm.host.shapes import check_rows
from jaxgmm.host.weights import as_weights, check_enough_rows
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.units import Units
from jaxgmm.numerics.programs import program


def default_weights(x: Any) -> Any:
    """Weights of 1 for the rows of an array or a table; None for what is neither, such as a leaf's stand-in."""
    if not isinstance(x, list | tuple) and not getattr(x, "shape", ()):
        return None
    dtype = getattr(x, "dtype", None)
    return np.ones(len(x), dtype if dtype == np.float32 else np.float64)


def taken(
    table: Table,
    sample_weight: ArrayLike,
    n_components: int,
    family: Family,
    made: Callable[[np.ndarray, np.ndarray, Units], BlurredRows],
) -> Intake:
    """Rows with gaps, scaled on the host as plain rows are, as what a fit is made of.

    Args:
        table: rows, NaN where a value is missing, (N, D), and the names of their columns.
        sample_weight: of the rows, (N,).
        n_components: K.
        family: whose covariances are fitted.
        made: makes data of scaled rows; see `scaled`.

    Raises:
        TypeError: if the weights hold no real numbers.
        ValueError: if the weights are bad, a value that counts is infinite, a column was never observed, or cannot be
            represented in the rows' dtype, or too few rows count.
    """
    weights = check_gaps(table.rows, as_weights(sample_weight, len(table.rows)), table.names)
    check_enough_rows(int(np.count_nonzero(weights)), n_components)
    units = measure(table.rows, weights, family, float_dtype(table.rows), table.names)
    return scaled(table, weights, units, weights @ ~unseen(table.rows, None), made)


def seen_in(mixture: Mixture, x: BlurredRows) -> tuple[Mixture, Array, Array]:
    """A mixture and blurred rows in one dtype, and the rows' weights, 0 for those of which nothing was observed.

    Raises:
        TypeError: if the rows or the weights hold no real numbers.
        ValueError: if the rows are not (N, D) with the mixture's D, or the weights not (N,).
    """
    given = without_masks(x.x)
    rows = as_numbers(given, "x")
    check_rows(rows, given)
    mixture, rows = as_points(mixture, rows)
    weights = as_rows(rows, x.weights, "the weights of x").weights
    return mixture, rows, jnp.where(nothing_seen(rows, None), 0.0, weights)


def unseen(x: Any, noise: Any) -> Any:
    """Whether each value of rows (N, D) was not observed, (N, D), in NumPy or JAX.

    Args:
        x: NaN where a value is missing.
        noise: variances or covariances of the errors, where infinite variances are those of missing values; or None.
    """
    gone = x != x
    if noise is None:
        return gone
    return gone | (variances_of(noise) == np.inf)


def nothing_seen(x: Any, noise: Any) -> Any:
    """Whether nothing was observed of each row, (N,); see `unseen`."""
    return unseen(x, noise).all(axis=1)


def errors_of(x: BlurredRows, rows: Any) -> Any:
    """Variances or covariances of the errors of rows (N, D), checked as far as they are concrete; None without any.

    Raises:
        TypeError: if they hold no real numbers.
        ValueError: if they are bad, or of another shape.
    """
    if not any(field.name == "noise" for field in dataclasses.fields(cast(Any, x))):
        return None
    check_noise_names(x.noise, x.x)
    noise = as_numbers(without_masks(x.noise), "noise")
    if not is_traced(rows, noise):
        noise = check_noise(noise, np.asarray(rows), None)
    check_noise_shape(noise.shape, rows.shape)
    return noise if isinstance(rows, np.ndarray) else jnp.asarray(noise, rows.dtype)


@plain.register
def _(x: BlurredRows) -> Any:
    return x.x


@completed.register
def _(x: BlurredRows, sample_weight: ArrayLike | None, key: Array) -> tuple[Any, Any]:
    check_no_weights(sample_weight)
    given, own = without_masks(x.x), cast(Any, x)
    rows = as_numbers(given, "x")
    check_rows(rows, given)
    names, rows = names_of(given), jnp.asarray(rows, float_dtype(rows))
    noise, weights = errors_of(x, rows), as_rows(rows, x.weights, "the weights of x").weights
    if not is_traced(rows, weights):
        seen = np.where(unseen(rows, noise), np.nan, rows)
        counted = check_gaps(seen, as_weights(x.weights, len(rows)), names)
        weights = jnp.asarray(counted, rows.dtype)
    weights = jnp.where(nothing_seen(rows, noise), 0.0, weights)
    errs = {} if noise is None else {"noise": noise}
    held = dataclasses.replace(own, x=rows, weights=weights, layout=None, measured=None, **errs)
    drawn = _drawn(key, held, len(rows))
    return drawn.x, drawn.weights


@program(static_argnums=(2,))
def _drawn(key: Array, data: BlurredRows, most: int) -> Rows:
    return data.draw_rows(key, most)


@rows_of.register
def _(x: BlurredRows, key: Array) -> Rows:
    return Rows(*completed(x, None, key))


@seen_rows.register
def _(x: BlurredRows, key: Array) -> tuple[np.ndarray, np.ndarray]:
    held = weighed(x, None)
    return as_table(without_masks(x.x)).rows, held.weights


@weighed.register
def _(x: BlurredRows, sample_weight: ArrayLike | None) -> Weighed:
    check_no_weights(sample_weight)
    table = as_table(without_masks(x.x))
    weights = as_weights(x.weights, len(table.rows))
    noise = errors_of(x, table.rows)
    return Weighed(x, None, np.where(nothing_seen(table.rows, noise), 0.0, weights), table.rows.shape[1])
