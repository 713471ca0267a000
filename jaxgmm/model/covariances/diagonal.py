"""Diagonal covariance matrices, held as standard deviations.

A leading axis of 1 is a covariance that all components share; a trailing axis of 1 is a scale that all columns share.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.model.covariances.dense import Dense, as_dense
from jaxgmm.numerics.linalg import excess, reciprocal
from jaxgmm.numerics.trees import register_dataclass


@register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Diagonal:
    """Diagonal covariance matrices.

    Attributes:
        scale: standard deviations, (K, D), or with an axis of 1 where components or columns share one.
        n_columns: D where all columns share one scale, else None; static.
    """

    scale: Array
    n_columns: int | None = dataclasses.field(default=None, metadata={"static": True})
    mixes: ClassVar[bool] = False

    @property
    def count(self) -> int:
        """Number of distinct covariances held."""
        return self.scale.shape[-2]

    @property
    def n_features(self) -> int:
        """Number of columns D."""
        return self.n_columns or self.scale.shape[-1]

    @property
    def shared(self) -> int:
        """Number of columns that share a scale: D, or 1."""
        return self.n_features // self.scale.shape[-1]

    def solve(self, vectors: Array) -> Array:
        """L_k⁻¹ v_k for vectors (K, D)."""
        return vectors / self.scale

    def colour(self, vectors: Array) -> Array:
        """L_k v_k for vectors (K, D)."""
        return vectors * self.scale

    def colour_scatter(self, scatter: Array) -> Array:
        """L_k A_k L_kᵀ for A dense (K, D, D) or diagonal (K, D)."""
        if scatter.ndim == 2:
            return scatter * self.scale**2
        return scatter * self.scale[:, :, None] * self.scale[:, None, :]

    def inverse(self) -> Array:
        """L⁻¹, the reciprocal scales: what `whiten` takes."""
        return reciprocal(self.scale)

    @staticmethod
    def whiten(inverse: Array, means: Array, columns: Array) -> Array:
        """L_k⁻¹ (x − μ_k) for columns x (D, C): (K, D, C)."""
        return (columns[None, :, :] - means[:, :, None]) * inverse[:, :, None]

    def log_det(self) -> Array:
        """log|Σ|, (K,) or (1,)."""
        return 2 * self.shared * jnp.sum(jnp.log(self.scale), axis=-1)

    def deviations(self) -> Array:
        """Standard deviations of the columns, as held."""
        return self.scale

    def dense(self) -> Array:
        """Σ, (K, D, D) or (1, D, D)."""
        return self.diagonal(self.scale**2)

    def precision(self) -> Array:
        """Σ⁻¹, (K, D, D) or (1, D, D)."""
        return self.diagonal(self.scale**-2)

    def rescale(self, factors: Array) -> Diagonal:
        """Covariances after column j is multiplied by factors[j] > 0, (D,); all equal where D share one."""
        return Diagonal(self.scale * factors[None, : self.scale.shape[-1]], self.n_columns)

    def reordered(self, order: Array) -> Diagonal:
        """Component order[k] in place k; one that all share stays."""
        return self if self.count == 1 else Diagonal(self.scale[..., order, :], self.n_columns)

    def trace_solve(self, scatter: Array) -> Array:
        """tr(Σ_k⁻¹ S_k), (K,) or (1,), for S dense (·, D, D), diagonal (·, D) or scalar (K,)."""
        if scatter.ndim == 3:
            scatter = jnp.diagonal(scatter, axis1=-2, axis2=-1)
        if scatter.ndim == 1:
            scatter = scatter[:, None]
        # Written as a quotient, its derivative has scale⁻⁴ in it, which leaves the range of float32 at 1e±10.
        inverse = self.inverse()
        return jnp.sum(scatter * inverse * inverse, axis=-1)

    def whitened_variances(self, deviations: Array) -> Array:
        """Variances of L⁻¹v for v of independent coordinates of standard deviations d, (K, D)."""
        return (deviations / self.scale) ** 2

    def divergence(self, other: Diagonal, rounding: float = 0.0) -> Array:
        """Kullback–Leibler divergence from N(0, other) to N(0, self), (K,) or (1,), less what rounding makes of it."""
        terms = excess(self.scale / other.scale)
        return self.shared * jnp.sum(jnp.maximum(terms - 0.25 * rounding**2, 0.0) if rounding else terms, axis=-1)

    def curvatures(self) -> np.ndarray:
        """Second derivatives of `divergence` along each coordinate of `displaced`, none of them mixed, (C,)."""
        return np.full(self.scale.shape[-1], 2.0 * self.shared)

    def displaced(self, steps: Array) -> Diagonal:
        """Scales times exp(steps), for steps (n, C)."""
        return Diagonal(self.scale * jnp.exp(steps), self.n_columns)

    def steps_to(self, other: Diagonal) -> Array:
        """Logs of the scales' ratios, (n, C)."""
        return jnp.log(other.scale / self.scale)

    def slopes(self, whitened: Array) -> Array:
        """Derivatives of log N(x; μ_k, Σ_k) along `displaced`, (K, C, ·), from y (K, D, ·): y² − 1."""
        excesses = whitened**2 - 1
        return excesses if self.shared == 1 else jnp.sum(excesses, axis=1, keepdims=True)

    def diagonal(self, values: Array) -> Array:
        """Diagonal matrices (..., D, D) of values (..., D) or (..., 1)."""
        eye = jnp.eye(self.n_features, dtype=values.dtype)
        return values[..., :, None] * eye.reshape(*[1] * (values.ndim - 1), *eye.shape)


@as_dense.register
def _(covs: Diagonal) -> Dense:
    return Dense(covs.diagonal(covs.scale))
