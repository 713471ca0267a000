"""Coordinates about a mixture in which the information of the complete data is the identity.

The squared length of a small step is Σ N_k (d log π_k)² + Σ N_k ‖L_k⁻¹ dμ_k‖² + 2 Σ_j (N_j + λ) KL(Σ_j ‖ Σ_j + dΣ_j),
with a prior's pseudo-rows for the means in that N_k too.
In such coordinates the eigenvalues of minus the objective's Hessian lie between 0 and 1, so that conjugate gradients
need no other preconditioner. No coordinate is redundant, since steps of the weights keep their sum.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, nn

from jaxgmm.fitting.problem import Problem
from jaxgmm.model.families.protocol import Chart
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.slots import present
from jaxgmm.numerics.linalg import product


class Neighbourhood(NamedTuple):
    """Coordinates about a mixture: K − 1 for the weights, K·D for the means, then those of the covariances.

    Attributes:
        centre: the mixture, which has coordinates 0.
        basis: steps of the log-weights, (K, K−1).
        of_means: length of a step of each mean in whitened coordinates, (K,).
        chart: the coordinates of the covariances.
        held: whether each coordinate can move, (P,); those of components with log-weight −∞ cannot.
    """

    centre: Mixture
    basis: Array
    of_means: Array
    chart: Chart
    held: Array

    @property
    def origin(self) -> Array:
        """The coordinates of the mixture itself: zeros, (P,)."""
        return jnp.zeros(self.held.shape, self.centre.means.dtype)

    def at(self, steps: Array) -> Mixture:
        """The mixture at coordinates (P,)."""
        centre, n_components = self.centre, self.centre.n_components
        steps = jnp.where(self.held, steps, 0.0)
        weights, means, covs = jnp.split(steps, [n_components - 1, n_components - 1 + centre.means.size])
        log_weights = nn.log_softmax(centre.log_weights + product("kj,j->k", self.basis, weights))
        # What is not there stays so, and has no slope.
        log_weights = jnp.where(centre.log_weights == -jnp.inf, -jnp.inf, log_weights)
        shifts = means.reshape(centre.means.shape) * self.of_means[:, None]
        return Mixture(log_weights, centre.means + centre.covs.colour(shifts), self.chart.at(covs), centre.family)

    def slopes(self, responsibilities: Array, whitened: Array) -> Array:
        """Derivatives of log p(x) in the coordinates, (P, ·), from responsibilities (K, ·) and whitened (K, D, ·)."""
        weights = jnp.sum(self.basis[:, :, None] * responsibilities[:, None, :], axis=0)
        means = whitened * (responsibilities * self.of_means[:, None])[:, None, :]
        covs = self.chart.slopes(whitened, responsibilities)
        slopes = jnp.concatenate([weights, means.reshape(-1, means.shape[-1]), covs])
        return jnp.where(self.held[:, None], slopes, 0.0)


def about(mixture: Mixture, problem: Problem) -> Neighbourhood:
    """The neighbourhood of a mixture that was fitted under a prior, prepared for its data."""
    family, there = mixture.family, mixture.log_weights > -jnp.inf
    mass = problem.columns.mass * mixture.weights
    length = jnp.where(there, 1 / jnp.sqrt(jnp.where(there, mass, 1.0)), 0.0)
    n_distinct = mixture.covs.count
    masses = problem.penalty.masses(mass, n_distinct)
    of_means = jnp.where(there, 1 / jnp.sqrt(jnp.where(there, masses.means, 1.0)), 0.0)

    def scatter() -> Array:
        moments, _ = problem.data.moments(mixture, family.statistic)
        return problem.penalty.added(moments, n_distinct)[1].scatter

    chart = family.chart(mixture.covs, jnp.where(present(mixture), masses.covariances, 0.0), scatter)
    directions, stands_for = _complement(jnp.sqrt(mixture.weights))
    held = jnp.concatenate([there[stands_for], jnp.repeat(there, mixture.n_features), chart.held])
    return Neighbourhood(mixture, length[:, None] * directions, of_means, chart, held)


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
