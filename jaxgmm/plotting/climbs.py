"""A plot of the course of fits towards the optimum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from jaxgmm.fitting.results import FAILED, FitResult, Status
from jaxgmm.host.checks import as_number
from jaxgmm.plotting.colours import INK, PALE, palette
from jaxgmm.plotting.legends import legend as add_legend
from jaxgmm.plotting.views import as_axes

_ENDS = {
    Status.CONVERGED: "o",
    Status.MAX_ITER: ">",
    Status.NONFINITE: "x",
    Status.COLLAPSED: "v",
    Status.INTERRUPTED: "s",
    Status.STOPPED: "d",
}
"""Markers for the end of a climb, by status."""

_DASHES = ("-", "--", "-.")
_ONE = {"passes": "pass", "iterations": "iteration"}


class Climb(NamedTuple):
    """One climb as a curve.

    Attributes:
        place: iterations or passes so far, (n,).
        objective: the objective after each, (n,).
        status: the status at its end.
    """

    place: np.ndarray
    objective: np.ndarray
    status: Status


def traces(
    results: Mapping[str, FitResult] | FitResult,
    ax: Axes | None = None,
    *,
    against: str = "passes",
    best: float | None = None,
    n_rows: float | None = None,
    legend: bool = True,
) -> Axes:
    """The gap between objective and best objective in the course of fits, on a log scale.

    A marker at the end of each curve shows the status. A dotted line marks eps·|best|, below which rounding hides a
    gap; smaller gaps are drawn on it. A point whose objective is itself the best is left out: its gap is not known.

    Args:
        results: fits by name, or one fit; fits stacked by `vmap` are drawn as a thin line each.
        ax: where to draw; None makes a figure.
        against: "passes" over the data, which makes EM and line searches comparable (a fit's passes are spread evenly
            over its iterations); or "iterations".
        best: the objective from which gaps are measured; None is the best of all fits that neither collapsed nor
            failed.
        n_rows: number by which the gap is divided, so that it has the unit of `tol`; None leaves the total.
        legend: whether to name the fits and their statuses.

    Returns:
        The axes.

    Raises:
        TypeError: if `results` holds something else, or `best` or `n_rows` is no number.
        ValueError: if it is empty, no objective is finite, `against` is not known, `best` is not finite, or `n_rows` is
            not above 0.

    Example:
        >>> x = np.random.default_rng(0).normal([[0.0, 0.0], [4.0, 4.0]] * 50)
        >>> fitted = jaxgmm.fit(jax.random.key(1), x, 2)
        >>> ax = jaxgmm.plotting.traces({"EM": fitted})
        >>> ax.get_xlabel()
        'passes over the data'
    """
    named = {"": results} if isinstance(results, FitResult) else results
    if not isinstance(named, Mapping) or not all(isinstance(result, FitResult) for result in named.values()):
        raise TypeError('results must be a FitResult, or a dict of them such as {"EM": result}')
    if against not in _ONE:
        raise ValueError(f"against must be 'passes' or 'iterations', not {against!r}")
    unit = 1.0 if n_rows is None else as_number(n_rows, "n_rows")
    if not 0 < unit < np.inf:
        raise ValueError(f"n_rows must be above 0 and finite, not {unit}")
    climbs = {name: _climbs(result, against) for name, result in named.items()}
    known = best is not None
    best = as_number(best, "best") if known else _best([climb for own in climbs.values() for climb in own])
    if not np.isfinite(best):
        raise ValueError(f"best must be finite, not {best}")
    eps = max(np.finfo(np.asarray(result.objective).dtype).eps for result in named.values())
    rounding = float(eps) * max(abs(best), 1e-30) / unit
    ax = as_axes(ax)
    ax.set_yscale("log")
    ax.axhline(rounding, color=PALE, ls=":", lw=1, label="_rounding")
    keys = []
    for place, ((name, own), colour) in enumerate(zip(climbs.items(), palette(len(climbs)), strict=True)):
        style = {"color": colour, "ls": _DASHES[place % len(_DASHES)]}
        thin = len(own) > 1
        for climb in own:
            gap = _gap(climb.objective, best, known, rounding * unit) / unit
            ax.plot(climb.place, gap, lw=0.9 if thin else 1.6, alpha=0.7 if thin else 1, label=name, **style)
            last = np.flatnonzero(np.isfinite(gap))[-1:]
            ax.plot(climb.place[last], gap[last], _ENDS[climb.status], color=colour, ms=5 if thin else 7)
        keys.append(Line2D([], [], lw=1.6, **style, label=_described(name, own, against)))
    ends = dict.fromkeys(climb.status for own in climbs.values() for climb in own)
    keys += [Line2D([], [], ls="", marker=_ENDS[s], color=INK, label=_said(s)) for s in ends]
    keys.append(Line2D([], [], color=PALE, ls=":", lw=1, label="rounding"))
    per_row = "" if n_rows is None else ", per row"
    ax.set(
        xlabel="passes over the data" if against == "passes" else "iterations",
        ylabel=f"objective below the best{per_row}",
    )
    if legend:
        add_legend(ax, "", keys)
    return ax


def _climbs(result: FitResult, against: str) -> list[Climb]:
    """The climb of a fit, or the climbs of a stack of fits."""
    history = np.asarray(result.history, np.float64)
    history = history.reshape(-1, history.shape[-1])
    ends = (result.objective, result.n_iter, result.n_passes, result.status)
    objective, n_iter, n_passes, status = (np.ravel(np.asarray(end)) for end in ends)
    return [
        Climb(
            *_course(history[r], float(objective[r]), int(n_iter[r]), int(n_passes[r]), against), Status(int(status[r]))
        )
        for r in range(len(history))
    ]


def _course(
    history: np.ndarray, objective: float, n_iter: int, n_passes: int, against: str
) -> tuple[np.ndarray, np.ndarray]:
    """Iterations or passes and the objective after each, or only at the end for a fit without iterations."""
    seen = history[:n_iter] if n_iter else np.array([objective])
    place = np.arange(1.0, n_iter + 1) if n_iter else np.zeros(1)
    if against == "passes":
        # The first pass is the start's.
        place = 1 + place * (n_passes - 1) / max(n_iter, 1)
    return place, np.where(np.isfinite(seen), seen, np.nan)


def _best(climbs: list[Climb]) -> float:
    sound = [climb for climb in climbs if climb.status not in FAILED] or climbs
    seen = np.concatenate([climb.objective for climb in sound] or [np.zeros(0)])
    if not np.isfinite(seen).any():
        raise ValueError("results hold no finite objective" if climbs else "results is empty")
    return float(np.nanmax(seen))


def _gap(objective: np.ndarray, best: float, known: bool, rounding: float) -> np.ndarray:
    """The best objective less each objective, at least `rounding`; NaN where it has no logarithm."""
    gap = best - objective
    itself = gap == 0
    if not known and itself.sum() == 1 < len(gap):
        gap[itself] = np.nan
    # A climb to a singularity may pass the best.
    return np.where(gap < -rounding, np.nan, np.maximum(gap, rounding))


def _described(name: str, climbs: list[Climb], against: str) -> str:
    """Text that says how many iterations or passes a fit took, the median for several."""
    n_taken = round(float(np.median([climb.place[-1] for climb in climbs])))
    took = f"{n_taken} {_ONE[against] if n_taken == 1 else against}"
    if len(climbs) > 1:
        took = f"{len(climbs)} climbs, median {took}"
    return f"{name}: {took}" if name else took


def _said(status: Status) -> str:
    return status.name.lower().replace("_", " ")
