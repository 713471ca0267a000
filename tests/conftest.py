"""Strict JAX, quick compiling, a persistent compilation cache, and the data that the tests share.

`JAX_ENABLE_X64=0` runs the numerical part in float32 alone: `pytest -m "not needs_x64"`. `XLA_FLAGS=` (set, and empty)
compiles as users do, which takes twice as long.
"""

import gc
import importlib.metadata
import json
import os
import pathlib

import jax
import numpy as np
import pytest

HERE = pathlib.Path(__file__).parent
X64 = os.environ.get("JAX_ENABLE_X64", "1") not in ("0", "false", "False")

# Without LLVM's optimisation, which is most of what compiling takes, and a program as one module of it; with the older
# compiler also without its fusion emitters, which are half of the rest; the newer one has no others. XLA reads the
# variable once, before its first program.
_QUICK = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if importlib.metadata.version("jaxlib").startswith("0.10."):
    _QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", _QUICK)

os.environ["MPLBACKEND"] = "agg"  # pyplot may look for a screen

jax.config.update("jax_enable_x64", X64)
jax.config.update("jax_traceback_in_locations_limit", 0)  # a seventh of the suite's time went to lines in programs
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"  # and in the processes that tests start
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    jax.config.update("jax_compilation_cache_dir", str(HERE.parent / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)  # to keep all took a fourteenth of a cold run
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

DTYPES = [np.float64 if X64 else np.float32]
LONGEST = ("test_examples.py", "test_sharding.py")
"""Files that come first, so that no worker is left alone with one at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Of tests that differ in their parameters alone, all but one are exhaustive: of a function that has it, the first,
    of the next the second, and so on, so that each family and dtype is met every few functions."""
    functions = {}
    for item in items:
        functions.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for place, cases in enumerate(functions.values()):
        for case in cases[: place % len(cases)] + cases[place % len(cases) + 1 :]:
            case.add_marker("exhaustive")
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_configure(config):
    config.addinivalue_line("markers", "needs_x64: meaningless without float64")
    config.addinivalue_line("markers", "exhaustive: every parameter, transformation and hard fit; hours, so asked for")
    config.addinivalue_line("markers", "large: of the hard fits, up to ten million rows or 200 columns; an hour")


# What a trace leaves behind is looked through less often: it took a twentieth of the suite's time.
gc.set_threshold(20_000, 20, 50)


@pytest.fixture(scope="module", autouse=True)
def _release_programs():
    """Let go of compiled programs before they are too many: each maps memory, and a process may hold 65530 maps."""
    yield
    maps = pathlib.Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(params=DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def dtype(request):
    return request.param


@pytest.fixture(scope="session")
def iris():
    from sklearn.datasets import load_iris

    data = load_iris()
    return data.data, data.target


@pytest.fixture(scope="session")
def faithful():
    x = np.loadtxt(HERE / "values" / "faithful.csv", delimiter=",", skiprows=1)
    return x, (x[:, 0] > 3).astype(int)


@pytest.fixture(scope="session")
def mclust():
    return json.loads((HERE / "values" / "mclust.json").read_text())


@pytest.fixture(scope="session")
def blobs():
    from sklearn.datasets import make_blobs

    x, y = make_blobs(n_samples=400, centers=4, cluster_std=0.60, random_state=0)
    return x[:, ::-1].copy(), y
