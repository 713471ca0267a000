"""Draw from known mixtures, fit, compare: `python -m experiments.recovery [--only fits] [--thin 10] [--write]`.

Two tables. `fits`: how far `fit` is from the truth, beside how far the Fisher information says that it must be.
`choices`: the number of components that BIC takes by `select`, beside scikit-learn's from the same rows. `--thin` takes
one in so many data sets; `--write` writes the tables into the documentation.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Iterator

import jax

from experiments.recovery.choices import Choice, choose, rows_that_pay
from experiments.recovery.estimates import Recovery, recover
from experiments.recovery.truths import truth
from jaxgmm import FAMILIES

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "recovery.md"

N_SETS = {100: 100, 1000: 100, 10_000: 50}
"""Data sets by their number of rows."""

FITS = [
    *[("full", 2, error) for error in (0.001, 0.01, 0.05, 0.15)],
    *[(family, 2, 0.05) for family in ("tied", "diag", "spherical")],
    *[("full", 8, error) for error in (0.01, 0.05)],
]
"""What is drawn and fitted: family, D, Bayes error."""

CHOICES = [
    *[("full", ("full",), error, n, 40) for error in (0.001, 0.01, 0.05, 0.15) for n in (100, 300, 1000)],
    *[("tied", tuple(FAMILIES), error, n, 20) for error in (0.01, 0.05) for n in (100, 300)],
]
"""Family of the truth, families offered, Bayes error, N, number of data sets."""


def main(names: list[str], thin: int = 1) -> dict[str, str]:
    """Print and return the tables asked for."""
    jax.config.update("jax_enable_x64", True)
    return {name: _table(head, lines(thin)) for name, (head, lines) in TABLES.items() if name in names}


_FIT_HEAD = (
    "family",
    "D",
    "Bayes error",
    "N",
    "weights",
    "means",
    "covariances",
    "2N KL / P",
    "ARI of the fit",
    "of the best",
    "unsound",
)


def fit_lines(thin: int) -> Iterator[list[str]]:
    """Of the first table, cell by cell."""
    for family, n_features, error in FITS:
        for n, n_sets in N_SETS.items():
            n_sets = max(n_sets // thin, 1)
            found = recover(truth(family, n_features, error), n, n_sets)
            yield [family, str(n_features), f"{error:.1%}", f"{n:,}", *_fit_cells(found, n_sets)]


def _fit_cells(found: Recovery, n_sets: int) -> list[str]:
    pairs = [f"{error:.2g} ({ratio:.2f})" for error, ratio in zip(found.errors, found.ratios, strict=True)]
    agreements = [f"{found.agreement:.3f}", f"{found.best_agreement:.3f}"]
    return [*pairs, f"{found.divergence:.2f}", *agreements, f"{found.n_unsound} of {n_sets}"]


_CHOICE_HEAD = (
    "family",
    "offered",
    "Bayes error",
    "N",
    "N that pays",
    "K: under / right / over",
    "family right",
    "scikit-learn's K",
    "family right",
)


def choice_lines(thin: int) -> Iterator[list[str]]:
    """Of the second table, cell by cell."""
    for family, offered, error, n, n_sets in CHOICES:
        mixture = truth(family, 2, error)
        names = "it alone" if len(offered) == 1 else f"all {len(offered)}"
        pays = f"{float(f'{rows_that_pay(mixture):.2g}'):,.0f}"
        found = [_choice_cells(choice, offered) for choice in choose(mixture, offered, n, max(n_sets // thin, 1))]
        yield [family, names, f"{error:.1%}", f"{n:,}", pays, *found[0], *found[1]]


def _choice_cells(found: Choice, offered: tuple[str, ...]) -> list[str]:
    return [" / ".join(map(str, found.counts)), "" if len(offered) == 1 else str(found.family)]


def _table(head: tuple[str, ...], lines: Iterator[list[str]]) -> str:
    text = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    print(text[0], flush=True)
    for cells in lines:
        text.append("| " + " | ".join(cells) + " |")
        print(text[-1], flush=True)
    return "\n".join(text)


TABLES = {"fits": (_FIT_HEAD, fit_lines), "choices": (_CHOICE_HEAD, choice_lines)}


def write(tables: dict[str, str]) -> None:
    """Put each table between its marks in the page."""
    page = PAGE.read_text()
    for name, table in tables.items():
        before, mark, rest = page.partition(f"<!-- {name} -->\n")
        page = f"{before}{mark}\n{table}\n\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    PAGE.write_text(page)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=list(TABLES), help="one table")
    parser.add_argument("--thin", type=int, default=1, help="one in so many data sets")
    parser.add_argument("--write", action="store_true", help="write the page")
    arguments = parser.parse_args()
    found = main([arguments.only] if arguments.only else list(TABLES), arguments.thin)
    if arguments.write:
        write(found)
