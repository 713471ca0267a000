"""The data of the experiments: real ones, and two on which k-means cuts wrongly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
    """Rows with their known groups.

    Attributes:
        name: as it stands in tables.
        x: rows, (N, D).
        labels: known groups, (N,).
        columns: names of the columns.
        groups: names of the groups.
    """

    name: str
    x: np.ndarray
    labels: np.ndarray
    columns: tuple[str, ...]
    groups: tuple[str, ...]


def penguins() -> tuple[Dataset, int]:
    """Palmer penguins, four measurements (Horst, Hill & Gorman 2020), and how many rows had one missing."""
    from palmerpenguins import load_penguins

    table = load_penguins()
    columns = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
    complete = table.dropna(subset=list(columns))
    groups, labels = np.unique(complete["species"].to_numpy().astype(str), return_inverse=True)
    x = complete[list(columns)].to_numpy(dtype=np.float64)
    return Dataset("penguins", x, labels, columns, tuple(groups)), len(table) - len(complete)


def iris() -> Dataset:
    """Fisher's iris."""
    from sklearn.datasets import load_iris

    data = load_iris()
    columns = tuple(name.replace(" (cm)", "") for name in data.feature_names)
    return Dataset("iris", data.data, data.target, columns, tuple(data.target_names))


def blobs() -> Dataset:
    """The textbook's four round blobs."""
    from sklearn.datasets import make_blobs

    x, labels = make_blobs(n_samples=400, centers=4, cluster_std=0.60, random_state=0)
    return Dataset("blobs", x[:, ::-1].copy(), labels, ("x", "y"), ("0", "1", "2", "3"))


def elongated() -> Dataset:
    """The same blobs, sheared: k-means looks for round clusters."""
    data = blobs()
    shear = np.random.RandomState(13).randn(2, 2)
    return data._replace(name="elongated", x=data.x @ shear)


def unequal() -> Dataset:
    """A large wide cluster beside two small tight ones: k-means gives part of it away."""
    rng = np.random.default_rng(0)
    parts = [(700, (0.0, 0.0), 1.5), (100, (3.6, 0.6), 0.25), (60, (2.6, -2.9), 0.2)]
    x = np.concatenate([np.asarray(centre) + spread * rng.normal(size=(n, 2)) for n, centre, spread in parts])
    labels = np.repeat(np.arange(3), [n for n, _, _ in parts])
    return Dataset("unequal", x, labels, ("x", "y"), ("wide", "tight", "tighter"))
