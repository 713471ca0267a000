"""Climbs over data that are driven from the host: one start after another, each pass called as the data call for it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.data.protocol import Data
from jaxgmm.fitting.algorithms.protocol import Algorithm
from jaxgmm.fitting.collapse import n_collapsed
from jaxgmm.fitting.loop import advance, begin, end
from jaxgmm.fitting.problem import Problem, posed
from jaxgmm.fitting.restarts import Outcome, together
from jaxgmm.fitting.starts.drawn import start
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.priors.penalty import Prior


def climb_driven(
    algorithm: Algorithm,
    starts: Any,
    data: Data,
    prior: Prior,
    n_components: int,
    method: str | None,
    family: Family,
    max_iter: int,
    tol: Array,
) -> tuple[Outcome, Problem]:
    """The results of all restarts and the problem; the starts are keys for a method, or mixtures where it is None."""
    problem, outcomes = posed(data, prior), []
    for place in range(len(jax.tree.leaves(starts)[0])):
        alone = jax.tree.map(lambda leaf, at=place: leaf[at], starts)
        mixture: Mixture = (
            alone if method is None else start(alone, problem, n_components, method, family, n_components)
        )
        climb = advance(algorithm, begin(algorithm, mixture, problem, max_iter), problem, tol, max_iter)
        fitted = end(climb, problem.columns, problem.penalty, tol)
        collapses = n_collapsed(fitted.mixture, problem.columns, problem.penalty)
        one = jax.device_get(jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (fitted, collapses)))
        outcomes.append(Outcome(*one, interrupted=np.zeros(1, bool), given_up=np.zeros(1, bool)))
    return together(outcomes), problem
