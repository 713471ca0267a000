import os
import subprocess
import sys
import textwrap

import pytest


@pytest.mark.needs_x64
def test_restarts_over_devices_equal_restarts_on_one():
    code = """
        import jax, jax.numpy as jnp, numpy as np, jaxgmm, optax
        from jax.sharding import AxisType, PartitionSpec as P
        assert jax.device_count() == 2
        mesh = jax.make_mesh((2,), ("restarts",), axis_types=(AxisType.Auto,))
        x = jnp.concatenate([jax.random.normal(jax.random.key(k), (100, 2)) + 4 * k for k in range(3)])
        keys = jax.random.split(jax.random.key(1), 4)
        adam = optax.adam(0.05)

        def climb(keys, x):
            def one(key):
                start = jaxgmm.initialize(key, x, 3, method="k-means")
                algorithms = (jaxgmm.EM(), jaxgmm.Gradient(adam))
                return jnp.stack([jaxgmm.run(a, start, x, max_iter=50).objective for a in algorithms])
            return jax.vmap(one)(keys)

        spread = jax.jit(jax.shard_map(climb, mesh=mesh, in_specs=(P("restarts"), P()), out_specs=P("restarts")))
        np.testing.assert_allclose(spread(keys, x), climb(keys, x), rtol=1e-5)
    """
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_ENABLE_X64": "0"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=env)
