"""The house: imports go down only, rooms are small, the public face is whole and documented."""

import ast
import inspect
import pathlib
import sys

import pytest

import jaxgmm

ROOT = pathlib.Path(jaxgmm.__file__).parent
FLOORS = [
    ["arrays", "tables", "progress", "_types", "_linalg", "factors"],
    ["_protocols", "centring", "checks", "weights", "chunks", "covariances", "moments", "priors", "scaling"],
    ["families", "kernels", "parameters"],
    ["passes", "expectation", "data", "collapse", "sampling", "algebra"],
    ["density", "criteria", "maximisation", "em", "reparameterised", "transport", "divergences"],
    ["accelerated", "gradient", "draws", "initialise", "loop", "mixtures", "causes", "given"],
    ["neighbourhood", "implicit", "observed", "standard_errors", "influence", "bootstrap"],
    ["halving", "restarts", "fitting"],
    ["selection"],
    ["persistence", "distributions"],
    ["__init__"],
    ["sklearn", "plotting", "numpyro", "distrax", "tfp"],
]
"""From the ground up. A module may import what lies below it, or stands before it on its own floor."""

EXTRAS = {
    "sklearn": {"sklearn"},
    "plotting": {"matplotlib"},
    "numpyro": {"numpyro"},
    "distrax": {"distrax"},
    "tfp": {"tensorflow_probability"},
}
"""Doors to other libraries: nothing imports them but the user, and they alone import an extra at the top."""

PUBLIC = """
    Mixture Moments make_mixture project from_responsibilities log_prob log_joint responsibilities
    log_responsibilities predict uncertainty log_likelihood score sample e_step m_step EM Accelerated Gradient
    unconstrain constrain Params log_det_jacobian Ridge run fit FitResult Status initialize n_parameters aic bic icl
    select Selection marginal condition affine total_moments solution standard_errors bootstrap influence
    sample_reparameterised reparameterise kl_divergence kl_variational kl_upper_bound l2_divergence
    cauchy_schwarz_divergence wasserstein save load Report
""".split()


def rooms():
    return {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in ROOT.rglob("*.py")}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("jaxgmm"):
            below = node.module.split(".")[1:]
            yield from [below[0]] if below else [alias.name for alias in node.names]
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("jaxgmm") for alias in node.names)


def test_imports_go_down_only():
    order = {name: place for place, name in enumerate(name for floor in FLOORS for name in floor)}
    floor_of = {name: height for height, floor in enumerate(FLOORS) for name in floor}
    for room, path in rooms().items():
        own = room.split("/")[0]
        assert own in order, f"{room} stands on no floor"
        for other in imports(path):
            assert other == own or (floor_of[other], order[other]) < (floor_of[own], order[own]), f"{room} -> {other}"


def test_rooms_are_small():
    lengths = {room: len(path.read_text().splitlines()) for room, path in rooms().items()}
    assert not {room: length for room, length in lengths.items() if length > 260}


def test_only_the_runtime_dependencies_are_imported_at_the_top():
    allowed = {"jax", "optax", "numpy", "chex", "jaxgmm", "__future__"}
    standard = set(sys.stdlib_module_names)
    for room, path in rooms().items():
        for node in ast.parse(path.read_text()).body:
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            own = EXTRAS.get(room.split("/")[0], set())
            assert {name.split(".")[0] for name in names} <= allowed | standard | own, room


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_there_and_documented(name):
    thing = getattr(jaxgmm, name)
    text = inspect.getdoc(thing)
    assert text and len(text.splitlines()[0]) > 10
    if not inspect.isclass(thing):
        assert "Args:" in text and "Returns:" in text
        parameters = [p for p in inspect.signature(thing).parameters if p != "fit_options"]
        missing = [p for p in parameters if f"    {p}:" not in text]
        assert not missing, f"{name} does not describe {missing}"
        assert all(p.annotation is not inspect.Parameter.empty for p in inspect.signature(thing).parameters.values())


def test_the_face_only_hands_names_on():
    tree = ast.parse((ROOT / "__init__.py").read_text())
    assert all(isinstance(node, ast.ImportFrom | ast.Expr) for node in tree.body)
