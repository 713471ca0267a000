"""The quadratic kernel: log-joints and raw moments are two matrix products with features of the rows.

The features φ(x) of a centred row x are products of two entries of (x, 1). Log-joints are W φ, raw moments φ rᵀ:
2·N·K·D² operations for full covariances, half of what whitened residuals take. Both suffer cancellation where a
component is narrow and rows lie far from the centre: the error of a log-joint, and the relative error of a
covariance, are about eps·‖x‖²·λmax(Σ⁻¹), which `limit` keeps small.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import POOLED, Moments, Statistic
from jaxgmm.numerics.factors import cholesky, inverse_lower
from jaxgmm.numerics.linalg import product


@dataclasses.dataclass(frozen=True)
class Features:
    """The products of two entries of (x, 1) that a family needs.

    Attributes:
        name: "pairs", products of any two columns; "squares", the square of each; or "linear", no products, where all
            components share a covariance, whose quadratic term is then common to them.
    """

    name: str

    def indices(self, n_features: int) -> tuple[np.ndarray, np.ndarray]:
        """Where in (x, 1) the two factors of each feature stand, (F,) and (F,): products first, then x, then 1."""
        columns, one = np.arange(n_features), np.full(n_features + 1, n_features)
        whole = np.arange(n_features + 1)
        if self.name == "pairs":
            return np.tril_indices(n_features + 1)
        if self.name == "squares":
            return np.concatenate([columns, whole]), np.concatenate([columns, one])
        return whole, one

    def count(self, n_features: int) -> int:
        """Number of features F."""
        return len(self.indices(n_features)[0])

    def of(self, columns: Array) -> Array:
        """The features, (F, C), of rows that are the columns of (D, C)."""
        first, second = self.indices(columns.shape[0])
        augmented = jnp.concatenate([columns, jnp.ones((1, columns.shape[1]), columns.dtype)])
        if self.name == "linear":
            return augmented
        # Taking rows is many times faster here than concatenating their products.
        factors = (augmented.at[index].get(mode="promise_in_bounds") for index in (first, second))
        return next(factors) * next(factors)


PAIRS, SQUARES, LINEAR = Features("pairs"), Features("squares"), Features("linear")


def features_of(mixture: Mixture, statistic: Statistic) -> Features:
    """The fewest features that a mixture's density and a statistic need."""
    covs = mixture.covs
    if covs.mixes and covs.count < mixture.n_components and statistic == POOLED:
        return LINEAR
    return PAIRS if covs.mixes or statistic.products else SQUARES


class Prepared(NamedTuple):
    """A mixture prepared for many chunks.

    Attributes:
        coefficients: W, with which W φ are the log-joints, (K, F).
        precision: the shared Σ⁻¹, (D, D), where the features are linear, else 0, ().
        steepness: an upper bound of λmax(Σ_k⁻¹) over components of positive weight, ().
    """

    coefficients: Array
    precision: Array
    steepness: Array


def limit(dtype: DTypeLike, wanted: DTypeLike | None = None) -> float:
    """The largest ‖x‖²·λmax(Σ⁻¹) at which features in a dtype are exact enough for results in the `wanted` one.

    Log-joints are then off by at most 1e-3 in float32 (2e-3 at D = 64; typically a fifth of that), 1e-9 in float64, and
    1e-3 in float64 where float32 is wanted.
    """
    if dtype == jnp.float64:
        return 2.0**22 if wanted is None or wanted == jnp.float64 else 2.0**42
    return 2.0**13


def prepare(mixture: Mixture, features: Features, closely: bool = True) -> Prepared:
    """A mixture about the centre, prepared: W_k = [−½ P_ij (doubled off the diagonal), P_k μ_k, c_k], P = Σ⁻¹.

    Args:
        mixture: the mixture, its means relative to the centre.
        features: the features of the rows.
        closely: whether the bound of the steepness is to be close, or quick to compile: up to √D times larger.
    """
    n_components, n_features = mixture.means.shape
    covs, means = mixture.covs, mixture.means
    first, second = features.indices(n_features)
    first, second = first[: -n_features - 1], second[: -n_features - 1]
    if features == SQUARES:
        diagonal = jnp.broadcast_to(covs.inverse() ** 2, means.shape)
        pulled, largest = diagonal * means, jnp.max(diagonal, axis=-1)
        quadratic, shared = -0.5 * diagonal, jnp.zeros((), means.dtype)
    else:
        precision = covs.precision()
        every = jnp.broadcast_to(precision, (n_components, n_features, n_features))
        pulled = jnp.sum(every * means[:, None, :], axis=-1)
        largest = _largest_eigenvalue(precision) if closely else _row_sum_norm(precision)
        twice = jnp.asarray(np.where(first == second, -0.5, -1.0), means.dtype)
        quadratic = every[:, first, second] * twice[None, :]
        shared = precision[0] if features == LINEAR else jnp.zeros((), means.dtype)
    log_det = covs.log_det() + n_features * float(np.log(2 * np.pi))
    constant = mixture.log_weights - 0.5 * (log_det + jnp.sum(pulled * means, axis=-1))
    # A finite floor: in a product −∞ would be one multiplication by zero from NaN.
    constant = jnp.maximum(constant, -float(np.sqrt(jnp.finfo(means.dtype).max)))
    coefficients = jnp.concatenate([quadratic, pulled, constant[:, None]], axis=1)
    return Prepared(coefficients, shared, _steepest(largest, mixture.log_weights > -jnp.inf))


def read(raw: Array, square: Array, features: Features, n_features: int, statistic: Statistic) -> Moments:
    """Moments, their means relative to the centre, from sums of features.

    Args:
        raw: Σ_c r_kc φ(x_c), (F, K).
        square: Σ_c w_c x_c x_cᵀ where the features are linear, (D, D).
        features: which products φ holds.
        n_features: D.
        statistic: the part of the scatter that the family needs.
    """
    mass = raw[-1]
    mean = (raw[-n_features - 1 : -1] / jnp.where(mass > 0, mass, 1.0)[None, :]).T
    if features == LINEAR:
        between = product("kd,ke->de", mean * mass[:, None], mean)
        return Moments(mass, mean, (square - between)[None])
    if features == SQUARES:
        return Moments(mass, mean, statistic.reduce(raw[:n_features].T - mass[:, None] * mean**2))
    place = np.zeros((n_features, n_features), int)
    below = np.tril_indices(n_features)
    place[below] = place.T[below] = np.arange(len(below[0]))
    second = jnp.moveaxis(raw[place], -1, 0)
    return Moments(mass, mean, statistic.of_dense(second - (mass[:, None] * mean)[:, :, None] * mean[:, None, :]))


def steepness(moments: Moments, n_rows: int) -> Array:
    """An upper bound, (), of λmax(Σ_k⁻¹) for the covariances that moments give without a prior; NaN if one is singular.

    Components whose mass is less than a thousandth of a row are left out: they do not determine a covariance.
    """
    present = moments.mass > 1e-3 / n_rows * jnp.sum(moments.mass)
    mass = jnp.where(present, moments.mass, 1.0)
    scatter = moments.scatter
    if scatter.ndim < 3:
        total = mass[:, None] if scatter.ndim == 2 else mass * moments.mean.shape[-1]
        return _steepest(jnp.max((total / scatter).reshape(mass.shape[0], -1), axis=-1), present)
    if scatter.shape[0] < mass.shape[0]:
        mass, present = jnp.sum(moments.mass, keepdims=True), jnp.any(present, keepdims=True)
    covariances = jnp.where(
        present[:, None, None], scatter / mass[:, None, None], jnp.eye(scatter.shape[-1], dtype=scatter.dtype)
    )
    inverse = inverse_lower(cholesky(covariances))
    return _steepest(_largest_eigenvalue(product("kji,kjl->kil", inverse, inverse)), present)


def _largest_eigenvalue(matrices: Array) -> Array:
    """Upper bounds of λmax of positive definite A (K, D, D): ‖A⁴‖^¼ in the row-sum norm, at most D^⅛ times larger."""
    norm = _row_sum_norm(matrices)
    unit = matrices / norm[:, None, None]
    square = product("kij,kjl->kil", unit, unit)
    fourth = _row_sum_norm(product("kij,kjl->kil", square, square))
    return jnp.where(jnp.isfinite(norm), norm * fourth**0.25, norm)


def _row_sum_norm(matrices: Array) -> Array:
    return jnp.max(jnp.sum(jnp.abs(matrices), axis=-1), axis=-1)


def _steepest(largest: Array, present: Array) -> Array:
    """The largest value among the components present, (); one value may be shared by all."""
    return jnp.max(jnp.where(present, jnp.broadcast_to(largest, present.shape), 0.0))
