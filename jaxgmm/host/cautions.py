"""Warnings that point at the user's line, however deep in the library they are raised."""

from __future__ import annotations

import functools
import os
import sys
import warnings

_HERE = os.path.dirname(os.path.dirname(__file__)) + os.sep


def caution(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, at the nearest line outside the library."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith((_HERE, functools.__file__)):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
