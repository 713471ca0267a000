"""Print the table: `python -m experiments.torture [--large] [--write]`; the last writes it into the documentation."""

from __future__ import annotations

import argparse
import pathlib
from collections import Counter

import jax
import numpy as np

from experiments.torture.libraries import LIBRARIES
from experiments.torture.problems import CASES, LARGE
from experiments.torture.verdicts import Verdict, judge

FAMILIES = ("full", "tied", "diag", "spherical")
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "torture.md"


def main(large: bool = False) -> tuple[str, dict[str, Counter[str]]]:
    """The table, and each library's counts of verdicts."""
    jax.config.update("jax_enable_x64", True)
    lines = [
        "| case | dtype | family | " + " | ".join(LIBRARIES) + " |",
        "| --- " * (3 + len(LIBRARIES)) + "|",
    ]
    counts: dict[str, Counter[str]] = {name: Counter() for name in LIBRARIES}
    for case in CASES + (LARGE if large else []):
        for dtype in case.dtypes:
            for family in FAMILIES:
                verdicts = _verdicts(case.draw(dtype), family)
                for name, verdict in verdicts.items():
                    counts[name][verdict.kind] += 1
                cells = " | ".join(str(verdict) for verdict in verdicts.values())
                lines.append(f"| {case.name} | {np.dtype(dtype).name} | {family} | {cells} |")
                print(lines[-1], verdicts["jaxgmm"].remark[:60], flush=True)
    return "\n".join(lines), counts


def _verdicts(problem, family: str) -> dict[str, Verdict]:
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
