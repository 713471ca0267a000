"""Passes to the optimum: EM, accelerated EM, L-BFGS, Adam, on problems whose components overlap.

From one k-means++ start each, in float64 and without a prior: the passes after which the objective is within 1e-8
per row of the best known optimum of the basin that was reached; and the passes at which the algorithm's own rule stops
with tol=1e-8, and how far from that optimum it then is. Run it with `python -m experiments.benchmarks.passes`; the
counts do not depend on the machine's speed.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxgmm
from jaxgmm.fitting import problem as posing
from jaxgmm.fitting.loop import Climb, begin
from jaxgmm.model.priors.ridge import settle

RESULTS = pathlib.Path(__file__).parent / "results"
TOL, BLOCK, FINISHED = 1e-8, 250, 1e-13
BASIN = 1e-5
"""Gap per row up to which two climbs count as in the same basin."""

ALGORITHMS = {
    "EM": (jaxgmm.EM(), 20_000),
    "accelerated": (jaxgmm.Accelerated(), 1_000),
    "L-BFGS": (jaxgmm.Gradient(optax.lbfgs()), 1_000),
    "Adam": (jaxgmm.Gradient(optax.adam(0.02)), 5_000),
}
"""Each with the most iterations that it is given."""


class Problem(NamedTuple):
    """Rows drawn from K Gaussians whose means lie about `spread` standard deviations from the origin."""

    family: str
    n_rows: int
    n_components: int
    n_features: int
    spread: float
    seed: int

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"{self.family} K={self.n_components} D={self.n_features}"

    def rows(self) -> np.ndarray:
        """The rows, (N, D)."""
        k, d = self.n_components, self.n_features
        rng = np.random.default_rng(self.seed)
        weights = rng.dirichlet(np.full(k, 4.0))
        means = self.spread * np.sqrt(2 / d) * rng.normal(size=(k, d))
        factors = np.eye(d) + 0.35 * rng.normal(size=(k, d, d)) / np.sqrt(d)
        scales = rng.uniform(0.6, 1.5, size=(k, d))
        if self.family == "tied":
            factors = np.repeat(factors[:1], k, axis=0)
        elif self.family in ("diag", "spherical"):
            scales = scales if self.family == "diag" else np.repeat(scales[:, :1], d, axis=1)
            factors = np.eye(d) * scales[:, None, :]
        labels = rng.choice(k, size=self.n_rows, p=weights)
        return means[labels] + np.einsum("nij,nj->ni", factors[labels], rng.normal(size=(self.n_rows, d)))


PROBLEMS = [
    Problem("full", 1000, 2, 1, 0.8, 0),
    Problem("full", 2000, 3, 2, 1.3, 1),
    Problem("full", 3000, 4, 3, 1.6, 2),
    Problem("full", 3000, 6, 2, 2.0, 3),
    Problem("full", 3000, 3, 5, 1.5, 4),
    Problem("tied", 3000, 4, 4, 1.5, 5),
    Problem("tied", 3000, 3, 6, 1.5, 6),
    Problem("diag", 3000, 5, 3, 1.5, 7),
    Problem("diag", 4000, 8, 4, 2.0, 8),
    Problem("spherical", 2000, 4, 2, 1.2, 9),
    Problem("spherical", 3000, 6, 5, 1.5, 10),
]


class Trace(NamedTuple):
    """Objective, estimate of the gain that remains and passes so far, at the start and after each iteration."""

    objective: np.ndarray
    gain: np.ndarray
    passes: np.ndarray


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    RESULTS.mkdir(exist_ok=True)
    print(
        f"{'problem':<19} {'algorithm':<12} {'passes':>7} {'fewer':>6} {'stopped':>8} {'short':>8} {'optimum-EM':>11}"
    )
    table: list[dict[str, Any]] = []
    traces = {problem.name: solve(problem, table) for problem in PROBLEMS}
    summary = {}
    for name in ALGORITHMS:
        ratios = [r["fewer"] for r in table if r["algorithm"] == name]
        reached = [ratio if ratio is not None else 0.0 for ratio in ratios]
        summary[name] = {"median": float(np.median(reached)), "least": min(reached), "unreached": ratios.count(None)}
        line = f"times fewer passes than EM: median {np.median(reached):.2f}, least {min(reached):.2f}"
        print(f"{name:<12} {line}, not reached {ratios.count(None)} of {len(ratios)}")
    (RESULTS / "passes.json").write_text(json.dumps({"tol": TOL, "summary": summary, "table": table}, indent=1) + "\n")
    draw(traces)


def solve(problem: Problem, table: list[dict[str, Any]]) -> dict[str, Trace]:
    x = problem.rows()
    start = jaxgmm.initialize(jax.random.key(0), x, problem.n_components, covariance_type=problem.family)
    rows = jaxgmm.Rows(jnp.asarray(x), jnp.ones(len(x)))
    traces = {name: climb(algorithm, start, rows, most) for name, (algorithm, most) in ALGORITHMS.items()}
    finals = {name: trace.objective.max() / len(x) for name, trace in traces.items()}
    needed: dict[str, int | None] = {}
    for name, trace in traces.items():
        optimum = max(final for final in finals.values() if abs(final - finals[name]) < BASIN)
        gaps = optimum - trace.objective / len(x)
        within = np.flatnonzero(gaps <= TOL)
        needed[name] = int(trace.passes[within[0]]) if len(within) else None
        below = np.flatnonzero(trace.gain < TOL * len(x))
        stop = int(below[0]) if len(below) else None
        own, by_em = needed[name], needed["EM"]
        row = {
            "problem": problem.name,
            "algorithm": name,
            "passes": own,
            "fewer": None if own is None or by_em is None else by_em / own,
            "stopped": None if stop is None else int(trace.passes[stop]),
            "short": None if stop is None else float(gaps[stop]),
            "optimum_less_em": float(optimum - finals["EM"]),
        }
        table.append(row)
        shown = [f"{row[key]:{form}}" if row[key] is not None else "-" for key, form in COLUMNS]
        cells = " ".join(f"{cell:>{width}}" for cell, width in zip(shown, (7, 6, 8, 8, 8), strict=True))
        print(f"{problem.name:<19} {name:<12} {cells}", flush=True)
    return traces


COLUMNS = [("passes", "d"), ("fewer", ".1f"), ("stopped", "d"), ("short", ".0e"), ("optimum_less_em", ".0e")]


def climb(algorithm: Any, start: jaxgmm.Mixture, rows: jaxgmm.Rows, most: int) -> Trace:
    """Every iteration, until nothing is left to gain or `most` are done."""
    at, problem = first(algorithm, start, rows)
    state, pieces = at.state, []
    if at.info.n_passes:  # of an algorithm whose first step does not visit the start
        pieces.append(np.array([[at.info.objective], [at.info.gain], [at.info.n_passes]]))
    while sum(piece.shape[1] for piece in pieces) < most:
        state, infos = more(algorithm, state, problem)
        pieces.append(np.array([infos.objective, infos.gain, infos.n_passes]))
        if infos.gain[-1] < FINISHED * len(rows.x):
            break
    objective, gain, passes = np.concatenate(pieces, axis=1)
    return Trace(objective, gain, np.cumsum(passes).astype(int))


@jax.jit
def first(algorithm: Any, start: jaxgmm.Mixture, rows: jaxgmm.Rows) -> tuple[Climb, posing.Problem]:
    problem = posing.posed(rows, settle(None, rows.x.dtype))
    return begin(algorithm, start, problem, 1), problem


@jax.jit
def more(algorithm: Any, state: Any, problem: posing.Problem) -> tuple[Any, Any]:
    def step(state: Any, _: None) -> tuple[Any, Any]:
        return algorithm.step(state, problem)

    return jax.lax.scan(step, state, None, length=BLOCK)


def draw(traces: dict[str, dict[str, Trace]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    n_columns = 4
    n_lines = -(-len(traces) // n_columns)
    figure, axes = plt.subplots(n_lines, n_columns, figsize=(3.4 * n_columns, 2.6 * n_lines), squeeze=False)
    for axis in axes.flat[len(traces) :]:
        axis.axis("off")
    for axis, problem, (title, found) in zip(axes.flat, PROBLEMS, traces.items(), strict=False):
        for name, trace in found.items():
            gaps = (trace.objective.max() - trace.objective) / problem.n_rows
            axis.loglog(trace.passes, np.maximum(gaps, 1e-12), label=name)
        axis.axhline(TOL, color="grey", linewidth=0.7)
        axis.set_title(title, fontsize=9)
    axes[0, 0].legend(fontsize=7)
    axes[0, 0].set_ylabel("gap to own optimum, per row")
    axes[-1, 0].set_xlabel("passes")
    figure.tight_layout()
    figure.savefig(RESULTS / "passes.png", dpi=110)


if __name__ == "__main__":
    main()
