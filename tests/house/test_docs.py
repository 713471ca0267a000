"""The documentation is whole: every public name on one page, every page in reach, notebooks that are code."""

import ast
import importlib
import pathlib
import re
import types

import pytest

DOCS = pathlib.Path(__file__).parent.parent.parent / "docs"
PAGES = {path.relative_to(DOCS).with_suffix("").as_posix(): path.read_text() for path in DOCS.rglob("*.md")}
PAGES = {name: text for name, text in PAGES.items() if not name.startswith("_build")}
NOTEBOOKS = {name: text for name, text in PAGES.items() if "\nkernelspec:\n" in text}
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(?::tags:[^\n]*\n)?(.*?)^```", flags=re.S | re.M)


def public_names(module):
    held = vars(importlib.import_module(module))
    if "__all__" in held:
        return set(held["__all__"])
    return {name for name, thing in held.items() if name[0] != "_" and not isinstance(thing, types.ModuleType)}


def documented(module):
    """Names by the pages of the API that document them."""
    found = []
    for page in (text for name, text in PAGES.items() if name.startswith("api/")):
        current = None
        for line in page.splitlines():
            if line.startswith(".. currentmodule:: "):
                current = line.split()[-1]
            if current == module and (entry := re.match(r"\.\. (?:auto)?(?:function|class|data):: (\w+)", line)):
                found.append(entry[1])
    return found


@pytest.mark.parametrize("module", ["jaxgmm", "jaxgmm.plotting", "jaxgmm.sklearn"])
def test_every_public_name_is_on_one_page(module):
    pytest.importorskip({"jaxgmm.plotting": "matplotlib", "jaxgmm.sklearn": "sklearn"}.get(module, "jax"))
    assert sorted(documented(module)) == sorted(public_names(module))


def test_every_page_is_in_reach():
    reached = {"index"}
    for name, text in PAGES.items():
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", text, flags=re.S | re.M):
            entries = [line for line in block.split("\n") if line and not line.startswith(":")]
            reached |= {(pathlib.PurePosixPath(name).parent / entry).as_posix() for entry in entries}
    assert reached == set(PAGES)


def test_links_between_pages_lead_somewhere():
    for name, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#:]+\.md)", text):
            linked = (DOCS / name).parent / target
            assert linked.exists(), f"{name} links to {target}"


@pytest.mark.parametrize("name", sorted(NOTEBOOKS))
def test_notebook_is_code_that_imports_what_is_there(name):
    cells = CELL.findall(NOTEBOOKS[name])
    assert cells and "extra `docs`" in NOTEBOOKS[name]
    tree = ast.parse("\n".join(cells))
    asked = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_jaxgmm(node.value)}
    assert asked - {"sklearn"} <= public_names("jaxgmm")


def test_nothing_of_one_machine_is_in_the_text():
    for name, text in PAGES.items():
        assert not re.search(r"/(?:work|tmp|root|home)/", text), name


def _is_jaxgmm(node):
    return isinstance(node, ast.Name) and node.id == "jaxgmm"
