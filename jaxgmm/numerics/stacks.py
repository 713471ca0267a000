"""Functions that say themselves what `vmap` makes of them."""

from __future__ import annotations

from collections.abc import Callable

import jax


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
