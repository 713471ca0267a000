"""An algorithm that the package does not have, written from the protocol alone: that of `docs/extend/algorithm.md`."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgmm.numerics.trees import register_dataclass


class PatientState(NamedTuple):
    """The state of what is wrapped, and its last estimates, oldest first."""

    inner: Any
    gains: jax.Array  # (length,)

    mixture = property(lambda self: self.inner.mixture)
    log_likelihood = property(lambda self: self.inner.log_likelihood)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Patient:
    """An algorithm that ends where it has wanted to for `length` steps in a row."""

    algorithm: Any
    length: int = dataclasses.field(default=10, metadata={"static": True})

    takes_spares = property(lambda self: self.algorithm.takes_spares)

    def init(self, mixture, problem):
        inner, info = self.algorithm.init(mixture, problem)
        gains = jnp.full((self.length,), jnp.inf, info.gain.dtype)
        return PatientState(inner, gains), info

    def step(self, state, problem):
        inner, info = self.algorithm.step(state.inner, problem)
        gains = jnp.concatenate([state.gains[1:], info.gain[None]])
        info = info._replace(gain=jnp.max(gains))
        return PatientState(inner, gains), info
