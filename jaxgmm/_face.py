"""Modules of `jaxgmm` that need another library, each imported when it is first used."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

DOORS = {
    "distrax": ("distrax", "distrax"),
    "numpyro": ("numpyro", "numpyro"),
    "plotting": ("matplotlib", "plot"),
    "sklearn": ("sklearn", "sklearn"),
    "tfp": ("tensorflow_probability", "tfp"),
}
"""Modules, with the library that each needs, and the extra that installs it."""


def __getattr__(name: str) -> ModuleType:
    """The module of that name, imported now, for `hasattr` too, as PEP 562 has it.

    Raises:
        ImportError: if its library is not installed; the message names the extra.
        AttributeError: for another name.
    """
    if name not in DOORS:
        raise AttributeError(f"module 'jaxgmm' has no attribute {name!r}", name=name, obj=sys.modules["jaxgmm"])
    library, extra = DOORS[name]
    try:
        return importlib.import_module(f"jaxgmm.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != library:
            raise
        raise ImportError(f"jaxgmm.{name} needs {library}: pip install 'jaxgmm[{extra}]'") from error


def __dir__() -> list[str]:
    """The public names, and the modules whose libraries are installed, without internal modules."""
    face = vars(sys.modules["jaxgmm"])
    special = [name for name in face if name.startswith("__") and name.endswith("__")]
    doors = [name for name, (library, _) in DOORS.items() if _is_there(library)]
    return sorted({*special, *face["__all__"], *doors})


def _is_there(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):  # blocked by an entry of None in sys.modules
        return False
