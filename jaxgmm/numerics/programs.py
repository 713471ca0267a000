"""Programs that are compiled by the host's choice: to run fast, or to be ready soon."""

from __future__ import annotations

import functools
import importlib.metadata
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

_SOON = {"xla_backend_optimization_level": 2, "xla_cpu_parallel_codegen_split_count": 1}
"""Options of XLA's compiler for CPUs with which a program is ready in half the CPU time, and runs up to twice as
long."""

_ONCE = _SOON | {"xla_backend_optimization_level": 0}
"""Options for a program that runs once or twice a fit: it is ready in a third of that time."""

_SOON_IN_0_10 = {"xla_cpu_use_fusion_emitters": False}
"""One more, about half of what is left: releases after 0.10 have nothing else to emit fusions with, and stop at it."""


class HostProgram:
    """A jitted function that no other program calls, compiled to be ready soon.

    Attributes:
        fast: the function compiled to run fast, for what has much to do.
    """

    def __init__(self, function: Callable[..., Any], static_argnums: tuple[int, ...] = (), loops: bool = False):
        """Compile nothing yet: the options depend on the backend, which an import must not start.

        Args:
            function: the function.
            static_argnums: places of its static arguments.
            loops: whether it runs for long enough that optimisation pays.
        """
        functools.update_wrapper(self, function)
        self._function, self._static, self._loops = function, static_argnums, loops
        self._soon: Any = None
        self.fast: Any = jax.jit(function, static_argnums=static_argnums)

    def __call__(self, *args: Any) -> Any:
        """The function's value."""
        if self._soon is None:
            # A function of its own: JAX keeps the programs of one function together, whatever the options.
            @functools.wraps(self._function)
            def function(*args: Any) -> Any:
                return self._function(*args)

            self._soon = jax.jit(function, static_argnums=self._static, compiler_options=_options(self._loops))
        return self._soon(*args)

    def clear_cache(self) -> None:
        """Forget all programs."""
        self.fast.clear_cache()
        self._soon = None

    def n_programs(self) -> int:
        """Number of programs that are held."""
        return sum(made._cache_size() for made in (self.fast, self._soon) if made is not None)


_LITTLE = 1 << 12
"""The most numbers that a program is given and returns for it to be compiled to be ready soon: what follows takes a
millisecond, or some seconds where it loops, and compiling takes as long, or one to two seconds less."""


class Program(HostProgram):
    """A jitted function that anybody may call: where the host does with little data, it is compiled to be ready soon.

    Under a trace, and with more data, it is what `jax.jit` makes of it.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        static_argnums: tuple[int, ...] = (),
        loops: bool = False,
        size: Callable[..., int] | None = None,
    ):
        """Compile nothing yet.

        Args:
            function: the function.
            static_argnums: places of its static arguments.
            loops: whether it runs for long enough, even with little data, that optimisation pays.
            size: of all arguments, how many numbers count beside those of the arrays among them; None is 0.
        """
        super().__init__(function, static_argnums, loops)
        self._size = (lambda *_: 0) if size is None else size

    def __call__(self, *args: Any) -> Any:
        """The function's value."""
        leaves = jax.tree.leaves(args)
        n_numbers = sum(getattr(leaf, "size", 1) for leaf in leaves) + self._size(*args)
        if n_numbers > _LITTLE or jax.default_backend() != "cpu" or any(isinstance(leaf, Tracer) for leaf in leaves):
            return self.fast(*args)
        # The compiler's options are for programs that no other contains, and nothing given need be traced in one.
        return self.fast(*args) if isinstance(jax.device_put(_PROBE), Tracer) else super().__call__(*args)


_PROBE = np.int32(0)


def program(
    static_argnums: tuple[int, ...] = (), loops: bool = False, size: Callable[..., int] | None = None
) -> Callable[[Callable[..., Any]], Program]:
    """A decorator that makes a `Program` of a function."""
    return lambda function: Program(function, static_argnums, loops, size)


def _options(loops: bool) -> dict[str, Any] | None:
    """The options that make a program be ready soon, but for those that XLA_FLAGS sets; None on other backends."""
    if jax.default_backend() != "cpu":
        return None
    options = (_SOON if loops else _ONCE) | (
        _SOON_IN_0_10 if importlib.metadata.version("jaxlib").startswith("0.10.") else {}
    )
    given = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in options.items() if name not in given}
