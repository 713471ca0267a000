"""Rows and mixtures moved to a common centre, where rounding errors are smallest."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax import Array, lax

from jaxgmm.model.mixture import Mixture


def centre_of(mixture: Mixture) -> Array:
    """The mean of the whole mixture, (D,), on which a pass is centred; a constant in derivatives."""
    present = jnp.isfinite(mixture.log_weights)[:, None]
    centre = jnp.sum(jnp.where(present, jnp.exp(mixture.log_weights)[:, None] * mixture.means, 0.0), axis=0)
    return lax.stop_gradient(centre)


def about(mixture: Mixture, centre: Array) -> Mixture:
    """The mixture of x − centre, where the given one is that of x."""
    return dataclasses.replace(mixture, means=mixture.means - centre[None, :])


def centred(x: Array, weights: Array, centre: Array) -> Array:
    """Rows less a centre, as columns (D, C); 0 for a row of weight 0."""
    return jnp.where((weights != 0)[None, :], x.T - centre[:, None], 0.0)


def in_place(x: Array, weights: Array, centre: Array) -> tuple[Array, Array]:
    """Rows less a centre, as columns (D, C), and their weights, for passes that are differentiated in the weights.

    The derivative in a weight of 0 needs the row's true place. Where `is_lost` says that it has none, the row is moved
    to the centre, and its weight becomes a constant 0.
    """
    columns = x.T - centre[:, None]
    lost = is_lost(columns, weights)
    return jnp.where(lost[None, :], 0.0, columns), jnp.where(lost, 0.0, weights)


def is_lost(columns: Array, weights: Array) -> Array:
    """Whether a row, a column of (D, C), has weight 0 and a square that is not finite, (C,): it has no derivative."""
    return (weights == 0) & ~jnp.isfinite(jnp.sum(columns**2, axis=0))
