"""What a first fit costs is compiling, which is counted here: programs, and the instructions in them."""

import contextlib

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.fitting import race, restarts
from tests.programs import programs_with

KEY = jax.random.key(0)


@contextlib.contextmanager
def compiled():
    """The names of the programs that are compiled meanwhile."""
    names = []

    def listen(event, duration, fun_name="?", **_):
        if event.endswith("backend_compile_duration"):
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def rows(dtype):
    rng = np.random.default_rng(0)
    return (rng.normal(size=(140, 4)) + 3 * rng.integers(3, size=(140, 1))).astype(dtype)


def names_of(compiled_names):
    return sorted(name.removeprefix("jit(").removesuffix(")") for name in compiled_names)


@pytest.mark.exhaustive
@pytest.mark.parametrize("n_rows", [140, 3000])
def test_a_selection_compiles_three_programs_a_family(n_rows, rows):
    x = np.resize(rows, (n_rows, 4))
    with programs_with({}), compiled() as names:
        jaxgmm.select(KEY, x, [1, 2, 3], ["full", "diag"], max_iter=60)
    per_family = ["advance_all", "end_all", "start_all"]
    assert [name for name in names_of(names) if name in per_family] == sorted(2 * per_family)


def test_a_first_fit_compiles_three_small_programs(rows):
    seen = {}

    def kept(program):
        call = type(program).__call__

        def spied(self, *args):
            seen.setdefault(self.__name__, (self, args))
            return call(self, *args)

        return spied

    with programs_with({}), pytest.MonkeyPatch.context() as patch:
        patch.setattr(restarts.HostProgram, "__call__", kept(race.advance))
        with compiled() as names:
            jaxgmm.fit(KEY, rows, 3)
        sizes = {
            name: program.fast.trace(*args).lower().as_text().count(" = ") for name, (program, args) in seen.items()
        }
    most = {"start_all": 900, "advance_all": 1800, "end_all": 600}
    assert names_of(names) == sorted(most) and sizes.keys() == most.keys()
    assert all(sizes[name] <= most[name] for name in most), sizes
