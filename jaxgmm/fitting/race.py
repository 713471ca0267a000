"""Restarts that climb, a few at a time in the lanes of one compiled program whose blocks return control to the host."""

from __future__ import annotations

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.fitting.algorithms.protocol import Algorithm, Info
from jaxgmm.fitting.loop import Climb, advance_all
from jaxgmm.fitting.problem import Problem
from jaxgmm.host.progress import Progress, Snapshot
from jaxgmm.numerics.programs import HostProgram

_BLOCK_SECONDS = 0.25
"""Seconds that a compiled block runs before control returns to the host."""

_FAST_WORK = 1 << 31
"""Multiplications in a pass of all restarts from which iterations are compiled to run fast. That takes five seconds of
CPU longer and makes iterations a fifth faster: it pays where a fit takes half a minute."""

_FIRST_WORK = 1 << 24
"""Multiplications in the first block: some ten milliseconds, after which the clock says how long blocks should be."""

advance = HostProgram(advance_all, loops=True)


class Race:
    """The climbs of all restarts, of which a few at a time are in the lanes of one compiled program, and climb.

    Neither the clock nor the data decide what is compiled. Which restarts share the lanes follows from the iterations
    that each takes, so that the clock does not decide that either.

    Attributes:
        unfinished: whether each restart has neither converged, used up its iterations nor failed, (R,).
        given_up: whether each restart was given up for better ones, (R,).
        begun: whether any has taken a step.
    """

    def __init__(self, climbs: Climb, n_lanes: int):
        """Begin with the first restarts in the lanes."""
        n_restarts = climbs.n_iter.shape[0]
        # Where blocks leave climbs: from elsewhere they would be compiled a second time.
        self._where = climbs.n_iter.sharding if climbs.n_iter.committed else None
        self._everyone, self._lanes, self._climbing, self.begun = climbs, np.arange(n_lanes), climbs, False
        if n_lanes < n_restarts:
            self._everyone = jax.tree.map(lambda leaf: leaf if _is_key(leaf) else np.array(leaf), climbs)
            self._climbing = self._taken(self._lanes)
        self.unfinished, self.given_up = np.ones(n_restarts, bool), np.zeros(n_restarts, bool)

    def together(self) -> Climb:
        """The climbs of all restarts as they are now, (R,)."""
        if len(self._lanes) == len(self.unfinished):
            return self._climbing

        def put(whole: Any, part: Any) -> Any:
            if _is_key(whole):
                return whole.at[self._lanes].set(part)
            whole[self._lanes] = part
            return whole

        self._everyone = jax.tree.map(put, self._everyone, self._climbing)
        return self._everyone

    def _taken(self, lanes: np.ndarray) -> Climb:
        return jax.device_put(jax.tree.map(lambda leaf: leaf[lanes], self._everyone), self._where)

    def climb(self, chosen: np.ndarray, until: int, block: Block) -> None:
        """Climb the chosen restarts, indices (C,), until each has ended or taken so many iterations."""
        waiting = [int(restart) for restart in chosen if self.unfinished[restart]]
        moving = np.isin(self._lanes, waiting)
        waiting = [restart for restart in waiting if restart not in self._lanes]
        while moving.any() or waiting:
            free = np.flatnonzero(~moving)[: len(waiting)]
            if free.size:
                self.together()
                lanes = self._lanes.copy()
                lanes[free], waiting = waiting[: free.size], waiting[free.size :]
                # Together, or an interrupt between them would put one restart's climb in another's place.
                self._lanes, self._climbing = lanes, self._taken(lanes)
                moving[free] = True
            still = self.unfinished[self._lanes] & moving
            self._climbing, still, n_iter = block(self._climbing, still, until, bool(waiting))
            self.begun = True
            self.unfinished[self._lanes[moving]] = still[moving]
            moving = moving & still & (n_iter < until)
            block.report(self._climbing, n_iter, still, int((self.unfinished & ~self.given_up).sum()))


def _is_key(leaf: Any) -> bool:
    """Whether a leaf holds typed keys, as states of some optimisers do, which NumPy cannot hold."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


class Block:
    """Compiled blocks of iterations, each as long as the clock allows, after which control returns to the host."""

    def __init__(
        self, algorithm: Algorithm, problem: Problem, tol: float, work: int, max_iter: int, n_restarts: int,
        progress: Progress,
    ):  # fmt: skip
        """Blocks for climbs of which a pass of all takes `work` multiplications."""
        self._fixed, self._tol = (algorithm, problem), tol
        self._advance = advance.fast if work >= _FAST_WORK else advance
        self._n_steps, self._most = max(1, _FIRST_WORK // max(work, 1)), max_iter
        self._told = functools.partial(
            snapshot, n_restarts=n_restarts, least_gain=tol * float(problem.columns.mass), max_iter=max_iter
        )
        self._progress = progress

    def __call__(self, climbs: Climb, still: np.ndarray, until: int, alone: bool) -> tuple[Climb, np.ndarray, Any]:
        """The climbs after a block, which are still going, and their iterations; see `advance_all`."""
        began, n_steps = time.perf_counter(), min(self._n_steps, self._most)
        algorithm, problem = self._fixed
        climbs, going = self._advance(algorithm, climbs, still, problem, self._tol, n_steps, until, alone)
        going, n_iter = jax.device_get((going, climbs.n_iter))
        elapsed = time.perf_counter() - began
        self._n_steps = int(np.clip(n_steps * _BLOCK_SECONDS / max(elapsed, 1e-9), 1, 8 * n_steps))
        return climbs, going, n_iter

    def report(self, climbs: Climb, n_iter: np.ndarray, going: np.ndarray, n_climbing: int) -> None:
        """Tell whoever listens of climbs, their iterations, which are still going, and how many there are in all."""
        if self._progress.listened:
            sight = self._told(jax.device_get(climbs.info), n_iter, going)
            self._progress.tell(sight._replace(n_climbing=n_climbing))


def snapshot(info: Info, n_iter: Any, alive: np.ndarray, n_restarts: int, least_gain: float, max_iter: int) -> Snapshot:
    """The figures for a progress bar, of stacked climbs (A,) of which those `alive` stop at `least_gain`."""
    gain = float(np.max(info.gain, where=alive, initial=-np.inf))
    return Snapshot(
        n_iter=int(np.max(n_iter)),
        max_iter=max_iter,
        objective=float(np.max(info.objective, where=np.isfinite(info.objective), initial=-np.inf)),
        gain=gain / least_gain if least_gain > 0 and np.isfinite(gain) else float("nan"),
        n_climbing=int(alive.sum()),
        n_restarts=n_restarts,
    )
