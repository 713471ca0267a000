"""Rows that are so far from a component that the squared distance overflows."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax

from jaxgmm.numerics.linalg import varying_as


def too_far(
    whiten: Callable[[Array], Array], columns: Array, limit: float, constant: Array, candidates: Array
) -> tuple[Array, Array]:
    """Rows too far from all components for a squared distance, and single pairs too far apart, among candidate rows.

    The search is a loop of one iteration or none, so that under `vmap` too nothing is whitened where no row is a
    candidate.

    Args:
        whiten: gives the residuals, (K, D, C), of columns (D, C).
        columns: rows as columns, (D, C).
        limit: standard deviations up to which a residual can be squared.
        constant: log-joints of the components at their means, (K,); −∞ for a component of weight 0.
        candidates: whether a row may be too far, by an upper bound, (C,).

    Returns:
        Whether a row is too far from every component of positive weight, (C,), and, for rows that are near at least one
        of them, the components that they are too far from, (K, C).
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
