"""What a pass and a fit take beyond the data: `python -m experiments.benchmarks.memory`.

A pass's temporaries are what the compiler allots, asked at compile time. A fit's memory is the process's high-water
mark above what it held after the imports, in a fresh process for each; the rows are made chunk by chunk.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

from experiments.benchmarks import report  # First: it settles how threads wait.

# isort: split
import jax
import numpy as np

from experiments.benchmarks.peers import Jaxgmm, em_step, gmmx_pass
from experiments.benchmarks.problems import Problem, draw
from jaxgmm.data.rows import as_rows

NAME = "memory"
MB = 1e6
PASS = (65536, 32, 64)
D, K = 8, 8
MILLIONS = {"jaxgmm": (0.001, 0.25, 1.0, 4.0), "scikit-learn": (0.001, 0.25, 1.0), "gmmx": (0.001, 0.25, 1.0)}
"""Rows to fit, in millions; a thousand shows what compilation alone takes. The peers' temporaries grow with N."""
ITERATIONS = 10
TIMEOUT = 900


def main(quick: bool = False) -> None:
    """Measure, print and write."""
    report.heading("Memory of a pass")
    n, d, k = (PASS[0] // 16, PASS[1], PASS[2]) if quick else PASS
    temporaries = pass_temporaries(n, d, k)
    for name, found in temporaries.items():
        print(f"{name:<8} {report.number(found):>6} MB of temporaries at N, D, K = {n}, {d}, {k}, float32")
    report.heading("Memory of a fit")
    print(f"MB above the imports at the highest, data included; D = {D}, K = {K}, float32, {ITERATIONS} iterations,")
    print("jaxgmm with its twenty restarts at once, the others with one start.\n")
    rows: list[dict[str, Any]] = []
    for name, millions in MILLIONS.items():
        for size in millions:
            rows.append(fit_memory(name, max(1000, int(size * 1e6) // (40 if quick else 1))))
    columns = ("data", "above", "seconds")
    cells = [[row["library"], str(row["n"]), *(report.number(row[column]) for column in columns)] for row in rows]
    report.table(["", "N", "data", "peak", "seconds"], cells)
    for row in rows:
        if row["error"]:
            print(f"{row['library']} at N = {row['n']}: {row['error']}")
    largest = [row for row in rows if row["library"] == "jaxgmm"][-1]
    beyond = largest["above"] - largest["data"]
    targets = [
        report.at_most(f"temporaries of a pass at {n}, {d}, {k}", temporaries["jaxgmm"], 32, " MB"),
        report.at_most(f"a fit of {largest['n']} x {D} beyond the data", beyond, 250, " MB"),
    ]
    everything = [{"pass": [n, d, k], "temporaries": temporaries}, *rows]
    report.write(NAME, everything, targets, picture(rows), quick)
    report.finish(NAME, quick)


def pass_temporaries(n: int, d: int, k: int) -> dict[str, float]:
    """MB of temporaries in the compiled pass of jaxgmm, and of gmmx."""
    problem = draw(n, d, k)
    # The start of a few rows is all that shapes need.
    own = Jaxgmm(Problem(problem.x[:64], problem.start), "full")
    columns = own.problem.columns
    rows = jax.eval_shape(lambda x: as_rows(x).ready(columns), jax.ShapeDtypeStruct((n, d), np.float32))
    compiled = {"jaxgmm": em_step.lower(own.first, own.problem._replace(data=rows)).compile()}
    pass_over, first = gmmx_pass(problem.start, "full")
    compiled["gmmx"] = pass_over.lower(first, jax.ShapeDtypeStruct((n, d), np.float32)).compile()
    return {name: program.memory_analysis().temp_size_in_bytes / MB for name, program in compiled.items()}


def fit_memory(library: str, n: int) -> dict[str, Any]:
    """A fresh process's account of one fit, in MB."""
    command = [sys.executable, "-m", f"experiments.benchmarks.{NAME}", "--fit", library, "--rows", str(n)]
    row: dict[str, Any] = {"library": library, "n": n, "data": n * D * 4 / MB, "above": np.nan, "seconds": np.nan}
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT, env=environment())
        return {**row, **json.loads(done.stdout.splitlines()[-1]), "error": ""}
    except subprocess.TimeoutExpired:
        return {**row, "error": f"took more than {TIMEOUT} seconds"}
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] if error.stderr else []
        return {**row, "error": last[0][:160] if last else f"ended with {error.returncode}"}


def environment() -> dict[str, str]:
    """Without JAX's persistent cache, which would hide what compilation takes."""
    return {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}


def highest() -> float:
    """The process's high-water mark, MB; Linux only.

    Not `ru_maxrss`, which a child takes over from the process that started it.
    """
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / MB
    raise OSError("no VmHWM in /proc/self/status")


def report_fit(library: str, n: int) -> None:
    """Fit, and print what it took as JSON: what the fresh process does."""
    fit = {"jaxgmm": _fit_jaxgmm, "scikit-learn": _fit_scikit_learn, "gmmx": _fit_gmmx}[library]()
    before = highest()
    rng = np.random.default_rng(0)
    x = np.empty((n, D), np.float32)
    means = rng.normal(scale=2.0, size=(K, D)).astype(np.float32)
    for first in range(0, n, 65536):
        chunk = x[first : first + 65536]
        chunk[:] = means[rng.integers(K, size=len(chunk))] + rng.standard_normal(chunk.shape, np.float32)
    began = time.perf_counter()
    fit(x, means)
    print(json.dumps({"above": highest() - before, "seconds": time.perf_counter() - began}))


def _fit_jaxgmm() -> Any:
    import jaxgmm

    key = jax.random.key(0)
    return lambda x, means: jaxgmm.fit(key, x, K, max_iter=ITERATIONS, tol=0.0).objective.block_until_ready()


def _fit_scikit_learn() -> Any:
    import warnings

    from sklearn.mixture import GaussianMixture

    warnings.simplefilter("ignore")
    return lambda x, means: GaussianMixture(K, max_iter=ITERATIONS, tol=0.0, random_state=0).fit(x)


def _fit_gmmx() -> Any:
    from gmmx import EMFitter

    from experiments.benchmarks.problems import Parameters

    def fit(x: np.ndarray, means: np.ndarray) -> Any:
        start = Parameters(np.full(K, 1 / K, np.float32), means, np.tile(np.eye(D, dtype=np.float32), (K, 1, 1)))
        return EMFitter(max_iter=ITERATIONS, tol=0.0).fit(jax.numpy.asarray(x), gmmx_pass(start, "full")[1])

    return fit


def picture(rows: list[dict[str, Any]]) -> Any:
    """Peak against N."""
    figure, axes = report.plt.subplots(figsize=(5, 3.4))
    for library, marker in (("jaxgmm", "o"), ("scikit-learn", "s"), ("gmmx", "D")):
        own = [row for row in rows if row["library"] == library]
        axes.plot(
            [r["n"] for r in own], [r["above"] for r in own], marker + "-", color=report.COLOURS[library], label=library
        )
    own = [row for row in rows if row["library"] == "jaxgmm"]
    axes.plot([r["n"] for r in own], [r["data"] for r in own], ":", color="0.5", label="the data alone")
    limit = [r["data"] + 250 for r in own]
    axes.plot([r["n"] for r in own], limit, "--", color=report.COLOURS["target"], label="target: data + 250 MB")
    axes.set(
        xscale="log", yscale="log", xlabel=f"rows N (D = {D}, K = {K}, float32)", ylabel="peak above the imports, MB"
    )
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    parser = report.arguments(__doc__)
    parser.add_argument("--fit", choices=list(MILLIONS), help="fit in this process and print what it took")
    parser.add_argument("--rows", type=int, default=0)
    options = parser.parse_args()
    if options.fit:
        report_fit(options.fit, options.rows)
    else:
        main(options.quick)
