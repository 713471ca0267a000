"""Units of the columns: mixtures and objectives converted between scaled columns and the user's."""

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
    """The map from scaled columns z to the user's columns x, x = shift + scale · z.

    Attributes:
        shift: the x of z = 0, (D,).
        scale: positive factors, (D,); all equal for families that do not allow columns to be scaled apart.
    """

    shift: Array
    scale: Array

    def standardise(self, mixture: Mixture) -> Mixture:
        """The mixture of z, from that of x."""
        means = (mixture.means - self.shift[None, :]) / self.scale[None, :]
        return Mixture(mixture.log_weights, means, mixture.covs.rescale(1 / self.scale), mixture.family)

    def restore(self, mixture: Mixture) -> Mixture:
        """The mixture of x, from that of z."""
        means = self.shift[None, :] + mixture.means * self.scale[None, :]
        return Mixture(mixture.log_weights, means, mixture.covs.rescale(self.scale), mixture.family)


class ObjectiveUnits(NamedTuple):
    """The conversion, in float64, of log-likelihoods and objectives of scaled rows into those of the user's rows.

    The two differ by the unit of the weights and by the log-determinant of the scaling.

    Attributes:
        unit: the user's weight of a row of weight 1 in the fit.
        data_shift: the amount that scaling the rows adds to the log-likelihood.
        prior_shift: the amount that it adds to the log-prior of each distinct covariance.
    """

    unit: float
    data_shift: float
    prior_shift: float

    @classmethod
    def of(cls, units: Units, weight_unit: float, column_weights: np.ndarray, prior_mass: float) -> ObjectiveUnits:
        """The conversion for columns observed with so much weight each, (D,), under a prior of so many pseudo-rows."""
        log_scale = np.log(units.scale)
        shift = float(np.sum(column_weights * log_scale))
        return cls(weight_unit, shift, weight_unit * prior_mass * float(np.sum(log_scale)))

    def log_likelihood(self, value: Any) -> np.ndarray:
        """The log-likelihood of the user's rows, from that of the scaled ones."""
        return self.unit * np.asarray(value, np.float64) - self.data_shift

    def objective(self, value: Any, n_covariances: int) -> np.ndarray:
        """The log-likelihood plus the log-prior of `n_covariances` distinct covariances, from that of scaled rows."""
        return self.log_likelihood(value) - n_covariances * self.prior_shift


def units_of(columns: Columns, family: Family) -> Units:
    """The units in which columns have mean 0 and variance 1, the latter on average where the family needs one scale."""
    if family.scales_columns:
        return Units(columns.mean, jnp.sqrt(columns.unit()))
    mean_square = jnp.mean(columns.variance)
    common = jnp.sqrt(jnp.where(mean_square > 0, mean_square, 1.0))
    return Units(columns.mean, jnp.broadcast_to(common, columns.mean.shape))


def to_host(mixture: Mixture) -> Mixture:
    """A mixture with NumPy leaves in float64."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), mixture)
