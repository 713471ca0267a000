"""Slopes and curvature of the log-likelihood of any data, from its moments."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
from jax import Array

from jaxgmm.data.protocol import Data
from jaxgmm.inference.neighbourhood import Neighbourhood
from jaxgmm.model.moments import Moments
from jaxgmm.probability.likelihood import expected_log_likelihood


def expected_slope(around: Neighbourhood, moments: Moments) -> Array:
    """Gradient of Q in the coordinates about a mixture, (P,): by Fisher's identity that of ℓ, for the moments there."""
    return jax.grad(lambda steps: expected_log_likelihood(around.at(steps), moments))(around.origin)


def information(around: Neighbourhood, data: Data) -> Callable[[Array], Array]:
    """The product with the observed information H at an optimum, v ↦ H v: one pass over the data, by residuals.

    H = I − M (Orchard & Woodbury 1972): the complete information, in these coordinates the identity, less the missing
    one. M v is the change of the gradient of Q through the moments when the mixture moves by v.
    """
    statistic = around.centre.family.statistic

    def product(steps: Array) -> Array:
        def gathered(steps: Array) -> Moments:
            return data.moments(around.at(steps), statistic)[0]

        moments, change = jax.jvp(gathered, (around.origin,), (steps,))
        _, missing = jax.jvp(functools.partial(expected_slope, around), (moments,), (change,))
        return steps - missing

    return product
