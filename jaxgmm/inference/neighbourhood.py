"""Coordinates about a mixture in which the information of the complete data is the identity.

The squared length of a small step is Σ N_k (d log π_k)² + Σ N_k ‖L_k⁻¹ dμ_k‖² + 2 Σ_j (N_j + λ) KL(Σ_j ‖ Σ_j + dΣ_j).
In such coordinates the eigenvalues of minus the objective's Hessian lie between 0 and 1, so that conjugate gradients
need no other preconditioner. No coordinate is redundant, since steps of the weights keep their sum.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, nn

from jaxgmm.model.mixture import Mixture
from jaxgmm.model.priors.penalty import Penalty
from jaxgmm.numerics.linalg import product


class Neighbourhood(NamedTuple):
    """Coordinates about a mixture: K − 1 for the weights, K·D for the means, then those of the covariances.

    Attributes:
        centre: the mixture, which has coordinates 0.
        basis: steps of the log-weights, (K, K−1).
        of_means: length of a step of each mean in whitened coordinates, (K,).
        of_covs: of each distinct covariance's coordinates, (n, C).
        held: whether each coordinate can move, (P,); those of components with log-weight −∞ cannot.
    """

    centre: Mixture
    basis: Array
    of_means: Array
    of_covs: Array
    held: Array

    @property
    def origin(self) -> Array:
        """The coordinates of the mixture itself: zeros, (P,)."""
        return jnp.zeros(self.held.shape, self.centre.means.dtype)

    def at(self, steps: Array) -> Mixture:
        """The mixture at coordinates (P,)."""
        centre, (n_components, n_features) = self.centre, self.centre.means.shape
        steps = jnp.where(self.held, steps, 0.0)
        weights, means, covs = jnp.split(steps, [n_components - 1, n_components - 1 + centre.means.size])
        log_weights = nn.log_softmax(centre.log_weights + product("kj,j->k", self.basis, weights))
        # What is not there stays so, and has no slope.
        log_weights = jnp.where(centre.log_weights == -jnp.inf, -jnp.inf, log_weights)
        shifts = means.reshape(centre.means.shape) * self.of_means[:, None]
        moved = centre.covs.displaced(covs.reshape(self.of_covs.shape) * self.of_covs, n_features)
        return Mixture(log_weights, centre.means + centre.covs.colour(shifts), moved, centre.family)

    def slopes(self, responsibilities: Array, whitened: Array) -> Array:
        """Derivatives of log p(x) in the coordinates, (P, ·), from responsibilities (K, ·) and whitened (K, D, ·)."""
        n_features, n_rows = self.centre.n_features, responsibilities.shape[-1]
        weights = jnp.sum(self.basis[:, :, None] * responsibilities[:, None, :], axis=0)
        means = whitened * (responsibilities * self.of_means[:, None])[:, None, :]
        covs = self.centre.covs.slopes(whitened, n_features) * responsibilities[:, None, :]
        if self.centre.covs.count < covs.shape[0]:
            covs = jnp.sum(covs, axis=0, keepdims=True)
        covs = covs * self.of_covs[:, :, None]
        slopes = jnp.concatenate([weights, means.reshape(-1, n_rows), covs.reshape(-1, n_rows)])
        return jnp.where(self.held[:, None], slopes, 0.0)


def about(mixture: Mixture, penalty: Penalty) -> Neighbourhood:
    """The neighbourhood of a mixture that was fitted under a prior, prepared for its data."""
    (n_components, n_features), covs = mixture.means.shape, mixture.covs
    there = mixture.log_weights > -jnp.inf
    mass = penalty.columns.mass * mixture.weights
    length = jnp.where(there, 1 / jnp.sqrt(jnp.where(there, mass, 1.0)), 0.0)
    own = covs.count == n_components
    per_covariance = mass if own else jnp.sum(mass, keepdims=True)
    used = there if own else jnp.any(there, keepdims=True)
    curvatures = jnp.asarray(covs.curvatures(n_features), mass.dtype)
    information = (per_covariance + penalty.mass)[:, None] * curvatures[None, :]
    of_covs = jnp.where(used[:, None], 1 / jnp.sqrt(jnp.where(used[:, None], information, 1.0)), 0.0)
    directions, stands_for = _complement(jnp.sqrt(mixture.weights))
    held = jnp.concatenate([there[stands_for], jnp.repeat(there, n_features), jnp.repeat(used, of_covs.shape[1])])
    return Neighbourhood(mixture, length[:, None] * directions, length, of_covs, held)


def _complement(unit: Array) -> tuple[Array, Array]:
    """An orthonormal basis, (K, K−1), of the complement of a unit vector of non-negative entries, by a reflection.

    Householder's reflection maps the vector onto the axis of its largest entry; each other axis gives a basis vector,
    the axis itself where the entry is 0. Also the index of that axis for each basis vector, (K−1,).
    """
    n_entries = unit.shape[0]
    pivot = jnp.argmax(unit)
    others = jnp.arange(n_entries - 1)
    others = others + (others >= pivot).astype(others.dtype)
    mirror = unit.at[pivot].add(1.0)
    reflection = jnp.eye(n_entries, dtype=unit.dtype) - mirror[:, None] * (mirror / mirror[pivot])[None, :]
    return reflection[:, others], others
