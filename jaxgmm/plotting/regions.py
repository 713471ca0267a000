"""Regions of given probability: ellipses of a component, levels of a density, and the lines of a grid."""

from __future__ import annotations

import numpy as np

from jaxgmm.model.mixture import Mixture
from jaxgmm.plotting.views import Components
from jaxgmm.probability.density import log_prob

_N_DRAWS = 2048
_TAIL, _DRAWS_PER_FOLD, _N_FOLDS = 1 / 32, 48, 34
"""The probability of the outer part, points in it for each factor e of probability, and the number of such factors."""

_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))
_REACH = 3.5
"""Standard deviations about each mean that a grid covers."""


def radius(coverage: float) -> float:
    """Mahalanobis radius of the ellipse in a plane that contains a Gaussian with probability p: √(−2 log(1 − p))."""
    return float(np.sqrt(-2 * np.log1p(-coverage)))


def axes_of(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations along the principal axes, (2,), the largest first, and those axes as columns, (2, 2)."""
    values, vectors = np.linalg.eigh(covariance)
    return np.sqrt(np.maximum(values[::-1], 0)), vectors[:, ::-1]


def levels(plane: Mixture, components: Components, coverage: tuple[float, ...]) -> np.ndarray:
    """The log-densities that bound a mixture's highest density regions of given probabilities in a plane.

    The level for probability p is the quantile 1 − p of log p(X), for X from the mixture. In place of random draws it
    uses points in a sunflower pattern, mapped into every component, with weight π_k times the probability of their
    ring. Rings have equal probabilities, except in the outer thirty-second, where the probabilities outside successive
    rings have a constant ratio: so small probabilities outside have a small relative error.

    Args:
        plane: the mixture, D = 2.
        components: its components of positive weight.
        coverage: probabilities, ascending.

    Returns:
        Log-densities, one for each of `coverage`, descending.

    References:
        Hyndman (1996), Computing and graphing highest density regions; Vogel (1979), the sunflower.
    """
    even = np.linspace(1, _TAIL, round(_N_DRAWS * (1 - _TAIL)), endpoint=False)
    outside = np.append(even, _TAIL * np.exp(-np.arange(_N_FOLDS * _DRAWS_PER_FOLD + 1) / _DRAWS_PER_FOLD))
    distance = np.sqrt(-2 * np.log((outside[1:] + outside[:-1]) / 2))
    angle = np.arange(len(distance)) * _GOLDEN_ANGLE
    draws = distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    factors = np.stack([axes * deviations for deviations, axes in map(axes_of, components.covariances)])
    x = components.means[:, None, :] + np.einsum("kij,nj->kni", factors, draws)
    found = np.asarray(log_prob(plane, x), np.float64).ravel()
    order = np.argsort(found)
    mass = np.outer(components.weights / components.weights.sum(), -np.diff(outside)).ravel()[order]
    # From the outside in, where a small sum is of small terms.
    beyond = np.maximum(np.cumsum(mass) - 0.5 * mass, np.finfo(np.float64).tiny)
    return np.interp(np.log1p(-np.asarray(coverage)), np.log(beyond), found[order])


def lines(
    components: Components, place: int, n_lines: int, rows: np.ndarray, margin: float = 0.0, coverage: float = 0.0
) -> np.ndarray:
    """Coordinates of a grid along one column, ascending, denser where components are narrow.

    Half of them are equally spaced, half at quantiles of the components, all of which count equally.

    Args:
        components: the components that the grid covers.
        place: index of the column among those of the components.
        n_lines: number of lines, even.
        rows: coordinates of rows that the grid covers too; may be empty.
        margin: the margin on both sides, as a fraction of the width.
        coverage: probability of a component inside the largest region to be drawn.

    Returns:
        Coordinates, (n_lines,).
    """
    mean = components.means[:, place]
    deviation = np.sqrt(np.maximum(components.covariances[:, place, place], 0))
    reach = max(_REACH, radius(coverage)) * np.linspace(-1, 1, 2 * n_lines // len(mean) + 8)
    close = mean[:, None] + deviation[:, None] * reach
    low, high = (limit(np.append(close, rows)) for limit in (np.min, np.max))
    even = np.linspace(low - margin * (high - low), high + margin * (high - low), n_lines // 2)
    return np.sort(np.concatenate([even, np.quantile(close, np.linspace(0, 1, n_lines // 2))]))
