"""The protocols of priors: what is believed of a mixture beforehand, as pseudo-moments and as a log-density."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, Self

from jax import Array
from jax.typing import DTypeLike

from jaxgmm.model.columns import Columns
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments


class Masses(NamedTuple):
    """How many rows, pseudo-rows among them, each parameter is estimated from.

    Attributes:
        weights: what the mixture's weights are proportional to, (K,).
        means: (K,).
        covariances: of each distinct covariance, (n,).
    """

    weights: Array
    means: Array
    covariances: Array


class Penalty(Protocol):
    """A prior, prepared for data of which the columns are known: a pytree of arrays.

    A mixture has n distinct covariances: K, or 1 that all components share.
    """

    @property
    def mass(self) -> Array:
        """Pseudo-rows that each distinct covariance sees, (): 0 where a covariance without rows has no mode."""
        ...

    @property
    def floor_is_fine(self) -> Any:
        """Whether a covariance may rest on the prior's without being collapsed, ()."""
        ...

    def masses(self, mass: Array, n_distinct: int) -> Masses:
        """The masses of components (K,), with pseudo-rows, for each kind of parameter."""
        ...

    def added(self, moments: Moments, n_distinct: int) -> tuple[Masses, Moments]:
        """Moments with the prior's pseudo-moments: the M-step without a prior then has the mode under the prior.

        Also the masses that they have for each kind of parameter. Mass and scatter of the moments are of the n distinct
        covariances, (n,) and (n, ...); the means are (K, D).
        """
        ...

    def with_rows(self, mass: Array, scatter: Array) -> Self:
        """The penalty with so many pseudo-rows more for each distinct covariance, of diagonal scatter (D,)."""
        ...

    def floor(self, mass: Array) -> Array:
        """The share of the columns' variances that is left to covariances of such masses whose rows do not spread."""
        ...

    def log_prob(self, mixture: Mixture) -> Array:
        """Log prior(θ), ()."""
        ...


class Prior(Protocol):
    """A belief about mixtures, in no units but the data's: a pytree whose numbers are leaves."""

    def settle(self, dtype: DTypeLike) -> Self:
        """The same prior with its numbers as arrays of a dtype, so that all of them share one compiled program."""
        ...

    def prepare(self, columns: Columns) -> Penalty:
        """The penalty that it is for data with such columns. In other units of the data it is the same belief."""
        ...
