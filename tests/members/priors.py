"""A prior that the package does not have, written from the protocol alone: that of `docs/extend/prior.md`."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgmm.model.moments import merge
from jaxgmm.model.priors.ridge import PseudoRows
from jaxgmm.numerics.trees import register_dataclass


class PulledRows(NamedTuple):
    """Pseudo-rows of each covariance, and some at a centre for each mean."""

    spread: PseudoRows  # λ and Q = λ v V
    share: jax.Array  # v, ()
    pull: jax.Array  # κ, ()
    centre: jax.Array  # m, (D,)

    mass = property(lambda self: self.spread.mass)
    floor_is_fine = property(lambda self: self.spread.floor_is_fine)

    def masses(self, mass, n_distinct):
        masses = self.spread.masses(mass, n_distinct)
        return masses._replace(means=masses.means + self.pull)

    def added(self, moments, n_distinct):
        mass = jnp.full_like(moments.mass, self.pull)
        mean = jnp.broadcast_to(self.centre[None], moments.mean.shape)
        at_centre = moments._replace(mass=mass, mean=mean, scatter=jnp.zeros_like(moments.scatter))
        pulled = merge(moments, at_centre)._replace(mass=moments.mass)
        _, added = self.spread.added(pulled, n_distinct)
        return self.masses(moments.mass, n_distinct), added

    def with_rows(self, mass, scatter):
        return self._replace(spread=self.spread.with_rows(mass, scatter))

    def floor(self, mass):
        return self.share * self.spread.floor(mass)

    def log_prob(self, mixture):
        away = mixture.covs.solve(mixture.means - self.centre[None])
        terms = jnp.sum(away**2, axis=-1)
        there = mixture.log_weights > -jnp.inf
        of_means = -0.5 * self.pull * jnp.sum(jnp.where(there, terms, 0.0))
        return self.spread.log_prob(mixture) + of_means


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Conjugate:
    """The normal–inverse-Wishart prior: λ = s Σw, κ = p Σw, Q = λ v V."""

    strength: Any = 0.05  # s
    pull: Any = 0.01  # p
    share: Any = 0.25  # v, of the columns' variances

    def settle(self, dtype):
        return jax.tree.map(lambda value: jnp.asarray(value, dtype), self)

    def prepare(self, columns):
        mass = self.strength * columns.mass
        scatter = mass * self.share * columns.unit()
        spread = PseudoRows(mass, scatter, jnp.asarray(True))
        pull = self.pull * columns.mass
        return PulledRows(spread, self.share, pull, columns.mean)
