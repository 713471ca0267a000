"""A plot of a selection: information criteria against K."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jaxgmm.fitting.candidates import Selection
from jaxgmm.fitting.criteria import check_criterion
from jaxgmm.plotting.colours import INK, PALE, palette
from jaxgmm.plotting.legends import legend as add_legend
from jaxgmm.plotting.views import as_axes

_MARKS = "osD^vP<>ph8d"


def criteria(
    selection: Selection, ax: Axes | None = None, *, criterion: str | None = None, legend: bool = True
) -> Axes:
    """An information criterion against K, a line for each family, the lowest marked.

    The limits of the axes show the better half of the fits; lines leave them at the top. Collapsed fits, whose
    likelihood is inflated, are hollow markers apart from the lines, at the edge if they lie outside. Skipped candidates
    are left out.

    Args:
        selection: the table that `select` returned.
        ax: where to draw; None makes a figure.
        criterion: "bic", "aic" or "icl"; None is the selection's own.
        legend: whether to name the families.

    Returns:
        The axes.

    Raises:
        TypeError: if `selection` is not a `Selection`.
        ValueError: if the criterion is not known, or no candidate has a finite one.

    Example:
        >>> x = np.random.default_rng(0).normal([[0.0, 0.0], [4.0, 4.0]] * 50)
        >>> selection = jaxgmm.select(jax.random.key(1), x, [1, 2], ["full"])
        >>> ax = jaxgmm.plotting.criteria(selection)
        >>> ax.get_xlabel()
        'components K'
    """
    if not isinstance(selection, Selection):
        raise TypeError(f"selection must be what jaxgmm.select returned, not {type(selection).__name__}")
    criterion = selection.criterion if criterion is None else criterion
    check_criterion(criterion)
    best = Selection(selection.candidates, criterion).best
    lowest = getattr(best, criterion)
    bottom, top = _frame(selection, criterion, lowest)
    families = list(dict.fromkeys(c.covariance_type for c in selection if np.isfinite(getattr(c, criterion))))
    collapsed = False
    ax = as_axes(ax)
    for place, (family, colour) in enumerate(zip(families, palette(len(families)), strict=True)):
        own = sorted((c for c in selection if c.covariance_type == family), key=lambda c: c.n_components)
        counts, values = [c.n_components for c in own], np.array([getattr(c, criterion) for c in own], float)
        on_line = np.where([c.sound for c in own] & np.isfinite(values), values, np.nan)
        off_line = np.where(np.isfinite(values) & np.isnan(on_line), np.clip(values, bottom, top), np.nan)
        style = {"color": colour, "marker": _MARKS[place % len(_MARKS)], "ms": 5}
        name = family if (values <= top).any() else f"{family} (above)"
        ax.plot(counts, on_line, lw=1.4, label=name, **style)
        ax.plot(counts, off_line, ls="", mfc="none", label="_collapsed", **style)
        collapsed |= bool(np.isfinite(off_line).any())
    ax.plot(best.n_components, lowest, "o", ms=13, mfc="none", mec=INK, mew=1.4, label="_lowest")
    ax.set(xlabel="components K", ylabel=f"{criterion.upper()} (lower is better)", ylim=(bottom, top))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if legend:
        named, _ = ax.get_legend_handles_labels()
        ring = Line2D([], [], ls="", marker="o", ms=11, mfc="none", mec=INK, mew=1.4)
        ring.set_label(f"lowest: K = {best.n_components}, {best.covariance_type}")
        hollow_key = Line2D([], [], ls="", marker="o", ms=5, mfc="none", mec=PALE, label="collapsed")
        add_legend(ax, "", [*named, *([hollow_key] if collapsed else []), ring], longest=0)
    return ax


def _frame(selection: Selection, criterion: str, lowest: float) -> tuple[float, float]:
    """Limits of the axes that show the better half of the fits, so that one bad family does not flatten the lines."""
    sound = [getattr(c, criterion) for c in selection if c.sound]
    values = np.array([value for value in sound if np.isfinite(value)] or [lowest])
    height = float(np.median(values)) - lowest or float(values.max()) - lowest or 1.0
    return lowest - 0.15 * height, lowest + 1.3 * height
