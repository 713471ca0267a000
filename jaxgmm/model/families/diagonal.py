"""Families of diagonal matrices: a variance for each column, or one for all columns."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.model.covariances.diagonal import Diagonal
from jaxgmm.model.covariances.protocol import Covariances
from jaxgmm.model.moments import DIAGONAL, SCALAR, Statistic
from jaxgmm.model.priors.penalty import Penalty


@dataclasses.dataclass(frozen=True)
class DiagonalFamily:
    """Σ_k = diag(σ²_k1, …, σ²_kD), or Σ_k = σ²_k I where the statistic is scalar."""

    name: str
    statistic: Statistic
    scales_columns: bool

    def update(self, mass: Array, scatter: Array, penalty: Penalty, n_features: int) -> Diagonal:
        """σ²_kj = (S_kj + Q_j) / (N_k + λ); one variance: (S_k + tr Q) / (D (N_k + λ))."""
        divisor = mass + penalty.mass
        divisor = jnp.where(divisor > 0, divisor, 1.0)[:, None]
        resolution = penalty.columns.resolution()[None, :]
        if self.statistic == SCALAR:
            variance = (scatter[:, None] + jnp.sum(penalty.scatter)) / (n_features * divisor)
            resolution = jnp.max(resolution, axis=-1, keepdims=True)
        else:
            variance = (scatter + penalty.scatter[None, :]) / divisor
        return Diagonal(jnp.sqrt(jnp.maximum(variance, resolution)))

    def pack(self, covs: Covariances) -> Array:
        """Log standard deviations, (K, D) or (K, 1)."""
        assert isinstance(covs, Diagonal)
        return jnp.log(covs.scale)

    def unpack(self, coordinates: Array, n_features: int) -> Diagonal:
        """The inverse of `pack`."""
        return Diagonal(jnp.exp(coordinates))

    def log_det_jacobian(self, coordinates: Array, n_features: int) -> Array:
        """log|∂σ²/∂log σ| = Σ log 2σ², ()."""
        return jnp.sum(2 * coordinates + float(np.log(2)))

    def n_parameters(self, n_components: int, n_features: int) -> int:
        """Free covariance entries: K·D, or K where the columns share one."""
        return n_components * (1 if self.statistic == SCALAR else n_features)

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        """Shape of covariances as scikit-learn holds them."""
        return (n_components,) if self.statistic == SCALAR else (n_components, n_features)

    def factors_shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        """Shape of the scales that `Diagonal` holds: (K, D), or (K, 1) where the columns share one."""
        return (n_components, 1 if self.statistic == SCALAR else n_features)

    def from_array(self, covariances: Array) -> Diagonal:
        """From variances as scikit-learn holds them; NaN where not positive and finite."""
        return Diagonal(jnp.sqrt(self._positive(covariances)))

    def from_scale_tril(self, factors: Array) -> Diagonal:
        """From standard deviations, in the shape of variances; NaN where not positive and finite."""
        return Diagonal(self._positive(factors))

    def from_precisions(self, precisions: Array) -> Diagonal:
        """From 1/σ², in the shape of variances; NaN where not positive and finite."""
        return Diagonal(1 / jnp.sqrt(self._positive(precisions)))

    def _positive(self, values: Array) -> Array:
        values = values[:, None] if self.statistic == SCALAR else values
        return jnp.where((values > 0) & (values < jnp.inf), values, jnp.nan)


DIAG = DiagonalFamily("diag", DIAGONAL, scales_columns=True)
SPHERICAL = DiagonalFamily("spherical", SCALAR, scales_columns=False)
