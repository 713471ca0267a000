"""How fast this machine multiplies matrices and takes exponentials: the roofline of a pass of EM."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.timing import Contender, Race

_SIDE = 1536
_IN_CACHE = 1 << 16
_TERMS = 16


class Speeds(NamedTuple):
    """Contenders that do nothing but multiply, or nothing but exponentials.

    Attributes:
        contenders: by name, to race beside the others.
    """

    contenders: dict[str, Contender]

    def measured(self, race: Race) -> tuple[np.ndarray, np.ndarray]:
        """Floating-point operations a second, of the faster product, and exponentials a second, in each round."""
        product = np.fmin(race.seconds["XLA product"], race.seconds["NumPy product"])
        return 2.0 * _SIDE**3 / product, _TERMS * _IN_CACHE / race.seconds["exponentials"]


def speeds_in(dtype: Any) -> Speeds:
    """Contenders for one dtype: large square products by XLA and by NumPy, exponentials of an array in cache."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((_SIDE, _SIDE)).astype(dtype) for _ in range(2))
    on_device = jnp.asarray(a), jnp.asarray(b)
    points = jnp.asarray(rng.uniform(-10, 0, _IN_CACHE).astype(dtype))
    multiply = jax.jit(lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST))

    @jax.jit
    def exponentials(x: jax.Array) -> jax.Array:
        # Independent terms that fuse into one loop over the array, whose sum alone is written.
        total = jnp.exp(x)
        for term in range(1, _TERMS):
            total = total + jnp.exp(x * (1 + term / _TERMS))
        return total

    return Speeds(
        {
            "XLA product": Contender(lambda: multiply(*on_device).block_until_ready()),
            "NumPy product": Contender(lambda: a @ b),
            "exponentials": Contender(lambda: exponentials(points).block_until_ready()),
        }
    )


def roofline_flops(covariance_type: str, n: int, d: int, k: int) -> float:
    """Operations of (K, F) times (F, N) and (K, N) times (N, F), F the features a family's pass needs."""
    features = {"full": d * (d + 1) // 2 + d + 1, "diag": 2 * d + 1, "spherical": d + 2, "tied": d + 1}
    return 4.0 * k * features[covariance_type] * n
