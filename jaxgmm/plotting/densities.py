"""Densities along one column, and over a plane of two."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from jaxgmm.plotting.colours import INK, palette, shades
from jaxgmm.plotting.legends import component_keys, name_axes, note_sample, stated
from jaxgmm.plotting.legends import legend as add_legend
from jaxgmm.plotting.regions import levels, lines
from jaxgmm.plotting.views import MAX_ROWS, View, as_axes, as_coverage, as_view
from jaxgmm.probability import density

_N_CURVE, _N_GRID = 600, 240
"""The number of points of a curve, and of lines of a grid in each direction."""

_MAX_BINS = 80
_MAX_TICKS = 1000


def curves(
    mixture: Any,
    x: Any = None,
    ax: Axes | None = None,
    *,
    dims: Any = None,
    sample_weight: ArrayLike | None = None,
    legend: bool = True,
) -> Axes:
    """The density along one column, its terms π_k N(x; μ_k, σ_k²), and the rows.

    Rows are drawn as a histogram of area 1, and as ticks below it in the colours of their responsibilities.

    Args:
        mixture: a mixture or a `FitResult`.
        x: rows, (N, D), whose columns' names label the axes where it is a table; None draws the densities alone.
        ax: where to draw; None makes a figure.
        dims: index or name of the column; None is the first.
        sample_weight: non-negative weights of the rows, (N,), for the histogram.
        legend: whether to show the components' weights.

    Returns:
        The axes.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if x does not fit the mixture or holds NaN or infinity, or dims is not possible.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> ax = jaxgmm.plotting.curves(mixture, x, dims=1)
        >>> ax.get_xlabel()
        'column 1'
    """
    view = as_view(mixture, x, dims, sample_weight, _MAX_TICKS, most=1, instead=": clusters and pairs draw more")
    return draw_curves(view, as_axes(ax), legend)


def contours(
    mixture: Any,
    x: Any = None,
    ax: Axes | None = None,
    *,
    dims: Any = None,
    coverage: Any = (0.25, 0.5, 0.75, 0.95),
    sample_weight: ArrayLike | None = None,
    max_rows: int | None = MAX_ROWS,
    legend: bool = True,
) -> Axes:
    """The smallest regions of a plane that contain a row of the mixture with given probabilities.

    Each is {x : p(x) ≥ c}, where p is the marginal density in the two columns; it may consist of several pieces. The
    grid is finer where components are narrow; a component both narrow and tilted may still come out in pieces.

    Args:
        mixture: a mixture or a `FitResult`.
        x: rows, (N, D), drawn as dots, whose columns' names label the axes where it is a table; None draws none.
        ax: where to draw; None makes a figure.
        dims: indices or names of two columns; None is the first two.
        coverage: probabilities of the regions.
        sample_weight: non-negative weights, (N,); rows of weight zero are left out.
        max_rows: rows to draw at most; of more, a sample, with a note. None draws all.
        legend: whether to show the probabilities of the regions.

    Returns:
        The axes.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if x does not fit the mixture or holds NaN or infinity, or dims or coverage is not possible.

    References:
        Hyndman (1996), Computing and graphing highest density regions.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> ax = jaxgmm.plotting.contours(mixture, x, coverage=[0.5, 0.9])
    """
    coverage = as_coverage(coverage)
    view = as_view(mixture, x, dims, sample_weight, max_rows, least=2, instead=": curves draws one")
    plane, shown, points = view.marginal(), view.components(), view.points()
    seen = {"margin": 0.04, "coverage": coverage[-1]}
    across, up = (lines(shown, place, _N_GRID, points[:, place], **seen) for place in (0, 1))
    grid = np.stack(np.meshgrid(across, up), axis=-1)
    heights = np.asarray(density.log_prob(plane, grid), np.float64)
    found = levels(plane, shown, coverage)[::-1]
    # Far from every component float32 has no log-density left: below all levels, and finite for the interpolation.
    heights = np.maximum(heights, found[0] - 1e3)
    ax = as_axes(ax)
    colours = shades(len(coverage))
    ax.contourf(across, up, heights, levels=[*found, np.inf], colors=list(colours), zorder=0.5)
    ax.contour(across, up, heights, levels=found, colors=[INK], linewidths=0.6, linestyles="-", zorder=0.6)
    if len(points):
        shrink = min(1, (500 / len(points)) ** 0.5)
        ax.scatter(*points.T, s=6 * shrink, c="k", alpha=max(0.5 * shrink, 0.15), lw=0, rasterized=len(points) > 2000)
    name_axes(view, ax)
    note_sample(view, ax)
    if legend:
        named = zip(coverage[::-1], colours, strict=True)
        keys = [Line2D([], [], ls="", marker="s", ms=8, c=c, mec=INK, mew=0.6, label=stated(p)) for p, c in named]
        add_legend(ax, "inside", keys[::-1])
    return ax


def draw_curves(view: View, ax: Axes, legend: bool) -> Axes:
    """Draw the density along the first of the columns shown."""
    view = view.of(0)
    shown, column = view.components(), view.column()
    if len(column):
        edges = np.histogram_bin_edges(column, "auto")
        if len(edges) > _MAX_BINS:
            edges = np.linspace(column.min(), column.max(), _MAX_BINS)
        ax.hist(column, list(edges), weights=view.weights, density=True, color="0.9", edgecolor="white", lw=0.5)
        drawn = view.drawn[:: -(-len(view.drawn) // _MAX_TICKS)]
        rug = view._replace(drawn=drawn)
        foot = ax.get_xaxis_transform()
        ax.vlines(column[drawn], 0, 0.03, colors=list(rug.colours()), lw=0.8, transform=foot, rasterized=True)
    across = lines(shown, 0, _N_CURVE, column)
    parts = np.exp(np.asarray(density.log_joint(view.marginal(), across[:, None]), np.float64))[:, shown.numbers]
    colours = palette(view.mixture.n_components)[shown.numbers]
    ax.plot(across, parts.sum(axis=1), color=INK, lw=2)
    for part, colour in zip(parts.T, colours, strict=True):
        ax.fill_between(across, part, color=colour, alpha=0.12, lw=0)
        ax.plot(across, part, color=colour, lw=1.3)
    ax.set(xlabel=view.labels[0], ylabel="density")
    ax.set_ylim(bottom=0)
    keys = component_keys(shown)
    if legend and keys:
        add_legend(ax, "component: weight", [*keys, Line2D([], [], color=INK, lw=2, label="sum")])
    return ax
