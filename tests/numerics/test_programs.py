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


def test_a_program_is_ready_soon_where_the_host_calls_it_with_little_data():
    @programs.program(static_argnums=(1,), size=lambda x, n: n)
    def repeated(x, n):
        return jnp.sum(x) * n

    held = []
    call = repeated.fast
    repeated.fast = lambda *args: held.append(args) or call(*args)
    x = jnp.ones(3)
    assert repeated(x, 2) == 6 and not held
    outside = [repeated(jnp.ones(programs._LITTLE), 1), repeated(x, programs._LITTLE)]
    assert len(held) == 2 and outside == [programs._LITTLE, 3 * programs._LITTLE]
    # Within another program it is one like any, whether or not its arguments are traced.
    for expected, function in ((9, lambda y: repeated(x, 2) + y), (9, lambda y: repeated(y * x, 2) + y - 12)):
        before = len(held)
        assert jax.jit(function)(3.0) == expected and len(held) == before + 1
    assert jax.vmap(lambda y: repeated(x, 2) + y)(jnp.ones(2)).tolist() == [7, 7]
    assert jax.grad(lambda y: repeated(x, 2) * y)(1.0) == 6
