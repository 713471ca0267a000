"""Full covariance matrices, held as Cholesky factors.

Σ = L Lᵀ. A leading axis of 1 is a covariance that all components share.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.model.covariances.protocol import Covariances
from jaxgmm.numerics.factors import cholesky, inverse_lower, overflows_when_inverted
from jaxgmm.numerics.linalg import excess, product
from jaxgmm.numerics.trees import register_dataclass


@register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Dense:
    """Full covariance matrices.

    Attributes:
        cholesky: lower triangular factors, (K, D, D), or (1, D, D) where shared.
    """

    cholesky: Array
    mixes: ClassVar[bool] = True

    @property
    def count(self) -> int:
        """Number of distinct covariances held."""
        return self.cholesky.shape[-3]

    @property
    def n_features(self) -> int:
        """Number of columns D."""
        return self.cholesky.shape[-1]

    def solve(self, vectors: Array) -> Array:
        """L_k⁻¹ v_k for vectors (K, D)."""
        return jnp.sum(inverse_lower(self.cholesky) * vectors[:, None, :], axis=-1)

    def colour(self, vectors: Array) -> Array:
        """L_k v_k for vectors (K, D)."""
        return jnp.sum(self.cholesky * vectors[:, None, :], axis=-1)

    def colour_scatter(self, scatter: Array) -> Array:
        """L_k A_k L_kᵀ for A (K, D, D)."""
        factors = jnp.broadcast_to(self.cholesky, scatter.shape)
        return product("kij,kjl,kml->kim", factors, scatter, factors)

    def inverse(self) -> Array:
        """L⁻¹, (K, D, D) or (1, D, D), entries beyond the dtype as its largest number: what `whiten` takes."""
        inverse, largest = inverse_lower(self.cholesky), float(jnp.finfo(self.cholesky.dtype).max)
        overflows = overflows_when_inverted(self.cholesky, inverse)
        return jnp.where(overflows & ~(jnp.abs(inverse) < largest), largest, inverse)

    @staticmethod
    def whiten(inverse: Array, means: Array, columns: Array) -> Array:
        """L_k⁻¹ (x − μ_k) for columns x (D, C): (K, D, C)."""
        n_features = means.shape[-1]
        stacked = product("ij,jc->ic", inverse.reshape(-1, n_features), columns)
        whitened = stacked.reshape(inverse.shape[0], n_features, columns.shape[-1])
        offsets = jnp.sum(inverse * means[:, None, :], axis=-1)
        return whitened - offsets[:, :, None]

    def log_det(self) -> Array:
        """log|Σ|, (K,) or (1,)."""
        return 2 * jnp.sum(jnp.log(jnp.diagonal(self.cholesky, axis1=-2, axis2=-1)), axis=-1)

    def deviations(self) -> Array:
        """Standard deviations of the columns, (K, D) or (1, D); of NumPy factors in NumPy."""
        return (self.cholesky**2).sum(axis=-1) ** 0.5

    def dense(self) -> Array:
        """Σ, (K, D, D) or (1, D, D)."""
        return product("...ij,...kj->...ik", self.cholesky, self.cholesky)

    def precision(self) -> Array:
        """Σ⁻¹, (K, D, D) or (1, D, D)."""
        inverse = inverse_lower(self.cholesky)
        return product("...ji,...jk->...ik", inverse, inverse)

    def rescale(self, factors: Array) -> Dense:
        """Covariances after column j is multiplied by factors[j] > 0, (D,)."""
        return Dense(self.cholesky * factors[None, :, None])

    def reordered(self, order: Array) -> Dense:
        """Component order[k] in place k; the one that all share stays."""
        return self if self.count == 1 else Dense(self.cholesky[..., order, :, :])

    def trace_solve(self, scatter: Array) -> Array:
        """tr(Σ_k⁻¹ S_k), (K,) or (1,), for S dense (·, D, D) or diagonal (·, D)."""
        inverse = inverse_lower(self.cholesky)
        if scatter.ndim == 2:
            return jnp.sum(inverse**2 * scatter[:, None, :], axis=(-2, -1))
        shape = jnp.broadcast_shapes(inverse.shape, scatter.shape)
        inverse, scatter = jnp.broadcast_to(inverse, shape), jnp.broadcast_to(scatter, shape)
        return jnp.sum(product("kij,kjl->kil", inverse, scatter) * inverse, axis=(-2, -1))

    def whitened_variances(self, deviations: Array) -> Array:
        """Variances of L⁻¹v for v of independent coordinates of standard deviations d: Σ_j (L⁻¹)_ij² d_j², (K, D)."""
        return jnp.sum((inverse_lower(self.cholesky) * deviations[:, None, :]) ** 2, axis=-1)

    def divergence(self, other: Dense, rounding: float = 0.0) -> Array:
        """Kullback–Leibler divergence from N(0, other) to N(0, self), (K,) or (1,).

        With T = L_other⁻¹ L: Σ_{i>j} ½T_ij² + Σ_i ½(T_ii² − 1 − 2 log T_ii), free of cancellation. Left out of each
        term is what errors of Σ make of it, Σ_ij being off by the `rounding`, relative to the deviations of i and j.
        """
        ratio = product("kij,kjl->kil", inverse_lower(other.cholesky), self.cholesky)
        below, on = 0.5 * jnp.tril(ratio, -1) ** 2, excess(jnp.diagonal(ratio, axis1=-2, axis2=-1))
        if rounding:
            error = rounding * other.whitened_variances(other.deviations())
            below = jnp.maximum(below - 0.5 * error[:, :, None] * error[:, None, :], 0.0)
            on = jnp.maximum(on - 0.25 * error**2, 0.0)
        return jnp.sum(below, axis=(-2, -1)) + jnp.sum(on, axis=-1)

    def curvatures(self) -> np.ndarray:
        """Second derivatives of `divergence` along each coordinate of `displaced`, none of them mixed, (C,)."""
        n_below = self.n_features * (self.n_features - 1) // 2
        return np.concatenate([np.full(self.n_features, 2.0), np.ones(n_below)])

    def displaced(self, steps: Array) -> Dense:
        """L (exp(diagonal) + below), for steps (n, C): D logs of a diagonal, then the rows below it."""
        n_features = self.n_features
        below, on = np.tril_indices(n_features, -1), np.arange(n_features)
        factor = jnp.zeros_like(self.cholesky).at[:, on, on].set(jnp.exp(steps[:, :n_features]))
        factor = factor.at[:, below[0], below[1]].set(steps[:, n_features:])
        return Dense(product("kij,kjl->kil", self.cholesky, factor))

    def steps_to(self, other: Dense) -> Array:
        """With T = L⁻¹ L_other: the logs of T's diagonal, then the rows below it, (n, C)."""
        ratio = product("kij,kjl->kil", inverse_lower(self.cholesky), other.cholesky)
        below = np.tril_indices(self.n_features, -1)
        diagonal = jnp.diagonal(ratio, axis1=-2, axis2=-1)
        return jnp.concatenate([jnp.log(diagonal), ratio[:, below[0], below[1]]], axis=-1)

    @staticmethod
    def slopes(whitened: Array) -> Array:
        """Derivatives of log N(x; μ_k, Σ_k) along `displaced`, (K, C, ·), from y (K, D, ·): y_i² − 1, then y_i y_j."""
        below = np.tril_indices(whitened.shape[1], -1)
        return jnp.concatenate([whitened**2 - 1, whitened[:, below[0]] * whitened[:, below[1]]], axis=1)


@functools.singledispatch
def as_dense(covs: Covariances) -> Dense:
    """The same covariances as Cholesky factors, of any representation: where nothing better is known, all work so."""
    return Dense(cholesky(covs.dense()))


@as_dense.register
def _(covs: Dense) -> Dense:
    return covs
