"""One command for a machine with an accelerator: are its values right, how fast is a pass, which chunks suit it.

Values of densities, moments and M-steps against NumPy in float64, all families, float32 and (where the device has it)
float64; chunk sizes swept for the pass at six shapes, with the share of the machine's speed at a large product; one
whole fit; memory in use. Run it with `python -m experiments.gpu OUT.json`, in at most eight minutes; `--quick` takes
small shapes, on a CPU less than a minute. It prints a table, and writes the same as JSON.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats

import jaxgmm
from jaxgmm.data import tiers

FAMILIES = ("full", "tied", "diag", "spherical")
SHAPES = (
    (4_000_000, 2, 8),
    (2_000_000, 8, 16),
    (1_000_000, 16, 32),
    (500_000, 32, 64),
    (200_000, 64, 64),
    (100_000, 128, 128),
)
"""Rows, columns and components of the passes that are timed."""

CHUNK_BYTES = (1 << 20, 13 << 19, 1 << 25, 100 << 20, 400 << 20)
SECONDS = 420.0
"""The time after which no further measurement is begun."""


def clusters(n_rows: int, n_features: int, n_components: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Rows in float64 and their labels; components of deviation `spread` about centres of deviation 2."""
    rng = np.random.default_rng(0)
    labels = rng.integers(n_components, size=n_rows)
    centres = 2 * rng.normal(size=(n_components, n_features))
    return centres[labels] + spread * rng.normal(size=(n_rows, n_features)), labels


def values(dtype: Any, spread: float) -> dict[str, float]:
    """The largest relative errors of each family: log-density, log-likelihood, means and scatter of an E-step."""
    x, labels = clusters(5000, 5, 4, spread)
    x = x.astype(dtype)
    errors = {}
    for family in FAMILIES:
        mixture = jaxgmm.from_responsibilities(x, np.eye(4)[labels], covariance_type=family, prior=jaxgmm.Ridge())
        moments, log_likelihood = jaxgmm.e_step(mixture, x)
        log_weights, means = (np.asarray(leaf, np.float64) for leaf in (mixture.log_weights, mixture.means))
        covariances = np.asarray(jaxgmm.project(mixture, "full").covariances, np.float64)
        joint = np.stack([
            log_weight + scipy.stats.multivariate_normal(mean, cov, allow_singular=True).logpdf(x.astype(np.float64))
            for log_weight, mean, cov in zip(log_weights, means, covariances, strict=True)
        ], axis=1)  # fmt: skip
        log_prob = scipy.special.logsumexp(joint, axis=1)
        resp = np.exp(joint - log_prob[:, None])
        mean = (resp.T @ x) / resp.sum(axis=0)[:, None]
        scatter = np.stack([(r[:, None] * (x - m)).T @ (x - m) for r, m in zip(resp.T, mean, strict=True)])
        expected = np.asarray(mixture.family.statistic.of_dense(scatter))
        pairs = {
            "log_prob": (jaxgmm.log_prob(mixture, x), log_prob),
            "log_likelihood": (log_likelihood, log_prob.sum()),
            "mean": (moments.mean, mean),
            "scatter": (moments.scatter, expected),
        }
        for name, (found, right) in pairs.items():
            found = np.asarray(found, np.float64)
            errors[f"{family} {name}"] = float(np.max(np.abs(found - right)) / np.max(np.abs(right)))
    return errors


def seconds(function: Callable[[], Any], n_times: int = 7) -> float:
    """The median time of a call, after a first one."""
    jax.block_until_ready(function())
    taken = []
    for _ in range(n_times):
        began = time.perf_counter()
        jax.block_until_ready(function())
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def product_speed(n: int, dtype: Any) -> float:
    """Operations a second of a product of two n×n matrices at full precision."""
    a = jnp.ones((n, n), dtype)
    multiply = jax.jit(lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST))
    return 2.0 * n**3 / seconds(lambda: multiply(a))


def pass_speeds(shape: tuple[int, int, int], speed: float, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Milliseconds of a pass in float32 for each size of chunks, and the share of `speed` that the best reaches."""
    n_rows, n_features, n_components = shape
    x, _ = clusters(n_rows, n_features, n_components)
    rows = jaxgmm.Rows(jnp.asarray(x, jnp.float32), jnp.ones(n_rows, jnp.float32))
    mixture = jaxgmm.initialize(jax.random.key(0), rows.x[: min(n_rows, 50_000)], n_components, prior=jaxgmm.Ridge())
    ready = jax.jit(lambda rows: rows.ready(rows.columns()))(rows)
    held = "_CHUNK_BYTES" if jax.default_backend() == "cpu" else "_CHUNK_BYTES_ELSEWHERE"
    default, taken = getattr(tiers, held), {}
    try:
        for size in sizes:
            setattr(tiers, held, size)
            one_pass = jax.jit(lambda rows, mixture: rows.moments(mixture, mixture.family.statistic))
            taken[size] = seconds(lambda one_pass=one_pass: one_pass(ready, mixture))
    finally:
        setattr(tiers, held, default)
    n_operations = 4 * n_rows * n_components * (n_features + 1) * (n_features + 2) / 2
    return {
        "shape": shape,
        "milliseconds": {str(size): round(1e3 * t, 3) for size, t in taken.items()},
        "share_of_a_product": round(n_operations / min(taken.values()) / speed, 3),
    }


def whole_fit(n_rows: int) -> dict[str, Any]:
    """Seconds of a first and a second fit with defaults, and the memory that the device held at most."""
    x, _ = clusters(n_rows, 8, 8)
    x = x.astype(np.float32)
    taken = []
    for key in range(2):
        began = time.perf_counter()
        fitted = jaxgmm.fit(jax.random.key(key), x, 8, progress=False)
        taken.append(round(time.perf_counter() - began, 2))
    held = jax.devices()[0].memory_stats() or {}
    return {
        "rows": n_rows, "seconds": taken, "status": fitted.status.name, "log_likelihood": float(fitted.log_likelihood),
        "peak_bytes": held.get("peak_bytes_in_use"), "bytes_of_rows": x.nbytes,
    }  # fmt: skip


def measured(quick: bool) -> dict[str, Any]:
    """All measurements, as many as the time allows."""
    began = time.perf_counter()
    device = jax.devices()[0]
    found: dict[str, Any] = {"device": device.device_kind, "platform": device.platform, "jax": jax.__version__}
    found["errors"] = {
        f"{np.dtype(dtype).name}, deviation {spread}": values(dtype, spread)
        for dtype in ([np.float32, np.float64] if jax.config.read("jax_enable_x64") else [np.float32])
        for spread in (1.0, 1e-2)
    }
    speed = product_speed(512 if quick else 8192, jnp.float32)
    found["product_gflops"] = round(speed / 1e9, 1)
    found["passes"] = []
    for n_rows, *others in SHAPES[:1] if quick else SHAPES:
        if time.perf_counter() - began < SECONDS:
            shape = (20_000 if quick else n_rows, *others)
            found["passes"].append(pass_speeds(shape, speed, CHUNK_BYTES[:2] if quick else CHUNK_BYTES))
    if time.perf_counter() - began < SECONDS:
        found["fit"] = whole_fit(500 if quick else 1_000_000)
    found["seconds"] = round(time.perf_counter() - began, 1)
    return found


def main() -> None:
    """Measure, print, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path, help="where to write the JSON")
    parser.add_argument("--quick", action="store_true", help="small shapes, to see that it runs")
    asked = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    found = measured(asked.quick)
    asked.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
