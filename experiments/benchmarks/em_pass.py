"""One pass of EM over the data, against three libraries and the machine: `python -m experiments.benchmarks.em_pass`.

Every contender makes an E-step and an M-step on the same rows, from the same start, without a ridge, and its
mixture is compared with a judge's (scikit-learn in float64) before anything is timed. The roofline is the time of
the pass's two matrix products and its N·K exponentials alone, at the speeds measured in the same rounds.
"""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any, NamedTuple

from experiments.benchmarks import report, timing  # First: it settles how threads wait.

# isort: split
import jax
import numpy as np

from experiments.benchmarks.peers import LIBRARIES, ScikitLearn, contender
from experiments.benchmarks.problems import Parameters, Problem, distance, draw
from experiments.benchmarks.speeds import Speeds, roofline_flops, speeds_in

NAME = "em_pass"
TOLERANCE = 0.02
"""How far from the judge's mixture one may come out, in standard deviations, before the figure does not count."""
GRID = [(262144, 2, 8), (262144, 8, 16), (131072, 16, 32), (65536, 32, 32), (65536, 32, 64), (32768, 64, 64)]
SIMPLER = [(262144, 8, 16), (131072, 16, 32)]


class Case(NamedTuple):
    """A row of the table: what is passed over, and what is wanted of it."""

    dtype: str
    covariance_type: str
    n: int
    d: int
    k: int
    tightness: float
    wanted: float
    wanted_share: float

    @property
    def label(self) -> str:
        """In a few characters."""
        tight = " tight" if self.tightness > 1 else ""
        return f"{self.dtype} {self.covariance_type}{tight} {self.n}, {self.d}, {self.k}"

    @property
    def against(self) -> tuple[str, ...]:
        """The peers that the target counts."""
        if self.covariance_type != "full":
            return ("scikit-learn",)
        return report.PEERS if self.dtype == "float32" else ("scikit-learn", "pomegranate")


def cases(dtype: str, quick: bool) -> list[Case]:
    """What is measured in one dtype."""
    found = []
    for n, d, k in GRID:
        wanted = (15 if d <= 16 else 7) if dtype == "float32" else (12 if d <= 16 else 8 if d <= 32 else 6)
        share = math.nan if d < 8 or dtype != "float32" else 0.4 if d == 8 else 0.6
        found.append(Case(dtype, "full", n, d, k, 1.0, wanted, share))
    if dtype == "float32":
        found += [Case(dtype, kind, *at, 1.0, 15, math.nan) for kind in ("diag", "spherical", "tied") for at in SIMPLER]
        found += [Case(dtype, "full", *at, 1e4, 4, math.nan) for at in SIMPLER]
    if quick:
        found = [case._replace(n=case.n // 16) for case in found if case.d <= 16]
    return found


def main(quick: bool = False, rounds: int = 7, dtype: str = "both", only: str = "") -> None:
    """Measure, print and write."""
    rounds = min(rounds, 3) if quick else rounds
    trial = quick or bool(only)
    if dtype == "both":
        report.heading("One pass of EM over the data")
        print(
            "ms of jaxgmm's pass; beside each peer how many times longer it takes (medians over rounds of the ratio);"
        )
        print("'share' is the roofline's time over jaxgmm's; 'off' how far jaxgmm's mixture is from the judge's.\n")
        rows: list[dict[str, Any]] = []
        for each in ("float32", "float64"):
            # A process for each dtype: JAX and torch have one default each.
            options = ["--dtype", each, "--rounds", str(rounds), "--only", only] + ["--quick"] * quick
            subprocess.run([sys.executable, "-m", f"experiments.benchmarks.{NAME}", *options], check=True)
            rows += report.read_rows(f"{NAME}_{each}", trial)
            report.remove(f"{NAME}_{each}", trial)
        report.write(NAME, rows, [target for row in rows for target in targets_of(row)], picture(rows), trial)
        report.finish(NAME, trial)
        return
    jax.config.update("jax_enable_x64", dtype == "float64")
    measured = []
    for case in cases(dtype, quick):
        if only in case.label:
            measured.append(measure(case, rounds))
            print(f"{case.label:<36} {line(measured[-1])}", flush=True)
    report.write(f"{NAME}_{dtype}", measured, [target for row in measured for target in targets_of(row)], None, trial)


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """One row: everybody set up, compared with the judge, and timed in turn with the machine."""
    dtype = np.dtype(case.dtype)
    problem = draw(case.n, case.d, case.k, case.covariance_type, dtype, case.tightness)
    judge = judged(problem, case.covariance_type)
    contenders, off, errors = {}, {}, {}
    for name, library in LIBRARIES.items():
        try:
            passes = library(problem, case.covariance_type)
            passes.restart()
            passes.step()
            off[name] = distance(passes.parameters(), judge, case.covariance_type)
            if off[name] <= TOLERANCE:
                contenders[name] = contender(passes)
            else:
                errors[name] = f"wrong: {off[name]:.2g} standard deviations from the judge's mixture"
        except Exception as error:
            errors[name] = timing.one_line(error)
    machine = speeds_in(dtype)
    race = timing.race({**contenders, **machine.contenders}, rounds)
    errors |= race.errors
    row: dict[str, Any] = {**case._asdict(), "off": off, "errors": errors, "peer_ratio": {}}
    if "jaxgmm" not in contenders or "jaxgmm" in race.errors:
        return {**row, "ms": math.nan, "share": math.nan, "fastest_ratio": math.nan}
    peers = [name for name in contenders if name != "jaxgmm" and name not in race.errors]
    row["peer_ratio"] = {name: race.ratio(name, "jaxgmm") for name in peers}
    counted = [race.seconds[name] for name in peers if name in case.against]
    fastest = np.median(np.min(counted, axis=0) / race.seconds["jaxgmm"]) if counted else math.nan
    return {
        **row,
        "ms": 1e3 * race.median("jaxgmm"),
        "fastest_ratio": float(fastest),
        **shares(case, race, machine),
    }


def judged(problem: Problem, covariance_type: str) -> Parameters:
    """The mixture after one pass by scikit-learn in float64, on the same rows."""
    judge = ScikitLearn(
        Problem(problem.x.astype(np.float64), problem.start.astype(np.float64)), covariance_type, choose=False
    )
    judge.restart()
    judge.step()
    return judge.parameters()


def shares(case: Case, race: timing.Race, machine: Speeds) -> dict[str, float]:
    """The pass's share of the roofline, and the speeds that the roofline was drawn at."""
    flops_per_second, exponentials_per_second = machine.measured(race)
    flops = roofline_flops(case.covariance_type, case.n, case.d, case.k)
    ideal = flops / flops_per_second + case.n * case.k / exponentials_per_second
    return {
        "share": float(np.median(ideal / race.seconds["jaxgmm"])),
        "gflops": float(np.median(flops_per_second)) / 1e9,
        "giga_exponentials": float(np.median(exponentials_per_second)) / 1e9,
    }


def targets_of(row: dict[str, Any]) -> list[report.Target]:
    """A row's targets; a peer that failed counts for nothing."""
    case = Case(**{field: row[field] for field in Case._fields})
    against = "the fastest peer" if len(case.against) > 1 else case.against[0]
    targets = [report.at_least(f"{case.label}: against {against}", row["fastest_ratio"], case.wanted, "x")]
    if not math.isnan(case.wanted_share):
        targets.append(report.at_least(f"{case.label}: share of the roofline", row["share"], case.wanted_share))
    return targets


def line(row: dict[str, Any]) -> str:
    """A row of the printed table, with a line for each peer that failed."""
    ratios = "  ".join(f"{name} {report.number(row['peer_ratio'].get(name, math.nan)):>5}" for name in report.PEERS)
    verdicts = ", ".join(
        f"{'share ' if 'share' in target.what else ''}≥ {target.limit:g} {'met' if target.met else 'MISSED'}"
        for target in targets_of(row)
    )
    failed = {name: error for name, error in row["errors"].items() if not error.startswith("NotImplementedError")}
    errors = "".join(f"\n    {name}: {error}" for name, error in failed.items())
    own = f"{report.number(row['ms']):>6} ms  {ratios}  share {report.number(row['share']):>6}"
    return f"{own}  off {row['off'].get('jaxgmm', math.nan):.0e}  {verdicts}{errors}"


def picture(rows: list[dict[str, Any]]) -> Any:
    """Ratio to each peer, a line for each case, with the target."""
    figure, axes = report.plt.subplots(figsize=(8, 0.32 * len(rows) + 1.2))
    for place, row in enumerate(rows):
        for name, marker in zip(report.PEERS, "osD", strict=True):
            ratio = row["peer_ratio"].get(name)
            if ratio is not None:
                axes.plot(ratio, place, marker, color=report.COLOURS[name], ms=6)
        axes.plot([row["wanted"]] * 2, [place - 0.4, place + 0.4], color=report.COLOURS["target"], lw=2)
    for name, marker in zip(report.PEERS, "osD", strict=True):
        axes.plot([], [], marker, color=report.COLOURS[name], label=name)
    axes.plot([], [], color=report.COLOURS["target"], lw=2, label="target")
    axes.axvline(1, color="0.6", lw=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [Case(**{field: row[field] for field in Case._fields}).label for row in rows])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set(xlabel="times longer than jaxgmm's pass", title="One E- and M-step: N, D, K")
    axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    parser = report.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dtype", choices=["float32", "float64", "both"], default="both")
    parser.add_argument("--only", default="", help="only rows whose label holds this, as 'full 65536'; a trial as well")
    main(**vars(parser.parse_args()))
