"""Mixtures and fits in files: one `.npz`, written completely or not at all, and checked in full when it is read.

NumPy alone can read it: `numpy.load(path)` has an array for each leaf, named by its path in the pytree:
"log_weights", "means" and "covs.cholesky" or "covs.scale" (the factors L of Σ = L Lᵀ) of a mixture;
"mixture.means", "objective", "restarts.status" and so on of a fit. The first member, `header.json`, is JSON:

    {"format": "jaxgmm", "version": 1, "kind": "mixture" or "result", "covariance_type": a name in `FAMILIES`,
     "feature_names": [a name for each column] or null, "arrays": {leaf: [dtype, shape], ...}}

Arrays are "<f4", "<f8", "<i4" or "<i8" in C order, in files of NumPy's format 1.0; a `Status` outside an array is an
"<i8". Members are not compressed and dated 1980, so that equal values make equal files.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxgmm.fitting.results import FitResult, Status
from jaxgmm.host.arrays import is_traced
from jaxgmm.model.mixture import Mixture
from jaxgmm.persistence import archive, layout


def save(path: str | os.PathLike[str], value: Mixture | FitResult) -> None:
    """Write a mixture or a fit to a file.

    The value is written to a temporary file beside it, which is forced to the disk and then renamed: whatever happens,
    the path holds the old file or the new one. A process killed meanwhile may leave a file `.jaxgmm-*` behind.

    Args:
        path: path of the file, used as it is; `*.npz` is customary. An existing file is replaced, and keeps its
            permissions.
        value: a `Mixture` or a `FitResult`, or a stack of them as `vmap` gives.

    Returns:
        Nothing; the file is on the disk.

    Raises:
        TypeError: if the value is something else, or a tracer.
        ValueError: if it is no valid mixture (a fit that is `NONFINITE` or `COLLAPSED` may hold anything), its family
            is not in `jaxgmm.FAMILIES`, its numbers are neither float32 nor float64, or the file would have 4 GiB;
            or if there is something at the path that is not a regular file.
        OSError: from the file system.

    Example:
        >>> import tempfile
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     jaxgmm.save(f"{folder}/mixture.npz", mixture)
        ...     sorted(np.load(f"{folder}/mixture.npz"))
        ['covs.cholesky', 'header.json', 'log_weights', 'means']
    """
    if not isinstance(value, Mixture | FitResult):
        raise TypeError(f"save takes a Mixture or a FitResult, not {type(value).__name__}")
    if is_traced(value):
        raise TypeError("value is being traced by JAX: return it from the traced function, and save it outside")
    members = layout.encode(jax.tree.map(np.asarray, jax.device_get(value)))
    archive.replace(path, members)


def load(path: str | os.PathLike[str], *, dtype: DTypeLike | None = None) -> Mixture | FitResult:
    """The mixture or fit in a file that `save` wrote.

    The file is not trusted: it takes no more memory than its own size, nothing in it is unpickled, and every byte
    around the numbers must be the one that `save` writes there.

    Args:
        path: the file.
        dtype: float32 or float64, to convert to; None keeps what is in the file.

    Returns:
        The mixture or the fit, equal to the saved one to the last bit.

    Raises:
        ValueError: if the file is truncated, altered, of another version or no valid mixture; or if it holds float64
            while JAX has float64 disabled, and dtype does not ask for float32. The message names the path. Also if
            dtype is another.
        OSError: from the file system.

    Example:
        >>> import tempfile
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     jaxgmm.save(f"{folder}/mixture.npz", mixture)
        ...     loaded = jaxgmm.load(f"{folder}/mixture.npz")
        >>> bool((loaded.means == mixture.means).all())
        True
    """
    wanted = None if dtype is None else _as_dtype(dtype)
    path = pathlib.Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{str(path)!r} cannot be loaded: it is not a regular file")
    with open(path, "rb") as file:
        try:
            return _on_device(layout.decode(file), wanted)
        except ValueError as error:
            raise ValueError(f"{str(path)!r} cannot be loaded: {error}") from None


def _as_dtype(dtype: DTypeLike) -> Any:
    try:
        known = np.dtype(dtype) in (np.float32, np.float64)
    except (TypeError, ValueError, SyntaxError):  # of a text that spells a record badly
        known = False
    if not known:
        raise ValueError(f"dtype must be float32, float64 or None, not {dtype!r}")
    return np.dtype(dtype)


def _on_device(value: Any, dtype: DTypeLike | None) -> Any:
    """The value with JAX arrays, which keep every digit unless `dtype` asks for less."""
    wide = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]

    def convert(leaf: np.ndarray) -> np.ndarray:
        if leaf.dtype.kind == "f" and dtype is not None:
            with np.errstate(over="ignore", under="ignore"):
                leaf = leaf.astype(dtype)
        if leaf.dtype == np.int64 and not wide and np.all(np.abs(leaf) < 1 << 31):
            leaf = leaf.astype(np.int32)
        if leaf.dtype.itemsize == 8 and not wide:
            raise ValueError(
                f"it holds {leaf.dtype}, and JAX would round that: jax.config.update('jax_enable_x64', True) first, "
                "or round it on purpose with load(path, dtype='float32')"
            )
        return leaf

    is_enumerated = isinstance(value, FitResult) and value.status.dtype == np.int64 and value.status.ndim == 0
    converted = jax.tree.map(convert, value)
    layout.check_values(converted)
    converted = jax.tree.map(jnp.asarray, converted)
    # `fit` gives a `Status`, `run` an int32 that may be traced.
    return converted._replace(status=Status(int(value.status))) if is_enumerated else converted
