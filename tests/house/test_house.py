"""The house: imports go down only, rooms are small, the public face is whole and documented."""

import ast
import graphlib
import importlib
import inspect
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

import jaxgmm
from jaxgmm._face import DOORS

ROOT = pathlib.Path(jaxgmm.__file__).parent
WINGS = [
    *["numerics", "host", "model", "data", "probability", "fitting", "inference"],
    *["persistence", "distributions", "_version", "_face", "__init__"],
    *["sklearn", "plotting", "numpyro", "distrax", "tfp"],
]
"""From the ground up. A wing may import what lies below it; within a wing no module imports itself by way of others."""

EXTRAS = {
    "sklearn": {"sklearn"},
    "plotting": {"matplotlib"},
    "numpyro": {"numpyro"},
    "distrax": {"distrax"},
    "tfp": {"tensorflow_probability"},
}
"""Doors to other libraries: nothing imports them but the user, and they alone import an extra at the top."""

PUBLIC = """
    Mixture Moments make_mixture project from_responsibilities log_prob log_joint log_components responsibilities
    log_responsibilities predict uncertainty log_likelihood score sample e_step m_step EM Accelerated Gradient
    unconstrain constrain Params log_det_jacobian Ridge run fit FitResult Status initialize n_parameters aic bic icl
    select Selection relabel component_order marginal condition affine total_moments solution standard_errors
    bootstrap influence sample_reparameterised reparameterise kl_divergence kl_variational kl_upper_bound l2_divergence
    cauchy_schwarz_divergence wasserstein save load Report fit_groups GroupFits stack unstack
    Incomplete Noisy impute conditional_moments denoise ConditionalMoments
""".split()


def rooms():
    return {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in ROOT.rglob("*.py")}


def for_types_only(tree):
    """What stands under `if TYPE_CHECKING`, and is never imported."""
    guards = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    return {inner for guard in guards for node in guard.body for inner in ast.walk(node)}


def imports(path):
    """The modules of jaxgmm that a file imports, dotted, less jaxgmm."""
    there = {room.replace("/", ".").removesuffix(".__init__") for room in rooms()}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "jaxgmm":
            package = node.module.partition(".")[2]
            for alias in node.names:
                module = f"{package}.{alias.name}".strip(".")
                yield module if module in there else package
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("jaxgmm") for alias in node.names)


def test_imports_go_down_only():
    height = {wing: place for place, wing in enumerate(WINGS)}
    within = {}
    for room, path in rooms().items():
        own, module = room.partition("/")[0], room.replace("/", ".")
        assert own in height, f"{room} stands in no wing"
        for other in imports(path):
            wing = other.partition(".")[0]
            if wing == own:
                within.setdefault(module, set()).add(other)
            elif own != "__init__":
                assert height[wing] < height[own], f"{room} -> {other}"
    graphlib.TopologicalSorter(within).prepare()


def test_no_room_asks_which_member_of_an_open_axis_it_holds():
    """Kinds of data are told apart in data/ alone, representations of covariances in no place."""
    closed = {"Rows": {"data"}, "Dense": set(), "Diagonal": set(), "Ridge": set(), "FactorChart": set()}
    for room, path in rooms().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                asked = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
                for name in asked & set(closed):
                    assert room.partition("/")[0] in closed[name], f"{room} asks for {name}"


def test_a_wing_says_what_it_is_for():
    for path in ROOT.glob("*/__init__.py"):
        if path.parent.name in WINGS[:7]:
            assert not [node for node in ast.parse(path.read_text()).body if not isinstance(node, ast.Expr)], path
            text = (path.parent / "README.md").read_text()
            assert 5 <= len(text.splitlines()) <= 25, path.parent.name
    assert len(list(ROOT.glob("*.py"))) <= 8


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
    assert all(isinstance(node, ast.ImportFrom | ast.Expr | ast.If | ast.Assign) for node in tree.body)
    handed_on = [a for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names if a.name == a.asname]
    assert jaxgmm.__all__ == sorted({alias.name for alias in handed_on} - {"__version__"})
    assert set(PUBLIC) <= set(jaxgmm.__all__)


def test_the_face_shows_no_rooms_of_the_inside():
    shown = [name for name in dir(jaxgmm) if not name.startswith("__")]
    assert set(shown) == set(jaxgmm.__all__) | set(EXTRAS), "with every extra installed"
    assert "__version__" in dir(jaxgmm) and "__doc__" in dir(jaxgmm)
    pyproject = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())
    assert pyproject["tool"]["hatch"]["version"]["path"] == "jaxgmm/_version.py"
    assert "version" not in pyproject["project"] and re.fullmatch(r"\d+\.\d+\.\d+", jaxgmm.__version__)


def test_listing_names_imports_no_other_library():
    """`dir` and names that there are not import nothing; `hasattr` of a door uses it, and imports its library alone."""
    libraries = sorted({library for library, _ in DOORS.values()} - {"sklearn"})
    code = (
        "import sys, jaxgmm; "
        f"held = lambda: [name for name in {[*libraries, 'sklearn']} if name in sys.modules]; "
        "assert 'tfp' in dir(jaxgmm) and not hasattr(jaxgmm, 'tpf') and held() == [], held(); "
        f"assert hasattr(jaxgmm, 'sklearn') and not set(held()) & set({libraries}), held()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_doors_to_other_libraries_import_themselves(monkeypatch):
    for name in ("plotting", "sklearn"):
        monkeypatch.delitem(vars(jaxgmm), name, raising=False)
        assert getattr(jaxgmm, name) is importlib.import_module(f"jaxgmm.{name}")
    with pytest.raises(AttributeError, match="module 'jaxgmm' has no attribute 'fitt'") as raised:
        jaxgmm.fitt  # noqa: B018
    assert raised.value.name == "fitt" and raised.value.obj is jaxgmm
    for name, (library, extra) in DOORS.items():

        def is_missing(_, library=library):
            raise ModuleNotFoundError(name=f"{library}.part")

        with monkeypatch.context() as without:
            without.delitem(vars(jaxgmm), name, raising=False)
            without.setitem(sys.modules, library, None)
            without.setattr(importlib, "import_module", is_missing)
            with pytest.raises(ImportError, match=rf"jaxgmm.{name} needs {library}: pip install 'jaxgmm\[{extra}\]'"):
                getattr(jaxgmm, name)
            assert name not in dir(jaxgmm)
    assert {name: {library} for name, (library, _) in DOORS.items()} == EXTRAS
    assert {extra for _, extra in DOORS.values()} <= set(
        tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    )
