"""Rows with errors of known covariance: the mixture is that of what was measured, free of the errors."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxgmm.data.blurred import BlurredRows
from jaxgmm.data.blurred_intake import default_weights, errors_of, nothing_seen, seen_in, taken
from jaxgmm.data.conversion import converted
from jaxgmm.data.gaps import check_noise, check_noise_names, without_masks
from jaxgmm.data.intake import Intake, intake
from jaxgmm.data.layouts import Layout
from jaxgmm.data.noise import variances_of
from jaxgmm.data.patterns import Measured
from jaxgmm.data.protocol import check_no_weights
from jaxgmm.host.arrays import Table, as_table
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.units import Units
from jaxgmm.numerics.trees import register_dataclass


@register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Noisy(BlurredRows):
    """Rows x_i = v_i + e_i with independent errors e_i ~ N(0, S_i) of known covariance; the mixture is that of v.

    Fitting it is extreme deconvolution (Bovy, Hogg & Roweis 2011). Densities, responsibilities and criteria are those
    of the rows as they were measured, N(x_i; μ_k, Σ_k + S_i); `denoise` has the true rows. A value that is NaN, or
    whose variance is infinite, is missing.

    Attributes:
        x: rows, NaN where a value is missing, (N, D): an array, a masked array, or a table.
        noise: variances of the errors, (N, D), or their covariances, (N, D, D), in the squared units of x; 0 is a value
            without error.
        weights: non-negative, (N,); None is 1 for each row.
        layout: None: rows are passed over one by one.
        measured: None.

    Example:
        >>> true = np.random.default_rng(0).normal([[0.0, 0.0], [9.0, 9.0]] * 50)
        >>> noise = np.random.default_rng(1).uniform(0.5, 2.0, true.shape)
        >>> x = true + np.sqrt(noise) * np.random.default_rng(2).normal(size=true.shape)
        >>> fitted = jaxgmm.fit(jax.random.key(1), jaxgmm.Noisy(x, noise), 2)
        >>> blurred = jaxgmm.fit(jax.random.key(1), x, 2)
        >>> bool((np.linalg.det(fitted.mixture.covariances) < np.linalg.det(blurred.mixture.covariances)).all())
        True
    """

    x: Any
    noise: Any
    weights: Any = None
    layout: Layout | None = None
    measured: Measured | None = None

    def __post_init__(self) -> None:
        """Give each row a weight of 1 where no weights are given."""
        if self.weights is None:
            object.__setattr__(self, "weights", default_weights(self.x))


@converted.register
def _(x: Noisy, mixture: Mixture, sample_weight: ArrayLike | None) -> tuple[Mixture, Noisy]:
    mixture, rows, weights = seen_in(mixture, x)
    noise = errors_of(x, rows)
    rows = jnp.where(jnp.isinf(variances_of(noise)), jnp.nan, rows)
    return mixture, Noisy(rows, noise, jnp.where(nothing_seen(rows, noise), 0.0, weights))


@intake.register
def _(x: Noisy, sample_weight: ArrayLike | None, n_components: int, family: Family) -> Intake:
    check_no_weights(sample_weight)
    rows, names = as_table(without_masks(x.x))
    check_noise_names(x.noise, x.x)
    noise = check_noise(x.noise, rows, names)
    table = Table(np.where(np.isinf(variances_of(noise)), np.nan, rows), names)

    def made(z: np.ndarray, weights: np.ndarray, units: Units) -> Noisy:
        scale, held = np.asarray(units.scale), np.zeros((len(z), *noise.shape[1:]), z.dtype)
        held[: len(rows)] = noise / (scale**2 if noise.ndim == 2 else scale[:, None] * scale)
        return Noisy(z, held, weights)

    return taken(table, x.weights, n_components, family, made)
