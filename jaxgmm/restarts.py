"""Restarts: R climbs as one, vmapped, in compiled blocks between which the host looks up."""

from __future__ import annotations

import functools
import time
from typing import Any, cast

import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxgmm._protocols import Algorithm, Family
from jaxgmm._types import FitResult, Mixture, Restarts, Status
from jaxgmm.collapse import n_collapsed
from jaxgmm.data import Rows
from jaxgmm.initialise import start
from jaxgmm.loop import Climb, advance, begin, end, going
from jaxgmm.priors import Penalty, prepare
from jaxgmm.progress import Progress

_BLOCK_SECONDS = 0.25
"""How long a compiled block runs before the host looks up."""


@functools.partial(jax.jit, static_argnums=(5, 6, 7, 8))
def start_drawn(
    algorithm: Algorithm,
    keys: Array,
    data: Rows,
    prior: Any,
    n_components: ArrayLike,
    method: str,
    family: Family,
    max_iter: int,
    n_slots: int,
) -> tuple[Climb, Penalty]:
    """A climb from a drawn start for each key, (R,), in `n_slots` components of which some are spare."""
    penalty = prepare(prior, data.columns())

    def one(key: Array) -> Climb:
        mixture = start(key, data, n_components, method, family, penalty, n_slots)
        return begin(algorithm, mixture, data, penalty, max_iter)

    return jax.vmap(one)(keys), penalty


@functools.partial(jax.jit, static_argnums=4)
def start_given(
    algorithm: Algorithm, mixtures: Mixture, data: Rows, prior: Any, max_iter: int
) -> tuple[Climb, Penalty]:
    """A climb from each of given starts, stacked along a leading axis."""
    penalty = prepare(prior, data.columns())
    return jax.vmap(lambda mixture: begin(algorithm, mixture, data, penalty, max_iter))(mixtures), penalty


@jax.jit
def _advance(
    algorithm: Algorithm, climbs: Climb, data: Rows, penalty: Penalty, tol: ArrayLike, n_steps: ArrayLike
) -> tuple[Climb, Array]:
    climbs = jax.vmap(lambda climb: advance(algorithm, climb, data, penalty, tol, n_steps))(climbs)
    return climbs, jax.vmap(lambda climb: going(climb, penalty, tol))(climbs)


@jax.jit
def end_all(climbs: Climb, penalty: Penalty, tol: ArrayLike, n_components: ArrayLike) -> tuple[FitResult, Array]:
    """What each climb came to, and in how many ways it collapsed."""
    fits = jax.vmap(lambda climb: end(climb, penalty, tol, n_components))(climbs)
    return fits, jax.vmap(lambda mixture: n_collapsed(mixture, penalty, n_components))(fits.mixture)


def climb_all(
    algorithm: Algorithm,
    climbs: Climb,
    data: Rows,
    penalty: Penalty,
    tol: float,
    max_iter: int,
    progress: bool,
) -> tuple[Climb, np.ndarray]:
    """Climb in compiled blocks; also which restarts were interrupted, (R,)."""
    unfinished, n_steps = np.ones(climbs.n_iter.shape, bool), 1
    try:
        with Progress(progress, max_iter, "iterations") as shown:
            while unfinished.any():
                began = time.perf_counter()
                climbs, still = _advance(algorithm, climbs, data, penalty, tol, n_steps)
                unfinished = np.asarray(still)
                elapsed = time.perf_counter() - began
                n_steps = int(np.clip(n_steps * _BLOCK_SECONDS / max(elapsed, 1e-9), 1, 8 * n_steps))
                if progress:
                    best = float(np.max(climbs.info.objective))
                    note = f"objective {best:.6g} (scaled columns), {unfinished.sum()} climbing"
                    shown.update(int(np.max(climbs.n_iter)), note)
    except KeyboardInterrupt:
        return climbs, unfinished
    return climbs, np.zeros_like(unfinished)


def choose(fits: FitResult, collapses: np.ndarray, interrupted: np.ndarray) -> tuple[FitResult, Restarts]:
    """The best restart: finite before not, then the least collapsed, then the highest objective."""
    status = np.where(interrupted & (fits.status == Status.MAX_ITER), Status.INTERRUPTED, fits.status)
    failed = status == Status.NONFINITE
    objective = np.where(failed, -np.inf, fits.objective)
    best = int(np.lexsort((-objective, collapses, failed))[0])
    restarts = Restarts(fits.objective, cast(Any, status), fits.n_iter)
    chosen = jax.tree.map(lambda leaf: leaf[best], fits)
    return chosen._replace(status=status[best]), restarts
