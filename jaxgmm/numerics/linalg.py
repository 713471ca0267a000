"""Small dense linear algebra."""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

HIGHEST = lax.Precision.HIGHEST


def product(equation: str, *operands: Array) -> Array:
    """The value of `jnp.einsum` at full precision: TF32 would lose three digits on a GPU."""
    return jnp.einsum(equation, *operands, precision=HIGHEST)


def conjugate_gradients(matrix: Callable[[Array], Array], right: Array) -> tuple[Array, Array]:
    """A⁻¹ b, (P,), for symmetric positive semi-definite A and b in its range, and the number of products A v, ().

    The method is that of Hestenes & Stiefel (1952), run until rounding or 2·P + 20 products. JAX's own version takes
    one product more, with a start of zero; here each product is a pass over the data, and takes seconds to compile.
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
def reciprocal(values: Array) -> Array:
    """1/s, with the derivative −s⁻¹ ds s⁻¹ computed without s⁻², which overflows in float32 at s = 1e-20."""
    return 1 / values


@reciprocal.defjvp
def _reciprocal_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    inverse = reciprocal(primals[0])
    return inverse, -(inverse * tangents[0]) * inverse


def excess(ratio: Array) -> Array:
    """½(t² − 1 − 2 log t), the divergence between two scales: within eps·|t − 1| near t = 1, finite for the least t."""
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
    """A pytree of the same values, marked as varying over the mesh axes of `anchor` ().

    Under `shard_map` the initial carry of a loop must vary over the same mesh axes as its later values, but constants
    vary over none.
    """
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return tree
    return jax.tree.map(lambda leaf: _mapped_as(leaf, anchor), tree)


def _mapped_as(leaf: Array, anchor: Array) -> Array:
    return jnp.where(anchor == anchor, leaf, leaf)


def zeros_of(shape: tuple[int, ...], *trees: Any) -> Array:
    """Zeros, mapped by `vmap` and varying over a mesh wherever any leaf of some pytrees is.

    A function with a derivative rule of its own has to return such zeros: JAX fails on the second derivative of a
    constant under `vmap`.
    """
    leaves = jax.tree.leaves(trees)
    dtype = leaves[0].dtype
    anchor = jnp.sum(jnp.stack([jnp.sum(leaf.ravel()[:1]).astype(dtype) for leaf in leaves]))
    return _mapped_as(jnp.zeros(shape, dtype), anchor)


def instantiated(tangent: Any) -> Any:
    """A tangent with zeros in place of symbolic ones."""

    def instantiate(leaf: Any) -> Any:
        # A JAX-made zero, whose shape and dtype are all there is to it.
        return jnp.zeros(leaf.shape, cast(Any, leaf).dtype) if isinstance(leaf, SymbolicZero) else leaf

    return jax.tree.map(instantiate, tangent, is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
