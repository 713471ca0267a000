"""Change the code in small ways, one at a time, and see whether a test notices.

    pip install cosmic-ray
    python -m experiments.mutation kernels/quadratic moments --files 1 --report survivors.json
    python -m experiments.mutation kernels/quadratic moments --only survivors.json

Mutants are made by cosmic-ray's operators. Each is run in a process of its own, forked from one that has imported JAX
but not used it, with its module's tests in order, quickest first, up to the first failure; nothing on disk is changed.
A change of an annotation or a docstring alone is none.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]

TESTS = {
    "data/kernels/quadratic": ("kernels", "moments", "em", "expectation"),
    "data/kernels/whitened": ("kernels", "moments", "density", "algebra", "em", "expectation"),
    "data/kernels/shares": ("zero_weights", "density", "algebra"),
    "data/centring": ("em_steps", "expectation", "reparameterised", "density", "standard_errors"),
    "model/moments": ("moments", "families", "em"),
    "fitting/steps": ("em_steps", "families", "em", "doors", "errors", "fitting"),
    "fitting/algorithms/em": ("em_steps", "em", "fitting", "accelerated"),
    "model/families/table": ("families", "errors"),
    "model/families/dense": ("families", "em_steps", "em", "reparameterised", "fitting"),
    "model/families/diagonal": ("families", "em_steps", "em", "reparameterised", "fitting"),
}
"""What holds each module, quickest first."""

OPERATORS = (
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Mul_Add", "Div_Mul", "Pow_Mul")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("FloorDiv_Mul", "LShift_RShift", "BitAnd_BitOr", "BitOr_BitAnd")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "Lt_Gt", "LtE_Lt", "LtE_Gt")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Gt_GtE", "Gt_Lt", "GtE_Gt", "GtE_Lt", "Is_IsNot", "IsNot_Is")),
    *(f"ReplaceUnaryOperator_{pair}" for pair in ("USub_UAdd", "Delete_USub", "Delete_Invert", "Delete_Not")),
    "AddNot",
    "NumberReplacer",
    "RemoveDecorator",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ZeroIterationForLoop",
)
"""cosmic-ray's, one or two for each operator of the language: the others are noticed wherever these are."""

UNCHANGED = "unchanged"

LONGEST = 600.0
"""Seconds after which a mutant counts as noticed: it never ends."""


class Mutant(NamedTuple):
    """One change.

    Attributes:
        module: as in `TESTS`.
        operator: cosmic-ray's.
        occurrence: which of the places it applies to.
        source: the module, changed.
        change: the lines that differ.
    """

    module: str
    operator: str
    occurrence: int
    source: str
    change: str

    @property
    def name(self) -> str:
        """As it is told in a report."""
        return f"{self.module}:{self.operator}:{self.occurrence}"


def mutants(module: str) -> Iterator[Mutant]:
    """All mutants of a module that mean something else than it does."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (ROOT / "jaxgmm" / f"{module}.py").read_text()
    meaning = _meaning(source)
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        for occurrence in range(len(source)):
            mutated = mutate_code(source, operator, occurrence)
            if mutated is None:
                break
            if _meaning(mutated) not in ("", meaning):
                lines = difflib.unified_diff(source.splitlines(), mutated.splitlines(), n=0, lineterm="")
                change = "\n".join(line for line in lines if not line.startswith(("---", "+++")))
                yield Mutant(module, name, occurrence, mutated, change)


def unchanged(module: str) -> Mutant:
    """What the tests must not object to."""
    return Mutant(module, UNCHANGED, 0, (ROOT / "jaxgmm" / f"{module}.py").read_text(), "")


def _meaning(source: str) -> str:
    """What Python runs: the syntax tree without annotations and docstrings; nothing, where that is no Python."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                argument.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads one module from other text than its file's."""

    source = ""

    def get_code(self, fullname: str):
        return compile(self.source, self.path, "exec")


class _Finder:
    """Finds the mutated module before its file is found."""

    def __init__(self, mutant: Mutant):
        stem = mutant.module.removesuffix("/__init__")
        self.name, self.mutant = f"jaxgmm.{stem.replace('/', '.')}", mutant

    def find_spec(self, name: str, path: object, target: object = None):
        if name != self.name:
            return None
        file = ROOT / "jaxgmm" / f"{self.mutant.module}.py"
        loader = _Loader(name, str(file))
        loader.source = self.mutant.source
        package = [str(file.parent)] if file.stem == "__init__" else None
        return importlib.util.spec_from_file_location(name, file, loader=loader, submodule_search_locations=package)


def start(mutant: Mutant, log: str) -> int:
    """Fork a process that tests a mutant and exits with pytest's status; its number."""
    process = os.fork()
    if process:
        return process
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    status = 1
    try:
        import pytest

        sys.meta_path.insert(0, _Finder(mutant))
        tests = [str(path) for name in TESTS[mutant.module] for path in pathlib.Path("tests").glob(f"*/test_{name}.py")]
        status = int(pytest.main(["-x", "-p", "no:cacheprovider", *tests]))
    finally:
        os._exit(status)


def run(tried: list[Mutant], n_workers: int) -> list[tuple[Mutant, str]]:
    """Each mutant's fate: "noticed", "survived" or "endless"."""
    waiting, running, fates = list(reversed(tried)), {}, []
    with tempfile.TemporaryDirectory() as folder:
        while waiting or running:
            while waiting and len(running) < n_workers:
                mutant = waiting.pop()
                process = start(mutant, f"{folder}/{len(waiting)}.log")
                running[process] = (mutant, time.monotonic())
            time.sleep(0.1)
            for process, (mutant, begun) in list(running.items()):
                ended, status = os.waitpid(process, os.WNOHANG)
                late = time.monotonic() - begun > LONGEST
                if not ended and late:
                    os.killpg(process, signal.SIGKILL)
                    os.waitpid(process, 0)
                if ended or late:
                    del running[process]
                    fate = "endless" if not ended else "noticed" if status else "survived"
                    fates.append((mutant, fate))
                    took = time.monotonic() - begun
                    print(f"{len(fates)}/{len(tried)} {fate} {took:.0f} s {mutant.name}", flush=True)
                    if fate == "survived":
                        print(mutant.change, flush=True)
    return fates


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", default=list(TESTS), help="as in TESTS; all, where none is named")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--only", type=pathlib.Path, help="a report: only the mutants that survived then")
    parser.add_argument("--files", type=int, help="only so many of each module's files of tests, then --only")
    parser.add_argument("--report", type=pathlib.Path, help="where to write the survivors, as JSON")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.dont_write_bytecode = True
    # What every child imports; none of it starts a thread of JAX's.
    for name in ("chex", "jax.numpy", "optax", "pytest", "scipy.linalg", "sklearn.datasets"):
        importlib.import_module(name)
    tried = [mutant for module in arguments.modules for mutant in mutants(module)]
    if arguments.only:
        survived = {entry["name"] for entry in json.loads(arguments.only.read_text())}
        tried = [mutant for mutant in tried if mutant.name in survived]
    TESTS.update({module: tests[: arguments.files] for module, tests in TESTS.items()})
    fates = run([*map(unchanged, arguments.modules), *tried], arguments.workers)
    spoilt = [mutant.module for mutant, fate in fates if mutant.operator == UNCHANGED and fate != "survived"]
    if spoilt:
        raise SystemExit(f"the tests of {', '.join(spoilt)} fail without any change")
    fates = [(mutant, fate) for mutant, fate in fates if mutant.operator != UNCHANGED]
    for module in arguments.modules:
        print(module, dict(Counter(fate for mutant, fate in fates if mutant.module == module)))
    if arguments.report:
        survivors = [{"name": m.name, "change": m.change} for m, fate in fates if fate == "survived"]
        arguments.report.write_text(json.dumps(survivors, indent=1))


if __name__ == "__main__":
    main()
