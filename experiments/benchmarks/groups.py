"""Fits of many data sets at once, beside loops: `python -m experiments.benchmarks.groups`.

Fifty groups of 100 to 1000 rows, in a new process, by `fit_groups`, by a loop of `fit`, and by a loop of scikit-learn's
fits from one start; and a thousand groups of 200 rows, once all is compiled.
"""

from __future__ import annotations

import json
import subprocess
import sys

from experiments.benchmarks import report  # First: it settles how threads wait.

# isort: split
import numpy as np

NAME = "groups"

SCRIPT = """
import json, resource, sys, time
import numpy as np
how, n_groups, least, most, again = sys.argv[1], *map(int, sys.argv[2:])
rng, groups = np.random.default_rng(0), []
for _ in range(n_groups):
    n_rows, centres = rng.integers(least, most + 1), 3 * rng.normal(size=(3, 4))
    groups.append(centres[rng.integers(3, size=n_rows)] + rng.normal(size=(n_rows, 4)))
if how == "scikit-learn":
    from sklearn.mixture import GaussianMixture
    run = lambda: [GaussianMixture(3, tol=1e-6, max_iter=1000, random_state=0).fit(x) for x in groups]
else:
    import jax, jaxgmm
    key = jax.random.key(0)
    if how == "fit_groups":
        run = lambda: jaxgmm.fit_groups(key, groups, 3)
    else:
        run = lambda: [jaxgmm.fit(jax.random.fold_in(key, i), x, 3) for i, x in enumerate(groups)]
def spent():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime
for _ in range(1 + again):
    before = spent()
    run()
    after = spent()
print(json.dumps([b - a for a, b in zip(before, after)]))
"""


def main(quick: bool = False, rounds: int = 3) -> None:
    """Measure, print and write."""
    rounds, n_few, n_many = (1, 3, 5) if quick else (rounds, 50, 1000)
    few, many = f"{n_few} groups of 100 to 1000 x 4, new process", f"{n_many} groups of 200 x 4, compiled"
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for how in ("fit_groups", "a loop of fit", "scikit-learn"):
            taken.setdefault((few, how), []).append(fresh(how, n_few, 100, 1000, 0))
    for how in ("fit_groups", "scikit-learn"):
        taken[many, how] = [fresh(how, n_many, 200, 200, 1)]
    rows = []
    for (what, how), times in taken.items():
        seconds, cpu = np.median(times, axis=0).tolist()
        rows.append({"case": what, "by": how, "seconds": seconds, "cpu": cpu})
    report.heading("Fits of many data sets, K = 3, full")
    print("In turns, medians; tol 1e-6. jaxgmm in float32 from 20 starts, scikit-learn in float64 from 1.\n")
    header = ["", "by", "seconds", "CPU seconds"]
    report.table(header, [[r["case"], r["by"], *map(report.number, (r["seconds"], r["cpu"]))] for r in rows])
    own = [row for row in rows if row["by"] == "fit_groups"]
    report.write(NAME, rows, [report.at_most(row["case"], row["seconds"], 10, " s") for row in own], None, quick)
    report.finish(NAME, quick)


def fresh(how: str, n_groups: int, least: int, most: int, again: int) -> tuple[float, float]:
    """Seconds and CPU seconds of the last run in a new process, after so many others."""
    arguments = map(str, (n_groups, least, most, again))
    done = subprocess.run([sys.executable, "-c", SCRIPT, how, *arguments], capture_output=True, text=True, check=True)
    seconds, cpu = json.loads(done.stdout.splitlines()[-1])
    return seconds, cpu


if __name__ == "__main__":
    main(**vars(report.arguments(__doc__).parse_args()))
