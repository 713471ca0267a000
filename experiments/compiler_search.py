"""Whole fits under the installed jax, against NumPy: `python -m experiments.compiler_search [CASES] [SEED] [MINUTES]`.

Each case draws a family, a dtype, a number of starts, N, D and K, and makes a short fit of all starts as one stack.
Three log-likelihoods are compared with NumPy's, in nats per row: the one that the fit reports, the one that
`log_likelihood` gives of its mixture, and the one after another iteration by `run`; and so are the masses of a stack of
starts. A line for each wrong case, a table of what was tried and a summary are printed; no case is begun after so many
minutes. The fits are taken as they are: what their own verification finds is noted and does not make them again.
"""

from __future__ import annotations

import sys
import time
from typing import NamedTuple
from unittest import mock

import jax
import jaxlib
import numpy as np

import jaxgmm
from jaxgmm.fitting import verification

SIZES = {
    "covariance_type": ["full", "tied", "diag", "spherical"],
    "n_init": [1, 2, 3, 4, 8, 20, 40],
    "n_rows": [500, 569, 1000, 4096, 16385, 32769, 50001],
    "n_features": [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 24, 30, 32, 33, 40, 48, 64],
    "n_components": [1, 2, 3, 4, 8],
}

MOST_WORK = 1 << 30
"""Multiplications in a pass of all starts, above which a case is drawn anew."""

WRONG = {np.dtype("float32"): 1e-2, np.dtype("float64"): 1e-7}
"""ObjectiveUnits per row that rounding does not explain on these data."""


class Case(NamedTuple):
    """One fit to make."""

    covariance_type: str
    n_init: int
    n_rows: int
    n_features: int
    n_components: int
    dtype: np.dtype

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Case:
        """A case that is neither too large nor too thin."""
        while True:
            sizes = {name: values[rng.integers(len(values))] for name, values in SIZES.items()}
            case = cls(**sizes, dtype=np.dtype(rng.choice(["float32", "float64"])))
            enough = case.n_rows > 4 * case.n_components * case.n_features
            if enough and case.n_init * case.n_rows * case.n_components * case.n_features**2 <= MOST_WORK:
                return case

    def rows(self, rng: np.random.Generator) -> np.ndarray:
        """Rows of components of unit deviations, some deviations apart."""
        means = rng.normal(size=(self.n_components, self.n_features))
        means *= 6 / np.sqrt(max(1, self.n_features / 4))
        labels = rng.integers(0, self.n_components, self.n_rows)
        return (means[labels] + rng.normal(size=(self.n_rows, self.n_features))).astype(self.dtype)


class Visit(NamedTuple):
    """What NumPy makes of rows under a mixture."""

    mass: np.ndarray
    mean: np.ndarray
    log_likelihood: float


def visit(mixture: jaxgmm.Mixture, x: np.ndarray) -> Visit:
    """The E-step in NumPy, from covariance matrices."""
    x, means = x.astype(np.float64), np.asarray(mixture.means, np.float64)
    joint = []
    for log_weight, mean, covariance in zip(
        np.asarray(mixture.log_weights), means, np.asarray(mixture.covariances), strict=True
    ):
        whitened = np.linalg.solve(np.linalg.cholesky(covariance.astype(np.float64)), (x - mean).T)
        log_det = np.linalg.slogdet(2 * np.pi * covariance.astype(np.float64))[1]
        joint.append(log_weight - 0.5 * (log_det + np.sum(whitened**2, axis=0)))
    log_prob = np.logaddexp.reduce(joint, axis=0)
    resp = np.exp(np.stack(joint) - log_prob)
    return Visit(resp.sum(axis=1), resp @ x / resp.sum(axis=1)[:, None], float(log_prob.sum()))


def errors(case: Case, seed: int) -> dict[str, float]:
    """By what each way of asking is off, in nats per row (moments: in rows of the mass, per row)."""
    x = case.rows(np.random.default_rng(seed))
    family, n_rows = case.covariance_type, case.n_rows
    keys = jax.random.split(jax.random.key(seed), case.n_init)
    faults: list[str] = []
    asked = verification.disagreement

    def recorded(*args):
        fault = asked(*args)
        faults.extend([] if fault is None else [fault])

    with mock.patch.object(verification, "disagreement", recorded):
        fit = jaxgmm.fit(
            jax.random.key(seed), x, case.n_components, covariance_type=family, n_init=case.n_init, max_iter=12
        )
    seen = visit(fit.mixture, x).log_likelihood
    found = {
        "fit": float(fit.log_likelihood) - seen,
        "log_likelihood": float(jaxgmm.log_likelihood(fit.mixture, x)) - seen,
    }
    once = jaxgmm.run(jaxgmm.EM(), fit.mixture, x, max_iter=1, tol=0)
    found["run"] = float(once.log_likelihood) - visit(once.mixture, x).log_likelihood
    starts = jax.vmap(lambda key: jaxgmm.initialize(key, x, case.n_components, covariance_type=family))(keys)
    moments, _ = jax.jit(jax.vmap(lambda mixture: jaxgmm.e_step(mixture, x)))(starts)
    found["stack"] = max(
        float(np.abs(visit(jax.tree.map(lambda leaf, at=at: leaf[at], starts), x).mass - moments.mass[at]).max())
        for at in {0, case.n_init // 2, case.n_init - 1}
    )
    return {name: abs(error) / n_rows for name, error in found.items()} | {"noticed": float(bool(faults))}


class Tally(NamedTuple):
    """What became of the cases of one family and dtype."""

    cases: list[Case]
    wrong: list[Case]
    errors: list[float]

    def row(self) -> str:
        """A row of the table: how many, of which sizes, how many wrong, and by what the others are off."""
        spans = (
            f"{min(sizes)} to {max(sizes)}"
            for sizes in ([getattr(case, name) for case in self.cases] for name in list(SIZES)[1:])
        )
        worst = f"{max(self.errors):.0e}" if self.errors else "–"
        return f"| {len(self.cases)} | {' | '.join(spans)} | {len(self.wrong)} | {worst} |"


def main(n_cases: int = 100, seed: int = 0, minutes: int = 1000) -> None:
    """Print what is wrong, and how much was tried."""
    jax.config.update("jax_enable_x64", True)
    rng, missed, alarms, begun = np.random.default_rng(seed), 0, 0, time.monotonic()
    tallies: dict[tuple[str, str], Tally] = {}
    for place in range(n_cases):
        if time.monotonic() > begun + 60 * minutes:
            break
        case = Case.drawn(rng)
        found = errors(case, place)
        noticed = found.pop("noticed") > 0
        largest = max(found.values())
        tally = tallies.setdefault((case.covariance_type, case.dtype.name), Tally([], [], []))
        tally.cases.append(case)
        if not largest <= WRONG[case.dtype]:
            tally.wrong.append(case)
            missed += not found["fit"] <= WRONG[case.dtype] and not noticed
            print(
                case, {name: f"{error:.1e}" for name, error in found.items()}, "noticed" if noticed else "", flush=True
            )
        else:
            alarms += noticed
            tally.errors.append(largest)
        jax.clear_caches()
    print("| family | dtype | fits | starts | rows | columns | components | wrong | off by at most, nats per row |")
    print("| --- " * 9 + "|")
    for (family, dtype), tally in sorted(tallies.items()):
        print(f"| {family} | {dtype} {tally.row()}")
    tried, wrong = (sum(len(cases) for cases in kind) for kind in zip(*(t[:2] for t in tallies.values()), strict=True))
    print(f"jax {jax.__version__}, jaxlib {jaxlib.__version__}: {tried} cases, {wrong} wrong, {missed} fits of them ")
    print(f"not noticed by fit, {alarms} false alarms", flush=True)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:4]))
