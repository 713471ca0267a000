"""Mixtures inside other people's models, samplers and networks: one script each, also run as tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def lenient() -> Iterator[None]:
    """JAX's own promotion rules, for libraries that need them where a caller has set stricter ones."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
