"""Rows that several devices of a CPU share: the same numbers as on one, by one sum over the devices a pass."""

import os
import subprocess
import sys
import textwrap

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import EM, Rows
from jaxgmm.data.compact import CompactRows
from jaxgmm.data.rows import ResidualRows
from jaxgmm.data.spread import spread, spread_over
from tests import cases
from tests.cases import FAMILIES, tolerance

HEAD = """
    import re
    import jax, jax.numpy as jnp, numpy as np, jaxgmm
    from jaxgmm import EM, Rows, run
    from jaxgmm.data import compact, spread
    jax.config.update("jax_num_cpu_devices", 3)
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(2000, 2)) + 3 * rng.integers(3, size=(2000, 1))).astype(np.float32)
    start = jaxgmm.make_mixture(np.ones(3) / 3, x[:3], np.stack([np.eye(2)] * 3))
    key = jax.random.key(0)

    def close(found, expected, rtol=2e-5):
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=rtol, atol=rtol)

    def sums(function, *args):
        "Collective operations in the program that a call compiles, other than sums, and those."
        text = jax.jit(function).lower(*args).compile().as_text()
        found = re.findall(r" = \\S+ (all-[a-z]+|collective-[a-z]+|reduce-scatter)", text)
        return len(found) - found.count("all-reduce"), found.count("all-reduce")
"""


def on_three_devices(code):
    """Run code in a process with three devices."""
    environment = {**os.environ, "JAX_ENABLE_X64": "0", "JAX_NUMPY_DTYPE_PROMOTION": "strict"}
    environment |= {"JAX_NUMPY_RANK_PROMOTION": "raise"}
    if directory := jax.config.jax_compilation_cache_dir:
        environment |= {"JAX_COMPILATION_CACHE_DIR": directory, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(HEAD) + textwrap.dedent(code)], check=True, env=environment)


def test_fits_are_those_of_one_device_and_a_pass_has_one_sum():
    on_three_devices("""
        rows = Rows(jnp.asarray(x), jnp.ones(2000))
        shared = spread.spread_over(rows, jax.devices())
        assert shared.x.shape == (2001, 2) and len(shared.x.sharding.device_set) == 3
        moments = jax.jit(lambda m, rows: rows.moments(m, m.family.statistic))
        close(moments(start, shared), moments(start, rows))
        assert sums(moments, start, shared) == (0, 1)

        seen = []
        kept = spread.spread_over
        spread.spread_over = lambda *args: seen.append(len(args[1])) or kept(*args)
        compact._MOST_ENTRIES = 0
        options = dict(max_iter=20, tol=0)
        climb = lambda m, x: run(EM(), m, x, **options)
        # Too few rows.
        alone = jaxgmm.fit(key, x, 3, n_init=1, **options), climb(start, x)
        assert seen == []
        # A share is less than half of them, and more than a third.
        spread._LEAST_SHARE = 2000 * 3 * 6 // 2 - 100
        shared = jaxgmm.fit(key, x, 3, n_init=1, **options), climb(start, x)
        assert seen == [2, 2]
        close(shared, alone)
        for fitted in shared:
            assert not fitted.mixture.means.committed and len(fitted.mixture.means.sharding.device_set) == 1
    """)


@pytest.mark.exhaustive
def test_a_loop_has_one_sum_and_what_is_traced_or_bound_to_devices_stays_where_it_is():
    on_three_devices("""
        rows = Rows(jnp.asarray(x), jnp.ones(2000))
        shared = spread.spread_over(rows, jax.devices())
        moments = jax.jit(lambda m, rows: rows.moments(m, m.family.statistic))
        mixture = jaxgmm.project(start, "spherical")
        close(moments(mixture, shared), moments(mixture, rows))
        # One for the columns, and one in the loop.
        lanes = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), start)
        climb = jax.vmap(lambda m, rows: run(EM(), m, rows, max_iter=5), (0, None))
        assert sums(climb, lanes, shared) == (0, 2)

        seen = []
        kept = spread.spread_over
        spread.spread_over = lambda *args: seen.append(len(args[1])) or kept(*args)
        compact._MOST_ENTRIES = 0
        climb = lambda m, x: run(EM(), m, x, max_iter=20, tol=0)
        alone = climb(start, x)
        assert seen == []
        spread._LEAST_SHARE = 2000 * 3 * 6 // 2 - 100
        close(jax.jit(climb)(start, x), alone)
        last = jax.devices()[2]
        bound = jax.device_put(x, last)
        assert climb(start, bound).mixture.means.sharding.device_set == {last}
        with jax.default_device(last):
            climb(start, x)
        assert seen == []
        climb(start, x)
        assert seen == [2]
    """)


def shared_by_one(rows):
    return spread_over(rows, jax.devices()[:1])


def check_shared_rows(function, family, dtype, factor):
    """That rows which one device shares give what rows give."""
    start, x, weights = cases.drawn_rows(family, n_rows=120, n_components=2, dtype=dtype)
    rows = Rows(jnp.asarray(x), jnp.asarray(weights))
    found, expected = (jax.jit(function)(start, data) for data in (shared_by_one(rows), rows))
    rtol = 100 * factor * tolerance(dtype)
    chex.assert_trees_all_close(found, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("family", FAMILIES)
def test_sums_are_those_of_rows(family, dtype):
    def sums(m, data):
        return data.columns(), data.ready(data.columns()).distances, jaxgmm.e_step(m, data)

    check_shared_rows(sums, family, dtype, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_slopes_are_those_of_rows(family, dtype):
    check_shared_rows(jax.value_and_grad(jaxgmm.log_likelihood), family, dtype, 10)


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_derivatives_of_runs_are_those_of_rows(family, dtype):
    def moved(m, data):
        return jax.jvp(lambda m: jaxgmm.run(EM(), m, data, tol=0, max_iter=2).mixture, (m,), (m,))

    check_shared_rows(moved, family, dtype, 100)


def test_a_share_without_weight_counts_for_nothing(dtype):
    start, x, weights = cases.drawn_rows("full", n_rows=120, n_components=2, dtype=dtype)
    rows = Rows(jnp.asarray(x), jnp.zeros_like(weights))
    columns = jax.jit(lambda data: data.columns())(shared_by_one(rows))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(columns))


def test_rows_of_a_kind_stay_of_that_kind():
    x, weights = jnp.zeros((1 << 20, 2)), jnp.ones(1 << 20)
    for kind in (CompactRows, ResidualRows, Rows):
        held = kind(x, weights)
        assert spread(held, 1, 8, True) is held
