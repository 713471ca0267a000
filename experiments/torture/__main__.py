"""Print the table: `python -m experiments.torture [--only TEXT ...] [--large] [--write]`.

`--write` puts each row into the documentation as soon as it is known, and counts the page's verdicts anew, so that the
table may come of many runs.
"""

from __future__ import annotations

import argparse
import pathlib
from collections import Counter
from collections.abc import Iterator

import jax
import numpy as np

from experiments.torture.libraries import LIBRARIES
from experiments.torture.problems import CASES, LARGE
from experiments.torture.verdicts import judge

FAMILIES = ("full", "tied", "diag", "spherical")
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "torture.md"
ORDER = [f"| {case.name} | {np.dtype(dtype).name} " for case in CASES + LARGE for dtype in case.dtypes]
"""How each row of the table begins."""


def rows(only: list[str], large: bool) -> Iterator[str]:
    """Rows of the table, those of which the names have one of the texts in them."""
    for case in CASES + (LARGE if large else []):
        if not only or any(text in case.name for text in only):
            for dtype in case.dtypes:
                problem = case.draw(dtype)
                cells = [
                    cell([str(judge(problem, family, fit(problem, family))) for family in FAMILIES])
                    for fit in LIBRARIES.values()
                ]
                yield f"| {case.name} | {np.dtype(dtype).name} | {' | '.join(cells)} |"


def cell(verdicts: list[str]) -> str:
    """The verdicts for each family in turn; once, where they are the same word."""
    return verdicts[0] if len(set(verdicts)) == 1 and verdicts[0] in ("refused", "–") else ", ".join(verdicts)


def counted(cell: str) -> Counter[str]:
    """How often each kind of verdict stands in a cell."""
    found = cell.split(", ")
    kinds = {"refused": "refused", "–": "absent"}
    named = [kinds.get(text, "wrong" if text.startswith("**") else "right") for text in found]
    return Counter(named * (len(FAMILIES) // len(found)))


def summary(table: list[str]) -> str:
    """A table of the counts over the rows of a table."""
    kinds = ("right", "refused", "wrong", "absent")
    lines = ["| | tried | " + " | ".join(kinds) + " |", "| --- " * (2 + len(kinds)) + "|"]
    for column, name in enumerate(LIBRARIES, start=2):
        count = sum((counted(row.strip("| ").split(" | ")[column]) for row in table), Counter[str]())
        tried = count.total() - count["absent"]
        lines.append(f"| {name} | {tried} | " + " | ".join(str(count[kind]) for kind in kinds) + " |")
    return "\n".join(lines)


def write(row: str) -> None:
    """Put a row into the page, in place of what stood there."""
    head, _, rest = PAGE.read_text().partition("<!-- counts -->")
    known = {begin: line for line in [*rest.splitlines(), row] for begin in ORDER if line.startswith(begin)}
    table = [known[begin] for begin in ORDER if begin in known]
    titles = "| case | dtype | " + " | ".join(LIBRARIES) + " |\n" + "| --- " * (2 + len(LIBRARIES)) + "|"
    PAGE.write_text("\n".join([f"{head}<!-- counts -->\n", summary(table) + "\n", titles, *table]) + "\n")


def main() -> None:
    """Print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], help="rows with one of these texts in their names")
    parser.add_argument("--large", action="store_true", help="up to ten million rows too")
    parser.add_argument("--write", action="store_true", help="write the page")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    found = []
    for row in rows(arguments.only, arguments.large):
        found.append(row)
        print(row, flush=True)
        if arguments.write:
            write(row)
    print(summary(found))


if __name__ == "__main__":
    main()
