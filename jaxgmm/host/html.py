"""Tables in HTML for notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

_MOST_ROWS, _MOST_COLUMNS = 30, 12
"""The most components and columns shown; of the rest the number is given."""


def component_table(
    title: str, names: Sequence[str] | None, weights: np.ndarray, means: np.ndarray, deviations: np.ndarray
) -> str:
    """A table in HTML with a row for each component: its weight, and each column's mean ± standard deviation."""
    n_components, n_features = means.shape
    shown = min(n_features, _MOST_COLUMNS)
    more = [f"and {n_features - shown} more"] if shown < n_features else []
    titles = list(names or (f"column {column}" for column in range(n_features)))[:shown]
    rows = []
    for k in range(min(n_components, _MOST_ROWS)):
        cells = [f"{mean:.4g} ± {sd:.2g}" for mean, sd in zip(means[k, :shown], deviations[k, :shown], strict=True)]
        rows.append([str(k), f"{weights[k]:.3f}", *cells, *("" for _ in more)])
    return html_table(title, ["component", "weight", *titles, *more], rows, n_rows=n_components)


def html_table(
    title: str, head: Sequence[str], rows: Sequence[Sequence[str]], strong: int | None = None, n_rows: int | None = None
) -> str:
    """A table in HTML, every text escaped, one row emphasised.

    Args:
        title: the title above the table.
        head: names of the columns.
        rows: the texts of each row.
        strong: index of the row to emphasise.
        n_rows: the number of rows in all, where not all are given.
    """
    lines = [f"<tr>{''.join(_cell(text, 'th') for text in head)}</tr>"]
    for index, row in enumerate(rows):
        lines.append(f"<tr>{''.join(_cell(text, 'td', index == strong) for text in row)}</tr>")
    hidden = 0 if n_rows is None else n_rows - len(rows)
    if hidden > 0:
        lines.append(f"<tr><td colspan='{len(head)}' style='text-align: left'>and {hidden} more</td></tr>")
    caption = f"<caption style='text-align: left; caption-side: top'>{html.escape(title)}</caption>"
    return f"<table>{caption}<thead>{lines[0]}</thead><tbody>{''.join(lines[1:])}</tbody></table>"


def _cell(text: str, tag: str, strong: bool = False) -> str:
    text = html.escape(text)
    return f"<{tag} style='text-align: right'>{f'<b>{text}</b>' if strong else text}</{tag}>"
