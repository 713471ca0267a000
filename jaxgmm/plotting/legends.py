"""Legends, axis labels and notes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from jaxgmm.plotting.colours import INK, palette
from jaxgmm.plotting.views import Components, View

_MANY = 20
"""The most components that a legend lists."""


def legend(owner: Any, title: str, keys: Sequence[Artist], longest: int = 6) -> Legend:
    """A small legend of axes or of a figure, beside the axes if longer than `longest` and the layout has room."""
    options: dict[str, Any] = {"loc": "best" if isinstance(owner, Axes) else "upper right"}
    roomy = isinstance(owner, Axes) and isinstance(owner.figure.get_layout_engine(), ConstrainedLayoutEngine)
    if roomy and len(keys) > longest:
        options = {"loc": "upper left", "bbox_to_anchor": (1, 1), "borderaxespad": 0, "frameon": False}
    return owner.legend(
        handles=keys, title=title, fontsize="small", title_fontsize="small", alignment="left", **options
    )


def component_keys(components: Components) -> list[Line2D]:
    """Legend entries, a dot with number and weight for each component; none if there are too many."""
    numbers = components.numbers
    if len(numbers) > _MANY:
        return []
    colours = palette(int(numbers.max()) + 1)[numbers]
    named = zip(numbers, components.weights, colours, strict=True)
    return [dot(f"{k}: {percent(weight)}", colour, 25) for k, weight, colour in named]


def ellipse_key(coverage: tuple[float, ...]) -> Line2D:
    """Legend entry for the probabilities of the ellipses."""
    return Line2D([], [], color=INK, lw=1.3, label=f"{', '.join(map(stated, coverage))} inside")


def dot(text: str, colour: Any, area: float) -> Line2D:
    """A dot of some area in points², as `scatter` draws it."""
    return Line2D([], [], ls="", marker="o", ms=area**0.5, mfc=tuple(colour), mew=0, label=text)


def name_axes(view: View, ax: Axes) -> None:
    """Label the axes with the names of the two columns."""
    ax.set(xlabel=view.labels[0], ylabel=view.labels[1])


def note_sample(view: View, ax: Axes) -> None:
    """Draw a note if not all rows are drawn."""
    if view.x is not None and len(view.drawn) < len(view.x):
        note = f"{len(view.drawn):,} of {len(view.x):,} rows"
        ax.annotate(note, (1, 1), (0, 3), "axes fraction", "offset points", ha="right", fontsize="x-small", color=INK)


def stated(coverage: float) -> str:
    """A given probability in per cent, with as many digits as distinguish it from 100."""
    return f"{100 * coverage:.{max(4, 3 + math.ceil(-math.log10(1 - coverage)))}g}%"


def percent(fraction: float) -> str:
    """A fraction in per cent: whole from ten on, two digits below."""
    return f"{100 * fraction:.0f}%" if fraction >= 0.0995 else f"{100 * fraction:.2g}%"
