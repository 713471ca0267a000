"""Families of full matrices: one for each component, or one that all share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxgmm.model.covariances.dense import Dense, as_dense
from jaxgmm.model.covariances.protocol import Covariances
from jaxgmm.model.families.charts import FactorChart, factor_chart
from jaxgmm.model.moments import DENSE, POOLED, Statistic
from jaxgmm.numerics.factors import asymmetric, cholesky, inverse_lower, safe_cholesky


@dataclasses.dataclass(frozen=True)
class DenseFamily:
    """Σ_k unrestricted, or Σ_k = Σ where the statistic is pooled."""

    name: str
    statistic: Statistic
    scales_columns: bool = True
    closed: bool = True

    @property
    def shared(self) -> bool:
        """Whether all components share one covariance."""
        return self.statistic == POOLED

    def n_distinct(self, n_components: int) -> int:
        """K, or 1 where shared."""
        return 1 if self.shared else n_components

    def update(self, mass: Array, scatter: Array, floor: Array, previous: Covariances | None) -> Dense:
        """Σ_j = S_j / N_j."""
        divisor = jnp.where(mass > 0, mass, 1.0)[:, None, None]
        return Dense(safe_cholesky(scatter / divisor, floor))

    def gain(self, old: Covariances, new: Covariances, mass: Array, scatter: Array, rounding: float = 0.0) -> Array:
        """Σ_j N_j KL(N(0, new) ‖ N(0, old))."""
        return jnp.sum(mass * new.divergence(old, rounding))

    def chart(self, covs: Covariances, mass: Array, scatter: Callable[[], Array]) -> FactorChart:
        """The factors' own coordinates."""
        return factor_chart(covs, mass)

    def pack(self, covs: Covariances) -> Array:
        """Log-Cholesky coordinates, (n, D(D+1)/2): log-diagonal, then the rows below it."""
        factors = as_dense(covs).cholesky
        below = np.tril_indices(factors.shape[-1], -1)
        log_diagonal = jnp.log(jnp.diagonal(factors, axis1=-2, axis2=-1))
        return jnp.concatenate([log_diagonal, factors[:, below[0], below[1]]], axis=-1)

    def unpack(self, coordinates: Array, n_distinct: int, n_features: int) -> Dense:
        """The inverse of `pack`."""
        below, on = np.tril_indices(n_features, -1), np.arange(n_features)
        factors = jnp.zeros((coordinates.shape[0], n_features, n_features), coordinates.dtype)
        factors = factors.at[:, on, on].set(jnp.exp(coordinates[:, :n_features]))
        return Dense(factors.at[:, below[0], below[1]].set(coordinates[:, n_features:]))

    def log_det_jacobian(self, coordinates: Array, n_distinct: int, n_features: int) -> Array:
        """log|∂(vech Σ)/∂coordinates|, (): Σ_j [D log 2 + Σ_i (D − i + 2) log L_ii], i from 1."""
        power = jnp.arange(n_features + 1, 1, -1, dtype=coordinates.dtype)
        per_covariance = coordinates[:, :n_features] * power[None, :] + float(np.log(2))
        return jnp.sum(per_covariance)

    def n_parameters(self, n_components: int, n_features: int) -> int:
        """Free covariance entries: D(D+1)/2 for each distinct covariance."""
        return (1 if self.shared else n_components) * n_features * (n_features + 1) // 2

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        """Shape of covariances as scikit-learn holds them."""
        matrix = (n_features, n_features)
        return matrix if self.shared else (n_components, *matrix)

    def factors_shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        """Shape of the factors that `Dense` holds: (K, D, D), or (1, D, D) where shared."""
        return (1 if self.shared else n_components, n_features, n_features)

    def from_array(self, covariances: Array, n_features: int) -> Dense:
        """From covariances as scikit-learn holds them; NaN where not symmetric or not positive definite."""
        return Dense(cholesky(self._symmetric(covariances)))

    def from_scale_tril(self, factors: Array, n_features: int) -> Dense:
        """From lower triangular L with Σ = L Lᵀ, in the shape of covariances; NaN for any other matrix."""
        matrices = factors[None] if self.shared else factors
        diagonal = jnp.diagonal(matrices, axis1=-2, axis2=-1)
        lower = jnp.all(jnp.triu(matrices, 1) == 0, axis=(-2, -1)) & jnp.all(diagonal > 0, axis=-1)
        sound = lower & jnp.all(jnp.isfinite(matrices), axis=(-2, -1))
        return Dense(jnp.where(sound[:, None, None], jnp.tril(matrices), jnp.nan))

    def from_precisions(self, precisions: Array, n_features: int) -> Dense:
        """From Σ⁻¹, in the shape of covariances; NaN where not symmetric or not positive definite.

        With rows and columns in reverse, the lower factor of Σ⁻¹ is an upper U with Σ⁻¹ = U Uᵀ, and L = U⁻ᵀ: no
        covariance is formed, and nothing is factored twice.
        """
        reverse = cholesky(self._symmetric(precisions)[:, ::-1, ::-1])
        return Dense(inverse_lower(jnp.swapaxes(reverse[:, ::-1, ::-1], -2, -1)))

    def _symmetric(self, matrices: Array) -> Array:
        """Matrices (n, D, D) without what rounding leaves of asymmetry; NaN where there is more of it."""
        matrices = matrices[None] if self.shared else matrices
        other = jnp.swapaxes(matrices, -2, -1)
        apart = lax.stop_gradient(jnp.any(asymmetric(matrices, float(jnp.finfo(matrices.dtype).eps)), axis=(-2, -1)))
        return jnp.where(apart[:, None, None], jnp.nan, (matrices + other) / 2)


FULL = DenseFamily("full", DENSE)
TIED = DenseFamily("tied", POOLED)
