"""Blurred rows: what data that are seen in part, or with errors, have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgmm.data import blurred_passes, draws
from jaxgmm.data.centring import centre_of
from jaxgmm.data.kernels import blurred
from jaxgmm.data.kernels.blurred import View
from jaxgmm.data.layouts import Layout
from jaxgmm.data.noise import errors, variances_of
from jaxgmm.data.patterns import Measured, measured
from jaxgmm.data.rows import Rows
from jaxgmm.model.columns import Columns
from jaxgmm.model.covariances.dense import Dense
from jaxgmm.model.families.dense import FULL
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import DENSE, Moments, Statistic
from jaxgmm.numerics.factors import safe_cholesky
from jaxgmm.numerics.linalg import product

_ROUNDS = 24
"""Rounds in which the variances of the columns are freed from the errors' share."""

_LEAST_OWN = 1e-4
"""The least share of a column's variance that counts as its own, and not as its errors'."""

_AT_ONCE = 256
"""The number of rows that are taken one by one at once."""

_FEW, _ROUNDS_OF_ONE = 1 << 12, 10
"""The most rows that one Gaussian is fitted to before starts are drawn, and the rounds of that fit."""


class BlurredRows:
    """Rows x_i = v_i + e_i of which some values may be missing; densities are of x, moments and starts of v.

    Classes of blurred rows are registered dataclasses with these attributes.

    Attributes:
        x: rows, NaN where nothing was observed, (N, D).
        weights: non-negative, (N,).
        noise: variances (N, D) or covariances (N, D, D) of the errors, infinite variances being those of values that
            count as missing; None where nothing errs.
        layout: the order of the rows by which of their values were observed, where it pays.
        measured: what `ready` has measured.
    """

    x: Any
    weights: Any
    noise: Any
    layout: Layout | None
    measured: Measured | None

    @property
    def n_features(self) -> int:
        """Number of columns D."""
        return self.x.shape[1]

    def columns(self) -> Columns:
        """Mass, count, means and variances of the columns, from the observed values, freed from the errors' share.

        A column's mean and variance are those of one Gaussian by maximum likelihood, in rounds: each value is weighted
        by the share of its variance that is its own.
        """
        observed, noise = blurred_passes.seen_of(self.x, self.weights, self.noise)
        given = jnp.where(observed, self.weights[:, None], 0.0)

        def mean_of(values: Array, weights: Array) -> Array:
            total = jnp.sum(weights, axis=0)
            return jnp.sum(jnp.where(weights != 0, values, 0.0) * weights, axis=0) / jnp.where(total > 0, total, 1.0)

        origin = lax.stop_gradient(mean_of(self.x, given))
        x = jnp.where(observed, self.x - origin[None], 0.0)
        mean = mean_of(x, given)
        variance = mean_of((x - mean[None]) ** 2, given)
        if noise is not None:
            mean, variance = _freed(mean_of, x, given, variances_of(noise), mean, variance)
        some = jnp.any(observed, axis=1)
        mass = jnp.sum(jnp.where(some, self.weights, 0.0))
        count = jnp.sum(((self.weights != 0) & some).astype(x.dtype))
        share = jnp.sum(given, axis=0) / jnp.where(mass > 0, mass, 1.0)
        return Columns(mass=mass, count=count, mean=mean + origin, variance=variance, observed=share)

    def ready(self, columns: Columns) -> Self:
        """The same rows with their values in their layout, and how far they reach."""
        own: Any = self
        return self if self.noise is not None else dataclasses.replace(own, measured=measured(self.x, self.layout))

    def moments(self, mixture: Mixture, statistic: Statistic) -> tuple[Moments, Array]:
        """The E-step: moments of the true rows under the responsibilities of a mixture, and Σ wᵢ log p(xᵢ)."""
        given = self.x, self.weights, self.noise, self.layout, self.measured
        return blurred_passes.expectation(statistic, mixture, *given)

    def log_likelihood(self, mixture: Mixture) -> Array:
        """Σ wᵢ log p(xᵢ), ()."""
        return self.moments(mixture, mixture.family.statistic)[1]

    def log_prob(self, mixture: Mixture) -> Array:
        """Log p(x_i), (N,)."""
        return self._each(mixture, lambda about, view, _: blurred.shares(about, view).log_prob)

    def log_components(self, mixture: Mixture) -> Array:
        """Log N(x_i; μ_k, Σ_k + S_i) of the observed values, (N, K)."""
        return self._each(mixture, lambda about, view, _: blurred.log_components(view).T)

    def log_joint(self, mixture: Mixture) -> Array:
        """Log π_k + log N(x_i; μ_k, Σ_k + S_i) of the observed values, (N, K)."""
        return self._each(mixture, lambda about, view, _: (about.log_weights[:, None] + blurred.log_components(view)).T)

    def log_responsibilities(self, mixture: Mixture) -> Array:
        """Log p(k | x_i), (N, K)."""
        return self._each(mixture, lambda about, view, _: blurred.shares(about, view).log_shares.T)

    def slopes_of_absent(self, mixture: Mixture) -> Array:
        """Derivatives of the log-likelihood in weights of 0, Σ wᵢ N_k(xᵢ) / p(xᵢ), and 0 for the others, (K,)."""

        def chunk(about: Mixture, view: View, weights: Array) -> Array:
            return jnp.sum(weights[None] * blurred.slopes_of_absent(about, view), axis=1)

        return blurred_passes.fold(chunk, jnp.add, mixture, self.x, self.weights, self.noise)

    def true_rows(self, mixture: Mixture) -> tuple[Array, Array]:
        """Means (N, D) and covariances (N, D, D) of the true rows, given what was seen of them."""

        def means(about: Mixture, view: View, weights: Array) -> Array:
            return product("kc,kdc->cd", jnp.exp(blurred.shares(about, view).log_shares), view.mean)

        def covariances(about: Mixture, view: View, weights: Array) -> Array:
            shares = jnp.exp(blurred.shares(about, view).log_shares)
            between = view.mean - product("kc,kdc->dc", shares, view.mean)[None]
            spread = product("kc,ijkc->cij", shares, blurred.covariances_of(about, view))
            return spread + product("kc,kic,kjc->cij", shares, between, between)

        known = self._known()
        whole = self._each(mixture, means) + centre_of(mixture)[None]
        mean = blurred.held_at(self.noise is not None, known, self.x, whole)
        sure = known[:, :, None] | known[:, None, :]
        zero = jnp.zeros((), self.x.dtype)
        return mean, blurred.held_at(self.noise is not None, sure, zero, self._each(mixture, covariances))

    def drawn(self, key: Array, mixture: Mixture) -> Array:
        """The true rows, drawn given what was seen of them, (N, D).

        A row v* with errors e* is drawn from a component; the mean of the true row given x − (v* + e*), added to it, is
        then a draw given x (Matheron's rule).
        """
        key_component, key_row, key_error = jax.random.split(key, 3)
        (n_rows, n_features), dtype = self.x.shape, self.x.dtype
        chosen = jax.random.categorical(key_component, self.log_responsibilities(mixture))
        normal = jax.random.normal(key_row, (n_rows, n_features), dtype)
        factors = jnp.broadcast_to(mixture.covs.dense(), (mixture.n_components, n_features, n_features))
        factors = safe_cholesky(factors, jnp.zeros(n_features, dtype))
        invented = product("nij,nj->ni", factors[chosen], normal)
        error = jnp.zeros_like(invented)
        if self.noise is not None:
            error = errors(jax.random.normal(key_error, invented.shape, dtype), self.noise)

        part = dataclasses.replace(self, x=self.x - invented - error)  # pyright: ignore[reportArgumentType]

        def means(about: Mixture, view: View, weights: Array) -> Array:
            return jnp.moveaxis(view.mean, -1, 0)

        of_each = part._each(mixture, means)
        told = jnp.take_along_axis(of_each, chosen[:, None, None], axis=1)[:, 0] + centre_of(mixture)[None]
        return jnp.where(self._known(), self.x, told + invented)

    def draw_rows(self, key: Array, most: int) -> Rows:
        """Plain rows: the true ones, drawn given what was seen of them under one Gaussian for all.

        Of more than `most` rows, so many are drawn by weight first; the Gaussian is fitted to a few thousand.
        """
        key_few, key_most, key_rows = jax.random.split(key, 3)
        few, rows = self._thinned(key_few, min(_FEW, most)), self._thinned(key_most, most)
        columns = few.columns()
        start = Dense(jnp.diag(jnp.sqrt(columns.unit()))[None])
        one = Mixture(jnp.zeros(1, self.x.dtype), columns.mean[None], start, FULL)

        def better(one: Mixture, _: Any) -> tuple[Mixture, Any]:
            moments, _ = few.moments(one, DENSE)
            covariance = moments.scatter / moments.mass[:, None, None]
            return Mixture(
                one.log_weights, moments.mean, Dense(safe_cholesky(covariance, columns.resolution())), FULL
            ), None

        fitted: Mixture = lax.scan(better, one, None, length=_ROUNDS_OF_ONE)[0]
        return Rows(rows.drawn(key_rows, fitted), rows.weights)

    def _thinned(self, key: Array, most: int) -> Self:
        own: Any = self
        bare = dataclasses.replace(own, layout=None, measured=None)
        if self.x.shape[0] <= most:
            return bare
        rows, weights = draws.thinned(key, jnp.arange(self.x.shape[0]), self.weights, most)
        noise = {} if self.noise is None else {"noise": self.noise[rows]}
        return dataclasses.replace(bare, x=self.x[rows], weights=weights, **noise)

    def weighted_by(self, weights: Array) -> Self:
        """The same rows with other weights."""
        own: Any = self
        return dataclasses.replace(own, weights=weights)

    def seeing(self, key: Array, true: Array) -> Self:
        """What would be seen of other true rows (N, D): the same values missing, and errors drawn from the noise."""
        own: Any = self
        observed, _ = blurred_passes.seen_of(self.x, self.weights, self.noise)
        if self.noise is not None:
            true = true + errors(jax.random.normal(key, true.shape, true.dtype), self.noise)
        return dataclasses.replace(own, x=jnp.where(observed, true, jnp.nan), measured=None)

    def of_each(self, function: Callable[[Self], Array]) -> Array:
        """The values of a function for each row as rows of its own, of weight 1, (N, ...)."""
        own: Any = dataclasses.replace(self, layout=None, measured=None)  # pyright: ignore[reportArgumentType]
        alone = dataclasses.replace(own, weights=jnp.ones_like(self.weights))
        return lax.map(lambda row: function(jax.tree.map(lambda leaf: leaf[None], row)), alone, batch_size=_AT_ONCE)

    def _known(self) -> Array:
        """Whether each value was observed without error, (N, D)."""
        observed, noise = blurred_passes.seen_of(self.x, self.weights, self.noise)
        return observed if noise is None else observed & (variances_of(noise) == 0)

    def _each(self, mixture: Mixture, rows: blurred_passes.Rowwise) -> Array:
        return blurred_passes.each(rows, mixture, self.x, self.weights, self.noise)


def _freed(
    mean_of: Callable[[Array, Array], Array], x: Array, weights: Array, noise: Array, mean: Array, variance: Array
) -> tuple[Array, Array]:
    """Mean and variance of each column without its errors, from those with them."""
    total = variance

    def better(held: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        variance = held[1][None]
        whole = variance + noise
        share = jnp.where(whole > 0, variance / jnp.where(whole > 0, whole, 1.0), 1.0)
        mean = mean_of(x, weights * share)
        own = mean_of((x - mean[None]) ** 2 - noise, weights * share**2)
        return (mean, jnp.maximum(own, _LEAST_OWN * total)), None

    return lax.scan(better, (mean, variance), None, _ROUNDS)[0]
