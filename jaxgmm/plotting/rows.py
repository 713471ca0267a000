"""A plot of one row's responsibilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from jaxgmm.host.arrays import as_numbers
from jaxgmm.model.fitted import check_names, names_in
from jaxgmm.plotting.colours import INK, palette
from jaxgmm.plotting.legends import legend as add_legend
from jaxgmm.plotting.views import as_axes, as_mixture, as_view
from jaxgmm.probability import density

_MOST = 15
"""The most bars; of more components the least responsible share one bar."""

_OTHERS = (0.6, 0.6, 0.6)


def responsibilities(mixture: Any, row: Any, ax: Axes | None = None, *, legend: bool = True) -> Axes:
    """The responsibilities p(k | x) of one row as bars, with ticks at the weights π_k.

    Components of weight 0 are left out. Of more than fifteen components, the least responsible share one bar, "others".

    Args:
        mixture: a mixture or a `FitResult`.
        row: one row, (D,) or (1, D).
        ax: where to draw; None makes a figure.
        legend: whether to explain the ticks.

    Returns:
        The axes.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if the row does not fit the mixture, has other columns than the fit or in another order, or
            holds NaN or infinity.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> ax = jaxgmm.plotting.responsibilities(mixture, [2.0, 2.0])
    """
    x = np.asarray(as_numbers(row, "row"))
    if x.ndim not in (1, 2) or x.ndim == 2 and len(x) != 1:
        raise ValueError(f"row must be a single row, (D,) or (1, D), not {x.shape}: choose one, such as x[0]")
    x, n_features = x.reshape(1, -1), as_mixture(mixture).n_features
    check_names(row, names_in(mixture), "row")
    if x.shape[1] != n_features:
        raise ValueError(f"row has {x.shape[1]} columns, but the mixture has {n_features}")
    bad = np.flatnonzero(~np.isfinite(x[0]))
    if bad.size:
        raise ValueError(f"row holds {x[0, bad[0]]} in column {bad[0]}: fill it, or take the marginal of the others")
    view = as_view(mixture, x, 0)
    shown = view.components()
    resp = np.asarray(density.responsibilities(view.mixture, view.rows()), np.float64)[0, shown.numbers]
    starts, colours = shown.weights, palette(view.mixture.n_components)[shown.numbers]
    names = [str(k) for k in shown.numbers]
    if len(resp) > _MOST:
        ranked = np.argsort(-resp, kind="stable")
        kept, rest = np.sort(ranked[: _MOST - 1]), ranked[_MOST - 1 :]
        resp, starts = (np.append(values[kept], values[rest].sum()) for values in (resp, starts))
        colours, names = np.vstack([colours[kept], _OTHERS]), [*(names[k] for k in kept), f"{len(rest)} others"]
    places = np.arange(len(names))
    ax = as_axes(ax)
    ax.barh(places, resp, 0.7, color=list(colours))
    ax.vlines(starts, places - 0.42, places + 0.42, color=INK, lw=1.5)
    for place, length, start in zip(places, resp, starts, strict=True):
        ax.annotate(f"{length:.2g}", (max(length, start), place), (5, 0), textcoords="offset points", va="center")
    ax.set(yticks=places, yticklabels=names, ylim=(len(names) - 0.4, -0.6), xlim=(0, 1.12))
    ax.set(xlabel="responsibility", ylabel="component", xticks=np.linspace(0, 1, 6))
    if legend:
        key = Line2D([], [], ls="", marker="|", ms=10, mew=1.5, c=INK, label="weight in the mixture")
        add_legend(ax, "", [key])
    return ax
