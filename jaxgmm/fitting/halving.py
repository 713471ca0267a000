"""When restarts are compared and how many go on: successive halving, where it pays.

Short runs for all, longer ones for the best (Karnin, Koren & Somekh 2013; Jamieson & Talwalkar 2016).
"""

from __future__ import annotations

from typing import NamedTuple

from jaxgmm.fitting.loop import Climb

_SHORT_RUN = 50
"""Iterations after which restarts are compared, and of which one in `_KEEP` goes on.

From `experiments.benchmarks.restarts`: at 10 iterations the ranking still misleads on easy data, and 100 cost a
third more passes for little.
"""

_KEEP = 5

_HALVING_WORK = 1 << 22
"""Multiplications in a pass of all restarts together, R·N·K·D², from which on halving pays.

A smaller stack is one more program to compile, and hard data save some 600 passes of the whole stack: at a
billion multiplications a second, that is as long here. A rule of shapes alone, since the same key must give the
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


def plan(climbs: Climb, n_rows: int, n_components: int) -> tuple[Stage, ...]:
    """The comparisons to make among stacked climbs over so many rows; components beyond `n_components` are spare."""
    n_restarts, _, n_features = climbs.state.mixture.means.shape
    n_entries = n_features**2 if climbs.state.mixture.covs.mixes else n_features
    n_kept = -(-n_restarts // _KEEP)
    work = n_restarts * n_rows * n_components * n_entries
    return (Stage(_SHORT_RUN, n_kept),) if work >= _HALVING_WORK and n_kept < n_restarts else ()
