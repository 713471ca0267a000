"""The protocol of algorithms: ways to climb the objective."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol

from jax import Array

from jaxgmm.model.mixture import Mixture


class Info(NamedTuple):
    """What one step of an algorithm reports.

    Attributes:
        objective: log-likelihood plus log-prior after the step, ().
        gain: the algorithm's estimate of the gain in the objective that remains, ().
        n_passes: passes over the data that the step took, ().
    """

    objective: Array
    gain: Array
    n_passes: Array


class Algorithm(Protocol):
    """A way to climb. State is carried, information is reported; a state has a `mixture` and its `log_likelihood`.

    `init` makes a pass at the start, or none: then the first step visits the start.
    """

    takes_spares: ClassVar[bool]
    """Whether components of log-weight −∞ may stand by, and stay as they are."""

    def init(self, mixture: Mixture, data: Any, penalty: Any) -> tuple[Any, Info]:
        """The state at a start, and what is known of it. Without a pass here, the first step visits the start."""
        ...

    def step(self, state: Any, data: Any, penalty: Any) -> tuple[Any, Info]:
        """One iteration: the state after it, and its `Info`, whose objective is that of the new state's mixture."""
        ...
