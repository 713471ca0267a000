"""Which restarts pay: `python -m experiments.benchmarks.restarts`.

Climbs on hard data sets are recorded once from each start method; every policy (start, number of restarts, short
run, how many go on) is then played again by drawing from them, and told by two numbers: the probability that it
comes within 2e-3 per row of the best optimum known, and the passes over the data that it spends.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import time

import jax
import numpy as np

from experiments.benchmarks.climbs import SHORT, Climbs, recorded
from experiments.benchmarks.hard import DATASETS, EASY, Hard
from jaxgmm.fitting.starts.drawn import METHODS

FOLDER = pathlib.Path(__file__).parent / "results"
RECORDS = pathlib.Path(".cache") / "restarts"
NEAR, N_PLAYED = 2e-3, 500

MIXED = "half of each"
"""Half k-means++, half random rows."""

DEFAULTS = (
    (10, ((50, 2),)),
    (20, ((30, 4),)),
    (20, ((50, 2),)),
    (20, ((50, 4),)),
    (20, ((100, 4),)),
    (30, ((50, 6),)),
    (40, ((50, 8),)),
    (20, ((10, 5), (50, 1))),
)
"""Numbers of restarts and stages that are always told."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """How to spend restarts.

    Attributes:
        start: a start method.
        n_init: number of restarts.
        stages: after so many iterations, so many go on.
    """

    start: str
    n_init: int
    stages: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        """Short enough for a table."""
        return f"{self.start:<24}{self.n_init:>3}" + "".join(f"  {s:>3}: {m:>2}" for s, m in self.stages)


@dataclasses.dataclass(frozen=True)
class Played:
    """What a policy came to on one data set.

    Attributes:
        probability: of coming near the best known.
        passes: of all restarts, on average.
        paid: passes times restarts that a batch in lockstep pays for, on average.
        shortfall: median distance from the best known, per row.
    """

    probability: float
    passes: float
    paid: float
    shortfall: float


def play(policy: Policy, climbs: Climbs, best: float, rng: np.random.Generator) -> Played:
    """Play a policy many times, as `jaxgmm.restarts` does, by drawing recorded climbs."""
    drawn = _draw(policy, len(climbs.n_iter), rng)
    n_iter, rows = climbs.n_iter[drawn], np.arange(N_PLAYED)[:, None]
    going_on, limit = np.ones(drawn.shape, bool), n_iter.copy()
    paid, n_lanes, done = np.zeros(N_PLAYED), policy.n_init, 0
    for n_steps, n_kept in policy.stages:
        at = SHORT.index(n_steps)
        score = climbs.history[drawn, n_steps - 1] - 1e6 * ~climbs.sound_at[drawn, at] - 1e12 * ~going_on
        kept = np.zeros_like(going_on)
        kept[rows, np.argsort(-score, axis=1)[:, :n_kept]] = True
        paid += n_lanes * (np.minimum(np.where(going_on, n_iter, 0).max(axis=1), n_steps) - done)
        going_on = going_on & (kept | (n_iter <= n_steps))
        limit = np.where(going_on, limit, np.minimum(limit, n_steps))
        n_lanes, done = n_kept, n_steps
    sound, final = climbs.sound[drawn], climbs.history[drawn, -1]
    if policy.stages:
        # Where all that went on came to a bad end, as many more go on.
        bad = ~(going_on & sound).any(axis=1)
        others = np.argsort(-np.where(going_on, -np.inf, score), axis=1)[:, :n_lanes]
        going_on[np.flatnonzero(bad)[:, None], others[bad]] = True
        limit = np.where(going_on, n_iter, limit)
    paid += n_lanes * np.maximum(np.where(going_on, n_iter, 0).max(axis=1) - done, 0)
    reached = np.where(going_on & sound, final, -np.inf).max(axis=1)
    starts = climbs.start_passes[drawn].sum(axis=1)
    return Played(
        probability=float((reached >= best - NEAR).mean()),
        passes=float((limit.sum(axis=1) + starts).mean()),
        paid=float((paid + starts).mean()),
        shortfall=float(np.median(best - reached)),
    )


def _draw(policy: Policy, n_climbs: int, rng: np.random.Generator) -> np.ndarray:
    """Recorded climbs, different ones, for each play, (N_PLAYED, n_init); half of each kind where two are mixed."""
    n_kinds = 2 if policy.start == MIXED else 1
    size = n_climbs // n_kinds
    numbers = np.diff(np.linspace(0, policy.n_init, n_kinds + 1).astype(int))
    kinds = [
        kind * size + rng.permuted(np.tile(np.arange(size), (N_PLAYED, 1)), axis=1)[:, :number]
        for kind, number in enumerate(numbers)
    ]
    return np.concatenate(kinds, axis=1)


def policies(starts: list[str]) -> list[Policy]:
    """Everything worth a try."""
    found = [Policy(start, n) for start in starts for n in (1, 2, 3, 5, 8, 10, 15, 20, 30)]
    for start in starts:
        for n_init in (5, 10, 15, 20, 30, 40):
            for n_steps in SHORT:
                found += [Policy(start, n_init, ((n_steps, m),)) for m in (1, 2, 3, 4, 5, 8) if m < n_init]
            for first, second in ((10, 30), (10, 50), (20, 50), (20, 100), (50, 100)):
                quarter = -(-n_init // 4)
                found += [
                    Policy(start, n_init, ((first, m), (second, k))) for m in (quarter,) for k in (1, 2, 3) if k < m
                ]
    return found


def frontier(means: dict[Policy, Played], cost: str) -> list[Policy]:
    """Policies that no cheaper one matches."""
    best, kept = -1.0, []
    for policy in sorted(means, key=lambda policy: getattr(means[policy], cost)):
        if means[policy].probability > best + 1e-3:
            best = means[policy].probability
            kept.append(policy)
    return kept


def average(played: list[Played]) -> Played:
    return Played(*np.mean([dataclasses.astuple(p) for p in played], axis=0).tolist())


def study(
    datasets: list[Hard], starts: list[str], covariance_type: str, n_climbs: int
) -> tuple[dict[Policy, list[Played]], list[dict]]:
    """Play every policy on every data set; also what single climbs are like."""
    tried = list(dict.fromkeys(policies([*starts, MIXED]) + reference([*starts, MIXED])))
    played: dict[Policy, list[Played]] = {policy: [] for policy in tried}
    singles = []
    for data in datasets:
        climbs = {start: recorded(data, start, covariance_type, n_climbs, RECORDS) for start in starts}
        both = zip(climbs["k-means++"], climbs["random-rows"], strict=True)
        climbs[MIXED] = Climbs(*[np.concatenate(pair) for pair in both])
        best = max(float(c.history[c.sound, -1].max()) for c in climbs.values() if c.sound.any())
        for policy in tried:
            rng = np.random.default_rng(data.seed)
            played[policy].append(play(policy, climbs[policy.start], best, rng))
        near = {s: float((c.sound & (c.history[:, -1] >= best - NEAR)).mean()) for s, c in climbs.items()}
        singles.append({
            "data": data.name, "best": best, "near": near,
            "n_iter": {s: float(np.median(c.n_iter)) for s, c in climbs.items()},
            "unsound": {s: float(1 - c.sound.mean()) for s, c in climbs.items()},
        })  # fmt: skip
        print(f"{data.name:<26}{best:>10.4f}" + "".join(f"{near[s]:>10.3f}" for s in starts), flush=True)
    return played, singles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--covariance-type", default="full")
    parser.add_argument("--climbs", type=int, default=128)
    parser.add_argument("--starts", default=";".join(METHODS))
    parser.add_argument("--datasets", type=int, default=len(DATASETS))
    options = parser.parse_args()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    began, starts = time.perf_counter(), options.starts.split(";")
    print("probability that one climb comes within 2e-3 per row of the best known")
    print(f"{'data':<26}{'best':>10}" + "".join(f"{start[-10:]:>11}" for start in starts))
    easy, _ = study(EASY, starts, options.covariance_type, options.climbs)
    played, singles = study(DATASETS[: options.datasets], starts, options.covariance_type, options.climbs)
    means = {policy: average(results) for policy, results in played.items()}
    on_easy = {policy: average(results).probability for policy, results in easy.items()}
    chosen = frontier(means, "passes")
    told = sorted({*chosen[::3], *reference([*starts, MIXED])}, key=lambda policy: means[policy].passes)
    print(f"\n{'start':<24}{'n':>3}  {'stages':<16}{'near':>7}{'+-':>7}{'easy':>7}{'passes':>8}{'paid':>8}  * frontier")
    for policy in told:
        mean, each = means[policy], [result.probability for result in played[policy]]
        error = np.std(each) / np.sqrt(len(each))
        print(
            f"{policy!s:<45}{mean.probability:>7.3f}{error:>7.3f}{on_easy[policy]:>7.3f}{mean.passes:>8.0f}{mean.paid:>8.0f}"
            f"{'  *' if policy in chosen else ''}"
        )
    name = "restarts" + ("" if options.covariance_type == "full" else f"_{options.covariance_type}")
    table = [
        {**dataclasses.asdict(policy), **dataclasses.asdict(means[policy]), "easy": on_easy[policy],
         "frontier": policy in chosen}
        for policy in told
    ]  # fmt: skip
    FOLDER.mkdir(exist_ok=True)
    about = {"covariance_type": options.covariance_type, "climbs": options.climbs, "near": NEAR}
    text = json.dumps({**about, "single_climbs": singles, "policies": table}, indent=1)
    (FOLDER / f"{name}.json").write_text(text + "\n")
    draw(means, [*starts, MIXED], FOLDER / f"{name}.png")
    print(f"\ndone in {time.perf_counter() - began:.0f} s")


def reference(starts: list[str]) -> list[Policy]:
    """Policies to compare with: all to the end, and the default's stages from every start."""
    return [Policy(start, n) for start in starts for n in (1, 5, 10, 20)] + [
        Policy(start, n, stages) for start in starts for n, stages in DEFAULTS
    ]


def draw(means: dict[Policy, Played], starts: list[str], path: pathlib.Path) -> None:
    """Probability against passes: every policy, and the frontier of each start with and without halving."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for colour, start in enumerate(starts):
        for halved, line in ((False, "--"), (True, "-")):
            own = {p: told for p, told in means.items() if p.start == start and bool(p.stages) == halved}
            best = [own[policy] for policy in frontier(own, "passes")]
            axes.plot(
                [told.passes for told in best],
                [told.probability for told in best],
                line,
                color=f"C{colour}",
                label=f"{start}, {'short runs first' if halved else 'all to the end'}",
            )
    axes.set(xscale="log", xlabel="passes over the data, all restarts", ylabel="probability of the best known optimum")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
