"""What a fit knows of the columns as a whole."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class Columns(NamedTuple):
    """What a fit knows of the columns as a whole, from one cheap pass.

    Attributes:
        mass: sum of the weights, ().
        count: number of rows with positive weight, ().
        mean: weighted means, (D,).
        variance: weighted variances, divisor `mass`, (D,).
    """

    mass: Array
    count: Array
    mean: Array
    variance: Array

    def resolution(self) -> Array:
        """Variance, (D,), below which rounding of the data in this dtype hides a spread."""
        info = jnp.finfo(self.mean.dtype)
        spread = jnp.sqrt(self.variance) + jnp.abs(self.mean)
        return jnp.maximum((8 * float(info.eps) * spread) ** 2, float(info.tiny))

    def unit(self) -> Array:
        """Variances, (D,), with 1 in place of a constant column's, as a scaler would have it."""
        return jnp.where(self.variance > self.resolution(), self.variance, 1.0)
