"""The kernel of blurred rows: seen in part, or with errors of known covariance, x = v + e with v of the mixture.

What is seen of a row under component k has the covariance T = Σ_k + S among the columns that were observed. With its
factor L, the whitened residual y = L⁻¹(x − μ_k) and G = L⁻¹Σ_k (its rows those of observed columns), the true row has
mean μ_k + Gᵀy and covariance Σ_k − GᵀG (Bovy, Hogg & Roweis 2011; with S = 0 Ghahramani & Jordan 1994).

Everything is arranged with the rows along the last axis, so that one operation serves a chunk of them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxgmm.data.kernels.whitened import farthest
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, Statistic, gather
from jaxgmm.numerics.schur import eliminated
from jaxgmm.numerics.zero_weights import log_sum, log_weight, most_log_odds, weight


class Blur(NamedTuple):
    """What lies between some rows and what is seen of them.

    Attributes:
        observed: whether each value was observed, (D, C).
        noise: variances of the errors, (D, C), or their covariances, (D, D, C); finite, whatever the value of an
            unobserved entry; None where nothing errs.
    """

    observed: Array
    noise: Array | None

    @property
    def known(self) -> Array:
        """Whether each value was observed without error, (D, C)."""
        if self.noise is None:
            return self.observed
        variances = self.noise if self.noise.ndim == 2 else jnp.moveaxis(jnp.diagonal(self.noise), -1, 0)
        return self.observed & (variances == 0)


class View(NamedTuple):
    """Blurred rows as each component sees them.

    Attributes:
        level: −½ log|2πT|, (K, C).
        square: the squared distance ‖y‖², (K, C); that of a row at the end of the dtype where `lost`.
        mean: means of the true rows, (K, D, C).
        spread: their covariances, (D, D, K, C), or variances, (D, K, C); an axis of 1 in place of K where all
            components share them.
        lost: whether the squared distance overflows, (K, C): the log-density counts as −∞.
        blur: what lay between.
    """

    level: Array
    square: Array
    mean: Array
    spread: Array
    lost: Array
    blur: Blur

    @property
    def log_components(self) -> Array:
        """Log N(x; μ_k, Σ_k + S) of the observed values, (K, C); very low where `lost`."""
        return self.level - 0.5 * self.square


def is_dense(mixture: Mixture, noise: Array | None) -> bool:
    """Whether columns depend on each other, given the component: then each row needs a factor of its own."""
    return mixture.covs.mixes or (noise is not None and noise.ndim == 3)


def look(mixture: Mixture, columns: Array, blur: Blur) -> View:
    """What a mixture makes of a chunk of rows.

    Args:
        mixture: the mixture, about the centre of the rows.
        columns: rows as columns, (D, C); finite where observed.
        blur: what lies between.
    """
    columns = jnp.where(blur.observed, columns, 0.0)
    residuals = jnp.where(blur.observed[:, None, :], columns[:, None, :] - mixture.means.T[:, :, None], 0.0)
    see = _dense if is_dense(mixture, blur.noise) else _diagonal
    whitened, log_scale, shift, spread = see(mixture, residuals, blur)
    limit = farthest(columns.dtype, columns.shape[0])
    lost = jnp.any(lax.stop_gradient(jnp.abs(whitened)) > limit, axis=0)
    square = jnp.sum(jnp.where(lost[None], limit, whitened) ** 2, axis=0)
    n_observed = jnp.sum(blur.observed, axis=0).astype(columns.dtype)
    level = -0.5 * float(np.log(2 * np.pi)) * n_observed
    formula = mixture.means.T[:, :, None] + shift
    mean = held_at(blur.noise is not None, blur.known[:, None, :], columns[:, None, :], formula)
    return View(level[None, :] - log_scale, square, jnp.moveaxis(mean, 0, 1), spread, lost, blur)


def held_at(errs: bool, known: Array, value: Array, formula: Array) -> Array:
    """The value where it is known exactly, else the formula, which gives the value there to rounding.

    Where rows err, an error of variance 0 has a slope in its variance, which the formula alone tells.
    """
    if errs:
        change = formula - lax.stop_gradient(formula)
        value = lax.stop_gradient(value) + jnp.where(jnp.isfinite(formula), change, 0.0)
    return jnp.where(known, value, formula)


def _dense(mixture: Mixture, residuals: Array, blur: Blur) -> tuple[Array, Array, Array, Array]:
    """Y (D, K, C), log|T|/2, Gᵀy (D, K, C) and Σ_k − GᵀG, by a factor for each row and component."""
    covariances = jnp.moveaxis(mixture.covs.dense(), 0, -1)[..., None]
    cross = jnp.where(blur.observed[:, None, None, :], covariances, 0.0)
    left = eliminated(_total(covariances, blur), residuals, cross, covariances)
    sure = (blur.known[:, None] | blur.known[None])[:, :, None, :]
    spread = held_at(blur.noise is not None, sure, jnp.zeros((), cross.dtype), left.corner)
    return left.whitened, left.log_scale, left.shift, spread


def _total(covariances: Array, blur: Blur) -> Array:
    """T, (D, D, K, C), of covariances (D, D, K, 1); the identity among unobserved columns."""
    eye = jnp.eye(covariances.shape[0], dtype=covariances.dtype)[:, :, None, None]
    total = covariances
    if blur.noise is not None:
        noise = _as_covariances(blur.noise)
        total = total + noise
    both = blur.observed[:, None, :] & blur.observed[None, :, :]
    return jnp.where(both[:, :, None, :], total, eye)


def _diagonal(mixture: Mixture, residuals: Array, blur: Blur) -> tuple[Array, Array, Array, Array]:
    """The same as `_dense` of independent columns, with variances (D, K, C) as the spread."""
    deviations = jnp.broadcast_to(mixture.covs.deviations(), (mixture.covs.count, mixture.n_features))
    observed, variances = blur.observed[:, None, :], (deviations.T**2)[:, :, None]
    noise = jnp.zeros_like(variances[:, :1]) if blur.noise is None else blur.noise[:, None, :]
    total = jnp.where(observed, variances + noise, 1.0)
    scale = jnp.sqrt(total)
    whitened = residuals / scale
    shift = jnp.where(observed, variances / total, 0.0) * residuals
    spread = jnp.where(observed, variances * (noise / total), variances)
    return whitened, jnp.sum(jnp.log(scale), axis=0), shift, spread


def log_components(view: View) -> Array:
    """Log N(x; μ_k, Σ_k + S), (K, C); −∞ where the squared distance overflows."""
    return jnp.where(view.lost, -jnp.inf, view.log_components)


class Shares(NamedTuple):
    """What the components have of some rows.

    Attributes:
        log_shares: log p(k | x), (K, C); where every squared distance overflows, those of equal distances.
        log_prob: log p(x), (C,); −∞ where every squared distance overflows.
        odds: π_k N_k / p of components of weight 0, (K, C): zeros, with their slopes in the weights.
    """

    log_shares: Array
    log_prob: Array
    odds: Array


def shares(mixture: Mixture, view: View) -> Shares:
    """What the components of a mixture have of the rows of a view."""
    weights, is_absent = weight(mixture.log_weights)[:, None], (mixture.log_weights == -jnp.inf)[:, None]
    log_joint = mixture.log_weights[:, None] + view.log_components
    log_prob = log_sum(weights, jnp.where(view.lost, -jnp.inf, view.log_components), log_joint, axis=0)
    odds = weights * _ratios(is_absent, view, log_prob)
    # Less the nearest component's square, or those of a far row would make its weights, and K itself, rounding errors.
    least = lax.stop_gradient(jnp.min(jnp.where(is_absent, jnp.inf, view.square), axis=0))
    beside = mixture.log_weights[:, None] + view.level - 0.5 * (view.square - least[None, :])
    of_others = jax.nn.log_softmax(beside, axis=0) - jnp.log1p(jnp.sum(odds, axis=0))[None, :]
    log_shares = jnp.where(is_absent, log_weight(odds), of_others)
    nowhere = jnp.all(view.lost | is_absent, axis=0)
    return Shares(log_shares, jnp.where(nowhere, -jnp.inf, log_prob), odds)


def _ratios(is_absent: Array, view: View, log_prob: Array) -> Array:
    """N_k / p of components of weight 0, (K, C), 0 of the others."""
    told = is_absent & ~view.lost
    ratios = jnp.where(told, view.log_components, -jnp.inf) - log_prob[None, :]
    return jnp.exp(jnp.minimum(ratios, most_log_odds(log_prob.dtype)))


def slopes_of_absent(mixture: Mixture, view: View) -> Array:
    """Derivatives of log p(x) in weights of 0, N_k / p, and 0 for the others, (K, C)."""
    log_prob = jax.nn.logsumexp(mixture.log_weights[:, None] + view.log_components, axis=0)
    return _ratios((mixture.log_weights == -jnp.inf)[:, None], view, log_prob)


def moments(mixture: Mixture, view: View, weights: Array, statistic: Statistic) -> tuple[Moments, Array]:
    """Moments of the true rows of a chunk under the responsibilities, and the log p of each row, (C,).

    Args:
        mixture: the mixture.
        view: what it makes of the rows.
        weights: of the rows, (C,).
        statistic: the part of the scatter to keep.
    """
    seen = shares(mixture, view)
    counted = jnp.where(seen.log_prob == -jnp.inf, 0.0, weights)
    is_absent = (mixture.log_weights == -jnp.inf)[:, None]
    taken = jnp.where(is_absent, 0.0, jnp.exp(jnp.where(is_absent, 0.0, seen.log_shares))) * counted[None, :]
    gathered = gather(taken, view.mean, statistic)
    scatter = gathered.scatter + _spread(taken, view.spread, statistic)
    mass = gathered.mass + jnp.sum(counted[None, :] * seen.odds, axis=1)
    return gathered._replace(mass=mass, scatter=scatter), seen.log_prob


def _spread(taken: Array, spread: Array, statistic: Statistic) -> Array:
    """Σ_c r_kc Cov(v_c | x_c, k), reduced."""
    if spread.ndim == 4:
        if statistic.products:
            return statistic.of_dense(jnp.moveaxis(jnp.sum(taken[None, None] * spread, axis=-1), -1, 0))
        spread = jnp.moveaxis(jnp.diagonal(spread), -1, 0)
    variances = jnp.sum(taken[None] * spread, axis=-1).T
    return statistic.of_diagonal(variances)


def _as_covariances(noise: Array) -> Array:
    """Covariances of errors, (D, D, 1, C), from variances (D, C) or covariances (D, D, C)."""
    if noise.ndim == 2:
        noise = noise[:, None] * jnp.eye(noise.shape[0], dtype=noise.dtype)[:, :, None]
    return noise[:, :, None]


def covariances_of(mixture: Mixture, view: View) -> Array:
    """Covariances of the true rows under each component, (D, D, K, C), to their own digits.

    Σ − Σ T⁻¹ Σ forgets errors that are small beside Σ; S − S T⁻¹ S, the same among observed columns, does not.
    """
    spread, blur = as_dense(view.spread, mixture.n_components), view.blur
    if blur.noise is None or not is_dense(mixture, blur.noise):
        return spread
    covariances = jnp.moveaxis(mixture.covs.dense(), 0, -1)[..., None]
    noise = _as_covariances(blur.noise)
    nothing = jnp.zeros_like(jnp.moveaxis(view.mean, 1, 0))
    sharp = eliminated(_total(covariances, blur), nothing, noise, noise).corner
    excess = jnp.moveaxis(jnp.diagonal(covariances - noise), -1, 0)
    seen = (blur.observed[:, None] & blur.observed[None])[:, :, None, :]
    return jnp.where(seen & (excess[:, None] + excess[None] > 0), sharp, spread)


def as_dense(spread: Array, n_components: int) -> Array:
    """Covariances of the true rows, (D, D, K, C), from these or from variances, for each component."""
    if spread.ndim == 3:
        spread = spread[:, None] * jnp.eye(spread.shape[0], dtype=spread.dtype)[:, :, None, None]
    return jnp.broadcast_to(spread, (*spread.shape[:2], n_components, spread.shape[3]))
