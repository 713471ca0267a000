"""Rows and components in a plane of two columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike

from jaxgmm.plotting.colours import INK, palette
from jaxgmm.plotting.densities import draw_curves
from jaxgmm.plotting.legends import component_keys, dot, ellipse_key, name_axes, note_sample
from jaxgmm.plotting.legends import legend as add_legend
from jaxgmm.plotting.regions import axes_of, radius
from jaxgmm.plotting.views import MAX_ROWS, Components, View, as_axes, as_coverage, as_view
from jaxgmm.probability import density

COVERAGE = (0.5, 0.95)
_APART = 10
"""The least distance between two numbers, in points."""


def clusters(
    mixture: Any,
    x: Any,
    ax: Axes | None = None,
    *,
    dims: Any = None,
    coverage: Any = COVERAGE,
    sample_weight: ArrayLike | None = None,
    max_rows: int | None = MAX_ROWS,
    legend: bool = True,
) -> Axes:
    """Rows in the colours of their responsibilities, and each component's ellipses with its number.

    A row that clearly belongs to a component has its colour, any other row a blend. Responsibilities are computed from
    all columns, ellipses from the marginal of those shown. With one column this is `curves`.

    Args:
        mixture: a mixture or a `FitResult`.
        x: rows, (N, D): an array, or a table, whose columns' names label the axes.
        ax: where to draw; None makes a figure.
        dims: indices or names of one or two columns; None is the first two.
        coverage: probabilities of a component inside its ellipses.
        sample_weight: non-negative weights, (N,); rows of weight zero are left out.
        max_rows: rows to draw at most; of more, a sample, with a note. None draws all.
        legend: whether to show the components' weights.

    Returns:
        The axes.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if x does not fit the mixture or holds NaN or infinity, or dims or coverage is not possible.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> ax = jaxgmm.plotting.clusters(mixture, x)
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('column 0', 'column 1')
    """
    coverage = as_coverage(coverage)
    view = as_view(mixture, x, dims, sample_weight, max_rows)
    ax = as_axes(ax)
    if len(view.dims) == 1:
        return draw_curves(view, ax, legend)
    draw_rows(view, ax, view.colours())
    draw_ellipses(view, ax, coverage)
    name_axes(view, ax)
    note_sample(view, ax)
    keys = component_keys(view.components())
    if legend and keys:
        add_legend(ax, "component: weight", [*keys, ellipse_key(coverage)])
    return ax


def ellipses(
    mixture: Any, ax: Axes | None = None, *, dims: Any = None, coverage: Any = COVERAGE, numbers: bool = True
) -> Axes:
    """Ellipses that contain a row of each component with given probabilities, in a plane of two columns.

    The ellipse (x − μ)ᵀ Σ⁻¹ (x − μ) = −2 log(1 − p) holds a Gaussian in the plane with probability p. Components
    without weight are left out.

    Args:
        mixture: a mixture or a `FitResult`.
        ax: where to draw; None makes a figure.
        dims: indices or names of two columns; None is the first two.
        coverage: probabilities of the ellipses.
        numbers: whether to write each component's number at its mean.

    Returns:
        The axes.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if dims or coverage is not possible.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> ax = jaxgmm.plotting.ellipses(mixture, coverage=0.9)
    """
    coverage = as_coverage(coverage)
    view = as_view(mixture, None, dims, least=2, instead=": a single one is drawn by curves")
    ax = as_axes(ax)
    draw_ellipses(view, ax, coverage, numbers)
    name_axes(view, ax)
    return ax


def uncertainty(
    mixture: Any,
    x: Any,
    ax: Axes | None = None,
    *,
    dims: Any = None,
    coverage: Any = COVERAGE,
    sample_weight: ArrayLike | None = None,
    max_rows: int | None = MAX_ROWS,
    legend: bool = True,
) -> Axes:
    """Rows in the colour of their component, larger and darker the more their assignment is in doubt.

    The area of a dot grows with 1 − max_k p(k | x). With one column this is the height of the dot.

    Args:
        mixture: a mixture or a `FitResult`.
        x: rows, (N, D): an array, or a table, whose columns' names label the axes.
        ax: where to draw; None makes a figure.
        dims: indices or names of one or two columns; None is the first two.
        coverage: probabilities of a component inside its ellipses.
        sample_weight: non-negative weights, (N,); rows of weight zero are left out.
        max_rows: rows to draw at most; of more, a sample, with a note. None draws all.
        legend: whether to explain the sizes.

    Returns:
        The axes.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if x does not fit the mixture or holds NaN or infinity, or dims or coverage is not possible.

    References:
        Fraley & Raftery (2002); drawn as mclust draws it (Scrucca, Fop, Murphy & Raftery 2016).

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> ax = jaxgmm.plotting.uncertainty(mixture, x)
    """
    coverage = as_coverage(coverage)
    view = as_view(mixture, x, dims, sample_weight, max_rows)
    rows = view.rows()
    doubt = np.asarray(density.uncertainty(view.mixture, rows), np.float64)
    colours = palette(view.mixture.n_components)[np.asarray(density.predict(view.mixture, rows))]
    order = np.argsort(doubt, kind="stable")
    points, doubt, colours = view.points()[order], doubt[order], colours[order]
    ax = as_axes(ax)
    if len(view.dims) == 1:
        top = max(doubt.max(), 0.05)
        for low, high in ((0.0, doubt), (-0.05 * top, -0.02 * top)):
            ax.vlines(points[:, 0], low, high, colors=list(colours), lw=1.2, rasterized=len(doubt) > 2000)
        ax.axhline(0, color=INK, lw=0.6)
        ax.set(xlabel=view.labels[0], ylabel="uncertainty", ylim=(-0.06 * top, 1.05 * top))
        note_sample(view, ax)
        return ax
    draw_ellipses(view, ax, coverage)
    rgba = np.column_stack([colours, _strength(doubt)])
    shrink = min(1, (1000 / len(doubt)) ** 0.5)
    ax.scatter(*points.T, c=rgba, s=shrink * _area(doubt), lw=0, rasterized=len(doubt) > 2000, zorder=2.5)
    name_axes(view, ax)
    note_sample(view, ax)
    if legend:
        shown = (0.0, 0.1, 0.25, 0.5)
        keys = [dot(f"{value:g}", (0.3, 0.3, 0.3, _strength(value)), shrink * _area(value)) for value in shown]
        add_legend(ax, "uncertainty", keys)
    return ax


def draw_rows(view: View, ax: Axes, colours: np.ndarray, largest: float = 20) -> None:
    """Draw rows as dots, smaller the more there are: of `largest` points² up to 200 rows."""
    n_rows = len(view.drawn)
    area = largest * min(1, (200 / max(n_rows, 1)) ** 0.5)
    ax.scatter(*view.points().T, c=colours, s=area, alpha=0.8, lw=0, rasterized=n_rows > 2000)


def draw_ellipses(view: View, ax: Axes, coverage: tuple[float, ...], numbers: bool = True) -> None:
    """Draw the ellipses of every component of positive weight, and its number at its mean."""
    shown, colours = view.components(), palette(view.mixture.n_components)
    for k, mean, covariance in zip(shown.numbers, shown.means, shown.covariances, strict=True):
        deviations, vectors = axes_of(covariance)
        angle = float(np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0])))
        for probability in coverage:
            width, height = 2 * radius(probability) * deviations
            for style in ({"fc": (*colours[k], 0.06), "lw": 0}, {"fill": False, "ec": colours[k], "lw": 1.3}):
                ax.add_patch(Ellipse(tuple(mean), width, height, angle=angle, **style))
    ax.autoscale_view()
    if numbers:
        _draw_numbers(shown, 0.75 * colours[shown.numbers], ax)


def _draw_numbers(shown: Components, colours: np.ndarray, ax: Axes) -> None:
    """Draw each component's number at its mean, or below where it would cover another."""
    halo = [withStroke(linewidth=2.5, foreground="white")]
    placed: list[np.ndarray] = []
    for k, mean, colour in zip(shown.numbers, shown.means, colours, strict=True):
        mean_at = at = ax.transData.transform(mean) * 72 / ax.figure.dpi
        while any(np.hypot(*(at - other)) < _APART for other in placed):
            at = at - (0, _APART)
        placed.append(at)
        style = {"ha": "center", "va": "center", "weight": "bold", "path_effects": halo}
        ax.annotate(str(k), mean, tuple(at - mean_at), textcoords="offset points", color=colour, **style)


def _strength(doubt: Any) -> Any:
    return np.clip(0.25 + 1.3 * doubt, 0, 0.9)


def _area(doubt: Any) -> Any:
    return 5 + 150 * doubt
