"""Charts: coordinates about covariances in which the information of the complete data is the identity."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm.model.covariances.protocol import Covariances
from jaxgmm.model.families.protocol import Family
from jaxgmm.numerics.factors import cholesky, inverse_lower
from jaxgmm.numerics.linalg import product
from jaxgmm.numerics.trees import register_dataclass


class FactorChart(NamedTuple):
    """Covariances that are free of one another: each moves along the coordinates of its factor.

    Attributes:
        covs: where the coordinates are 0.
        lengths: of a step along each coordinate, (n, C).
        held: which coordinates can move, (P,), P = n·C.
    """

    covs: Covariances
    lengths: Array
    held: Array

    def at(self, steps: Array) -> Covariances:
        """The covariances at coordinates (P,)."""
        return self.covs.displaced(steps.reshape(self.lengths.shape) * self.lengths)

    def slopes(self, whitened: Array, responsibilities: Array) -> Array:
        """Derivatives of the log-densities along the coordinates, weighted by r, (P, ·)."""
        slopes = self.covs.slopes(whitened) * responsibilities[:, None, :]
        if self.covs.count < slopes.shape[0]:
            slopes = jnp.sum(slopes, axis=0, keepdims=True)
        return (slopes * self.lengths[:, :, None]).reshape(-1, slopes.shape[-1])


def factor_chart(covs: Covariances, mass: Array) -> FactorChart:
    """The chart of covariances that are free of one another, of masses (n,).

    In the coordinates of `displaced` −∂²Q is diagonal, N_j times the curvatures of the divergence.
    """
    used = mass > 0
    curvatures = jnp.asarray(covs.curvatures(), mass.dtype)
    information = mass[:, None] * curvatures[None, :]
    lengths = jnp.where(used[:, None], 1 / jnp.sqrt(jnp.where(used[:, None], information, 1.0)), 0.0)
    return FactorChart(covs, lengths, jnp.repeat(used, lengths.shape[1]))


@register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class PackedChart:
    """Covariances of any family, along the family's own coordinates, turned so that −∂²Q is the identity.

    Attributes:
        covs: where the coordinates are 0.
        packed: the family's coordinates there, (m, C).
        turn: from steps to the family's coordinates, (P, P), P = m·C.
        tangents: derivatives of the coordinates of `covs.displaced` along the steps, (n, ·, P).
        held: which coordinates can move, (P,).
        family: the family.
    """

    covs: Covariances
    packed: Array
    turn: Array
    tangents: Array
    held: Array
    family: Family = dataclasses.field(metadata={"static": True})

    def at(self, steps: Array) -> Covariances:
        """The covariances at coordinates (P,)."""
        return _unpacked(self.family, self.covs, self.packed, product("pq,q->p", self.turn, steps))

    def slopes(self, whitened: Array, responsibilities: Array) -> Array:
        """Derivatives of the log-densities along the coordinates, weighted by r, (P, ·)."""
        slopes = self.covs.slopes(whitened) * responsibilities[:, None, :]
        if self.covs.count < slopes.shape[0]:
            slopes = jnp.sum(slopes, axis=0, keepdims=True)
        return product("ncp,nci->pi", self.tangents, slopes)


def packed_chart(family: Family, covs: Covariances, mass: Array, scatter: Array) -> PackedChart:
    """The chart of a family along its own coordinates, for masses (n,) and scatter (n, ...).

    With H = −∂²Q = L Lᵀ in the coordinates of `Family.pack`, steps are turned by L⁻ᵀ.
    """
    packed = family.pack(covs)
    still = jnp.zeros((packed.size,), packed.dtype)

    def loss(direction: Array) -> Array:
        moved = _unpacked(family, covs, packed, direction)
        return 0.5 * jnp.sum(jnp.where(mass > 0, mass * moved.log_det() + moved.trace_solve(scatter), 0.0))

    information = jax.hessian(loss)(still)
    held = jnp.diagonal(information) > 0
    both = held[:, None] & held[None, :]
    information = jnp.where(both, information, jnp.eye(packed.size, dtype=packed.dtype))
    turn = jnp.where(both, inverse_lower(cholesky(information[None]))[0].T, 0.0)

    def along(steps: Array) -> Array:
        return covs.steps_to(_unpacked(family, covs, packed, product("pq,q->p", turn, steps)))

    return PackedChart(covs, packed, turn, jax.jacfwd(along)(still), held, family)


def _unpacked(family: Family, covs: Covariances, packed: Array, direction: Array) -> Covariances:
    return family.unpack(packed + direction.reshape(packed.shape), covs.count, covs.n_features)
