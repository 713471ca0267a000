"""Pictures of the experiments, as PNG."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

import jaxgmm
from experiments.datasets import Dataset
from jaxgmm import plotting

FOLDER = pathlib.Path(__file__).parent / "figures"
STYLES = {"EM": ("#000000", "-"), "L-BFGS": ("#0072B2", "--"), "Adam": ("#D55E00", "-.")}


def save(figure: Any, name: str) -> pathlib.Path:
    """Write a figure and say where."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.png"
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)
    return path


def by_label(name: str, data: Dataset, labels: np.ndarray, other: np.ndarray) -> pathlib.Path:
    """The textbook's picture: rows coloured by label, jaxgmm beside scikit-learn."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True)
    for axis, title, colours in zip(axes, ("jaxgmm", "scikit-learn"), (labels, other), strict=True):
        axis.scatter(data.x[:, 0], data.x[:, 1], c=colours, s=30, cmap="viridis")
        axis.set_title(f"{title}: {data.name} by label")
    return save(figure, name)


def hard_and_soft(name: str, rows: Sequence[tuple[Dataset, np.ndarray, float, jaxgmm.Mixture, float]]) -> pathlib.Path:
    """k-means beside a mixture, a row for each data set."""
    figure, axes = plt.subplots(len(rows), 2, figsize=(9, 4 * len(rows)), squeeze=False, layout="constrained")
    for (left, right), (data, labels, hard, mixture, soft) in zip(axes, rows, strict=True):
        left.scatter(data.x[:, 0], data.x[:, 1], c=plotting.palette(len(data.groups))[labels], s=10, lw=0)
        left.set_title(f"k-means on {data.name}: adjusted Rand {hard:.2f}")
        plotting.clusters(mixture, data.x, right, legend=False)
        left.set(xlabel=data.columns[0], ylabel=data.columns[1], xlim=right.get_xlim(), ylim=right.get_ylim())
        right.set(xlabel=data.columns[0], title=f"mixture on {data.name}: adjusted Rand {soft:.2f}", ylabel="")
    return save(figure, name)


def criteria(name: str, selection: jaxgmm.Selection, data: Dataset) -> pathlib.Path:
    """AIC and BIC against K for each covariance type, the choices and the known groups marked."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, criterion in zip(axes, ("aic", "bic"), strict=True):
        plotting.criteria(selection, axis, criterion=criterion)
        axis.axvline(len(data.groups), color="0.7", ls=":", zorder=0)
        axis.set_title(f"{data.name} (dotted: {len(data.groups)} species)")
    return save(figure, name)


def clusters(name: str, mixture: jaxgmm.Mixture, data: Dataset, planes: Iterable[tuple[int, int]]) -> pathlib.Path:
    """Soft colours and ellipses in several planes."""
    planes = list(planes)
    figure, axes = plt.subplots(1, len(planes), figsize=(4.8 * len(planes), 4), squeeze=False, layout="constrained")
    titles = [column.replace("_", " ") for column in data.columns]
    for axis, (across, up) in zip(axes[0], planes, strict=True):
        plotting.clusters(mixture, data.x, axis, dims=(across, up), legend=axis is axes[0, -1])
        axis.set(xlabel=titles[across], ylabel=titles[up])
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
