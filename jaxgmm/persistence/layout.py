"""The layout of files, described in `persistence`: values as members of an archive, and back with every check."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxgmm.fitting.results import FAILED, FitResult, Restarts, Status
from jaxgmm.host.arrays import Names
from jaxgmm.model.families.table import FAMILIES
from jaxgmm.model.mixture import Mixture
from jaxgmm.persistence import archive

VERSION = 1
"""The version of the layout. Files of earlier versions stay readable."""

_HEADER, _MOST_HEADER = "header.json", 1 << 20
_DTYPES = ("<f4", "<f8", "<i4", "<i8")


def encode(value: Any) -> dict[str, bytes]:
    """Members of the archive, by name, of a mixture or a fit in NumPy arrays.

    Raises:
        ValueError: if it could not be read back.
    """
    family = _mixture_of(value).family
    if FAMILIES.get(family.name) != family:
        raise ValueError(f"the family {family.name!r} is not in jaxgmm.FAMILIES, and could not be read back")
    for leaf, array in named(value).items():
        if f"<{array.dtype.kind}{array.dtype.itemsize}" not in _DTYPES:
            raise ValueError(f"{leaf} has dtype {array.dtype}: mixtures of float32 or float64 can be saved")
    value = jax.tree.map(lambda array: array.astype(array.dtype.newbyteorder("<"), order="C"), value)
    header = _header(value)
    if _header(_skeleton(json.loads(header))) != header:
        raise ValueError("the parts of value have shapes that do not belong together")
    check_values(value)
    members = {_HEADER: header}
    for leaf, array in named(value).items():
        members[f"{leaf}.npy"] = _prefix(array) + array.tobytes()
    if len(header) > _MOST_HEADER:
        raise ValueError(f"feature_names take {len(header)} bytes, and there is room for {_MOST_HEADER}")
    if archive.total_size({name: len(content) for name, content in members.items()}) > archive.MOST_BYTES:
        raise ValueError("the file would have 4 GiB or more: save its arrays with numpy.save")
    return members


def decode(file: BinaryIO) -> Any:
    """The mixture or fit that a file holds, in NumPy arrays.

    Raises:
        ValueError: if any byte around the numbers is not what `encode` gives.
    """
    raw = bytes(archive.read_first(file, _HEADER, _MOST_HEADER))
    skeleton = _skeleton(_parsed(raw))
    if _header(skeleton) != raw:
        raise ValueError("its header is not written as `save` writes it")
    wanted = {f"{leaf}.npy": array for leaf, array in named(skeleton).items()}
    sizes = {name: len(_prefix(array)) + array.size * array.dtype.itemsize for name, array in wanted.items()}
    contents = archive.read(file, {_HEADER: len(raw), **sizes})
    arrays = []
    for name, array in wanted.items():
        prefix = _prefix(array)
        if not contents[name].startswith(prefix):
            raise ValueError(f"member {name!r} is not the {array.dtype} of shape {array.shape} that its header says")
        arrays.append(np.ndarray(array.shape, array.dtype, buffer=contents[name], offset=len(prefix)))
    return jax.tree.unflatten(jax.tree.structure(skeleton), arrays)


def check_values(value: Any) -> None:
    """Raise unless all mixtures are valid; those of a fit whose status says that it failed may hold anything.

    Raises:
        ValueError: the message names the component, and what is wrong with it.
    """
    mixture: Any = _mixture_of(value)
    sound: Any = np.ones((), bool)
    if isinstance(value, FitResult):
        for status in (value.status,) if value.restarts is None else (value.status, value.restarts.status):
            if not np.isin(status, list(Status)).all():
                raise ValueError(f"a status must be one of 0 to {max(Status)}")
        sound = ~np.isin(value.status, FAILED)
        for name, number in (("log_likelihood", value.log_likelihood), ("objective", value.objective)):
            if not np.isfinite(number[sound]).all():
                raise ValueError(f"{name} is not finite, though the status is not NONFINITE")
    covs, eps = mixture.covs, float(np.finfo(mixture.means.dtype).eps)

    def refuse(bad: Any, what: str) -> None:
        """Raise if any entry, with axes (..., K) and more, is bad."""
        bad = bad.reshape(*mixture.means.shape[:-2], bad.shape[mixture.means.ndim - 2], -1).any(axis=-1)
        bad = bad & sound[..., None]
        if bad.any():
            raise ValueError(f"component {np.argwhere(bad)[0][-1]} has {what}: that is no mixture")

    with np.errstate(all="ignore"):
        refuse(~(mixture.log_weights <= 0.01), "a log-weight that is NaN or above 0")
        totals = np.sum(np.exp(mixture.log_weights.astype(np.float64)), axis=-1)
        off = np.abs(totals - 1) > 100 * eps * mixture.n_components + 1e-6
        if (off & sound).any():
            raise ValueError(f"weights must sum to 1, not {totals[off & sound].flat[0]:.9g}")
        refuse(~np.isfinite(mixture.means), "a mean that is not finite")
        for factor in jax.tree.leaves(covs):
            refuse(~np.isfinite(factor), "a covariance that is not finite")
        dense = covs.mixes
        scales = np.diagonal(covs.cholesky, axis1=-2, axis2=-1) if dense else covs.deviations()
        refuse(~(scales > 0), "a covariance that is not positive definite")
        if dense:
            refuse(np.triu(covs.cholesky, 1) != 0, "a Cholesky factor with numbers above its diagonal")


def _mixture_of(value: Any) -> Mixture:
    return value.mixture if isinstance(value, FitResult) else value


def named(value: Any) -> dict[str, Any]:
    """The leaves of a value by their paths, in the order of the pytree."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(value)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _header(value: Any) -> bytes:
    """The header of a value, or of its skeleton."""
    is_result = isinstance(value, FitResult)
    names = value.feature_names if is_result else None
    header = {
        "format": "jaxgmm",
        "version": VERSION,
        "kind": "result" if is_result else "mixture",
        "covariance_type": _mixture_of(value).family.name,
        "feature_names": None if names is None else list(names),
        "arrays": {leaf: [array.dtype.str, list(array.shape)] for leaf, array in named(value).items()},
    }
    return json.dumps(header).encode()


def _parsed(raw: bytes) -> dict[str, Any]:
    """The entries of a header, if it is of a version that can be read."""
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        raise ValueError("its header is not JSON") from None
    if not isinstance(header, dict) or header.get("format") != "jaxgmm":
        raise ValueError("its header does not say that jaxgmm wrote it")
    version = header.get("version")
    if version != VERSION:
        found = version if isinstance(version, int) else "unknown"
        raise ValueError(f"its layout is version {found}, and this jaxgmm reads version {VERSION}")
    return header


def _skeleton(header: dict[str, Any]) -> Any:
    """The value that a header describes, with a dtype and a shape in place of each array.

    Raises:
        ValueError: if an array is missing or superfluous, or does not suit the family and the sizes.
    """
    kind, arrays = header.get("kind"), header.get("arrays")
    if kind not in ("mixture", "result") or not isinstance(arrays, dict):
        raise ValueError("its header describes neither a mixture nor a result")
    family = FAMILIES.get(str(header.get("covariance_type")))
    if family is None:
        raise ValueError(f"its covariance_type is not one of {', '.join(FAMILIES)}")
    found = {leaf: _described(leaf, entry) for leaf, entry in arrays.items()}
    means = found.get("means" if kind == "mixture" else "mixture.means")
    if means is None or means.dtype.kind != "f" or means.ndim < 2 or 0 in means.shape:
        raise ValueError("its header describes no means (K, D)")
    *stack, n_components, n_features = means.shape

    def like(*shape: int, dtype: DTypeLike = means.dtype) -> Any:
        return jax.ShapeDtypeStruct((*stack, *shape), dtype)

    plain = jax.ShapeDtypeStruct(family.shape(n_components, n_features), jnp.float32)
    covs = jax.tree.map(
        lambda factor: like(*factor.shape),
        jax.eval_shape(functools.partial(family.from_array, n_features=n_features), plain),
    )
    skeleton: Any = Mixture(like(n_components), like(n_components, n_features), covs, family)
    if kind == "result":
        skeleton = _result_skeleton(skeleton, found, like, header.get("feature_names"))
    wanted = named(skeleton)
    if list(wanted) != list(found):
        raise ValueError(f"the arrays are {', '.join(found)[:300]}, and must be {', '.join(wanted)}")
    for leaf, array in wanted.items():
        if (found[leaf].dtype, found[leaf].shape) != (array.dtype, array.shape):
            seen = f"{found[leaf].dtype} of shape {found[leaf].shape}"
            raise ValueError(f"{leaf} is {seen}, and must be {array.dtype} of shape {array.shape}")
    return skeleton


def _result_skeleton(mixture: Any, found: dict[str, Any], like: Callable[..., Any], names: Any) -> FitResult:
    """A fit around the skeleton of its mixture; whole numbers may have 4 bytes or 8."""

    def count(leaf: str, *shape: int) -> Any:
        dtype = found[leaf].dtype if leaf in found else np.dtype(np.int32)
        return like(*shape, dtype=dtype if dtype.kind == "i" else np.int32)

    def length(leaf: str) -> int:
        return found[leaf].shape[-1] if leaf in found and found[leaf].shape else 0

    restarts = None
    if "restarts.objective" in found:
        n = length("restarts.objective")
        restarts = Restarts(like(n), count("restarts.status", n), count("restarts.n_iter", n))
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError("feature_names must be strings")
    if names is not None and len(names) != mixture.means.shape[-1]:
        raise ValueError(f"there are {len(names)} feature_names for {mixture.means.shape[-1]} columns")
    return FitResult(
        mixture=mixture,
        log_likelihood=like(),
        objective=like(),
        n_iter=count("n_iter"),
        n_passes=count("n_passes"),
        status=count("status"),
        history=like(length("history")),
        restarts=restarts,
        feature_names=None if names is None else Names(names),
    )


def _described(leaf: str, entry: Any) -> Any:
    """The dtype and shape of an array, from its entry in the header."""
    dtype, shape = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
    if dtype not in _DTYPES or not isinstance(shape, list) or len(shape) > 32:
        raise ValueError(f"its header does not give {leaf[:100]!r} one of the dtypes {', '.join(_DTYPES)} and a shape")
    if not all(type(size) is int and 0 <= size < 1 << 31 for size in shape):
        raise ValueError(f"its header gives {leaf[:100]!r} an impossible shape")
    return jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))


def _prefix(array: Any) -> bytes:
    """The bytes before the numbers in a file of NumPy's format 1.0, a multiple of 64."""
    described = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}, }}"
    size = -(-(10 + len(described) + 1) // 64) * 64
    text = described.ljust(size - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
