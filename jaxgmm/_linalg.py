"""Small dense linear algebra that the rest relies on."""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

HIGHEST = lax.Precision.HIGHEST

_MOST_AT_ONCE = 1 << 22
"""Products that one call of LAPACK takes: matrices, times the cube of their rows (8 at least). jaxlib to 0.11.0 shares
larger calls out over the threads of which one waits for them: as many calls at once as there are threads, two on many a
machine, wait for ever. A call of one matrix is never shared out."""


def in_turn(function: Callable[[Array], Array], cost: int = 1) -> Callable[[Array], Array]:
    """A function of a stack of matrices, (..., n, n), that calls LAPACK, a few matrices at a time on a CPU.

    `vmap` adds to the stack, so that the few are counted over all of it. Not for reverse mode.

    Args:
        function: from (..., n, n) to (..., ·), each matrix by itself.
        cost: of a matrix, in n³ products.
    """

    @jax.custom_batching.custom_vmap
    def whole(matrices: Array) -> Array:
        *lead, _, n_rows = matrices.shape
        few = max(1, _MOST_AT_ONCE // (cost * max(n_rows, 8) ** 3))
        if np.prod(lead, dtype=int) <= few:
            return function(matrices)

        def by_turns(matrices: Array) -> Array:
            results = lax.map(function, matrices.reshape(-1, n_rows, n_rows), batch_size=few)
            return results.reshape(*lead, *results.shape[1:])

        return lax.platform_dependent(matrices, cpu=by_turns, default=function)

    @whole.def_vmap
    def batched(size: int, is_batched: list[bool], matrices: Array) -> tuple[Array, bool]:
        return whole(matrices), True

    return whole


def _cholesky(matrices: Array) -> Array:
    return lax.linalg.cholesky(matrices, symmetrize_input=False)


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

    dL = L Φ(L⁻¹ dA L⁻ᵀ) with Φ what is below the diagonal and half of what is on it (Murray 2016).
    """
    return _cholesky_in_turn(matrices)


@cholesky.defjvp
def _cholesky_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    factors = cholesky(primals[0])
    inverse = inverse_lower(factors)
    change = (tangents[0] + jnp.swapaxes(tangents[0], -2, -1)) / 2
    mixed = _matmul(_matmul(inverse, change), jnp.swapaxes(inverse, -2, -1))
    return factors, _matmul(factors, (jnp.tril(mixed) + jnp.tril(mixed, -1)) / 2)


def eigenvalues(matrices: Array) -> Array:
    """Eigenvalues of symmetric matrices (..., D, D), (..., D), ascending; held fixed in derivatives."""
    return _eigenvalues_in_turn(lax.stop_gradient(matrices))


def nearest_rotation(matrices: Array) -> Array:
    """Q = U Vᵀ of A = U S Vᵀ, (..., D, D), which maximises tr QᵀA; held fixed in derivatives."""
    return _rotation_in_turn(lax.stop_gradient(matrices))


def safe_cholesky(matrices: Array, floor: Array) -> Array:
    """Cholesky factors of symmetric matrices that may be singular to rounding.

    The factor is taken of the correlation matrix, so that it succeeds at any scale. Variances below
    `floor` are raised to it. Where the correlation is singular to rounding, 2·D·eps is added to its
    diagonal, about what its own rounding amounts to.

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
    attempt = cholesky(lax.stop_gradient(correlation))
    failed = ~jnp.all(jnp.isfinite(attempt), axis=(-2, -1), keepdims=True)
    jitter = 2 * n_features * float(jnp.finfo(matrices.dtype).eps)
    correlation = jnp.where(eye & failed, 1.0 + jitter, correlation)
    return cholesky(correlation) * scale[..., :, None]


_FEWEST_BY_BLOCKS = 16
"""Rows from which inverses are taken by blocks: LAPACK's solver then starts threads of its own, which go on to
take a core from the products that follow (half the speed of a whole pass, measured at 32 rows)."""


@jax.custom_jvp
def inverse_lower(factors: Array) -> Array:
    """Inverses of lower triangular matrices, (..., D, D); d(L⁻¹) = −L⁻¹ dL L⁻¹, which takes no second solve."""
    n_rows = factors.shape[-1]
    if n_rows < _FEWEST_BY_BLOCKS:
        return _inverse_in_turn(factors)
    return _inverse_by_blocks(factors)


@inverse_lower.defjvp
def _inverse_lower_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    inverse, change = inverse_lower(primals[0]), jnp.tril(tangents[0])
    return inverse, -_matmul(_matmul(inverse, change), inverse)


def _matmul(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=HIGHEST)


def _inverse_by_blocks(factors: Array) -> Array:
    """[[A, 0], [B, C]]⁻¹ = [[A⁻¹, 0], [−C⁻¹ B A⁻¹, C⁻¹]], all blocks of one size at once, from 1 row to all."""
    n_rows, lead = factors.shape[-1], factors.shape[:-2]
    padded = 1 << (n_rows - 1).bit_length()
    spare = np.diag(np.arange(padded) >= n_rows).astype(factors.dtype)
    whole = jnp.pad(factors, [(0, 0)] * len(lead) + [(0, padded - n_rows)] * 2)
    whole = whole + spare.reshape(*[1] * len(lead), padded, padded)
    inverse = 1 / jnp.diagonal(whole, axis1=-2, axis2=-1)[..., None, None]
    size = 1
    while size < padded:
        n_blocks = padded // (2 * size)
        blocks = whole.reshape(*lead, n_blocks, 2 * size, n_blocks, 2 * size)
        blocks = jnp.moveaxis(jnp.diagonal(blocks, axis1=-4, axis2=-2), -1, -3)
        first, last = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :]
        below = -_matmul(_matmul(last, blocks[..., size:, :size]), first)
        above = jnp.concatenate([first, jnp.zeros_like(first)], axis=-1)
        inverse = jnp.concatenate([above, jnp.concatenate([below, last], axis=-1)], axis=-2)
        size *= 2
    return inverse[..., 0, :n_rows, :n_rows]


def product(equation: str, *operands: Array) -> Array:
    """`jnp.einsum` at full precision: TF32 would lose three digits on a GPU."""
    return jnp.einsum(equation, *operands, precision=HIGHEST)


def conjugate_gradients(matrix: Callable[[Array], Array], right: Array) -> tuple[Array, Array]:
    """A⁻¹ b, (P,), for symmetric positive semi-definite A and b in its range, and the products it took, ().

    The method of Hestenes & Stiefel (1952).

    To the rounding of the dtype, or 2·P + 20 products. JAX's own spends one product more, on a start that is zero,
    and each product here is a pass over the data to run and seconds to compile.
    """
    # In its own unit, or its square under- or overflows. That of a NaN is NaN, and so is then the solution.
    largest = jnp.max(jnp.abs(right))
    unit = jnp.where(largest == 0, 1.0, largest)
    right = right / unit
    precision = (8 * float(jnp.finfo(right.dtype).eps)) ** 2
    enough = precision * jnp.sum(right**2)

    def unfinished(held: tuple[Array, Array, Array, Array, Array]) -> Array:
        return (held[3] > enough) & (held[4] < 2 * right.shape[0] + 20)

    def iterate(held: tuple[Array, Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array, Array]:
        solution, residual, direction, square, n_products = held
        image = matrix(direction)
        length = square / jnp.sum(direction * image)
        residual = residual - length * image
        next_square = jnp.sum(residual**2)
        step = residual + next_square / square * direction
        return solution + length * direction, residual, step, next_square, n_products + 1

    begun = (jnp.zeros_like(right), right, right, jnp.sum(right**2), jnp.zeros((), jnp.int32))
    solution, _, _, _, n_products = lax.while_loop(unfinished, iterate, begun)
    return unit * solution, n_products


@jax.custom_jvp
def lower_factor(rows: Array) -> Array:
    """Lower triangular L, (..., d, d), with L Lᵀ = R Rᵀ for R = rows, by a QR factorisation.

    dL = L Φ(M + Mᵀ) with M = L⁻¹ dR (L⁻¹ R)ᵀ and Φ what is below the diagonal and half of what is on it: by one
    inverse, where the derivatives of QR would take more factors at once.

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


def excess(ratio: Array) -> Array:
    """½(t² − 1 − 2 log t), the divergence between two scales: to eps·|t − 1| near t = 1, finite for the least t."""
    e = ratio - 1
    # Between ½ and 2 the difference has no rounding; below, it would forget t.
    is_near = jnp.abs(e) <= 0.5
    log_ratio = jnp.where(is_near, jnp.log1p(jnp.where(is_near, e, 0.0)), jnp.log(jnp.where(is_near, 1.0, ratio)))
    return 0.5 * e**2 + (e - log_ratio)


def finite(tree) -> Array:
    """Whether every number in a pytree is finite, ()."""
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(leaves))


def varying_as(tree: Any, anchor: Array) -> Any:
    """The same numbers, told to vary over a mesh as `anchor` () does.

    Under `shard_map` a loop's carry must vary over the same axes before and after, and constants vary over none.
    """
    return jax.tree.map(lambda leaf: jnp.where(anchor == anchor, leaf, leaf), tree)


def instantiated(tangent: Any) -> Any:
    """A tangent with zeros in place of symbolic ones."""

    def instantiate(leaf: Any) -> Any:
        # A JAX-made zero, whose shape and dtype are all there is to it.
        return jnp.zeros(leaf.shape, cast(Any, leaf).dtype) if isinstance(leaf, SymbolicZero) else leaf

    return jax.tree.map(instantiate, tangent, is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
