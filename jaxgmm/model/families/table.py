"""The table of families, and the function that looks up their names."""

from typing import Any

from jaxgmm.model.families.dense import FULL as FULL
from jaxgmm.model.families.dense import TIED as TIED
from jaxgmm.model.families.diagonal import DIAG as DIAG
from jaxgmm.model.families.diagonal import SPHERICAL as SPHERICAL
from jaxgmm.model.families.protocol import Family

FAMILIES: dict[str, Family] = {family.name: family for family in (FULL, TIED, DIAG, SPHERICAL)}
"""Every family by its name; the order is the one that tables use."""


_CODES: dict[str, Family] = {"VVV": FULL, "EEE": TIED, "VVI": DIAG, "VII": SPHERICAL}


def family_of(covariance_type: Any, asked: str = "covariance_type") -> Family:
    """The family of a covariance type: of a name, of mclust's three-letter code, or of a family, itself.

    Args:
        covariance_type: a name, a code or a family.
        asked: the name of the argument in messages.

    Raises:
        ValueError: if no family has that name.
        TypeError: if it is neither a string nor a family.
    """
    if isinstance(covariance_type, str):
        family = FAMILIES.get(covariance_type) or _CODES.get(covariance_type)
        if family is None:
            known = ", ".join(repr(name) for name in (*FAMILIES, *_CODES))
            raise ValueError(f"covariance_type {covariance_type!r} is not known; it is one of {known}")
        return family
    if hasattr(covariance_type, "statistic") and hasattr(covariance_type, "update"):
        return covariance_type
    raise TypeError(f"{asked} must be a name or a family, not {type(covariance_type).__name__}")
