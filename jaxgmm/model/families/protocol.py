"""The protocol of families: a constraint on the covariances."""

from __future__ import annotations

from typing import Any, Protocol

from jax import Array


class Family(Protocol):
    """A constraint on the covariances, and everything that depends on it."""

    @property
    def name(self) -> str:
        """The name that `covariance_type` takes."""
        ...

    @property
    def statistic(self) -> Any:
        """The part of the scatter that `update` needs: dense, pooled, diagonal or its trace."""
        ...

    @property
    def scales_columns(self) -> bool:
        """Whether a column may be scaled alone, so that the family still holds."""
        ...

    def update(self, mass: Array, scatter: Array, penalty: Any, n_features: int) -> Any:
        """The covariances that maximise Q plus log-prior for given masses (K,) and scatter in the family's statistic.

        Of components without mass they are the prior's, or arbitrary where there is none.
        """
        ...

    def pack(self, covs: Any) -> Array:
        """Unconstrained coordinates, a row for each distinct covariance; `unpack` gives the covariances back."""
        ...

    def unpack(self, coordinates: Array, n_features: int) -> Any:
        """The covariances that coordinates stand for: every real value is valid."""
        ...

    def log_det_jacobian(self, coordinates: Array, n_features: int) -> Array:
        """Log-determinant of the map from coordinates to free entries of the covariances, summed, ()."""
        ...

    def n_parameters(self, n_components: int, n_features: int) -> int:
        """Number of free entries of all covariances together."""
        ...

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        """Shape in which users give covariances: scikit-learn's."""
        ...

    def factors_shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        """Shape of the one leaf that the family's covariances hold."""
        ...

    def from_array(self, covariances: Array) -> Any:
        """Covariances from an array in `shape`; NaN where a matrix is not positive definite."""
        ...

    def from_scale_tril(self, factors: Array) -> Any:
        """Covariances from lower triangular factors, or deviations for diagonal families, without squaring them."""
        ...

    def from_precisions(self, precisions: Array) -> Any:
        """Covariances from precisions Σ⁻¹ in `shape`, without inverting twice."""
        ...
