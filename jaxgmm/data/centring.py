"""Rows and mixtures about one centre, where rounding is least."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax import Array, lax

from jaxgmm.model.mixture import Mixture


def centre_of(mixture: Mixture) -> Array:
    """The mixture's own mean, (D,), to centre a pass on."""
    present = jnp.isfinite(mixture.log_weights)[:, None]
    centre = jnp.sum(jnp.where(present, jnp.exp(mixture.log_weights)[:, None] * mixture.means, 0.0), axis=0)
    return lax.stop_gradient(centre)


def about(mixture: Mixture, centre: Array) -> Mixture:
    """The mixture of x − centre."""
    return dataclasses.replace(mixture, means=mixture.means - centre[None, :])


def centred(x: Array, weights: Array, centre: Array) -> Array:
    """Rows as columns about a centre, (D, C); rows without weight lie on it."""
    return jnp.where((weights != 0)[None, :], x.T - centre[:, None], 0.0)


def in_place(x: Array, weights: Array, centre: Array) -> tuple[Array, Array]:
    """Rows as columns about a centre, (D, C), and their weights, for what may be differentiated in the weights.

    The derivative asks for a row without weight where it is. A lost one lies on the centre, and its weight
    is a constant 0.
    """
    columns = x.T - centre[:, None]
    lost = is_lost(columns, weights)
    return jnp.where(lost[None, :], 0.0, columns), jnp.where(lost, 0.0, weights)


def is_lost(columns: Array, weights: Array) -> Array:
    """Which rows, as columns (D, C), have neither weight nor a finite square, (C,): of them nothing can be asked."""
    return (weights == 0) & ~jnp.isfinite(jnp.sum(columns**2, axis=0))
