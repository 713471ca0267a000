"""What a benchmark leaves behind: a printed table, JSON and a picture, with targets beside what was found."""

from __future__ import annotations

from experiments.benchmarks import threads  # Before Matplotlib loads NumPy.

# isort: split
import argparse
import importlib.metadata
import json
import math
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

FOLDER = pathlib.Path(__file__).parent / "results"
COLOURS = {
    "jaxgmm": "#000000",
    "scikit-learn": "#E69F00",
    "pomegranate": "#0072B2",
    "gmmx": "#009E73",
    "target": "#D55E00",
    "other": "#CC79A7",
}
"""Okabe and Ito's colours, told apart by the colour-blind."""
PEERS = ("scikit-learn", "pomegranate", "gmmx")
_PACKAGES = ("jax", "jaxlib", "numpy", "scikit-learn", "torch", "pomegranate", "gmmx", "astroML")


class Target(NamedTuple):
    """A figure that was wanted, beside the one that was found.

    Attributes:
        what: what was measured.
        found: the figure; NaN where there is none.
        limit: the figure wanted.
        at_least: whether the limit is a lower one.
        unit: of both.
    """

    what: str
    found: float
    limit: float
    at_least: bool
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure found is on the right side of the limit; not where there is none."""
        return self.found >= self.limit if self.at_least else self.found <= self.limit

    def cells(self) -> list[str]:
        """A row of the table of targets."""
        sign = "≥" if self.at_least else "≤"
        found = "none" if math.isnan(self.found) else f"{number(self.found)}{self.unit}"
        return [self.what, f"{sign} {number(self.limit)}{self.unit}", found, "met" if self.met else "MISSED"]


def at_least(what: str, found: float, limit: float, unit: str = "") -> Target:
    """A target met from below."""
    return Target(what, float(found), limit, True, unit)


def at_most(what: str, found: float, limit: float, unit: str = "") -> Target:
    """A target met from above."""
    return Target(what, float(found), limit, False, unit)


def number(value: float) -> str:
    """Three digits, or a dash for NaN."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value == 0 or abs(value) >= 100 else f"{value:.3g}"


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """The command line that every benchmark has."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a trial at small shapes; its figures mean nothing")
    return parser


def heading(title: str) -> None:
    """Print a title."""
    print(f"\n{title}\n{'=' * len(title)}", flush=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as they need, those of numbers to the right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numeric = [all(_is_number(cell) for cell in column[1:]) for column in columns]

    def line(cells: Sequence[str]) -> str:
        aligned = zip(cells, widths, numeric, strict=True)
        return "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in aligned).rstrip()

    print(line(header))
    print("  ".join("-" * width for width in widths))
    for row in rows:
        print(line(row))


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace("-", "0"))
    except ValueError:
        return False
    return True


def targets_table(targets: Sequence[Target]) -> None:
    """Print each target beside the figure."""
    print()
    table(["target", "wanted", "found", ""], [target.cells() for target in targets])


def facts() -> dict[str, Any]:
    """What the figures depend on, and nothing that tells whose machine it was."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions,
        "threads": threads.SETTINGS,
    }


def write(
    name: str, rows: Sequence[Mapping[str, Any]], targets: Sequence[Target], figure: Any | None, trial: bool
) -> None:
    """Write results/<name>.json and .png; a trial's go to results/quick, where they overwrite no measurement."""
    _folder(trial).mkdir(parents=True, exist_ok=True)
    content = {
        "benchmark": name,
        "trial": trial,
        "machine": facts(),
        "rows": rows,
        "targets": [{**target._asdict(), "met": target.met} for target in targets],
    }
    (_folder(trial) / f"{name}.json").write_text(json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")
    if figure is not None:
        figure.savefig(_folder(trial) / f"{name}.png", dpi=90, bbox_inches="tight")
        plt.close(figure)


def finish(name: str, trial: bool) -> None:
    """Print the targets that a benchmark wrote, and where."""
    targets_table(read_targets(name, trial))
    print(f"\nwrote {name}.json and {name}.png in experiments/benchmarks/results{'/quick' if trial else ''}")


def read_targets(name: str, trial: bool) -> list[Target]:
    """The targets that a benchmark wrote."""
    entries = _read(name, trial)["targets"]
    return [Target(**{field: entry[field] for field in Target._fields}) for entry in entries]


def read_rows(name: str, trial: bool) -> list[dict[str, Any]]:
    """The rows that a benchmark wrote."""
    return _read(name, trial)["rows"]


def remove(name: str, trial: bool) -> None:
    """Take away what a benchmark wrote, once it is part of something larger."""
    (_folder(trial) / f"{name}.json").unlink()


def _folder(trial: bool) -> pathlib.Path:
    return FOLDER / "quick" if trial else FOLDER


def _read(name: str, trial: bool) -> Any:
    """None for NaN is NaN again."""

    def restore(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: restore(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [restore(entry) for entry in value]
        return math.nan if value is None else value

    return restore(json.loads((_folder(trial) / f"{name}.json").read_text()))


def _plain(value: Any) -> Any:
    """Numbers of four digits, and None for NaN, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, bool | int) or not hasattr(value, "__float__"):
        return value
    return float(f"{float(value):.5g}") if math.isfinite(float(value)) else None
