"""Hard but ordinary data: each case of the table is right, or says that it is not."""

import functools

import numpy as np
import pytest

from experiments.torture import truth
from experiments.torture.libraries import Answer, by_jaxgmm
from experiments.torture.problems import CASES, LARGE, clusters
from experiments.torture.verdicts import TOLERANCE, judge
from tests.conftest import X64

pytestmark = pytest.mark.exhaustive

FAMILIES = ("full", "tied", "diag", "spherical")
DTYPES = (np.float32, np.float64) if X64 else (np.float32,)
RIGHT = ("scale", "one column times", "each row ten times", "D =", "stacked, D =", "N =")
"""What can be right and so must be, but for scales whose squares float32 does not hold."""

LONG = [case for case in CASES if case.level == "200"] + LARGE
"""Minutes each."""

TRIED = [
    pytest.param(
        case,
        dtype,
        family,
        id=f"{case.name}-{np.dtype(dtype).name}-{family}",
        marks=pytest.mark.large if case in LONG else (),
    )
    for case in CASES + LARGE
    for dtype in case.dtypes
    for family in FAMILIES
    if dtype in DTYPES and (family == "full" or case in LONG or case.group not in ("D =", "K too large:"))
]


@pytest.mark.parametrize("case,dtype,family", TRIED)
def test_right_or_refused(case, dtype, family):
    problem = case.draw(dtype)
    verdict = judge(problem, family, by_jaxgmm(problem, family))
    surely = family == "full" and case.group in RIGHT and case.level not in ("1e-30", "1e+30")
    assert verdict.kind in (("right",) if surely else ("right", "refused")), verdict


def test_the_judge_knows_wrong_from_right():
    problem = CASES[0].draw(np.float64)
    frame = truth.Frame.of(problem)
    meant = truth.of_labels(problem, "full", frame)
    covariances = meant.covariances * frame.scale[:, None] * frame.scale[None, :]
    right = truth.Arrays(meant.weights, meant.means * frame.scale + frame.shift, covariances)
    verdict = functools.partial(judge, problem, "full")
    assert verdict(Answer(right)).kind == "right"
    turned = truth.Arrays(*(array[::-1] for array in right))
    assert verdict(Answer(turned)).kind == "right"
    wide = right._replace(covariances=right.covariances * (1 + 2 * TOLERANCE))
    assert verdict(Answer(wide)).kind == "wrong" and verdict(Answer(wide, "not converged")).kind == "refused"
    moved = right._replace(means=right.means + 2 * TOLERANCE)
    assert verdict(Answer(moved)).kind == "wrong"
    lost = right._replace(means=np.full_like(right.means, np.nan))
    assert verdict(Answer(lost)).kind == "wrong" and verdict(Answer(None, "no")).kind == "refused"


def test_the_truth_is_that_of_the_labels():
    x, labels = clusters()
    problem = CASES[0].draw(np.float64)
    frame = truth.Frame.of(problem)
    meant = truth.of_labels(problem, "full", frame)
    for k in range(3):
        rows = x[labels == k]
        np.testing.assert_allclose((meant.means[k] * frame.scale + frame.shift).astype(float), rows.mean(axis=0))
        covariance = (meant.covariances[k] * frame.scale[:, None] * frame.scale[None, :]).astype(float)
        np.testing.assert_allclose(covariance, np.cov(rows.T, bias=True))
