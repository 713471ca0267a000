"""What derivatives cost, in passes over the data: `python -m experiments.benchmarks.derivatives`.

The likelihood's value and gradient beside one E-step; an iteration of `Gradient` beside one of `EM`; a gradient through
a whole fit beside one E-step, with the products that conjugate gradients took; and the temporaries of each as N grows.
"""

from __future__ import annotations

from typing import Any

from experiments.benchmarks import report, timing  # First: it settles how threads wait.

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxgmm
from experiments.benchmarks.problems import draw
from experiments.benchmarks.timing import Contender
from jaxgmm.data.rows import Rows, as_rows
from jaxgmm.fitting.loop import advance, begin
from jaxgmm.fitting.problem import posed
from jaxgmm.inference.solution import information, optimum, place_of, slope
from jaxgmm.model.priors.ridge import settle
from jaxgmm.numerics.linalg import conjugate_gradients

NAME = "derivatives"
SHAPE = (100_000, 8, 16)
ITERATIONS = 10
MB = 1e6


def main(quick: bool = False) -> None:
    """Measure, print and write."""
    n, d, k = (SHAPE[0] // 16, *SHAPE[1:]) if quick else SHAPE
    report.heading(f"Derivatives at N, D, K = {n}, {d}, {k}, full, float32")
    problem = draw(n, d, k)
    mixture = jaxgmm.make_mixture(*problem.start)
    x = jnp.asarray(problem.x)
    mixture = jaxgmm.run(jaxgmm.EM(), mixture, x, max_iter=200, tol=1e-7).mixture
    functions = programs(mixture)
    race = timing.race({name: _contender(function, mixture, x) for name, function in functions.items()}, rounds=7)
    rows: list[dict[str, Any]] = []
    for name, function in functions.items():
        megabytes = [temporaries(function, mixture, m, d) for m in (n, 4 * n)]
        ratio = race.ratio(name, "E-step")
        rows.append({"what": name, "ms": 1e3 * race.median(name), "E-steps": ratio, "MB": megabytes})
    cells = [[r["what"], *map(report.number, (r["ms"], r["E-steps"], *r["MB"]))] for r in rows]
    report.table(["", "ms", "E-steps", "MB at N", "MB at 4 N"], cells)
    products = n_products(mixture, as_rows(x))
    print(f"\nconjugate gradients took {products} products with the information, of one pass each, to rounding")
    rows.append({"what": "products", "n": products})
    growth = next(row["MB"] for row in rows if row["what"] == "value and gradient")
    targets = [
        report.at_most("value and gradient, in E-steps", race.ratio("value and gradient", "E-step"), 1.5, "x"),
        report.at_most(
            f"its temporaries, bytes for one row more (a row: {4 * d})", (growth[1] - growth[0]) * MB / (3 * n), 8
        ),
        report.at_most(
            "an iteration of Gradient(Adam) over one of EM",
            race.ratio("10 of Gradient(Adam)", "10 of EM"),
            1.5,
            "x",
        ),
    ]
    report.write(NAME, rows, targets, None, quick)
    report.targets_table(targets)


def programs(mixture: jaxgmm.Mixture) -> dict[str, Any]:
    """Compiled functions of a mixture and rows."""
    adam = jaxgmm.Gradient(optax.adam(1e-4))

    def climb(algorithm: Any) -> Any:
        def iterations(mixture: jaxgmm.Mixture, x: jax.Array) -> Any:
            problem = posed(as_rows(x), settle(None, x.dtype))
            started = begin(algorithm, mixture, problem, ITERATIONS)
            return advance(algorithm, started, problem, 0.0, ITERATIONS).state.mixture

        return jax.jit(iterations)

    def through_the_fit(mixture: jaxgmm.Mixture, x: jax.Array) -> jax.Array:
        def figure(weights: jax.Array) -> jax.Array:
            return jnp.sum(optimum(mixture, Rows(x, weights), settle(None, x.dtype)).means ** 2)

        return jax.grad(figure)(jnp.ones(x.shape[0], x.dtype))

    return {
        "E-step": jax.jit(jaxgmm.e_step),
        "value": jax.jit(jaxgmm.log_likelihood),
        "value and gradient": jax.jit(jax.value_and_grad(jaxgmm.log_likelihood)),
        "gradient in the rows": jax.jit(jax.grad(jaxgmm.log_likelihood, argnums=1)),
        "10 of EM": climb(jaxgmm.EM()),
        "10 of Gradient(Adam)": climb(adam),
        "gradient of a fit": jax.jit(through_the_fit),
    }


def temporaries(function: Any, mixture: jaxgmm.Mixture, n: int, d: int) -> float:
    """MB of temporaries in a compiled function of n rows."""
    program = function.lower(mixture, jax.ShapeDtypeStruct((n, d), np.float32)).compile()
    return program.memory_analysis().temp_size_in_bytes / MB


def n_products(mixture: jaxgmm.Mixture, rows: Rows) -> int:
    """Products that conjugate gradients take to the rounding of float32, for the weight of the first row."""
    prior = settle(None, rows.x.dtype)
    around = place_of(mixture, rows, prior)
    heavier = Rows(rows.x, rows.weights.at[0].add(1.0))
    right = slope(around, heavier, prior) - slope(around, rows, prior)
    return int(jax.jit(lambda right: conjugate_gradients(information(around, rows), right))(right)[1])


def _contender(function: Any, *arguments: Any) -> Contender:
    return Contender(lambda: jax.block_until_ready(function(*arguments)))


if __name__ == "__main__":
    main(**vars(report.arguments(__doc__).parse_args()))
