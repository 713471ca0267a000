"""Factors, inverses and spectra of stacks of small matrices, (..., D, D), with their derivatives.

Large matrices are handled in blocks, since LAPACK would start threads of its own for them; stacks a few matrices at a
time, since jaxlib would share them out over threads that may wait for each other.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxgmm.numerics.linalg import HIGHEST, varying_as
from jaxgmm.numerics.stacks import in_turn

_FEWEST_CHOLESKY_BLOCKS, _BLOCK = 96, 32
"""Rows from which Cholesky factors are computed in blocks, and the rows of a block. Measured on two busy
cores: three matrices of 200 rows took LAPACK's threads 290 ms, and blocks 1.6; sixty of 100 rows 8.2 ms, and 5.8."""


def _matmul(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=HIGHEST)


def _cholesky(matrices: Array) -> Array:
    return lax.linalg.cholesky(matrices, symmetrize_input=False)


def _cholesky_by_blocks(matrices: Array) -> Array:
    """Cholesky factors by columns of blocks, from left to right, in a loop whose program does not grow with D.

    Column j is (A − L Lᵀ)_j C⁻ᵀ, where L holds the columns before it and C is the factor of its own first block.
    """
    n_rows, n_lead = matrices.shape[-1], matrices.ndim - 2
    n_blocks = -(-n_rows // _BLOCK)
    padded = n_blocks * _BLOCK
    spare = np.diag(np.arange(padded) >= n_rows).astype(matrices.dtype)
    whole = jnp.pad(matrices, [(0, 0)] * n_lead + [(0, padded - n_rows)] * 2)
    whole = whole + spare.reshape(*[1] * n_lead, padded, padded)
    place = np.arange(padded, dtype=np.int32).reshape(*[1] * n_lead, padded, 1)

    def step(index: Array, factors: Array) -> Array:
        first = index * np.int32(_BLOCK)
        rows = lax.dynamic_slice_in_dim(factors, first, _BLOCK, axis=-2)
        column = lax.dynamic_slice_in_dim(whole, first, _BLOCK, axis=-1) - _matmul(factors, jnp.swapaxes(rows, -2, -1))
        corner = _cholesky_in_turn(lax.dynamic_slice_in_dim(column, first, _BLOCK, axis=-2))
        column = jnp.where(place >= first, _matmul(column, jnp.swapaxes(inverse_lower(corner), -2, -1)), 0.0)
        return lax.dynamic_update_slice_in_dim(factors, column, first, axis=-1)

    # Where float64 is allowed for a part of a program only, indices must not be of 64 bits.
    first, beyond = np.int32(0), np.int32(n_blocks)
    factors = lax.fori_loop(first, beyond, step, varying_as(jnp.zeros_like(whole), whole.ravel()[0]))
    return jnp.tril(factors)[..., :n_rows, :n_rows]


def _inverse(factors: Array) -> Array:
    eye = jnp.broadcast_to(jnp.eye(factors.shape[-1], dtype=factors.dtype), factors.shape)
    return lax.linalg.triangular_solve(factors, eye, left_side=True, lower=True)


def _rotation(matrices: Array) -> Array:
    left, _, right = jnp.linalg.svd(matrices, full_matrices=False)
    return _matmul(left, right)


_cholesky_in_turn, _inverse_in_turn = in_turn(_cholesky), in_turn(_inverse)
_eigenvalues_in_turn, _rotation_in_turn = in_turn(jnp.linalg.eigvalsh, cost=16), in_turn(_rotation, cost=32)


@jax.custom_jvp
def cholesky(matrices: Array) -> Array:
    """Lower triangular L, (..., D, D), with L Lᵀ = A for symmetric A; NaN where A is not positive definite.

    dL = L Φ(L⁻¹ dA L⁻ᵀ), where Φ keeps the entries below the diagonal and half of those on it (Murray 2016).
    """
    by_blocks = matrices.shape[-1] >= _FEWEST_CHOLESKY_BLOCKS
    return _cholesky_by_blocks(matrices) if by_blocks else _cholesky_in_turn(matrices)


@cholesky.defjvp
def _cholesky_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    factors = cholesky(primals[0])
    inverse = inverse_lower(factors)
    change = (tangents[0] + jnp.swapaxes(tangents[0], -2, -1)) / 2
    mixed = _matmul(_matmul(inverse, change), jnp.swapaxes(inverse, -2, -1))
    return factors, _matmul(factors, (jnp.tril(mixed) + jnp.tril(mixed, -1)) / 2)


def asymmetric(matrices: Any, eps: float) -> Any:
    """Whether each entry of (..., D, D) differs from its transpose by more than rounding, in NumPy or in JAX."""
    diagonal = abs(matrices.diagonal(0, -2, -1)) ** 0.5
    scale = diagonal[..., :, None] * diagonal[..., None, :]
    return abs(matrices - matrices.swapaxes(-2, -1)) > 100 * eps * scale


def eigenvalues(matrices: Array) -> Array:
    """Eigenvalues of symmetric matrices (..., D, D), (..., D), ascending; held fixed in derivatives."""
    return _eigenvalues_in_turn(lax.stop_gradient(matrices))


def nearest_rotation(matrices: Array) -> Array:
    """Q = U Vᵀ of A = U S Vᵀ, (..., D, D), which maximises tr QᵀA; held fixed in derivatives."""
    return _rotation_in_turn(lax.stop_gradient(matrices))


def safe_cholesky(matrices: Array, floor: Array) -> Array:
    """Cholesky factors of symmetric matrices that may be singular to rounding.

    The correlation matrix is factored, so that the scale of the columns does not matter. Variances below `floor` are
    raised to it. Where the correlation matrix is singular to rounding, 2·D·eps, about its own rounding error, is added
    to its diagonal. It counts as singular if it has no factor after D·eps is subtracted: this margin keeps the outcome
    from depending on how the compiler rounds.

    Args:
        matrices: symmetric, (..., D, D).
        floor: smallest variances to keep, (D,).

    Returns:
        Lower triangular factors, (..., D, D); NaN where a matrix holds one.
    """
    n_features = matrices.shape[-1]
    diagonal = jnp.diagonal(matrices, axis1=-2, axis2=-1)
    scale = jnp.sqrt(jnp.maximum(diagonal, jnp.broadcast_to(floor, diagonal.shape)))
    eye = jnp.broadcast_to(jnp.eye(n_features, dtype=bool), matrices.shape)
    correlation = matrices / scale[..., :, None] / scale[..., None, :]
    correlation = jnp.where(eye, 1.0, correlation)
    rounding = n_features * float(jnp.finfo(matrices.dtype).eps)
    attempt = cholesky(lax.stop_gradient(jnp.where(eye, 1.0 - rounding, correlation)))
    failed = ~jnp.all(jnp.isfinite(attempt), axis=(-2, -1), keepdims=True)
    correlation = jnp.where(eye & failed, 1.0 + 2 * rounding, correlation)
    return cholesky(correlation) * scale[..., :, None]


_FEWEST_INVERSE_BLOCKS = 16
"""Rows from which inverses are computed in blocks: LAPACK's solver would start threads of its own there, which keep a
core busy during the products that follow (a whole pass took twice as long, measured at 32 rows)."""


@jax.custom_jvp
def inverse_lower(factors: Array) -> Array:
    """Inverses of lower triangular matrices, (..., D, D), whose derivative −L⁻¹ dL L⁻¹ needs no second solve."""
    n_rows = factors.shape[-1]
    if n_rows < _FEWEST_INVERSE_BLOCKS:
        return _inverse_in_turn(factors)
    return _inverse_by_blocks(factors)


@inverse_lower.defjvp
def _inverse_lower_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    inverse, change = inverse_lower(primals[0]), jnp.tril(tangents[0])
    # What the dtype cannot hold has no derivative there: 0·∞ would spoil those of the other matrices' sum.
    held = jnp.where(overflows_when_inverted(primals[0], inverse), 0.0, inverse)
    return inverse, -_matmul(_matmul(held, change), held)


def overflows_when_inverted(factors: Array, inverse: Array) -> Array:
    """Whether each matrix is finite and its inverse is not, (..., 1, 1)."""
    is_held, is_inverted = (jnp.all(jnp.isfinite(a), axis=(-2, -1), keepdims=True) for a in (factors, inverse))
    return is_held & ~is_inverted


def _inverse_by_blocks(factors: Array) -> Array:
    """[[A, 0], [B, C]]⁻¹ = [[A⁻¹, 0], [−C⁻¹ B A⁻¹, C⁻¹]], for all blocks of one size at once, doubling the size."""
    n_rows, lead = factors.shape[-1], factors.shape[:-2]
    padded = 1 << (n_rows - 1).bit_length()
    spare = np.diag(np.arange(padded) >= n_rows).astype(factors.dtype)
    whole = jnp.pad(factors, [(0, 0)] * len(lead) + [(0, padded - n_rows)] * 2)
    whole = whole + spare.reshape(*[1] * len(lead), padded, padded)
    size = _FEWEST_INVERSE_BLOCKS
    inverse = _inverse_by_rows(_diagonal_blocks(whole, size))
    while size < padded:
        blocks = _diagonal_blocks(whole, 2 * size)
        first, last = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :]
        below = -_matmul(_matmul(last, blocks[..., size:, :size]), first)
        above = jnp.concatenate([first, jnp.zeros_like(first)], axis=-1)
        inverse = jnp.concatenate([above, jnp.concatenate([below, last], axis=-1)], axis=-2)
        size *= 2
    return inverse[..., 0, :n_rows, :n_rows]


def _diagonal_blocks(matrices: Array, size: int) -> Array:
    """The blocks of so many rows on the diagonal, (..., blocks, size, size)."""
    n_blocks, lead = matrices.shape[-1] // size, matrices.shape[:-2]
    blocks = matrices.reshape(*lead, n_blocks, size, n_blocks, size)
    return jnp.moveaxis(jnp.diagonal(blocks, axis1=-4, axis2=-2), -1, -3)


def _inverse_by_rows(factors: Array) -> Array:
    """Inverses by forward substitution, row by row in a loop: X_j = (e_j − Σ_{i<j} L_ji X_i) / L_jj."""

    def step(inverse: Array, held: tuple[Array, Array]) -> tuple[Array, None]:
        row, place = held
        pivot = jnp.sum(row * place, axis=-1, keepdims=True)
        found = (place - _matmul(row[..., None, :], inverse)[..., 0, :]) / pivot
        return inverse + place[..., :, None] * found[..., None, :], None

    n_rows, lead = factors.shape[-1], [1] * (factors.ndim - 2)
    places = np.eye(n_rows, dtype=factors.dtype).reshape(n_rows, *lead, n_rows)
    start = varying_as(jnp.zeros_like(factors), factors.ravel()[0])
    return lax.scan(step, start, (jnp.moveaxis(factors, -2, 0), jnp.asarray(places)))[0]


@jax.custom_jvp
def lower_factor(rows: Array) -> Array:
    """Lower triangular L, (..., d, d), with L Lᵀ = R Rᵀ for R = rows, by a QR factorisation.

    dL = L Φ(M + Mᵀ) with M = L⁻¹ dR (L⁻¹ R)ᵀ, where Φ keeps the entries below the diagonal and half of those on it:
    one inverse, where the derivative of QR itself would need more factors.

    Args:
        rows: (..., d, D), d ≤ D.
    """
    upper = jnp.linalg.qr(jnp.swapaxes(rows, -2, -1), mode="r")
    lower = jnp.swapaxes(upper, -2, -1)
    sign = jnp.where(jnp.diagonal(lower, axis1=-2, axis2=-1) < 0, -1.0, 1.0).astype(rows.dtype)
    return lower * sign[..., None, :]


@lower_factor.defjvp
def _lower_factor_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    factors = lower_factor(primals[0])
    inverse = inverse_lower(factors)
    mixed = _matmul(_matmul(inverse, tangents[0]), jnp.swapaxes(_matmul(inverse, primals[0]), -2, -1))
    return factors, _matmul(factors, jnp.tril(mixed) + jnp.tril(jnp.swapaxes(mixed, -2, -1), -1))
