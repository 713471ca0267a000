"""The protocol of algorithms, which climb the objective."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol

from jax import Array

from jaxgmm.fitting.problem import Problem
from jaxgmm.model.mixture import Mixture


class Info(NamedTuple):
    """The report on one step of an algorithm.

    Attributes:
        objective: log-likelihood plus log-prior after the step, ().
        gain: the algorithm's estimate of the gain in the objective that remains, ().
        n_passes: passes over the data that the step took, ().
    """

    objective: Array
    gain: Array
    n_passes: Array


class Algorithm(Protocol):
    """An algorithm that climbs the objective step by step.

    The state is carried from step to step, `Info` is reported; a state has a `mixture` and its `log_likelihood`. `init`
    makes a pass over the data at the start; if it makes none, the first step visits the start.

    Two members it may leave out: see `climbs_by_moments` and `visited_by`.
    """

    takes_spares: ClassVar[bool]
    """Whether a start may have components of weight 0, which then stay as they are."""

    def init(self, mixture: Mixture, problem: Problem) -> tuple[Any, Info]:
        """The state at a start, and its `Info`; NaN and ∞ there if no pass is made."""
        ...

    def step(self, state: Any, problem: Problem) -> tuple[Any, Info]:
        """One iteration: the state after it, and its `Info`, whose objective is that of the new state's mixture."""
        ...


def climbs_by_moments(algorithm: Algorithm) -> bool:
    """Whether all that an algorithm asks of the data are moments, and no derivatives: its `by_moments`, else False.

    `fit` then compiles small problems in a third of the time.
    """
    return getattr(algorithm, "by_moments", False)


def visited_by(algorithm: Algorithm, mixture: Mixture) -> Mixture:
    """The mixture with which an algorithm visits the rows in a state of this mixture: its `surrogate`, or the same."""
    return getattr(algorithm, "surrogate", lambda mixture: mixture)(mixture)
