"""Which rows are too far from which components to be squared."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax

from jaxgmm.numerics.linalg import varying_as


def too_far(
    whiten: Callable[[Array], Array], columns: Array, limit: float, constant: Array, candidates: Array
) -> tuple[Array, Array]:
    """Which of the candidates are too far from all components that are there, and from which the others are.

    A loop of one turn or none: under `vmap` too nothing is whitened where there is no candidate.

    Args:
        whiten: residuals (K, D, C) of columns (D, C).
        columns: rows as columns, (D, C).
        limit: deviations that can be squared.
        constant: log-joints of the components at their means, (K,); −∞ for one that is not there.
        candidates: rows that may be too far, by a bound, (C,).

    Returns:
        Rows that are too far from all, (C,), and components that a row near another is too far from, (K, C).
    """
    there = (constant != -jnp.inf)[:, None]

    def look(held: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        still, candidates, _ = held
        beyond = ~jnp.all(jnp.abs(whiten(columns)) <= limit, axis=1)
        near = jnp.any(there & ~beyond, axis=0)
        return still & ~still, candidates & ~near, beyond & (candidates & near)[None, :]

    anchor = jnp.sum(constant) + columns[0, 0]
    none = varying_as(jnp.zeros((constant.shape[0], columns.shape[1]), bool), anchor)
    _, alone, lost = lax.while_loop(lambda held: held[0], look, (jnp.any(candidates), candidates, none))
    return alone, lost
