"""Compiled programs, made anew where a test changes a number that they are made by."""

import contextlib
import sys

import pytest


@contextlib.contextmanager
def programs_with(constants):
    """Numbers that programs are made by set to others: those of jaxgmm are made anew, and once more at the end."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in constants.items():
            patch.setattr(name, value)
        _forget_programs()
        try:
            yield
        finally:
            _forget_programs()


def _forget_programs():
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "jaxgmm"]
    for held in [held for module in modules for held in vars(module).values() if not isinstance(held, type)]:
        for forget in ("clear_cache", "cache_clear"):
            getattr(held, forget, lambda: None)()
