"""The examples in the docstrings of public names run, and every public function and class has one.

An example is a section `Example:`, two to six lines that a reader can paste. Four imports go without saying:
`import jax`, `import jax.numpy as jnp`, `import numpy as np` and `import jaxgmm` (and in `jaxgmm.distributions`, which
is not for users, that module); it makes all else by itself. What it prints is the same in float32 and float64 and under
every release of JAX: shapes, names, booleans, numbers that are rounded by NumPy. Two components, two columns and a
hundred rows, so that the examples share compiled programs.
"""

import contextlib
import doctest
import importlib
import inspect
import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import distributions
from jaxgmm._face import DOORS

GIVEN = {"jax": jax, "jnp": jnp, "np": np, "jaxgmm": jaxgmm, "distributions": distributions}
MODULES = ["jaxgmm", "jaxgmm.persistence", "jaxgmm.distributions", *(f"jaxgmm.{door}" for door in DOORS)]
DEAR = ("solution", "Accelerated", "Gradient", "bootstrap", "Bootstrap", "influence")
DEAR += ("select", "Selection", "Candidate", "fit_groups", "GroupFits")
DEAR += ("pool", "reparameterise", "Estimate", "sklearn.GaussianMixture", "sklearn.GaussianMixtureImputer")
"""Half of the time goes to the examples of these, each of which many tests call."""
FOREIGN = ("numpyro", "distrax", "tfp")
"""Doors to libraries that mix ranks and dtypes freely, and use names that JAX deprecates."""


def public(name):
    """The functions and classes that a module offers and that this library defines."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            module = importlib.import_module(name)
        except (ModuleNotFoundError, AttributeError):  # without the extra, or its release and JAX's do not fit
            return
    for name_within in getattr(module, "__all__", vars(module)):
        thing = getattr(module, name_within)
        defined = getattr(thing, "__module__", "").startswith(name if "__all__" not in vars(module) else "jaxgmm")
        if name_within[0] != "_" and defined and isinstance(thing, type | types.FunctionType):
            yield f"{name}.{name_within}", thing


def examples():
    return {name: inspect.getdoc(thing) or "" for module in MODULES for name, thing in public(module)}


@contextlib.contextmanager
def as_users_run(name):
    with contextlib.ExitStack() as held:
        if name.split(".")[1] in FOREIGN:
            held.enter_context(jax.numpy_dtype_promotion("standard"))
            held.enter_context(jax.numpy_rank_promotion("allow"))
            held.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", DeprecationWarning)
        yield


def test_every_public_callable_has_a_short_example():
    texts = examples()
    assert len(texts) > 90
    lengths = {}
    for name, text in texts.items():
        _, _, example = text.partition("\nExample:\n")
        lengths[name] = sum(line.lstrip().startswith((">>>", "...")) for line in example.splitlines())
    assert not {name: length for name, length in lengths.items() if not 1 <= length <= 6}


def test_examples_say_what_they_do():
    check({name: text for name, text in examples().items() if name.removeprefix("jaxgmm.") not in DEAR})


@pytest.mark.exhaustive
def test_dear_examples_say_what_they_do():
    texts = examples()
    check({f"jaxgmm.{name}": texts[f"jaxgmm.{name}"] for name in DEAR})


def check(texts):
    failed, pyplot = {}, None
    with contextlib.suppress(ImportError):
        from matplotlib import pyplot
    for name, text in texts.items():
        said = []
        test = doctest.DocTestParser().get_doctest(text, dict(GIVEN), name, None, 0)
        with as_users_run(name):
            if doctest.DocTestRunner(verbose=False).run(test, out=said.append).failed:
                failed[name] = "".join(said)
        if pyplot is not None:
            pyplot.close("all")
    assert not failed, "\n".join(failed.values())
