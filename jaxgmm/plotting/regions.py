"""Regions of stated probability: ellipses of a component, levels of a density, and the lines of a grid."""

from __future__ import annotations

import numpy as np

from jaxgmm.model.mixture import Mixture
from jaxgmm.plotting.views import Components
from jaxgmm.probability.density import log_prob

_N_DRAWS = 2048
_TAIL, _DRAWS_PER_FOLD, _N_FOLDS = 1 / 32, 48, 34
"""Probability outside which seeds lie closer, how many for each factor e of it, and down to which power of e."""

_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))
_REACH = 3.5
"""Standard deviations about a mean that a grid looks at."""


def radius(coverage: float) -> float:
    """Mahalanobis radius of the ellipse that holds a Gaussian in a plane with some probability: √(−2 log(1 − p))."""
    return float(np.sqrt(-2 * np.log1p(-coverage)))


def axes_of(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations along the principal axes, (2,), the longest first, and those axes in columns, (2, 2)."""
    values, vectors = np.linalg.eigh(covariance)
    return np.sqrt(np.maximum(values[::-1], 0)), vectors[:, ::-1]


def levels(plane: Mixture, components: Components, coverage: tuple[float, ...]) -> np.ndarray:
    """Log-densities above which a mixture in a plane holds some probabilities: its highest density regions.

    The level of p is the quantile 1 − p of log p(X), X drawn from the mixture. Draws are a sunflower's seeds, carried
    into every component; each counts π_k times the probability of its ring. Rings are of one probability, but beyond
    all but a thirty-second of it of one ratio: what is left outside is right in relation to itself.

    Args:
        plane: the mixture, D = 2.
        components: those of it that have weight.
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
    """Coordinates of a grid along one column, ascending, closer where components are narrow.

    Half of them are even, half at quantiles of the components, each of which counts alike.

    Args:
        components: what is to be seen.
        place: of the column among theirs.
        n_lines: how many; an even number.
        rows: coordinates of rows that are to be seen as well, or none.
        margin: beyond all of it, as a fraction of its width.
        coverage: what the largest region that is to be seen holds of a component.

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
