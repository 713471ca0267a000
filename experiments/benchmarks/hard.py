"""Hard data for studies of restarts: overlapping, unequal components, drawn from a seed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Recipe = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Means (K, D), axes (K, D, D), weights (K,)."""


class Hard(NamedTuple):
    """One data set, by its recipe.

    Attributes:
        geometry: a key of `GEOMETRIES`.
        n_components: K.
        n_features: D.
        n_rows: N.
        seed: of NumPy's generator.
    """

    geometry: str
    n_components: int
    n_features: int
    n_rows: int
    seed: int

    @property
    def name(self) -> str:
        """As it stands in tables."""
        return f"{self.geometry} K={self.n_components} D={self.n_features} N={self.n_rows}"

    def draw(self) -> np.ndarray:
        """Rows, (N, D), in columns of mean 0 and variance 1."""
        rng = np.random.default_rng(self.seed)
        means, axes, weights = GEOMETRIES[self.geometry](rng, self.n_components, self.n_features)
        labels = rng.choice(self.n_components, self.n_rows, p=weights)
        x = means[labels] + np.einsum("nij,nj->ni", axes[labels], rng.normal(size=(self.n_rows, self.n_features)))
        return (x - x.mean(axis=0)) / x.std(axis=0)


def _axes(rng: np.random.Generator, deviations: np.ndarray) -> np.ndarray:
    """Axes of given lengths (K, D), turned at random, (K, D, D)."""
    turned = [np.linalg.qr(rng.normal(size=(deviations.shape[1],) * 2))[0] for _ in deviations]
    return np.stack(turned) * deviations[:, None, :]


def _cloud(rng: np.random.Generator, k: int, d: int) -> Recipe:
    """Means at random, ellipsoids of unequal size and shape."""
    means, deviations = rng.normal(size=(k, d)) * 2.2, np.exp(rng.uniform(-1.2, 0.5, (k, d)))
    return means, _axes(rng, deviations), rng.dirichlet(np.full(k, 3))


def _sticks(rng: np.random.Generator, k: int, d: int) -> Recipe:
    """Long thin components that cross."""
    deviations = np.full((k, d), 0.25)
    deviations[:, 0] = rng.uniform(1.5, 3.0, k)
    return rng.normal(size=(k, d)) * 1.5, _axes(rng, deviations), rng.dirichlet(np.full(k, 5))


def _nested(rng: np.random.Generator, k: int, d: int) -> Recipe:
    """Tight components inside wide ones: two to a centre."""
    centres = rng.normal(size=((k + 1) // 2, d)) * 2.5
    deviations = np.where(np.arange(k) % 2, 0.3, 1.5)[:, None] * np.exp(rng.uniform(-0.3, 0.3, (k, d)))
    means = np.repeat(centres, 2, axis=0)[:k] + rng.normal(size=(k, d)) * 0.2
    return means, _axes(rng, deviations), rng.dirichlet(np.full(k, 5))


def _pairs(rng: np.random.Generator, k: int, d: int) -> Recipe:
    """Sites far apart, two overlapping components at each: a wrong share of components is a trap."""
    sites = rng.normal(size=((k + 1) // 2, d)) * 6
    means = np.repeat(sites, 2, axis=0)[:k] + rng.normal(size=(k, d)) * 0.8
    return means, _axes(rng, np.exp(rng.uniform(-0.7, 0.3, (k, d)))), rng.dirichlet(np.full(k, 5))


def _unequal(rng: np.random.Generator, k: int, d: int) -> Recipe:
    """Weights from large to small by a factor of fifteen, the small ones tight."""
    weights = np.geomspace(1, 1 / 15, k)
    deviations = np.geomspace(1.3, 0.3, k)[:, None] * np.exp(rng.uniform(-0.4, 0.4, (k, d)))
    return rng.normal(size=(k, d)) * 1.8, _axes(rng, deviations), weights / weights.sum()


def _apart(rng: np.random.Generator, k: int, d: int) -> Recipe:
    """Components that hardly overlap, of unequal size: no trap but an empty place."""
    deviations = np.exp(rng.uniform(-0.7, 0.3, (k, d)))
    return rng.normal(size=(k, d)) * 9, _axes(rng, deviations), rng.dirichlet(np.full(k, 2))


GEOMETRIES = {
    "apart": _apart,
    "cloud": _cloud,
    "sticks": _sticks,
    "nested": _nested,
    "pairs": _pairs,
    "unequal": _unequal,
}

DATASETS = [
    Hard("cloud", 6, 2, 1000, 1),
    Hard("sticks", 8, 3, 1000, 6),
    Hard("nested", 6, 2, 1000, 8),
    Hard("pairs", 8, 3, 1000, 12),
    Hard("unequal", 10, 2, 1500, 16),
    Hard("cloud", 8, 3, 1000, 2),
    Hard("sticks", 6, 2, 1000, 5),
    Hard("nested", 8, 3, 1000, 9),
    Hard("pairs", 6, 2, 1000, 11),
    Hard("unequal", 8, 3, 1000, 14),
    Hard("cloud", 10, 2, 1500, 3),
    Hard("sticks", 10, 2, 1500, 7),
    Hard("pairs", 10, 2, 1500, 13),
    Hard("nested", 8, 4, 1000, 10),
    Hard("cloud", 7, 5, 1000, 4),
]

EASY = [Hard("apart", 10, 2, 1500, 21), Hard("apart", 8, 3, 1000, 22), Hard("apart", 7, 5, 1000, 23)]
"""Not hard at all: a start that fails here is no default."""
