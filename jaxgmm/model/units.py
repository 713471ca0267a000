"""Units: mixtures and objectives carried between scaled columns and the user's."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.model.columns import Columns
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.mixture import Mixture


class Units(NamedTuple):
    """x = shift + scale · z, column by column.

    Attributes:
        shift: (D,).
        scale: positive, (D,); all equal for families that one common scale alone keeps.
    """

    shift: Array
    scale: Array

    def standardise(self, mixture: Mixture) -> Mixture:
        """A mixture of x as the mixture of z."""
        means = (mixture.means - self.shift[None, :]) / self.scale[None, :]
        return Mixture(mixture.log_weights, means, mixture.covs.rescale(1 / self.scale), mixture.family)

    def restore(self, mixture: Mixture) -> Mixture:
        """A mixture of z as the mixture of x."""
        means = self.shift[None, :] + mixture.means * self.scale[None, :]
        return Mixture(mixture.log_weights, means, mixture.covs.rescale(self.scale), mixture.family)


class ObjectiveUnits(NamedTuple):
    """Log-likelihoods of scaled rows as those of the user's: the Jacobian of the scaling is taken off, in float64.

    Attributes:
        unit: of the weights.
        data_shift: what the scaling adds to the log-likelihood.
        prior_shift: what it adds to the log-prior of each distinct covariance.
    """

    unit: float
    data_shift: float
    prior_shift: float

    @classmethod
    def of(cls, units: Units, weight_unit: float, weight: float, prior_mass: float) -> ObjectiveUnits:
        """For rows of a total weight, under a prior that counts as `prior_mass` of them, in units of their weight."""
        log_volume = float(np.sum(np.log(units.scale)))
        return cls(weight_unit, weight * log_volume, weight_unit * prior_mass * log_volume)

    def log_likelihood(self, value: Any) -> np.ndarray:
        """A log-likelihood of the user's rows."""
        return self.unit * np.asarray(value, np.float64) - self.data_shift

    def objective(self, value: Any, n_covariances: int) -> np.ndarray:
        """The same with the log-prior of so many distinct covariances."""
        return self.log_likelihood(value) - n_covariances * self.prior_shift


def units_of(columns: Columns, family: Family) -> Units:
    """The columns' means and standard deviations, or their root mean square where the family needs one."""
    if family.scales_columns:
        return Units(columns.mean, jnp.sqrt(columns.unit()))
    mean_square = jnp.mean(columns.variance)
    common = jnp.sqrt(jnp.where(mean_square > 0, mean_square, 1.0))
    return Units(columns.mean, jnp.broadcast_to(common, columns.mean.shape))


def to_host(mixture: Mixture) -> Mixture:
    """A mixture with NumPy leaves in float64."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), mixture)
