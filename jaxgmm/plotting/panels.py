"""Plots of every pair of columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from jaxgmm.plotting.densities import draw_curves
from jaxgmm.plotting.legends import component_keys, ellipse_key, name_axes, note_sample
from jaxgmm.plotting.legends import legend as add_legend
from jaxgmm.plotting.planes import COVERAGE, draw_ellipses, draw_rows
from jaxgmm.plotting.views import MAX_ROWS, as_coverage, as_mixture, as_view

_MOST, _MOST_NUMBERED = 12, 5
"""The most columns that are drawn, and the most for which components are numbered."""


def pairs(
    mixture: Any,
    x: Any = None,
    axes: Any = None,
    *,
    dims: Any = None,
    coverage: Any = COVERAGE,
    sample_weight: ArrayLike | None = None,
    max_rows: int | None = MAX_ROWS,
    legend: bool = True,
) -> np.ndarray:
    """Every pair of columns, drawn as by `clusters`, below a diagonal of `curves`.

    Args:
        mixture: a mixture or a `FitResult`.
        x: rows, (N, D), whose columns' names label the axes where it is a table; None draws the components alone.
        axes: where to draw, (d, d); None makes a figure. Those above the diagonal are hidden.
        dims: indices or names of the d columns, 2 to 12; None is all of them.
        coverage: probabilities of a component inside its ellipses.
        sample_weight: non-negative weights, (N,); rows of weight zero are left out, histograms count by them.
        max_rows: rows to draw at most; of more, a sample, with a note. None draws all.
        legend: whether to show the components' weights.

    Returns:
        The axes, (d, d).

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if x does not fit the mixture or holds NaN or infinity, if dims or coverage is not possible, or
            `axes` has another shape.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> axes = jaxgmm.plotting.pairs(mixture, x)
        >>> axes.shape
        (2, 2)
    """
    coverage = as_coverage(coverage)
    dims = range(as_mixture(mixture).n_features) if dims is None else dims
    instead = ": curves draws a single one, and of many some are chosen by dims"
    view = as_view(mixture, x, dims, sample_weight, max_rows, least=2, most=_MOST, instead=instead)
    colours = view.colours()
    axes = _as_grid(axes, len(view.dims))
    for i, j in np.ndindex(axes.shape):
        if i < j:
            axes[i, j].set_visible(False)
        elif i == j:
            draw_curves(view.of(i), axes[i, i], legend=False)
            axes[i, i].set(yticks=[], ylabel="")
        else:
            plane = view.of(j, i)
            draw_rows(plane, axes[i, j], colours, largest=10)
            draw_ellipses(plane, axes[i, j], coverage, numbers=len(axes) <= _MOST_NUMBERED)
            name_axes(plane, axes[i, j])
    _align(axes)
    note_sample(view, axes[0, 0])
    keys = component_keys(view.components())
    if legend and keys:
        add_legend(axes[0, 0].figure, "component: weight", [*keys, ellipse_key(coverage)])
    return axes


def _align(axes: np.ndarray) -> None:
    """Give a column the same limits everywhere, with ticks and names only at the left and the bottom."""
    n_dims = len(axes)
    for d in range(n_dims):
        across, up = [ax.get_xlim() for ax in axes[d:, d]], [ax.get_ylim() for ax in axes[d, :d]]
        limits = np.min([*across, *up], axis=0)[0], np.max([*across, *up], axis=0)[1]
        for ax in axes[d:, d]:
            ax.set_xlim(limits)
        for ax in axes[d, :d]:
            ax.set_ylim(limits)
    for ax in axes[:-1].flat:
        ax.set_xlabel("")
        ax.tick_params(labelbottom=False)
    for ax in axes[:, 1:].flat:
        ax.set_ylabel("")
        ax.tick_params(labelleft=False)
    axes[0, 0].figure.align_labels(list(axes.flat))


def _as_grid(axes: Any, n_dims: int) -> np.ndarray:
    """The given axes, or those of a new figure, (n_dims, n_dims)."""
    if axes is None:
        from matplotlib import pyplot

        size = 1.2 + min(2.2, 12 / n_dims) * n_dims
        return pyplot.subplots(n_dims, n_dims, figsize=(size, size), squeeze=False, layout="constrained")[1]
    grid = np.asarray(axes, object)
    strange = [ax for ax in grid.flat if not isinstance(ax, Axes)]
    if strange:
        raise TypeError(f"axes must be an array of matplotlib Axes or None, but holds {type(strange[0]).__name__}")
    if grid.shape != (n_dims, n_dims):
        raise ValueError(f"axes must have shape ({n_dims}, {n_dims}), one for each pair of dims, not {grid.shape}")
    return grid
