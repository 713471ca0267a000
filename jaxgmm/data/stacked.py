"""Passes that take many mixtures at once: what `vmap` makes of one is a larger stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments
from jaxgmm.numerics.stacks import stackable


def stacked_pass(
    together: Callable[..., tuple[Moments, Array]],
    apart: Callable[[Mixture, Array, Array], tuple[Moments, Array]],
    common: Callable[[Any], Any] | None = None,
) -> Any:
    """A pass over rows for a stack of R mixtures, which `vmap` makes larger.

    It takes the stack, rows (N, D), weights (1, N), or (R, N) where each mixture has its own, and what has been
    measured of the rows.

    Args:
        together: the pass of many mixtures over rows that they share, with these arguments.
        apart: the pass of a stack over rows of its own, with the first three.
        common: what serves all, of what each stack has measured; None where each then goes apart.
    """
    pass_over = stackable(together)

    @pass_over.def_vmap
    def rule(size: int, batched: Any, stack: Mixture, x: Array, weights: Array, measured: Any) -> Any:
        own = any(jax.tree.leaves(batched[3]))
        if batched[1] or (own and common is None):
            # Nothing is shared between the passes.
            axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(batched[:3]))
            results = jax.vmap(apart, axes)(stack, x, weights)
            return results, jax.tree.map(lambda _: True, results)

        def spread(leaf: Array, is_batched: bool) -> Array:
            return leaf if is_batched else jnp.broadcast_to(leaf[None], (size, *leaf.shape))

        stack = jax.tree.map(spread, stack, batched[0])
        n_stacked = stack.means.shape[1]
        stack = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), stack)
        if own and common is not None:
            measured = common(jax.tree.map(spread, measured, batched[3]))
        if batched[2]:
            weights = jnp.broadcast_to(weights, (size, n_stacked, weights.shape[-1])).reshape(-1, weights.shape[-1])
        elif weights.shape[0] > 1:
            weights = jnp.tile(weights, (size, 1))
        results = pass_over(stack, x, weights, measured)
        results = jax.tree.map(lambda leaf: leaf.reshape(size, n_stacked, *leaf.shape[1:]), results)
        return results, jax.tree.map(lambda _: True, results)

    return pass_over
