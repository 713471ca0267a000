"""Programs for the host: two ways to compile one function, and flags of the user's that are left alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.numerics import programs
from jaxgmm.numerics.programs import HostProgram


def test_both_ways_give_the_value_and_keep_their_programs():
    @functools.partial(HostProgram, static_argnums=(1,))
    def powers(x, n):
        return jnp.stack([x**k for k in range(n)])

    x = jnp.arange(1.0, 4.0)
    np.testing.assert_array_equal(powers(x, 3), powers.fast(x, 3))
    assert powers.n_programs() == 2 and powers.__name__ == "powers"
    powers(x + 1, 3)
    assert powers.n_programs() == 2
    powers(x, 2)
    assert powers.n_programs() == 3
    powers.clear_cache()
    assert powers.n_programs() == 0
    np.testing.assert_array_equal(powers(x, 2)[1], x)


def test_flags_that_the_user_set_are_left_alone(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    options = programs._options(True)
    if jax.default_backend() == "cpu":
        assert options["xla_backend_optimization_level"] == 2
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=1")
    assert "xla_backend_optimization_level" not in (programs._options(True) or {})
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert programs._options(True) is None
