"""Choice of K and of the covariances: a grid of fits, compared by an information criterion."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxgmm._protocols import Family
from jaxgmm._types import FAILED, FitResult, Mixture, Status
from jaxgmm.arrays import as_table
from jaxgmm.checks import as_callback, as_count, as_key, check_climber
from jaxgmm.criteria import check_criterion, doubt, n_parameters
from jaxgmm.data import as_data
from jaxgmm.families import FAMILIES, family_of
from jaxgmm.fitting import Options, fit_in_slots
from jaxgmm.mixtures import with_spares
from jaxgmm.progress import Callback, Progress
from jaxgmm.tables import html_table
from jaxgmm.weights import as_weights


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One model of a grid.

    Attributes:
        n_components: K.
        covariance_type: name of the family.
        n_parameters: number of free parameters.
        log_likelihood: total; NaN where skipped.
        aic: lower is better; NaN where skipped.
        bic: lower is better; NaN where skipped.
        icl: lower is better; NaN where skipped.
        result: the fit; None where skipped.
        skipped: why it was not fitted; None where it was.
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
    def sound(self) -> bool:
        """Whether it was fitted, and neither collapsed nor failed."""
        return self.result is not None and self.result.status not in FAILED


@dataclasses.dataclass(frozen=True)
class Selection:
    """A table of candidates, in the order in which they were fitted.

    Attributes:
        candidates: all of them, skipped ones included.
        criterion: "bic", "aic" or "icl".
    """

    candidates: tuple[Candidate, ...]
    criterion: str

    def __iter__(self) -> Iterator[Candidate]:
        """Go through the candidates."""
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
        """The same table for notebooks."""
        best = self._best_if_any()
        rows = [
            [*cells[:-1], *[""] * (len(_HEAD) + 1 - len(cells)), cells[-1]] for cells in map(_cells, self.candidates)
        ]
        strong = next((place for place, c in enumerate(self.candidates) if c is best), None)
        title = f"Selection by {self.criterion.upper()}, {len(rows)} candidates"
        return html_table(title, [*_HEAD, "status"], rows, strong)

    def _best_if_any(self) -> Candidate | None:
        return self.best if any(np.isfinite(getattr(c, self.criterion)) for c in self.candidates) else None


_HEAD = ("K", "covariance", "parameters", "log-lik.", "AIC", "BIC", "ICL")


def _line(cells: list[str]) -> str:
    """A line of the table in text; the last cell has what room it needs."""
    count, name, *numbers, status = cells
    widths = (10, 13, 13, 13, 13)
    columns = "".join(f"{text:>{width}}" for text, width in zip(numbers, widths, strict=False))
    return f"{count:>3}  {name:<11}{columns}  {status}"


def _cells(c: Candidate) -> list[str]:
    """The texts of a candidate's row, the last of them its status; a skipped one has no numbers."""
    start = [str(c.n_components), c.covariance_type, str(c.n_parameters)]
    if c.result is None:
        return [*start, f"skipped: {c.skipped}"]
    numbers = [f"{value:.2f}" for value in (c.log_likelihood, c.aic, c.bic, c.icl)]
    return [*start, *numbers, Status(int(c.result.status)).name.lower()]


def select(
    key: Array,
    x: Any,
    n_components: Iterable[int] = range(1, 10),
    covariance_types: Iterable[Any] = tuple(FAMILIES),
    sample_weight: Any = None,
    *,
    criterion: str = "bic",
    progress: bool = False,
    callback: Callback | None = None,
    **fit_options: Any,
) -> Selection:
    """Fit every K with every covariance type, and compare them by an information criterion.

    Args:
        key: a typed key, `jax.random.key(0)`.
        x: rows, (N, D).
        n_components: the K to try.
        covariance_types: names or families to try.
        sample_weight: non-negative weights, (N,).
        criterion: "bic", "aic" or "icl", which `.best` minimises.
        progress: whether to show a bar over all fits; see `fit`.
        callback: is given a `Report` about four times a second; where it returns True, the selection ends as by
            Ctrl-C, and candidates not fitted yet are skipped.
        **fit_options: handed to `fit`.

    Returns:
        The table. Candidates with more components than rows of positive weight are listed as skipped.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if an argument has a bad value.
    """
    key = as_key(key)
    unknown = sorted(set(fit_options) - set(Options._fields[1:]))
    if unknown:
        raise TypeError(f"select got an unknown option {unknown[0]!r}; fit takes {', '.join(Options._fields[1:])}")
    check_criterion(criterion)
    asked = Options(**fit_options)
    check_climber(asked.algorithm, asked.prior)
    table = as_table(x)
    weights = as_weights(sample_weight, len(table.rows))
    counts = [as_count(k, "n_components") for k in _listed(n_components)]
    families = [family_of(name, "each of covariance_types") for name in _listed(covariance_types)]
    for name, listed in (("n_components", counts), ("covariance_types", families)):
        if not listed:
            raise ValueError(f"{name} is empty: it must name at least one candidate")
    candidates: list[Candidate] = []
    with Progress(progress, as_callback(callback), len(counts) * len(families)) as shown:
        for family in families:
            options = asked._replace(covariance_type=family)
            n_slots = _slots(counts, table.rows, weights, options)
            # The K that share a program share its compilation, and halving their restarts pays the sooner.
            n_fits = len(counts) if n_slots else 1
            for count in counts:
                own = jax.random.fold_in(key, len(candidates))
                fit_one = functools.partial(fit_in_slots, own, table, count, weights, options, n_slots, shown, n_fits)
                candidates.append(_candidate(fit_one, table.rows, count, weights, candidates, family, n_slots))
                shown.end()
    chosen = Selection(tuple(candidates), criterion)
    if any(c.result is not None for c in chosen) and not any(c.sound for c in chosen):
        collapsed = (
            "every candidate that was fitted collapsed, and none is to be relied on: `fit` one of them to be told why"
        )
        warnings.warn(collapsed, stacklevel=2)
    return chosen


_SLOTS_WORK = 1 << 24
"""Multiplications in a pass, N·K·D², up to which spare components cost less than compiling for each K."""


def _slots(counts: list[int], x: np.ndarray, weights: np.ndarray, options: Options) -> int:
    """Components to compile for: the most that will be asked for, or 0 to compile for each K."""
    possible = [count for count in counts if count <= np.count_nonzero(weights)]
    most = max(possible, default=0)
    work = x.shape[0] * most * x.shape[1] ** 2
    return most if options.algorithm.takes_spares and work <= _SLOTS_WORK else 0


def _candidate(
    fit_one: Callable[[], FitResult],
    x: np.ndarray,
    count: int,
    weights: np.ndarray,
    before: list[Candidate],
    family: Family,
    n_slots: int,
) -> Candidate:
    size = n_parameters(family, count, x.shape[1])
    n_rows = int(np.count_nonzero(weights))
    if count > n_rows:
        return Candidate(count, family.name, size, skipped=f"only {n_rows} rows")
    if any(c.skipped == "interrupted" or c.result and c.result.status == Status.INTERRUPTED for c in before):
        return Candidate(count, family.name, size, skipped="interrupted")
    try:
        result = fit_one()
    except KeyboardInterrupt:  # before this one had anything to return
        if all(c.result is None for c in before):
            raise
        return Candidate(count, family.name, size, skipped="interrupted")
    deviance = -2 * float(result.log_likelihood)
    bic = deviance + size * float(np.log(weights.sum()))
    icl = bic + float(doubt(*as_data(with_spares(result.mixture, n_slots), x, weights)))
    return Candidate(count, family.name, size, -deviance / 2, deviance + 2 * size, bic, icl, result)


def _listed(asked: Any) -> list[Any]:
    return list(asked) if isinstance(asked, Iterable) and not isinstance(asked, str) else [asked]
