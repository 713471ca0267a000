"""Families of diagonal matrices: a variance for each column, or one for all columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.model.covariances.diagonal import Diagonal
from jaxgmm.model.covariances.protocol import Covariances
from jaxgmm.model.families.charts import FactorChart, factor_chart
from jaxgmm.model.moments import DIAGONAL, SCALAR, Statistic


@dataclasses.dataclass(frozen=True)
class DiagonalFamily:
    """Σ_k = diag(σ²_k1, …, σ²_kD), or Σ_k = σ²_k I where the statistic is scalar."""

    name: str
    statistic: Statistic
    scales_columns: bool
    closed: bool = True

    def n_distinct(self, n_components: int) -> int:
        """K."""
        return n_components

    def update(self, mass: Array, scatter: Array, floor: Array, previous: Covariances | None) -> Diagonal:
        """σ²_kj = S_kj / N_k; one variance: S_k / (D N_k)."""
        divisor, n_features = jnp.where(mass > 0, mass, 1.0)[:, None], floor.shape[0]
        if self.statistic == SCALAR:
            variance = scatter[:, None] / (n_features * divisor)
            return self._covariances(jnp.sqrt(jnp.maximum(variance, jnp.max(floor))), n_features)
        return self._covariances(jnp.sqrt(jnp.maximum(scatter / divisor, floor[None, :])), n_features)

    def gain(self, old: Covariances, new: Covariances, mass: Array, scatter: Array, rounding: float = 0.0) -> Array:
        """Σ_k N_k KL(N(0, new) ‖ N(0, old))."""
        return jnp.sum(mass * new.divergence(old, rounding))

    def chart(self, covs: Covariances, mass: Array, scatter: Callable[[], Array]) -> FactorChart:
        """The scales' own coordinates."""
        return factor_chart(covs, mass)

    def pack(self, covs: Covariances) -> Array:
        """Log standard deviations, (K, D) or (K, 1)."""
        return jnp.log(covs.deviations())

    def unpack(self, coordinates: Array, n_distinct: int, n_features: int) -> Diagonal:
        """The inverse of `pack`."""
        return self._covariances(jnp.exp(coordinates), n_features)

    def log_det_jacobian(self, coordinates: Array, n_distinct: int, n_features: int) -> Array:
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

    def from_array(self, covariances: Array, n_features: int) -> Diagonal:
        """From variances as scikit-learn holds them; NaN where not positive and finite."""
        return self._covariances(jnp.sqrt(self._positive(covariances)), n_features)

    def from_scale_tril(self, factors: Array, n_features: int) -> Diagonal:
        """From standard deviations, in the shape of variances; NaN where not positive and finite."""
        return self._covariances(self._positive(factors), n_features)

    def from_precisions(self, precisions: Array, n_features: int) -> Diagonal:
        """From 1/σ², in the shape of variances; NaN where not positive and finite."""
        return self._covariances(1 / jnp.sqrt(self._positive(precisions)), n_features)

    def _covariances(self, scale: Array, n_features: int) -> Diagonal:
        return Diagonal(scale, n_features if self.statistic == SCALAR else None)

    def _positive(self, values: Array) -> Array:
        values = values[:, None] if self.statistic == SCALAR else values
        return jnp.where((values > 0) & (values < jnp.inf), values, jnp.nan)


DIAG = DiagonalFamily("diag", DIAGONAL, scales_columns=True)
SPHERICAL = DiagonalFamily("spherical", SCALAR, scales_columns=False)
