"""Candidates of a model choice, and the table of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from jaxgmm.fitting.results import FAILED, FitResult, Status
from jaxgmm.host.arrays import Names
from jaxgmm.host.html import html_table
from jaxgmm.model.mixture import Mixture


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One model of a grid.

    Attributes:
        n_components: K.
        covariance_type: name of the family.
        n_parameters: number of free parameters.
        log_likelihood: Σ wᵢ log p(xᵢ); NaN where skipped.
        aic: lower is better; NaN where skipped.
        bic: lower is better; NaN where skipped.
        icl: lower is better; NaN where skipped.
        result: the fit; None where skipped.
        skipped: why it was not fitted; None where it was.
        n_ended: number of starts that climbed to an end; the others were given up after a short climb.
        n_agreeing: number of those that reached the best objective, up to what `tol` leaves open. If it is 1 of many,
            more starts may find a better optimum: raise `n_init`.

    Example:
        >>> x = np.random.default_rng(0).normal([[0.0, 0.0], [4.0, 4.0]] * 50)
        >>> selection = jaxgmm.select(jax.random.key(1), x, [1, 2], ["full"])
        >>> [(candidate.n_components, candidate.n_parameters) for candidate in selection]
        [(1, 5), (2, 11)]
    """

    n_components: int
    covariance_type: str
    n_parameters: int
    log_likelihood: float = float("nan")
    aic: float = float("nan")
    bic: float = float("nan")
    icl: float = float("nan")
    result: FitResult | None = None
    skipped: str | None = None
    n_ended: int = 0
    n_agreeing: int = 0

    @property
    def mixture(self) -> Mixture:
        """The fitted mixture.

        Raises:
            ValueError: if the candidate was skipped.
        """
        if self.result is None:
            raise ValueError(f"K = {self.n_components} with {self.covariance_type!r} was skipped: {self.skipped}")
        return self.result.mixture

    @property
    def feature_names(self) -> Names | None:
        """Names of the columns, where the fit knows them."""
        return None if self.result is None else self.result.feature_names

    @property
    def sound(self) -> bool:
        """Whether it was fitted, and neither collapsed nor failed."""
        return self.result is not None and self.result.status not in FAILED


@dataclasses.dataclass(frozen=True)
class Selection:
    """A table of candidates, in the order in which they were fitted.

    Attributes:
        candidates: all of them, skipped ones included.
        criterion: "bic", "aic" or "icl".

    Example:
        >>> x = np.random.default_rng(0).normal([[0.0, 0.0], [4.0, 4.0]] * 50)
        >>> selection = jaxgmm.select(jax.random.key(1), x, [1, 2], ["full"])
        >>> len(selection), selection.best.n_components, selection.best.covariance_type
        (2, 2, 'full')
    """

    candidates: tuple[Candidate, ...]
    criterion: str

    def __iter__(self) -> Iterator[Candidate]:
        """An iterator over the candidates."""
        return iter(self.candidates)

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.candidates)

    @property
    def best(self) -> Candidate:
        """The candidate with the lowest criterion; a collapsed one only where all collapsed.

        Raises:
            ValueError: if no candidate has a finite criterion.
        """
        finite = [c for c in self.candidates if np.isfinite(getattr(c, self.criterion))]
        if not finite:
            raise ValueError("no candidate could be fitted: " + "; ".join(str(c.skipped) for c in self.candidates))
        sound = [c for c in finite if c.sound] or finite
        return min(sound, key=lambda candidate: getattr(candidate, self.criterion))

    def __str__(self) -> str:
        """A table, the best candidate marked."""
        head = _line([*_HEAD, "status"])
        lines = [head, "-" * len(head)]
        best = self._best_if_any()
        for c in self.candidates:
            lines.append(_line(_cells(c)) + (f"  <- lowest {self.criterion.upper()}" if c is best else ""))
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The table of candidates in HTML, for notebooks."""
        best = self._best_if_any()
        rows = [
            [*cells[:-1], *[""] * (len(_HEAD) + 1 - len(cells)), cells[-1]] for cells in map(_cells, self.candidates)
        ]
        strong = next((place for place, c in enumerate(self.candidates) if c is best), None)
        title = f"Selection by {self.criterion.upper()}, {len(rows)} candidates"
        return html_table(title, [*_HEAD, "status"], rows, strong)

    def _best_if_any(self) -> Candidate | None:
        return self.best if any(np.isfinite(getattr(c, self.criterion)) for c in self.candidates) else None


_HEAD = ("K", "covariance", "parameters", "log-lik.", "AIC", "BIC", "ICL", "agree")


def _line(cells: list[str]) -> str:
    """A line of the table in text; the last cell is as wide as it needs to be."""
    count, name, *numbers, status = cells
    widths = (10, 13, 13, 13, 13, 7)
    columns = "".join(f"{text:>{width}}" for text, width in zip(numbers, widths, strict=False))
    return f"{count:>3}  {name:<11}{columns}  {status}"


def _cells(c: Candidate) -> list[str]:
    """The texts of a candidate's row, the last of them its status; a skipped one has no numbers."""
    start = [str(c.n_components), c.covariance_type, str(c.n_parameters)]
    if c.result is None:
        return [*start, f"skipped: {c.skipped}"]
    numbers = [f"{value:.2f}" for value in (c.log_likelihood, c.aic, c.bic, c.icl)]
    return [*start, *numbers, f"{c.n_agreeing}/{c.n_ended}", Status(int(c.result.status)).name.lower()]
