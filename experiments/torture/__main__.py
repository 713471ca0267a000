"""Print the table: `python -m experiments.torture [--large] [--write]`; the last writes it into the documentation."""

from __future__ import annotations

import argparse
import pathlib
from collections import Counter

import jax
import numpy as np

from experiments.torture.libraries import LIBRARIES
from experiments.torture.problems import CASES, LARGE, Problem
from experiments.torture.verdicts import Verdict, judge

FAMILIES = ("full", "tied", "diag", "spherical")
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "torture.md"


def main(large: bool = False) -> tuple[str, dict[str, Counter[str]]]:
    """The table, and each library's counts of verdicts."""
    jax.config.update("jax_enable_x64", True)
    lines = ["| case | dtype | " + " | ".join(LIBRARIES) + " |", "| --- " * (2 + len(LIBRARIES)) + "|"]
    counts: dict[str, Counter[str]] = {name: Counter() for name in LIBRARIES}
    for case in CASES + (LARGE if large else []):
        for dtype in case.dtypes:
            by_family = [_verdicts(case.draw(dtype), family) for family in FAMILIES]
            cells = []
            for name in LIBRARIES:
                verdicts = [found[name] for found in by_family]
                counts[name].update(verdict.kind for verdict in verdicts)
                cells.append(cell([str(verdict) for verdict in verdicts]))
            lines.append(f"| {case.name} | {np.dtype(dtype).name} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    return "\n".join(lines), counts


def cell(verdicts: list[str]) -> str:
    """The verdicts for each family in turn; once, where they are the same word."""
    return verdicts[0] if len(set(verdicts)) == 1 and verdicts[0] in ("refused", "–") else ", ".join(verdicts)


def _verdicts(problem: Problem, family: str) -> dict[str, Verdict]:
    return {name: judge(problem, family, fit(problem, family)) for name, fit in LIBRARIES.items()}


def summary(counts: dict[str, Counter[str]]) -> str:
    """A table of the counts."""
    kinds = ("right", "refused", "wrong", "absent")
    lines = ["| | tried | " + " | ".join(kinds) + " |", "| --- " * (2 + len(kinds)) + "|"]
    for name, count in counts.items():
        tried = sum(count.values()) - count["absent"]
        lines.append(f"| {name} | {tried} | " + " | ".join(str(count[kind]) for kind in kinds) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="up to ten million rows too")
    parser.add_argument("--write", action="store_true", help="write the page")
    arguments = parser.parse_args()
    table, counts = main(arguments.large)
    print(summary(counts))
    if arguments.write:
        head = PAGE.read_text().partition("<!-- counts -->")[0]
        PAGE.write_text(f"{head}<!-- counts -->\n\n{summary(counts)}\n\n{table}\n")
