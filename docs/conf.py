"""The documentation: `sphinx-build -W --keep-going -b html docs docs/_build/html`.

Pages with code are notebooks in MyST Markdown, and every build executes them. Where only the text changes,
`-D nb_execution_mode=cache` executes what changed.
"""

from __future__ import annotations

import importlib.resources
import os
import pathlib
import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.transforms import SphinxTransform
from sphinx.util.parallel import make_chunks

import jaxgmm

HERE = pathlib.Path(__file__).parent

project = "jaxgmm"
author = copyright = "The jaxgmm developers"
release = version = jaxgmm.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_design",
]
# Of MathJax, all but the file and the fonts that these pages load.
unused = ("[!to]*", "tex-[!c]*", "*-full*", "output/svg*", "output/*.js")
exclude_patterns = ["_build", *(f"mathjax/{name}" for name in unused)]
html_theme = "furo"
html_title = "jaxgmm"
# Formulas are set by a MathJax that is copied beside the pages, so that they are read without a network. The package is
# used for its files alone: as an extension it does not say that pages may be read in parallel.
mathjax = importlib.resources.files("sphinx-mathjax-offline") / "static"
html_static_path = ["_static", str(mathjax)]
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}  # Its menu loads the files that are left out.
html_css_files = ["figures.css"]
html_copy_source = False

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_output_stderr = "warn"

# Each page is a kernel of its own; what they compile is kept in one place, and so are the looks of the pictures.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(HERE / "_build" / "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Pages are read two at a time: BLAS's threads would wait for each other's cores, and scikit-learn be 20 times slower.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MATPLOTLIBRC"] = str(HERE / "matplotlibrc")

default_role = "literal"
nitpicky = True
# Of other projects, whose inventories a build without a network does not have, and of what is documented in words.
nitpick_ignore_regex = [
    ("py:.*", r"(jax|jaxlib|numpy|optax|matplotlib|sklearn|numpyro|distrax|collections|os|pathlib|typing)\..*"),
    ("py:.*", r"Array|ArrayLike|DTypeLike|Axes|NotFittedError|Names"),
    ("py:.*", r"jaxgmm\.(host\.arrays|data\.(passes|layouts|patterns)|fitting\.algorithms\.protocol)\..*"),
    ("py:.*", r"jaxgmm\.(model\.(fitted|families\.protocol|priors\.penalty)|inference\.relabelling)\..*"),
    ("py:.*", r"jaxgmm\.(data\.protocol|fitting\.problem|model\.covariances\.protocol)\..*"),
    ("py:.*", r"jaxgmm\.(numpyro|distrax|tfp)\.GaussianMixture"),
]
autodoc_mock_imports = ["numpyro", "distrax", "tensorflow_probability"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}
autosummary_generate = False
python_maximum_signature_line_length = 88

PUBLIC = set(jaxgmm.__all__)
# Notebooks that take together about as long as all others.
DEAR = ("choosing", "restarts", "scale", "tour")


class Docstring(GoogleDocstring):
    """Google's sections, but what is returned, and what a property is, are sentences that may hold a colon."""

    def _consume_returns_section(self, preprocess_types: bool = False) -> list[tuple[str, str, list[str]]]:
        return [("", "", self._dedent(self._consume_to_next_section()))]

    def _parse_attribute_docstring(self) -> list[str]:
        return self._consume_contiguous() + self._consume_to_next_section()


def read_docstring(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Turns Google's sections into fields."""
    # |best| is a size here, and no substitution.
    plain = [re.sub(r"(`[^`]*`)|\|", lambda found: found[1] or r"\|", line) for line in lines]
    fields = Docstring(plain, Config(napoleon_use_ivar=True), app, what, name, thing, options).lines()
    # "K." alone would begin a list, as "A." and "B." do.
    lines[:] = [re.sub(r"^(:\w+ \w+: [A-Z])\.$", r"\1\\.", field) for field in fields]


def read_signature(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, arguments: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """Writes a union that the source names as it is named there."""
    if arguments is not None:
        arguments = re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", arguments)
    return arguments, result


class LinkNames(SphinxTransform):
    """Makes a link of every `name` in text and docstrings that is a public one."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        """Go through the literals of a document."""
        for literal in list(self.document.findall(nodes.literal)):
            name = literal.astext().removeprefix("jaxgmm.")
            inside = isinstance(literal.parent, pending_xref | nodes.reference | nodes.title)
            if name in PUBLIC and not inside and not literal.get("language"):
                target = {"refdomain": "py", "reftype": "obj", "reftarget": f"jaxgmm.{name}"}
                link = pending_xref("", literal.deepcopy(), refdoc=self.env.docname, refexplicit=True, **target)
                literal.replace_self(link)


def share_out(app: Sphinx, env: Any, names: list[str]) -> None:
    """Orders pages so that of those that are read in parallel, by runs of this list, two runs take equally long."""
    is_notebook = {name: "\nkernelspec:\n" in pathlib.Path(env.doc2path(name)).read_text() for name in names}
    dear = [name for name in names if name in DEAR]
    notebooks = [name for name in names if is_notebook[name] and name not in DEAR]
    text = [name for name in names if not is_notebook[name]]
    beside = max(0, len(make_chunks(names, app.parallel or 1)[0]) - len(dear)) if names else 0
    names[:] = dear + text[:beside] + notebooks + text[beside:]


def public_type(app: Sphinx, env: Any, node: pending_xref, contnode: nodes.Node) -> nodes.Node | None:
    """Annotations name a type by the module that defines it: link to its public name."""
    name = node["reftarget"].rpartition(".")[2]
    if node["reftarget"].startswith("jaxgmm.") and name in PUBLIC:
        python = env.get_domain("py")
        return python.resolve_xref(env, node["refdoc"], app.builder, "obj", f"jaxgmm.{name}", node, contnode)
    return None


def setup(app: Sphinx) -> None:
    """Registers the above: Sphinx calls this function."""
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("autodoc-process-signature", read_signature)
    app.add_transform(LinkNames)
    app.connect("env-before-read-docs", share_out)
    app.connect("missing-reference", public_type)
