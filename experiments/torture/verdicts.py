"""Whether an answer is right, says that it is not, or is wrong."""

from __future__ import annotations

from typing import NamedTuple

from experiments.torture import truth
from experiments.torture.libraries import Answer
from experiments.torture.problems import Problem

TOLERANCE = 0.01
"""Error above which an answer is wrong: a hundredth of a deviation, a variance or a weight; or of a nat per row."""

ABSENT = ("no weights", "not offered")


class Verdict(NamedTuple):
    """What an answer is worth.

    Attributes:
        kind: "right", "refused" (an error, or a status or warning with the fit), "wrong", or "absent".
        error: of the parameters, or the likelihood's shortfall; NaN where the fit is NaN, or where there is none.
        remark: the library's own.
    """

    kind: str
    error: float
    remark: str

    def __str__(self) -> str:
        """As it stands in a table."""
        if self.kind == "absent":
            return "–"
        if self.kind == "refused":
            return "refused"
        shown = "NaN" if self.error != self.error else f"{self.error:.0e}"
        return shown if self.kind == "right" else f"**{shown}**"


def judge(problem: Problem, family: str, answer: Answer) -> Verdict:
    """An answer beside the truth."""
    if answer.remark in ABSENT:
        return Verdict("absent", float("nan"), answer.remark)
    if answer.mixture is None:
        return Verdict("refused", float("nan"), answer.remark)
    if problem.asked == "collapse" or problem.asked == "point" and family != "tied":
        return Verdict("refused" if answer.remark else "wrong", float("inf"), answer.remark)
    frame = truth.Frame.of(problem)
    meant, fitted = truth.of_labels(problem, family, frame), frame.mixture(answer.mixture)
    if problem.asked == "likelihood":
        found = truth.shortfall(problem, fitted, meant, frame)
    else:
        found = truth.error(fitted, meant)
    if found <= TOLERANCE:
        return Verdict("right", found, answer.remark)
    return Verdict("refused" if answer.remark else "wrong", found, answer.remark)
