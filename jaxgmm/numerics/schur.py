"""Schur complements of many small matrices, whose stack stands along the last axes."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxgmm.numerics.factors import cholesky, inverse_lower
from jaxgmm.numerics.linalg import product

_MOST_UNROLLED = 5
"""Rows up to which every entry is an array of its own, an operation on it one of long vectors: ten times as fast as
LAPACK at four rows. The program grows with the cube of the rows."""


class Eliminated(NamedTuple):
    """What is left of [[A, v, B], [vᵀ, ·, ·], [Bᵀ, ·, C]] after A = L Lᵀ has been eliminated.

    Attributes:
        whitened: L⁻¹ v, (D, ...).
        log_scale: Σ log L_ii, half the log-determinant of A, (...).
        shift: Bᵀ A⁻¹ v, (M, ...).
        corner: C − Bᵀ A⁻¹ B, (M, M, ...).
    """

    whitened: Array
    log_scale: Array
    shift: Array
    corner: Array


def eliminated(matrices: Array, vectors: Array, rows: Array, corner: Array) -> Eliminated:
    """Schur complements; NaN where A is not positive definite.

    Args:
        matrices: A, symmetric, (D, D, ...).
        vectors: v, (D, ...).
        rows: B, (D, M, ...).
        corner: C, symmetric, (M, M, ...); the last axes of all four broadcast.
    """
    return (_entry_by_entry if matrices.shape[0] <= _MOST_UNROLLED else _by_factors)(matrices, vectors, rows, corner)


def _entry_by_entry(matrices: Array, vectors: Array, rows: Array, corner: Array) -> Eliminated:
    (n_rows, n_columns), whitened = rows.shape[:2], []
    below = {(i, j): matrices[i, j] for i in range(n_rows) for j in range(i + 1)}
    left, wide = list(vectors), [list(row) for row in rows]
    kept = {(m, n): corner[m, n] for m in range(n_columns) for n in range(m + 1)}
    log_scale, shift = jnp.zeros((), vectors.dtype), [jnp.zeros((), vectors.dtype)] * n_columns
    for j in range(n_rows):
        pivot = jnp.sqrt(below[j, j])
        value, row = left[j] / pivot, [entry / pivot for entry in wide[j]]
        column = {i: below[i, j] / pivot for i in range(j + 1, n_rows)}
        for i, factor in column.items():
            left[i] = left[i] - factor * value
            wide[i] = [entry - factor * other for entry, other in zip(wide[i], row, strict=True)]
            for k in range(j + 1, i + 1):
                below[i, k] = below[i, k] - factor * column[k]
        shift = [held + entry * value for held, entry in zip(shift, row, strict=True)]
        kept = {(m, n): held - row[m] * row[n] for (m, n), held in kept.items()}
        log_scale = log_scale + jnp.log(pivot)
        whitened.append(value)
    whole = [jnp.stack([kept[max(m, n), min(m, n)] for n in range(n_columns)]) for m in range(n_columns)]
    return Eliminated(jnp.stack(whitened), log_scale, jnp.stack(shift), jnp.stack(whole))


def _by_factors(matrices: Array, vectors: Array, rows: Array, corner: Array) -> Eliminated:
    lower = cholesky(jnp.moveaxis(matrices, (0, 1), (-2, -1)))
    inverse = inverse_lower(lower)
    whitened = jnp.sum(inverse * jnp.moveaxis(vectors, 0, -1)[..., None, :], axis=-1)
    wide = product("...ij,jm...->...im", inverse, rows)
    shift = jnp.sum(wide * whitened[..., None], axis=-2)
    taken = jnp.moveaxis(product("...im,...in->...mn", wide, wide), (-2, -1), (0, 1))
    log_scale = jnp.sum(jnp.log(jnp.diagonal(lower, axis1=-2, axis2=-1)), axis=-1)
    return Eliminated(jnp.moveaxis(whitened, -1, 0), log_scale, jnp.moveaxis(shift, -1, 0), corner - taken)
