"""The two kernels of incomplete rows that share factors by pattern: quadratic features, and whitened residuals.

Both take segments of rows of one pattern, B segments of C rows, and M components of all stacked mixtures. Features cost
half as much; residuals keep their digits where components are narrow and rows far from them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.data.kernels import quadratic
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import DENSE, Moments, Statistic, pool
from jaxgmm.numerics.factors import cholesky, inverse_lower
from jaxgmm.numerics.linalg import product


class Algebra(NamedTuple):
    """M components in each of G patterns, O being the columns that the pattern observes.

    Attributes:
        observed: (G, D).
        means: about the centre, (M, D).
        covariances: Σ, (M, D, D).
        lower: L with L Lᵀ = Σ_OO, the identity elsewhere, (G, M, D, D).
        inverse: L⁻¹, 0 in unobserved columns and rows, (G, M, D, D).
        constant: log π − ½ log|2πΣ_OO|, (G, M).
    """

    observed: Array
    means: Array
    covariances: Array
    lower: Array
    inverse: Array
    constant: Array

    def precision(self) -> Array:
        """Σ_OO⁻¹, 0 in unobserved columns and rows, (G, M, D, D)."""
        return product("gmai,gmaj->gmij", self.inverse, self.inverse)

    def spread(self) -> Array:
        """Covariances of the true rows, Σ − Σ_O·ᵀ Σ_OO⁻¹ Σ_O·, (G, M, D, D); 0 where a column was observed."""
        half = product("gmai,mij->gmaj", self.inverse, self.covariances)
        unseen = ~self.observed[:, None, :, None] & ~self.observed[:, None, None, :]
        return jnp.where(unseen, self.covariances[None] - product("gmai,gmaj->gmij", half, half), 0.0)


def algebra_of(stack: Mixture, observed: Array) -> Algebra:
    """R mixtures about the centre, M = R·K, in patterns (G, D)."""
    n_stacked, n_components, n_features = stack.means.shape
    n_all = n_stacked * n_components
    dense = jax.vmap(lambda covs: covs.dense())(stack.covs)
    covariances = jnp.broadcast_to(dense, (n_stacked, n_components, n_features, n_features))
    covariances = covariances.reshape(n_all, n_features, n_features)
    both = observed[:, None, :, None] & observed[:, None, None, :]
    lower = cholesky(jnp.where(both, covariances[None], jnp.eye(n_features)[None, None]))
    inverse = jnp.where(both, inverse_lower(lower), 0.0)
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(lower, axis1=-2, axis2=-1)), axis=-1)
    n_observed = jnp.sum(observed, axis=1).astype(log_det.dtype)
    log_det = log_det + n_observed[:, None] * float(np.log(2 * np.pi))
    # A finite floor: in a product −∞ would be one multiplication by zero from NaN.
    log_weights = jnp.maximum(stack.log_weights.reshape(1, n_all), -float(np.sqrt(np.finfo(np.float64).max)))
    return Algebra(
        observed, stack.means.reshape(n_all, n_features), covariances, lower, inverse, log_weights - 0.5 * log_det
    )


class Within(NamedTuple):
    """Moments of the observed values in a kernel's coordinates, and the way from there to the true rows.

    Attributes:
        mass: (G, M).
        shift: mean less that of the component, (G, M, D).
        scatter: central, (G, M, D, D).
        filling: the map to true rows less the component's mean, (G, M, D, D).
    """

    mass: Array
    shift: Array
    scatter: Array
    filling: Array


class ByFeatures(NamedTuple):
    """Log-joints W φ for features φ, the products of two entries of (x, 1).

    Attributes:
        coefficients: W, (G, M, F).
    """

    coefficients: Array

    @classmethod
    def of(cls, known: Algebra) -> ByFeatures:
        """The kernel, prepared."""
        precision = known.precision()
        pulled = jnp.sum(precision * known.means[None, :, None, :], axis=-1)
        constant = known.constant - 0.5 * jnp.sum(pulled * known.means[None], axis=-1)
        first, second = (index[: -known.means.shape[1] - 1] for index in quadratic.PAIRS.indices(known.means.shape[1]))
        quadratics = precision[..., first, second] * np.where(first == second, -0.5, -1.0)[None, None]
        return cls(jnp.concatenate([quadratics, pulled, constant[..., None]], axis=-1))

    def look(self, pattern: Array, rows: Array) -> tuple[Array, Array]:
        """Features, (B, F, C), and log-joints, (B, M, C), of segments (B, D, C) of patterns (B,)."""
        first, second = quadratic.PAIRS.indices(rows.shape[1])
        augmented = jnp.concatenate([rows, jnp.ones_like(rows[:, :1])], axis=1)
        phi = augmented[:, first] * augmented[:, second]
        return phi, product("bmf,bfc->bmc", self.coefficients[pattern], phi)

    @staticmethod
    def sums(phi: Array, shares: Array) -> Array:
        """Σ_c r φ, (B, M, F), for shares (B, M, C)."""
        return product("bmc,bfc->bmf", shares, phi)

    @staticmethod
    def within(raw: Array, known: Algebra) -> Within:
        """What sums for each pattern, (G, M, F), tell."""
        n_features = known.means.shape[1]

        def read(held: Array) -> Moments:
            return quadratic.read(held.T, jnp.zeros(()), quadratic.PAIRS, n_features, DENSE)

        seen = jax.vmap(read)(raw)
        shift = jnp.where(known.observed[:, None], seen.mean - known.means[None], 0.0)
        gain = product("mij,gmjl->gmil", known.covariances, known.precision())
        filling = jnp.where(known.observed[:, None, :, None], jnp.eye(n_features)[None, None], gain)
        return Within(seen.mass, shift, seen.scatter, filling)


class ByWhitening(NamedTuple):
    """Whitened residuals y = L⁻¹(x − μ) of the observed values, 0 elsewhere.

    Attributes:
        inverse: L⁻¹, (G, M, D, D).
        pulled: L⁻¹μ, (G, M, D).
        constant: log π − ½ log|2πΣ_OO|, (G, M).
    """

    inverse: Array
    pulled: Array
    constant: Array

    @classmethod
    def of(cls, known: Algebra) -> ByWhitening:
        """The kernel, prepared."""
        return cls(known.inverse, jnp.sum(known.inverse * known.means[None, :, None, :], axis=-1), known.constant)

    def look(self, pattern: Array, rows: Array) -> tuple[Array, Array]:
        """Residuals, (B, M, D, C), and log-joints, (B, M, C), of segments (B, D, C) of patterns (B,)."""
        whitened = product("bmij,bjc->bmic", self.inverse[pattern], rows) - self.pulled[pattern][..., None]
        return whitened, self.constant[pattern][..., None] - 0.5 * jnp.sum(whitened**2, axis=2)

    @staticmethod
    def sums(whitened: Array, shares: Array) -> Array:
        """Σ_c r (y, 1)(y, 1)ᵀ, (B, M, D + 1, D + 1), for shares (B, M, C)."""
        augmented = jnp.concatenate([whitened, jnp.ones_like(whitened[:, :, :1])], axis=2)
        return product("bmic,bmjc->bmij", augmented * shares[:, :, None], augmented)

    @staticmethod
    def within(raw: Array, known: Algebra) -> Within:
        """What sums for each pattern, (G, M, D + 1, D + 1), tell."""
        mass = raw[..., -1, -1]
        shift = raw[..., :-1, -1] / jnp.where(mass > 0, mass, 1.0)[..., None]
        scatter = raw[..., :-1, :-1] - mass[..., None, None] * shift[..., :, None] * shift[..., None, :]
        gain = product("mij,gmaj->gmia", known.covariances, known.inverse)
        return Within(mass, shift, scatter, jnp.where(known.observed[:, None, :, None], known.lower, gain))


def filled(statistic: Statistic, seen: Within, known: Algebra, n_stacked: int) -> Moments:
    """Moments of the true rows about the centre, (R, ...): the gaps filled, the patterns merged."""
    mean = known.means[None] + product("gmij,gmj->gmi", seen.filling, seen.shift)
    scatter = product("gmia,gmab,gmjb->gmij", seen.filling, seen.scatter, seen.filling)
    whole = scatter + seen.mass[..., None, None] * known.spread()
    n_patterns = mean.shape[0]

    def by_stack(leaf: Array) -> Array:
        return jnp.moveaxis(leaf.reshape(n_patterns, n_stacked, -1, *leaf.shape[2:]), 1, 0)

    def merged(mass: Array, mean: Array, whole: Array) -> Moments:
        return pool(Moments(mass, mean, jax.vmap(statistic.of_dense)(whole)))

    return jax.vmap(merged)(by_stack(seen.mass), by_stack(mean), by_stack(whole))
