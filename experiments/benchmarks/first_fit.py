"""What a new process waits for, and a notebook afterwards: `python -m experiments.benchmarks.first_fit`.

Fresh processes import the library and fit iris, without JAX's persistent cache and with it; one process then
fits iris again and again beside scikit-learn; and another counts what is compiled when only numbers change.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from experiments.benchmarks import report, timing  # First: it settles how threads wait.

# isort: split
import numpy as np

NAME = "first_fit"
K = 3
CACHE = "JAX_COMPILATION_CACHE_DIR"
LEAST = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"

OWN = """
import time, sys, json
import jax, jaxgmm
imported = time.time()
import numpy as np
x = np.load(sys.argv[1])
result = jaxgmm.fit(jax.random.key(0), x, 3)
result.objective.block_until_ready()
print(json.dumps([imported, time.time(), result.status.name]))
"""
THEIRS = """
import time, sys, json
from sklearn.mixture import GaussianMixture
imported = time.time()
import numpy as np
x = np.load(sys.argv[1])
GaussianMixture(3, random_state=0).fit(x)
print(json.dumps([imported, time.time(), "CONVERGED"]))
"""
COUNT = """
import json, sys
import jax, jaxgmm, numpy as np
event, compiled = "/jax/core/compile/backend_compile_duration", []
jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: compiled.append(name))
# 154 rows and down to 145: in one bucket, be it of 16 rows, of powers of two or of anything between.
x = np.load(sys.argv[1])
x = np.concatenate([x, x[:4] + np.float32(0.01)])
key = jax.random.key(0)
def count(*options):
    before = compiled.count(event)
    for each in options:
        jaxgmm.fit(key, each.pop("x", x), 3, **each)
    return compiled.count(event) - before
counts = {"first call": count({})}
counts["ten tolerances"] = count(*[{"tol": tol} for tol in np.geomspace(1e-7, 1e-3, 10).tolist()])
counts["ten ridges"] = count(*[{"prior": jaxgmm.Ridge(s)} for s in np.geomspace(1e-9, 1e-3, 10).tolist()])
counts["ten N in a bucket"] = count(*[{"x": x[:n]} for n in range(145, 155)])
print(json.dumps(counts))
"""


def main(quick: bool = False, rounds: int = 3) -> None:
    """Measure, print and write."""
    rounds = 1 if quick else rounds
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "iris.npy"
        np.save(path, iris())
        rows = fresh(path, rounds)
        counts = json.loads(python(COUNT, path, {}))
    report.heading("Warm fits of iris, K = 3, float32")
    print(
        "ms; medians over rounds. Each by its own rule of stopping; jaxgmm's default is 20 starts, scikit-learn's 1.\n"
    )
    warm_rows, warm_targets = warm(5 if quick else 15)
    report.heading("Programs compiled")
    for what, found in counts.items():
        print(f"{what:<18} {found}")
    found = {row["case"]: row["total"] for row in rows}
    targets = [
        report.at_most("import and first fit of iris, no cache", found["jaxgmm, no cache"], 4, " s"),
        report.at_most("import and first fit of iris, warm cache", found["jaxgmm, cache of everything"], 2, " s"),
        *warm_targets,
        *[report.at_most(f"compilations: {what}", n, 0) for what, n in counts.items() if what != "first call"],
    ]
    everything = [*rows, *warm_rows, {"compilations": counts}]
    report.write(NAME, everything, targets, picture(rows, warm_rows), quick)
    report.finish(NAME, quick)


def iris() -> np.ndarray:
    """Iris's four measurements, float32."""
    from sklearn.datasets import load_iris

    return np.asarray(load_iris(return_X_y=True)[0], np.float32)


def python(program: str, path: pathlib.Path, environment: dict[str, str]) -> str:
    """The last line that a program prints in a fresh interpreter."""
    inherited = {key: value for key, value in os.environ.items() if key not in (CACHE, LEAST)}
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**inherited, **environment})
    return done.stdout.splitlines()[-1]


def fresh(path: pathlib.Path, rounds: int) -> list[dict[str, Any]]:
    """Seconds from the start of a process to the end of its first fit, in rounds."""
    report.heading("The first fit of a process: iris, K = 3, float32, defaults")
    with tempfile.TemporaryDirectory() as some, tempfile.TemporaryDirectory() as every:
        cases = {
            "jaxgmm, no cache": (OWN, {}),
            "jaxgmm, cache as JAX sets it": (OWN, {CACHE: some}),
            "jaxgmm, cache of everything": (OWN, {CACHE: every, LEAST: "0"}),
            "scikit-learn": (THEIRS, {}),
        }
        for program, environment in cases.values():
            # Fills the caches, the disk's as well.
            python(program, path, environment)
        taken: dict[str, list[tuple[float, float]]] = {case: [] for case in cases}
        for _ in range(rounds):
            for case, (program, environment) in cases.items():
                began = time.time()
                imported, ended, _ = json.loads(python(program, path, environment))
                taken[case].append((imported - began, ended - began))
    rows = []
    for case, seconds in taken.items():
        to_import, total = np.median(seconds, axis=0)
        rows.append({"case": case, "import": to_import, "fit": total - to_import, "total": total})
    print(f"{CACHE} set; 'everything' with {LEAST}=0 as well (JAX keeps what took a second to compile).\n")
    figures = [[row["case"], *(report.number(row[c]) for c in ("import", "fit", "total"))] for row in rows]
    report.table(["seconds", "import", "first fit", "from the process's start"], figures)
    return rows


def warm(rounds: int) -> tuple[list[dict[str, Any]], list[report.Target]]:
    """Fits after the first, in turn with scikit-learn's."""
    import jax
    from sklearn.mixture import GaussianMixture

    import jaxgmm

    x, key = iris(), jax.random.key(0)

    def own(n_init: int) -> timing.Contender:
        return timing.Contender(lambda: jaxgmm.fit(key, x, K, n_init=n_init).objective.block_until_ready())

    def theirs(n_init: int) -> timing.Contender:
        return timing.Contender(lambda: GaussianMixture(K, n_init=n_init, random_state=0).fit(x))

    contenders = {
        "jaxgmm n_init=1": own(1),
        "scikit-learn n_init=1": theirs(1),
        "jaxgmm n_init=20": own(20),
        "scikit-learn n_init=20": theirs(20),
    }
    race = timing.race(contenders, rounds, turn_seconds=0.1)
    pairs = [(1, 1, ""), (20, 20, ""), (20, 1, ", each its default")]
    rows, targets = [], []
    for mine, other, remark in pairs:
        ratio = race.ratio(f"jaxgmm n_init={mine}", f"scikit-learn n_init={other}")
        names = f"jaxgmm n_init={mine}", f"scikit-learn n_init={other}"
        rows.append({"warm": [mine, other], "ms": [1e3 * race.median(name) for name in names], "ratio": ratio})
        targets.append(report.at_most(f"warm fit of iris, n_init {mine} against {other}{remark}", ratio, 1, "x"))
    table = [[f"{r['warm'][0]} against {r['warm'][1]}", *map(report.number, [*r["ms"], r["ratio"]])] for r in rows]
    report.table(["n_init", "jaxgmm", "scikit-learn", "own / scikit-learn's"], table)
    return rows, targets


def picture(rows: list[dict[str, Any]], warm_rows: list[dict[str, Any]]) -> Any:
    """Import and fit of fresh processes, stacked; warm fits beside."""
    figure, (left, right) = report.plt.subplots(1, 2, figsize=(10, 2.6), width_ratios=[2, 1])
    names = [row["case"] for row in rows]
    to_import, to_fit = ([row[part] for row in rows] for part in ("import", "fit"))
    left.barh(names, to_import, color=report.COLOURS["pomegranate"], label="import")
    left.barh(names, to_fit, left=to_import, color=report.COLOURS["scikit-learn"], label="first fit")
    for limit, style in ((4, "-"), (2, "--")):
        left.axvline(limit, color=report.COLOURS["target"], ls=style, label=f"target: {limit} s")
    left.invert_yaxis()
    left.set(xlabel="seconds from the process's start", title="First fit of iris")
    left.legend(fontsize=7)
    places = np.arange(len(warm_rows))
    for shift, (library, index) in ((-0.2, ("jaxgmm", 0)), (0.2, ("scikit-learn", 1))):
        right.bar(
            places + shift, [row["ms"][index] for row in warm_rows], 0.4, color=report.COLOURS[library], label=library
        )
    right.set_xticks(places, [f"{row['warm'][0]} and {row['warm'][1]}" for row in warm_rows])
    right.set(xlabel="n_init", ylabel="ms", title="Warm fit of iris")
    right.legend(fontsize=7)
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    parser = report.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    main(**vars(parser.parse_args()))
