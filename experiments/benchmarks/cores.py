"""An iteration of EM with rows on one device of the CPU and on several: `python -m experiments.benchmarks.cores`.

Two processes, one with one device and one with several, make the same iterations from the same start by turns, so that
what else is on the machine slows both. Ratios are medians over rounds, times those of the fastest round. On a machine
that is never idle the wall tells little: there the CPU time says what several devices cost, and that of the thread that
worked longest is a bound below which the wall cannot fall.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import sys
import time
from typing import Any

from experiments.benchmarks import report  # First: it settles how threads wait.

# isort: split
import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm
from experiments.benchmarks.problems import draw
from jaxgmm.data import spread

GRID = [(200003, 6, 12), (262144, 8, 16), (102400, 10, 16), (60000, 16, 32)]
SMALLER = [(5000, 4, 5), (20000, 4, 8), (20000, 8, 8), (50000, 8, 8)]
SECONDS = 0.05
"""About as long does a turn take."""


def serve(n_devices: int, dtype: str, shapes: list[list[int]], anyway: bool) -> None:
    """Answer each line of input, the place of a shape, with milliseconds of an iteration on the wall and of CPU."""
    jax.config.update("jax_num_cpu_devices", n_devices)
    jax.config.update("jax_enable_x64", dtype == "float64")
    if anyway:
        vars(spread)["_LEAST_SHARE"] = 1
    held: dict[int, Any] = {}
    for line in sys.stdin:
        place = int(line)
        n, d, k = shapes[place]
        # Multiplications in a nanosecond, roughly.
        steps = int(np.clip(SECONDS * 3e10 / (n * k * d * d), 3, 200))
        if place not in held:
            problem = draw(n, d, k, dtype=np.dtype(dtype))
            start = jaxgmm.make_mixture(*problem.start)
            held[place] = jnp.asarray(problem.x), start
            once(*held[place], steps)
        print(json.dumps(once(*held[place], steps)), flush=True)


def once(x: Any, start: Any, steps: int) -> list[float]:
    """Milliseconds of an iteration: on the wall, of CPU, of the busiest thread's CPU; and the objective reached."""
    threads, began, spent = of_threads(), time.perf_counter(), time.process_time()
    result = jax.block_until_ready(jaxgmm.run(jaxgmm.EM(), start, x, tol=0, max_iter=steps))
    took = [time.perf_counter() - began, time.process_time() - spent]
    took.append(max(seconds - threads.get(thread, 0.0) for thread, seconds in of_threads().items()))
    return [1e3 * each / (steps + 1) for each in took] + [float(result.objective)]


def of_threads() -> dict[str, float]:
    """Seconds of CPU that each thread of this process has had."""
    held = {}
    for path in pathlib.Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            held[path.name] = 1e-9 * int((path / "schedstat").read_text().split()[0])
    return held


def main(dtype: str = "float32", n_devices: int = 2, rounds: int = 30, smaller: bool = False) -> None:
    """Measure and print."""
    shapes = SMALLER if smaller else GRID
    workers = []
    for devices in (1, n_devices):
        given = json.dumps([devices, dtype, shapes, smaller])
        command = [sys.executable, "-m", "experiments.benchmarks.cores", "--serve", given]
        workers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    print(f"{dtype}, (N, D, K): ms of wall, CPU, busiest thread on one device; the same on {n_devices}; ratios")
    for place, shape in enumerate(shapes):
        found = np.array([[ask(worker, place) for worker in workers] for _ in range(rounds + 1)])[1:]
        ratios = np.median(found[:, 0] / found[:, 1], axis=0)
        one, several = found.min(axis=0)
        apart = np.ptp(found[0, :, 3]) / abs(found[0, 0, 3])
        print(
            f"{shape!s:>20}  {line(one)}  {line(several)}  ratios {line(ratios)}  fastest {one[0] / several[0]:.2f}  "
            f"objectives apart {apart:.0e}",
            flush=True,
        )
    for worker in workers:
        worker.communicate()


def line(figures: np.ndarray) -> str:
    """The first three of some figures."""
    return " ".join(f"{figure:6.2f}" for figure in figures[:3])


def ask(worker: subprocess.Popen[str], place: int) -> list[float]:
    """A worker's turn."""
    assert worker.stdin and worker.stdout
    worker.stdin.write(f"{place}\n")
    worker.stdin.flush()
    return json.loads(worker.stdout.readline())


if __name__ == "__main__":
    parser = report.arguments(__doc__)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--n-devices", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--smaller", action="store_true", help="shapes below those that are shared out, shared out")
    parser.add_argument("--serve", default="")
    options = vars(parser.parse_args())
    options.pop("quick", None)
    if served := options.pop("serve"):
        serve(*json.loads(served))
    else:
        main(**options)
