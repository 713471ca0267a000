"""The protocol of families: a constraint on the covariances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from jax import Array

from jaxgmm.model.covariances.protocol import Covariances
from jaxgmm.model.moments import Statistic


class Chart(Protocol):
    """Coordinates about the covariances of a mixture: a pytree.

    One for each free parameter of the covariances. They are scaled so that −∂²Q of the covariances, the information of
    the complete data about them, is the identity.
    """

    @property
    def held(self) -> Array:
        """Which coordinates can move, (P,): those of components of no mass cannot."""
        ...

    def at(self, steps: Array) -> Covariances:
        """The covariances at coordinates (P,); at 0 those that the chart is about."""
        ...

    def slopes(self, whitened: Array, responsibilities: Array) -> Array:
        """Σ_k r_k ∂ log N(x; μ_k, Σ_k) along each coordinate, (P, ·), from y (K, D, ·) and r (K, ·)."""
        ...


class Family(Protocol):
    """A constraint on the covariances, and everything that depends on it. Static: hashable, and equal to its like.

    Masses and scatters are those of the n distinct covariances, with the prior's pseudo-moments already in them: no
    family knows a prior.
    """

    @property
    def name(self) -> str:
        """The name that `covariance_type` takes."""
        ...

    @property
    def statistic(self) -> Statistic:
        """The part of the scatter that `update` needs: dense, pooled, diagonal or its trace."""
        ...

    @property
    def scales_columns(self) -> bool:
        """Whether a column may be scaled alone, so that the family still holds."""
        ...

    @property
    def closed(self) -> bool:
        """Whether marginals and conditionals of its mixtures are of the family too."""
        ...

    def n_distinct(self, n_components: int) -> int:
        """Number of covariances that may differ: K, or 1 where all components share one."""
        ...

    def update(self, mass: Array, scatter: Array, floor: Array, previous: Covariances | None) -> Covariances:
        """The covariances that maximise Q, −½ Σ_j [N_j log|Σ_j| + tr(Σ_j⁻¹ S_j)].

        Where a covariance has no mass it is arbitrary.

        Args:
            mass: N_j, (n,).
            scatter: S_j in the family's statistic, (n, ...).
            floor: the least variances that the data resolve, (D,); may be 0. Variances are clipped to it last, even if
                the result is then slightly outside the family.
            previous: the covariances before, from which a family without a closed form goes on, or None.
        """
        ...

    def gain(self, old: Covariances, new: Covariances, mass: Array, scatter: Array, rounding: float = 0.0) -> Array:
        """Q(new) − Q(old), never negative, (), for `new` what `update` gives; without cancellation.

        Where the precisions of the family form a linear space it is Σ_j N_j KL(N(0, new) ‖ N(0, old)), which
        `new.divergence(old, rounding)` gives. Errors of the relative size `rounding` in a ratio r of variances make
        rounding²/2 of r − 1 − log r: so much is subtracted from each such term, down to 0. A family whose gain has
        no such terms may ignore `rounding`: where rounding outweighs `tol`, its fits then end as MAX_ITER.
        """
        ...

    def chart(self, covs: Covariances, mass: Array, scatter: Callable[[], Array]) -> Chart:
        """Coordinates about covariances of given masses, `n_parameters` of them.

        Args:
            covs: the covariances.
            mass: N_j, (n,).
            scatter: gives S_j, (n, ...), by a pass over the data: for a family whose information depends on it.
        """
        ...

    def pack(self, covs: Covariances) -> Array:
        """Unconstrained coordinates, (n, C), a row for each distinct covariance; (1, P) where these share some."""
        ...

    def unpack(self, coordinates: Array, n_distinct: int, n_features: int) -> Covariances:
        """The n covariances that coordinates stand for: every real value is valid, and `pack` gives it back."""
        ...

    def log_det_jacobian(self, coordinates: Array, n_distinct: int, n_features: int) -> Array:
        """Log-determinant of the map from the coordinates to as many entries of the covariances, ().

        These entries determine the others. Where covariances share coordinates, the family's docstring names them.
        """
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

    def from_array(self, covariances: Array, n_features: int) -> Covariances:
        """Covariances from an array in `shape`; NaN where a matrix is not positive definite."""
        ...

    def from_scale_tril(self, factors: Array, n_features: int) -> Covariances:
        """Covariances from lower triangular factors, or deviations for diagonal families, without squaring them."""
        ...

    def from_precisions(self, precisions: Array, n_features: int) -> Covariances:
        """Covariances from precisions Σ⁻¹ in `shape`, without inverting twice."""
        ...
