"""Rows with gaps or errors, beside complete ones, and a peer: `python -m experiments.benchmarks.blurred`.

One pass of EM over `Incomplete` rows, a tenth of their values missing, in all patterns or in twenty, beside a pass over
complete rows of the same shape; and over `Noisy` rows, beside astroML's `XDGMM` where that is installed, which
is also compared after as many iterations from the same start.
"""

from __future__ import annotations

import importlib
from typing import Any

from experiments.benchmarks import report, timing  # First: it settles how threads wait.

# isort: split
import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm
from experiments.benchmarks.problems import Problem, draw
from experiments.benchmarks.timing import Contender
from jaxgmm.data.incomplete import laid_out
from jaxgmm.data.rows import as_rows
from jaxgmm.fitting.problem import posed
from jaxgmm.model.priors.ridge import settle

NAME = "blurred"
GAPS, ERRORS = (200_000, 8, 8), (100_000, 4, 8)
CLIMB, TO_THE_TOP = (5_000, 3, 4), 50
SHARE, N_PATTERNS = 0.1, 20

em_step = jax.jit(lambda state, problem: jaxgmm.EM().step(state, problem))


class Pass:
    """`EM().step` over data of one kind, from one start."""

    def __init__(self, data: Any, start: jaxgmm.Mixture) -> None:
        """Make the data ready."""
        self.problem = jax.block_until_ready(jax.jit(posed)(data, settle(None, start.means.dtype)))
        self.first = self.state = jaxgmm.EM().init(start, self.problem)[0]

    def restart(self) -> None:
        """Go back to the start."""
        self.state = self.first

    def step(self) -> None:
        """One pass, waited for."""
        self.state, _ = jax.block_until_ready(em_step(self.state, self.problem))

    def contender(self) -> Contender:
        """As `race` takes it."""
        return Contender(self.step, self.restart)


class XDGMM:
    """astroML's extreme deconvolution: `_EMstep`, as its own loop calls it."""

    def __init__(self, problem: Problem, noise: np.ndarray) -> None:
        """Put it at the start without fitting."""
        made = importlib.import_module("astroML.density_estimation").XDGMM(len(problem.start.weights))
        self.model, self.problem, self.noise = made, problem, _dense(noise)
        self.restart()

    def restart(self) -> None:
        """Go back to the start."""
        self.model.alpha, self.model.mu, self.model.V = map(np.copy, self.problem.start)

    def step(self) -> None:
        """One iteration, without the log-likelihood, for which its loop makes another pass."""
        self.model._EMstep(self.problem.x, self.noise)

    def mixture(self) -> jaxgmm.Mixture:
        """Where it is."""
        return jaxgmm.make_mixture(self.model.alpha, self.model.mu, self.model.V)

    def told(self) -> float:
        """The log-likelihood per row that it gives itself."""
        return float(self.model.logL(self.problem.x, self.noise)) / len(self.noise)


def main(quick: bool = False, rounds: int = 7) -> None:
    """Measure, print and write."""
    jax.config.update("jax_enable_x64", True)
    rounds = 2 if quick else rounds
    rows = [*gaps(quick, rounds), *errors(quick, rounds), *peer(rounds)]
    climbs = to_the_top(quick)
    highest = [row for row in climbs if row["by"] == "jaxgmm"][0]["log_likelihood"]
    found = {row["what"]: row["ratio"] for row in rows}
    targets = [
        report.at_most(f"{name}, over complete rows", found[name], wanted, "x")
        for name, wanted in (
            (f"float32, {SHARE:.0%} missing", 3),
            (f"float32, {N_PATTERNS} patterns", 2),
            (f"float64, {SHARE:.0%} missing", 3),
            (f"float64, {N_PATTERNS} patterns", 2),
        )
    ] + [
        report.at_most(
            f"{row['by']}: difference per row after as many iterations", abs(row["log_likelihood"] - highest), 1e-4
        )
        for row in climbs
        if row["by"] != "jaxgmm"
    ]
    report.write(NAME, [*rows, *climbs], targets, None, quick)
    report.targets_table(targets)


def gaps(quick: bool, rounds: int) -> list[dict[str, Any]]:
    """Passes over rows with gaps, in turns with complete ones."""
    n, d, k = (GAPS[0] // 16, *GAPS[1:]) if quick else GAPS
    report.heading(f"A pass over {n} x {d} with gaps, K = {k}, full")
    contenders = {}
    for dtype in (np.float32, np.float64):
        problem, rng = draw(n, d, k, dtype=dtype), np.random.default_rng(1)
        anything = rng.random((n, d)) < SHARE
        few = np.unique(rng.random((10 * N_PATTERNS, d)) < 2 * SHARE, axis=0)
        few = few[~few.all(axis=1)]
        few = few[rng.permutation(len(few))[:N_PATTERNS]]
        start = jaxgmm.make_mixture(*problem.start)
        name = np.dtype(dtype).name
        contenders[f"{name}, complete"] = Pass(as_rows(jnp.asarray(problem.x)), start)
        for missing, told in (
            (anything, f"{SHARE:.0%} missing"),
            (few[rng.integers(len(few), size=n)], f"{N_PATTERNS} patterns"),
        ):
            contenders[f"{name}, {told}"] = Pass(_incomplete(np.where(missing, np.nan, problem.x)), start)
            print(f"{name}, {told}: {len(np.unique(missing, axis=0))} patterns, {missing.mean():.1%} of values missing")
    return _raced({name: each.contender() for name, each in contenders.items()}, rounds, "complete")


def errors(quick: bool, rounds: int) -> list[dict[str, Any]]:
    """Passes over rows with errors, in turns with rows without."""
    n, d, k = (ERRORS[0] // 16, *ERRORS[1:]) if quick else ERRORS
    report.heading(f"A pass over {n} x {d} with errors, K = {k}, full")
    contenders: dict[str, Contender] = {}
    problem, noise = _noisy(n, d, k)
    for dtype in (np.float32, np.float64):
        name, x = np.dtype(dtype).name, problem.x.astype(dtype)
        start = jaxgmm.make_mixture(*problem.start.astype(dtype))
        contenders[f"{name}, no errors"] = Pass(as_rows(jnp.asarray(x)), start).contender()
        for told, held in {"variances": noise, "covariances": _dense(noise)}.items():
            data = jaxgmm.Noisy(jnp.asarray(x), jnp.asarray(held, dtype), jnp.ones(n, dtype))
            contenders[f"{name}, {told}"] = Pass(data, start).contender()
    return _raced(contenders, rounds, "no errors")


def peer(rounds: int) -> list[dict[str, Any]]:
    """An iteration over few rows with covariances, in turns with astroML, which inverts matrices in a Python loop."""
    n, d, k = CLIMB
    report.heading(f"A pass over {n} x {d} with errors, K = {k}, full, beside a peer")
    problem, noise = _noisy(n, d, k)
    data = jaxgmm.Noisy(jnp.asarray(problem.x), jnp.asarray(_dense(noise)), jnp.ones(n))
    contenders = {"float64, jaxgmm": Pass(data, jaxgmm.make_mixture(*problem.start)).contender()}
    if _has("astroML"):
        other = XDGMM(problem, noise)
        contenders["float64, astroML"] = Contender(other.step, other.restart)
    return _raced(contenders, rounds, "jaxgmm")


def to_the_top(quick: bool) -> list[dict[str, Any]]:
    """Log-likelihoods per row after many iterations from one start, all told by jaxgmm, and by each itself."""
    n, d, k = CLIMB
    n_steps = TO_THE_TOP // 10 if quick else TO_THE_TOP
    report.heading(f"{n_steps} iterations over {n} x {d} with errors, K = {k}, full, from one start")
    problem, noise = _noisy(n, d, k)
    data = jaxgmm.Noisy(problem.x, _dense(noise))
    start = jaxgmm.make_mixture(*problem.start)
    own = jaxgmm.run(jaxgmm.EM(), start, data, max_iter=n_steps, tol=0.0)
    ends = {"jaxgmm": (own.mixture, float(own.log_likelihood) / n)}
    if _has("astroML"):
        peer = XDGMM(problem, noise)
        for _ in range(n_steps):
            peer.step()
        ends["astroML"] = peer.mixture(), peer.told()
    found = []
    for by, (mixture, told) in ends.items():
        judged = float(jaxgmm.log_likelihood(mixture, data)) / n
        found.append({"by": by, "log_likelihood": judged, "told": told})
        print(f"{by:<10} {judged:.9f} per row; by itself {told:.9f}", flush=True)
    return found


def _raced(contenders: dict[str, Contender], rounds: int, plain: str) -> list[dict[str, Any]]:
    """Rows of a table: milliseconds, and how many times longer than the contender of the same dtype named `plain`."""
    race = timing.race(contenders, rounds)
    rows = []
    for name, seconds in race.seconds.items():
        least, base = (float(np.min(s)) for s in (seconds, race.seconds[f"{name.split(',')[0]}, {plain}"]))
        rows.append({"what": name, "ms": 1e3 * least, "ratio": least / base})
    print("least of the rounds, in turns\n")
    report.table(["", "ms", f"over {plain}"], [[r["what"], *map(report.number, (r["ms"], r["ratio"]))] for r in rows])
    print(race.errors or "")
    return rows


def _incomplete(x: np.ndarray) -> jaxgmm.Incomplete:
    return jaxgmm.Incomplete(jnp.asarray(x), jnp.ones(len(x), x.dtype), jax.tree.map(jnp.asarray, laid_out(x)))


def _noisy(n: int, d: int, k: int) -> tuple[Problem, np.ndarray]:
    """A problem in float64 whose rows have errors, and these errors' variances, (N, D)."""
    problem, rng = draw(n, d, k, dtype=np.float64), np.random.default_rng(2)
    noise = rng.uniform(0.1, 1.0, problem.x.shape) ** 2
    return problem._replace(x=problem.x + np.sqrt(noise) * rng.normal(size=noise.shape)), noise


def _dense(noise: np.ndarray) -> np.ndarray:
    return noise[:, :, None] * np.eye(noise.shape[1])


def _has(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        print(f"{module} is not installed")
        return False
    return True


if __name__ == "__main__":
    main(**vars(report.arguments(__doc__).parse_args()))
