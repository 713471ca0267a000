"""Colours of components that colour-blind readers can tell apart, and their blends by responsibility."""

from __future__ import annotations

import functools

import numpy as np

from jaxgmm.host.checks import as_count

OKABE_ITO = ("0072B2", "E69F00", "56B4E9", "D55E00", "009E73", "CC79A7")
"""The colours of Okabe and Ito (2008) without yellow and black; the first few are those farthest apart."""

INK, PALE = "0.25", "0.6"
"""Greys for lines and backgrounds, which belong to no component."""

N_DISTINCT = 48
"""The number of colours before they repeat: more cannot be told apart."""

# Ottosson (2020), OKLab: linear sRGB to cone responses, and their cube roots to lightness and two opponent axes.
_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_OPPONENTS = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)

# Machado, Oliveira & Fernandes (2009), severity 1, on linear sRGB.
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)


def palette(n_components: int) -> np.ndarray:
    """Colours of the components; component k has the same colour whatever K is.

    The first six are those of Okabe & Ito that show on white. Each further one is the farthest from all before it, from
    white and from black, by the smallest of its distances for normal, deuteranopic and protanopic vision.

    Args:
        n_components: K.

    Returns:
        sRGB between 0 and 1, (K, 3); they repeat after 48.

    Raises:
        TypeError: if `n_components` is not an integer.
        ValueError: if it is below 1.

    References:
        Okabe & Ito (2008), Color Universal Design; Glasbey, van der Heijden, Toh & Gray (2007).

    Example:
        >>> jaxgmm.plotting.palette(2).shape
        (2, 3)
    """
    return _distinct()[np.arange(as_count(n_components, "n_components")) % N_DISTINCT]


def blend(responsibilities: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Blends of the components' colours by responsibility, in OKLab, where the middle of two colours looks like it.

    Args:
        responsibilities: rows that sum to 1, (N, K).
        colours: sRGB, (K, 3).

    Returns:
        sRGB, (N, 3).
    """
    return _to_srgb(responsibilities @ _to_oklab(colours))


def shades(n_shades: int) -> np.ndarray:
    """Shades of one blue from pale to dark, sRGB, (n_shades, 3)."""
    towards = np.linspace(0.12, 0.8, n_shades)[:, None]
    ends = _to_oklab(np.array([[1.0, 1.0, 1.0], [0.03, 0.19, 0.42]]))
    return _to_srgb((1 - towards) * ends[0] + towards * ends[1])


def simulate(colours: np.ndarray, vision: np.ndarray) -> np.ndarray:
    """SRGB colours, (..., 3), as a dichromat sees them."""
    return _encode(np.clip(_decode(colours) @ vision.T, 0, 1))


@functools.cache
def _distinct() -> np.ndarray:
    start = np.array([[int(name[i : i + 2], 16) / 255 for i in (0, 2, 4)] for name in OKABE_ITO])
    lightness, chroma, hue = (
        axis.ravel()
        for axis in np.meshgrid(
            np.linspace(0.4, 0.8, 5), [0.06, 0.12, 0.18], np.linspace(0, 2 * np.pi, 36, endpoint=False), indexing="ij"
        )
    )
    linear = _linear_of(np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1))
    candidates = _encode(linear[((linear >= 0) & (linear <= 1)).all(axis=-1)])

    def seen(colours: np.ndarray) -> np.ndarray:
        return np.stack([_to_oklab(eye(colours)) for eye in eyes])

    eyes = (lambda c: c, lambda c: simulate(c, DEUTERANOPIA), lambda c: simulate(c, PROTANOPIA))
    apart = seen(candidates)
    nearest = np.full(len(candidates), np.inf)
    for taken in [*seen(np.array([[0.0, 0, 0], [1, 1, 1], *start])).swapaxes(0, 1)]:
        nearest = np.minimum(nearest, np.linalg.norm(apart - taken[:, None], axis=-1).min(axis=0))
    found = list(start)
    while len(found) < N_DISTINCT:
        best = int(np.argmax(nearest))
        found.append(candidates[best])
        nearest = np.minimum(nearest, np.linalg.norm(apart - apart[:, best, None], axis=-1).min(axis=0))
    return np.array(found)


def _to_oklab(srgb: np.ndarray) -> np.ndarray:
    return np.cbrt(_decode(srgb) @ _CONES.T) @ _OPPONENTS.T


def _linear_of(oklab: np.ndarray) -> np.ndarray:
    return (oklab @ np.linalg.inv(_OPPONENTS).T) ** 3 @ np.linalg.inv(_CONES).T


def _to_srgb(oklab: np.ndarray) -> np.ndarray:
    return _encode(np.clip(_linear_of(oklab), 0, 1))


def _decode(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _encode(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
