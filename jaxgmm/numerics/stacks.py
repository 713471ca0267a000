"""Functions that say themselves what `vmap` makes of them, and those of many matrices, evaluated a few at a time."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jax import Array, lax

_MOST_AT_ONCE = 1 << 16
"""The most work in one call of LAPACK: matrices, times the cube of their rows (at least 8). Up to release 0.11.0 jaxlib
shares larger calls out over the pool of threads in which the caller itself waits: as many such calls at once as there
are threads, two on many machines, wait for ever. A call with one matrix is never shared out."""


def stackable(function: Callable[..., object]) -> jax.custom_batching.custom_vmap:
    """The function, with a rule for `vmap` that `def_vmap` adds, as `jax.custom_batching.custom_vmap` has it.

    Take it for JAX's own, which makes arguments of the NumPy arrays within a function and fails with an
    `AssertionError` where they are mapped over (jax 0.10 to 0.12). They are in each `cond` whose condition is, as in a
    line search for a stack of restarts: `vmap` then maps over all that the branches take. Arrays in a jitted function
    stay in its program.

    Example:
        >>> @jaxgmm.numerics.stacks.stackable
        ... def shifted(x):
        ...     return x + np.arange(3.0)
        >>> @shifted.def_vmap
        ... def rule(size, batched, x):
        ...     return shifted(x), True
        >>> halved = jax.vmap(lambda x: jax.lax.cond(x[0] > 0, shifted, lambda x: x / 2, x))
        >>> halved(jnp.array([[2.0, 2.0, 2.0], [-2.0, 2.0, 2.0]])).tolist()
        [[2.0, 3.0, 4.0], [-1.0, 1.0, 1.0]]
    """
    return jax.custom_batching.custom_vmap(jax.jit(function))


def in_turn(function: Callable[[Array], Array], cost: int = 1) -> Callable[[Array], Array]:
    """The function of a stack of matrices (..., n, n), evaluated a few matrices at a time on a CPU.

    Axes that `vmap` maps over count as part of the stack. There is no derivative in reverse mode.

    Args:
        function: from (..., n, n) to (..., ·), by LAPACK, each matrix by itself.
        cost: work for a matrix, in n³ products.
    """

    @stackable
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
