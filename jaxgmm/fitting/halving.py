"""Successive halving of the restarts: when they are compared, and how many go on.

All make a short run, and the best a longer one (Karnin, Koren & Somekh 2013; Jamieson & Talwalkar 2016).
"""

from __future__ import annotations

from typing import NamedTuple

_SHORT_RUN = 50
"""Iterations after which restarts are compared, and of which one in `_KEEP` goes on.

From `experiments.benchmarks.restarts`: at 10 iterations the ranking still misleads on easy data, and 100 cost a
third more passes for little.
"""

_KEEP = 5

_HALVING_WORK = 1 << 22
"""Multiplications in a pass of all restarts together, R·N·K·D², from which on halving saves time.

Halving saves some 600 passes of the whole stack on hard data. Below this work they take less than a second, and a
climb that was given up might have been the best. The rule depends on shapes alone, since the same key must give the
same fit on any machine.
"""


class Stage(NamedTuple):
    """A comparison of the restarts.

    Attributes:
        n_iter: iterations after which it takes place.
        n_kept: how many restarts go on.
    """

    n_iter: int
    n_kept: int


def pass_work(n_restarts: int, n_rows: int, n_components: int, n_features: int, mixes: bool) -> int:
    """Multiplications in a pass of all restarts, R·N·K·D², or R·N·K·D where covariances are diagonal.

    Args:
        n_restarts: R.
        n_rows: N.
        n_components: K.
        n_features: D.
        mixes: whether covariances have entries beside the diagonal.
    """
    return n_restarts * n_rows * n_components * (n_features**2 if mixes else n_features)


def plan(n_restarts: int, work: int) -> tuple[Stage, ...]:
    """The stages at which restarts are compared, none where halving costs more than it saves.

    Args:
        n_restarts: R.
        work: multiplications in a pass of all, without spare components; see `pass_work`.
    """
    n_kept = -(-n_restarts // _KEEP)
    return () if work < _HALVING_WORK or n_kept == n_restarts else (Stage(_SHORT_RUN, n_kept),)
