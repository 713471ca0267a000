"""Checked arguments of the plotting functions: a mixture, rows, columns with their names, axes."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from jaxgmm.host.arrays import Names, as_table, is_traced
from jaxgmm.host.checks import as_count, check_finite
from jaxgmm.host.weights import as_weights
from jaxgmm.model.fitted import as_mixtures, check_names, names_in
from jaxgmm.model.mixture import Mixture
from jaxgmm.plotting.colours import blend, palette
from jaxgmm.probability.density import responsibilities
from jaxgmm.probability.marginals import marginal

MAX_ROWS = 20_000
"""The most rows drawn one by one: more would cover each other, and take seconds."""


class Components(NamedTuple):
    """The components of positive weight, in the columns shown; on the host, in float64.

    Attributes:
        numbers: their indices in the mixture, (K',).
        weights: π_k, (K',).
        means: means in the columns shown, (K', d).
        covariances: covariances in the columns shown, (K', d, d).
    """

    numbers: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray


class View(NamedTuple):
    """A mixture and rows, seen in some of their columns.

    Attributes:
        mixture: the mixture, in all columns.
        dims: indices of the columns shown, (d,).
        labels: names of the columns shown.
        x: rows of positive weight, (N, D), or None.
        weights: weights of these rows, (N,).
        drawn: indices of the rows to draw one by one.
    """

    mixture: Mixture
    dims: tuple[int, ...]
    labels: tuple[str, ...]
    x: np.ndarray | None
    weights: np.ndarray
    drawn: np.ndarray

    def of(self, *places: int) -> View:
        """The view of the columns at some places in `dims`."""
        return self._replace(dims=tuple(self.dims[i] for i in places), labels=tuple(self.labels[i] for i in places))

    def marginal(self) -> Mixture:
        """The mixture in the columns shown."""
        return marginal(self.mixture, self.dims)

    def components(self) -> Components:
        """The components of positive weight, in the columns shown."""
        shown = self.marginal()
        weights, means, covariances = (
            np.asarray(a, np.float64) for a in (shown.weights, shown.means, shown.covariances)
        )
        there = np.flatnonzero(weights > 0)
        return Components(there, weights[there], means[there], covariances[there])

    def rows(self) -> np.ndarray:
        """The rows to draw, in all columns, (n, D)."""
        return self._rows()[self.drawn]

    def points(self) -> np.ndarray:
        """The rows to draw, in the columns shown, (n, d)."""
        return self.rows()[:, list(self.dims)].astype(np.float64)

    def colours(self) -> np.ndarray:
        """The colours of the rows to draw, blended by responsibilities in all columns, sRGB, (n, 3)."""
        if not len(self.drawn):
            return np.zeros((0, 3))
        soft = np.asarray(responsibilities(self.mixture, self.rows()), np.float64)
        return blend(soft, palette(self.mixture.n_components))

    def column(self) -> np.ndarray:
        """The entries of all rows in the first column shown, (N,)."""
        return self._rows()[:, self.dims[0]].astype(np.float64)

    def _rows(self) -> np.ndarray:
        return np.zeros((0, self.mixture.n_features)) if self.x is None else self.x


def as_view(
    mixture: Any,
    x: Any,
    dims: Any,
    sample_weight: ArrayLike | None = None,
    max_rows: int | None = MAX_ROWS,
    *,
    least: int = 1,
    most: int = 2,
    instead: str = "",
) -> View:
    """The view of a mixture and its rows in `least` to `most` of its columns; by default the first of them.

    Raises:
        TypeError: if the mixture, x, dims or `max_rows` is of the wrong type.
        ValueError: if x is not (N, D) with the mixture's D, holds NaN or infinity, or has other columns than the fit or
            in another order; or if dims repeats a column, names one that does not exist, or has too few or too many.
    """
    fitted, mixture = names_in(mixture), as_mixture(mixture)
    n_features = mixture.n_features
    rows, names, weights, drawn = None, None, np.ones(0), np.zeros(0, int)
    if x is not None:
        rows, names = as_table(x)
        check_names(x, fitted)
        if rows.shape[1] != n_features:
            raise ValueError(f"x has {rows.shape[1]} columns (shape {rows.shape}), but the mixture has {n_features}")
        weights = as_weights(sample_weight, len(rows))
        check_finite(rows, weights, names)
        rows, weights = (rows, weights) if weights.all() else (rows[weights > 0], weights[weights > 0])
        drawn = _drawn(len(rows), max_rows)
    names = names or fitted or Names(f"column {d}" for d in range(n_features))
    columns = _as_dims(dims, names, n_features, least, most, instead)
    return View(mixture, columns, tuple(names[d] for d in columns), rows, weights, drawn)


def as_mixture(mixture: Any) -> Mixture:
    """The mixture itself, or that of a `FitResult` or of a candidate.

    Raises:
        TypeError: if it is something else, or traced.
        ValueError: if it is a stack of mixtures, or holds NaN or infinity.
    """
    found = as_mixtures(mixture)
    if is_traced(found):
        raise TypeError("mixture is being traced by JAX: pictures are drawn on the host, outside jit, vmap and grad")
    if found.means.ndim != 2:
        raise ValueError(
            f"mixture is a stack {found.means.shape[:-2]} of mixtures: choose one, such as the first by "
            "jax.tree.map(lambda leaf: leaf[0], mixture)"
        )
    finite = np.isfinite(found.means).all(axis=1) & np.isfinite(found.covariances).all(axis=(1, 2))
    finite = finite & ~np.isnan(found.log_weights)
    if not finite.all():
        raise ValueError(f"mixture cannot be drawn: component {int(np.argmin(finite))} holds NaN or infinity")
    return found


def as_coverage(coverage: Any) -> tuple[float, ...]:
    """Probabilities between 0 and 1, ascending; one number counts as a sequence of it.

    Raises:
        TypeError: if they are not numbers.
        ValueError: if one is not between 0 and 1, or repeated, or there is none.
    """
    try:
        values = np.atleast_1d(np.asarray(coverage, np.float64)).ravel()
    except (TypeError, ValueError):
        raise TypeError(f"coverage must hold probabilities such as (0.5, 0.95), not {coverage!r}") from None
    if not values.size or not ((values > 0) & (values < 1)).all() or len(np.unique(values)) < len(values):
        raise ValueError(f"coverage must hold distinct probabilities between 0 and 1, not {coverage!r}")
    return tuple(np.sort(values).tolist())


def as_axes(ax: Any) -> Axes:
    """The given axes, or those of a new figure; called last, so that an error leaves no empty figure behind.

    Raises:
        TypeError: if it is something else.
    """
    if ax is None:
        from matplotlib import pyplot

        return pyplot.subplots(layout="constrained")[1]
    if not isinstance(ax, Axes):
        hint = f" of shape {ax.shape}: choose one of it" if isinstance(ax, np.ndarray) else ""
        raise TypeError(f"ax must be a matplotlib Axes or None, not {type(ax).__name__}{hint}")
    return ax


def _drawn(n_rows: int, max_rows: int | None) -> np.ndarray:
    """Indices of the rows to draw: all, or a sample that is always the same."""
    if max_rows is None or n_rows <= as_count(max_rows, "max_rows"):
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(0).choice(n_rows, max_rows, replace=False))


def _as_dims(dims: Any, names: Names, n_features: int, least: int, most: int, instead: str) -> tuple[int, ...]:
    if n_features < least:
        raise ValueError(f"mixture has {n_features} column, but {least} are needed{instead}")
    if dims is None:
        return tuple(range(min(n_features, most)))
    given = list(dims) if isinstance(dims, Iterable) and not isinstance(dims, str) else [dims]
    columns = tuple(_as_dim(d, names, n_features) for d in given)
    if len(set(columns)) < len(columns):
        raise ValueError(f"dims must not repeat a column, but is {dims!r}")
    if not least <= len(columns) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise ValueError(f"dims must name {wanted} column{'s' * (most > 1)}, not {len(columns)}{instead}")
    return columns


def _as_dim(d: Any, names: Names, n_features: int) -> int:
    if isinstance(d, str):
        if d not in names:
            raise ValueError(f"dims names {d!r}, but the columns are {', '.join(map(repr, names))}")
        return names.index(d)
    if isinstance(d, bool | np.bool_):
        raise TypeError(f"dims must hold indices or names of columns, not {d!r}")
    try:
        index = operator.index(d)
    except TypeError:
        raise TypeError(f"dims must hold indices or names of columns, not {d!r}") from None
    if not -n_features <= index < n_features:
        raise ValueError(f"dims names column {index}, but the mixture has {n_features}")
    return index % n_features
