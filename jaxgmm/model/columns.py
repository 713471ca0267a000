"""Mass, means and variances of the columns over all rows."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class Columns(NamedTuple):
    """The mass, means and variances of all rows together, from one cheap pass.

    Attributes:
        mass: sum of the weights, ().
        count: number of rows with positive weight, ().
        mean: weighted means, (D,).
        variance: weighted variances, divisor `mass`, (D,).
        observed: the share of the mass in which each column was observed, (D,); None where all values were.
    """

    mass: Array
    count: Array
    mean: Array
    variance: Array
    observed: Array | None = None

    def least_observed(self) -> Array | float:
        """The share of the mass in which the column that was least often observed was observed, ()."""
        return 1.0 if self.observed is None else jnp.min(self.observed)

    def resolution(self) -> Array:
        """The variances, (D,), below which a column's spread cannot be told from rounding of the data in this dtype."""
        info = jnp.finfo(self.mean.dtype)
        spread = jnp.sqrt(self.variance) + jnp.abs(self.mean)
        return jnp.maximum((8 * float(info.eps) * spread) ** 2, float(info.tiny))

    def unit(self) -> Array:
        """The variances, (D,), with 1 for a constant column."""
        return jnp.where(self.variance > self.resolution(), self.variance, 1.0)
