import os
import subprocess
import sys
import textwrap

import pytest


@pytest.mark.needs_x64
@pytest.mark.parametrize("algorithm", ["jaxgmm.EM()", "jaxgmm.Gradient(optax.adam(0.05))"])
def test_restarts_over_devices_equal_restarts_on_one(algorithm):
    code = """
        import jax, jax.numpy as jnp, numpy as np, jaxgmm, optax
        from jax.sharding import AxisType, PartitionSpec as P
        assert jax.device_count() == 2
        mesh = jax.make_mesh((2,), ("restarts",), axis_types=(AxisType.Auto,))
        x = np.random.default_rng(0).normal(size=(300, 2)) + 4 * np.repeat(np.arange(3), 100)[:, None]
        x = jnp.asarray(x, jnp.float32)
        keys = jax.random.split(jax.random.key(1), 4)
        algorithm = ALGORITHM

        def climb(keys, x):
            def one(key):
                start = jaxgmm.initialize(key, x, 3, method="k-means")
                return jaxgmm.run(algorithm, start, x, max_iter=50).objective
            return jax.vmap(one)(keys)

        spread = jax.jit(jax.shard_map(climb, mesh=mesh, in_specs=(P("restarts"), P()), out_specs=P("restarts")))
        np.testing.assert_allclose(spread(keys, x), jax.jit(climb)(keys, x), rtol=1e-5)
    """
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_ENABLE_X64": "0"}
    code = textwrap.dedent(code).replace("ALGORITHM", algorithm)
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
