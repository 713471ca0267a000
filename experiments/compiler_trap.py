"""What the CPU compiler makes of row-wise products: `python -m experiments.compiler_trap` or, alone, as a script.

It needs jax and numpy only. Σ_i (P r)_i² of each row r is asked for in several ways that mean the same, at every size
in `SIZES`, and the worst relative error of each way is printed beside where it was. The exit status is 0 whatever is
found: what is right is for the reader to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

SIZES = [(n, d) for d in (2, 3, 4, 5, 6, 7, 8) for n in (16384, 16385, 20000, 32769, 40961, 50001)]
"""Rows and columns, (N, D)."""

WRONG = {np.float32: 1e-4, np.float64: 1e-12}
"""Relative errors above which an answer is not rounding; sums of squares do not cancel."""


class Worst(NamedTuple):
    """The worst answer to one way of asking.

    Attributes:
        error: relative, of the worst row.
        first: the first wrong row there, None if no row is wrong.
        size: the N and D of it.
        columns: every D at which some row of some N is wrong.
    """

    error: float
    first: int | None
    size: tuple[int, int]
    columns: tuple[int, ...]


def by_rows(p: jax.Array, x: jax.Array) -> jax.Array:
    return jax.vmap(lambda row: jnp.sum((p @ row) ** 2))(x)


def by_rows_behind_a_barrier(p: jax.Array, x: jax.Array) -> jax.Array:
    return jax.vmap(lambda row: jnp.sum(jax.lax.optimization_barrier(p @ row) ** 2))(x)


def by_rows_summed(p: jax.Array, x: jax.Array) -> jax.Array:
    return jax.vmap(lambda row: jnp.sum(jnp.sum(p * row[None, :], axis=1) ** 2))(x)


def by_columns(p: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum((p @ x.T) ** 2, axis=0)


def by_columns_term_by_term(p: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(sum(p[:, j, None] * x.T[None, j] for j in range(p.shape[1])) ** 2, axis=0)


def whole(p: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum((x @ p.T) ** 2, axis=1)


def whole_for_each_component(p: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.einsum("nd,ked->nke", x, jnp.stack([p, 2 * p])) ** 2, axis=2)[:, 0]


WAYS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "vmap(r: sum((P @ r)**2))": by_rows,
    "vmap(r: sum(barrier(P @ r)**2))": by_rows_behind_a_barrier,
    "vmap(r: sum(sum(P * r, 1)**2))": by_rows_summed,
    "sum((P @ x.T)**2, 0)": by_columns,
    "sum((P[:,0] x[:,0] + ...)**2, 0)": by_columns_term_by_term,
    "sum((x @ P.T)**2, 1)": whole,
    "sum(einsum('nd,ked->nke')**2, 2)": whole_for_each_component,
}


def main() -> dict[tuple[str, str], Worst]:
    """Print and return the worst answers, by way and dtype."""
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    print(f"jax {jax.__version__}, jaxlib {jaxlib.__version__}\n")
    print(f"{'way':<34}{'dtype':<9}{'worst':>9}   where")
    found = {}
    for name, way in WAYS.items():
        for dtype in WRONG:
            worst = found[name, np.dtype(dtype).name] = ask(way, dtype)
            where = "" if worst.first is None else f"N, D = {worst.size}, from row {worst.first}; D of {worst.columns}"
            print(f"{name:<34}{np.dtype(dtype).name:<9}{worst.error:>9.0e}   {where}", flush=True)
    return found


def ask(way: Callable[[jax.Array, jax.Array], jax.Array], dtype: type) -> Worst:
    """The worst answer over all sizes."""
    answers = [(_errors(way, n, d, dtype), (n, d)) for n, d in SIZES]
    errors, size = max(answers, key=lambda answer: answer[0].max())
    wrong = np.flatnonzero(errors > WRONG[dtype])
    columns = {d for errors, (_, d) in answers if errors.max() > WRONG[dtype]}
    return Worst(float(errors.max()), int(wrong[0]) if len(wrong) else None, size, tuple(sorted(columns)))


def _errors(way: Callable[[jax.Array, jax.Array], jax.Array], n: int, d: int, dtype: type) -> np.ndarray:
    """Relative error of each row, against NumPy in float64; NaN counts as infinite."""
    rng = np.random.default_rng(0)
    p = (np.eye(d) + 0.1 * rng.normal(size=(d, d))).astype(dtype)
    x = rng.normal(size=(n, d)).astype(dtype)
    right = np.sum((x.astype(np.float64) @ p.T.astype(np.float64)) ** 2, axis=1)
    given = np.asarray(jax.jit(lambda x: way(jnp.asarray(p), x))(x), np.float64)
    return np.nan_to_num(np.abs(given - right) / right, nan=np.inf)


if __name__ == "__main__":
    main()
