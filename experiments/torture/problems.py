"""Data whose right answer is known: clusters so far apart that the labels they were drawn with are certain.

Then the maximum of the likelihood is each label's own weight, mean and covariance (to e⁻⁵⁰), taken here in long double
from the very numbers that the libraries are given, after they were rounded to their dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

N_ROWS, N_COMPONENTS = 600, 3


class Problem(NamedTuple):
    """What is fitted.

    Attributes:
        x: rows, (N, D).
        labels: the cluster of each row; −1 where a row has weight zero.
        n_components: K asked for.
        weights: of the rows, (N,); None is 1 for each.
        asked: "parameters", which must be those of the labels; "likelihood", which must be no lower than theirs; or
            "collapse", which no fit can avoid and must be said, unless ("point") covariances are shared.
    """

    x: np.ndarray
    labels: np.ndarray
    n_components: int = N_COMPONENTS
    weights: np.ndarray | None = None
    asked: str = "parameters"


class Case(NamedTuple):
    """One hard thing.

    Attributes:
        group: what is hard.
        level: how hard.
        draw: the problem in a dtype.
        dtypes: those in which its numbers can be written down.
    """

    group: str
    level: str
    draw: Callable[[type], Problem]
    dtypes: tuple[type, ...] = (np.float32, np.float64)

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"{self.group} {self.level}".strip()


def clusters(
    n_features: int = 2, n_rows: int = N_ROWS, spread: float = 20.0, n_components: int = N_COMPONENTS
) -> tuple[np.ndarray, np.ndarray]:
    """Rows, (N, D), and labels: correlated clusters of standard deviation 0.5 to 1, `spread` apart in every column."""
    rng = np.random.default_rng(n_features)
    labels = np.arange(n_rows) % n_components
    centres = spread * np.stack([rng.permutation(n_components) for _ in range(n_features)], axis=1)
    centres[:, 0] = spread * np.arange(n_components)
    x = rng.normal(size=(n_rows, n_features)) * rng.uniform(0.5, 0.8, (n_components, n_features))[labels]
    x[:, 1:] += 0.6 * x[:, :-1] * rng.choice([-1, 1], (n_components, n_features - 1))[labels]
    return x + centres[labels], labels


def _moved(change: Callable[[np.ndarray], np.ndarray], n_features: int = 2, n_rows: int = N_ROWS, spread: float = 20.0):
    def draw(dtype: type) -> Problem:
        x, labels = clusters(n_features, n_rows, spread)
        return Problem(np.ascontiguousarray(change(x).astype(dtype)), labels)

    return draw


def _collinear(eps: float) -> Callable[[type], Problem]:
    def change(x: np.ndarray) -> np.ndarray:
        return np.c_[x[:, 0], x[:, 0] + eps * np.random.default_rng(1).normal(size=len(x))]

    return _moved(change)


def _duplicates(dtype: type) -> Problem:
    x, labels = clusters()
    kept = np.arange(60)
    return Problem(np.repeat(x[kept], 10, axis=0).astype(dtype), np.repeat(labels[kept], 10))


def _one_point(dtype: type) -> Problem:
    x, labels = clusters()
    x[labels == 2] = x[labels == 2][0]
    return Problem(x.astype(dtype), labels, asked="point")


def _as_many_rows_as_components(dtype: type) -> Problem:
    x, labels = clusters()
    return Problem(x[:3].astype(dtype), labels[:3], asked="collapse")


def _outlier(distance: float) -> Callable[[type], Problem]:
    def draw(dtype: type) -> Problem:
        x, labels = clusters()
        x[0] = distance
        return Problem(x.astype(dtype), labels, asked="likelihood")

    return draw


def _left_out(value: float) -> Callable[[type], Problem]:
    def draw(dtype: type) -> Problem:
        x, labels = clusters()
        weights = np.where(np.arange(len(x)) % 4 == 3, 0.0, 1.0)
        x[weights == 0] = value
        return Problem(x.astype(dtype), np.where(weights > 0, labels, -1), weights=weights)

    return draw


def _more_components(n_components: int) -> Callable[[type], Problem]:
    def draw(dtype: type) -> Problem:
        x, labels = clusters()
        return Problem(x.astype(dtype), labels, n_components, asked="likelihood")

    return draw


def _cases() -> list[Case]:
    single, double = (np.float32,), (np.float64,)
    cases = [Case("offset", f"{b:.0e}", _moved(lambda x, b=b: x + b)) for b in (0.0, 1e2, 1e3, 1e4, 1e6, 1e8)]
    for s in (1e-4, 1e4):
        cases.append(Case("scale", f"{s:.0e}", _moved(lambda x, s=s: x * s)))
    for s in (1e-30, 1e-15, 1e15, 1e30):
        cases.append(Case("scale", f"{s:.0e}", _moved(lambda x, s=s: x * s), single))
    for s in (1e-150, 1e-30, 1e30, 1e150):
        cases.append(Case("scale", f"{s:.0e}", _moved(lambda x, s=s: x * s), double))
    for s in (10.0, 1e3, 1e6, 1e-6):
        cases.append(Case("one column times", f"{s:.0e}", _moved(lambda x, s=s: x * np.array([1.0, s]))))
    for ratio in (1e1, 1e2, 1e3, 1e4, 1e5):
        cases.append(Case("spread over deviation", f"{ratio:.0e}", _moved(lambda x: x, spread=2 * ratio)))
    cases += [Case("collinear to", f"{eps:.0e}", _collinear(eps)) for eps in (1e-2, 1e-4, 1e-6)]
    cases += [
        Case("each row ten times", "", _duplicates),
        Case("a cluster in one point", "", _one_point),
        Case("N = K", "", _as_many_rows_as_components),
        Case("an outlier at", "1e+03", _outlier(1e3)),
        Case("an outlier at", "1e+06", _outlier(1e6)),
        Case("an outlier at", "1e+300", _outlier(1e300), double),
        Case("weight 0 on rows at", "1e+30", _left_out(1e30)),
        Case("weight 0 on rows of", "NaN", _left_out(np.nan)),
        Case("K too large:", "6", _more_components(6)),
    ]
    sizes = ((1, 600), (8, 600), (50, 1200), (200, 1500))
    cases += [Case("D =", str(d), _moved(lambda x: x, d, n)) for d, n in sizes]
    # Shapes at which stacks of starts were miscompiled: see docs/compilers.md.
    cases += [Case("stacked, D =", str(d), _moved(lambda x: x, d, n)) for d, n in ((30, 569), (40, 1000))]
    return cases


CASES = _cases()
"""All but the large ones."""

LARGE = [Case("N =", f"{n:.0e}", _moved(lambda x: x, 2, n)) for n in (100_000, 1_000_000, 10_000_000)]
"""Minutes each in some libraries."""
