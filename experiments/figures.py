"""Pictures of the experiments, as PNG."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Ellipse

import jaxgmm
from experiments.datasets import Dataset

FOLDER = pathlib.Path(__file__).parent / "figures"
COLOURS = np.array([[0.00, 0.45, 0.70], [0.90, 0.62, 0.00], [0.00, 0.62, 0.45], [0.80, 0.47, 0.65], [0.35, 0.7, 0.9]])
"""Okabe and Ito's colours, told apart by the colour-blind."""
STYLES = {"EM": ("#000000", "-"), "L-BFGS": ("#0072B2", "--"), "Adam": ("#D55E00", "-.")}


def save(figure: Any, name: str) -> pathlib.Path:
    """Write a figure and say where."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.png"
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)
    return path


def ellipses(axes: Any, mixture: jaxgmm.Mixture, dims: tuple[int, int]) -> None:
    """Each component's regions of one and two standard deviations in two columns."""
    plane = jaxgmm.marginal(mixture, dims)
    for k, (mean, covariance) in enumerate(zip(np.asarray(plane.means), np.asarray(plane.covariances), strict=True)):
        values, vectors = np.linalg.eigh(covariance)
        angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
        for deviations in (1, 2):
            width, height = 2 * deviations * np.sqrt(values[::-1])
            patch = Ellipse(tuple(mean), width, height, angle=angle, fill=False, lw=1.4, ec=COLOURS[k % 5])
            axes.add_patch(patch)


def soft_clusters(axes: Any, mixture: jaxgmm.Mixture, data: Dataset, dims: tuple[int, int]) -> None:
    """Rows coloured by the blend of their responsibilities, with ellipses."""
    resp = np.asarray(jaxgmm.responsibilities(mixture, data.x))
    blend = np.clip(resp @ COLOURS[np.arange(resp.shape[1]) % 5], 0, 1)
    axes.scatter(data.x[:, dims[0]], data.x[:, dims[1]], c=blend, s=14, alpha=0.8, lw=0)
    ellipses(axes, mixture, dims)
    axes.set_xlabel(data.columns[dims[0]].replace("_", " "))
    axes.set_ylabel(data.columns[dims[1]].replace("_", " "))


def by_label(name: str, data: Dataset, labels: np.ndarray, other: np.ndarray) -> pathlib.Path:
    """The textbook's picture: rows coloured by label, jaxgmm beside scikit-learn."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True)
    for axis, title, colours in zip(axes, ("jaxgmm", "scikit-learn"), (labels, other), strict=True):
        axis.scatter(data.x[:, 0], data.x[:, 1], c=colours, s=30, cmap="viridis")
        axis.set_title(f"{title}: {data.name} by label")
    return save(figure, name)


def hard_and_soft(name: str, rows: Sequence[tuple[Dataset, np.ndarray, float, jaxgmm.Mixture, float]]) -> pathlib.Path:
    """k-means beside a mixture, a row for each data set."""
    figure, axes = plt.subplots(len(rows), 2, figsize=(9, 4 * len(rows)), squeeze=False)
    for (left, right), (data, labels, hard, mixture, soft) in zip(axes, rows, strict=True):
        left.scatter(data.x[:, 0], data.x[:, 1], c=COLOURS[labels % 5], s=10, lw=0)
        left.set_title(f"k-means on {data.name}: adjusted Rand {hard:.2f}")
        soft_clusters(right, mixture, data, (0, 1))
        right.set_title(f"mixture on {data.name}: adjusted Rand {soft:.2f}")
    figure.tight_layout()
    return save(figure, name)


def criteria(name: str, selection: jaxgmm.Selection, data: Dataset) -> pathlib.Path:
    """AIC and BIC against K for each covariance type, the choices marked."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    types = list(dict.fromkeys(candidate.covariance_type for candidate in selection))
    for axis, criterion in zip(axes, ("aic", "bic"), strict=True):
        for colour, covariance_type in zip(COLOURS, types, strict=False):
            own = [c for c in selection if c.covariance_type == covariance_type and c.sound]
            values = [getattr(c, criterion) for c in own]
            axis.plot([c.n_components for c in own], values, "o-", ms=4, color=colour, label=covariance_type)
        best = jaxgmm.Selection(selection.candidates, criterion).best
        lowest = getattr(best, criterion)
        # A type that is nowhere near the others would flatten them: it is left above the frame.
        near = [getattr(c, criterion) for c in selection if c.sound and getattr(c, criterion) < 1.2 * lowest]
        axis.set_ylim(lowest - 0.1 * (max(near) - lowest), max(near))
        axis.plot(best.n_components, getattr(best, criterion), "k*", ms=14, label="lowest")
        axis.axvline(len(data.groups), color="0.7", ls=":", label=f"{len(data.groups)} known species")
        axis.set(xlabel="components K", ylabel=criterion.upper(), title=f"{criterion.upper()} on {data.name}")
    axes[0].legend(fontsize=8)
    return save(figure, name)


def clusters(name: str, mixture: jaxgmm.Mixture, data: Dataset, planes: Iterable[tuple[int, int]]) -> pathlib.Path:
    """Soft colours and ellipses in several planes."""
    planes = list(planes)
    figure, axes = plt.subplots(1, len(planes), figsize=(4.8 * len(planes), 4), squeeze=False)
    for axis, dims in zip(axes[0], planes, strict=True):
        soft_clusters(axis, mixture, data, dims)
    figure.suptitle(f"{data.name}: {mixture.n_components} components, {mixture.covariance_type} covariances")
    return save(figure, name)


def gaps(name: str, traces: Mapping[str, Mapping[str, tuple[Any, Any, Any]]], floor: float) -> pathlib.Path:
    """Objective below the best, per row, against passes and against seconds; a row for each data set."""
    figure, axes = plt.subplots(len(traces), 2, figsize=(10, 3.4 * len(traces)), squeeze=False)
    for (left, right), (title, by_algorithm) in zip(axes, traces.items(), strict=True):
        for algorithm, (gap, passes, seconds) in by_algorithm.items():
            colour, style = STYLES[algorithm]
            shown = np.maximum(gap, floor)
            left.loglog(passes, shown, color=colour, ls=style, label=algorithm)
            right.loglog(seconds, shown, color=colour, ls=style, label=algorithm)
        left.set(xlabel="passes over the data", ylabel="objective below the best, per row", title=title)
        right.set(xlabel="seconds, one start", title=title)
        left.legend(fontsize=8)
    figure.tight_layout()
    return save(figure, name)
