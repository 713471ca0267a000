"""Stacks of mixtures or of fits, and their parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.host.checks import named
from jaxgmm.model.checks import check_mixtures
from jaxgmm.model.fitted import as_mixtures, is_fit
from jaxgmm.model.mixture import Mixture


def stack(mixtures: Iterable[Any]) -> Any:
    """The mixtures, or fits, as one stack, whose arrays have a leading axis; functions take it under `jax.vmap`.

    Args:
        mixtures: of as many components and columns, of one family; or fits, by as many starts and of one `max_iter`.

    Raises:
        TypeError: if they are neither, or some of each.
        ValueError: if there are none, or their shapes, families or names of columns differ.

    Example:
        >>> one, other = (jaxgmm.make_mixture([1.0], [[mean]], [[[1.0]]]) for mean in (0.0, 4.0))
        >>> both = jaxgmm.stack([one, other])
        >>> jax.vmap(jaxgmm.log_prob, (0, None))(both, jnp.zeros((5, 1))).shape
        (2, 5)
    """
    if not isinstance(mixtures, Iterable):
        raise TypeError(f"mixtures must be a list of mixtures or fits, not {named(mixtures)}")
    parts: list[Any] = list(mixtures)
    if not parts:
        raise ValueError("mixtures is empty: there is nothing to stack")
    kinds = {type(part) for part in parts}
    for place, part in enumerate(parts):
        taken = part.mixture if is_fit(part) and not _is_leaf(part) else part
        check_mixtures(taken, f"mixtures[{place}]")
    if len(kinds) > 1:
        raise TypeError(f"mixtures must be of one type, not {' and '.join(sorted(kind.__name__ for kind in kinds))}")
    first = _described(parts[0])
    for place, part in enumerate(parts):
        if _described(part) != first:
            raise ValueError(
                f"mixtures[{place}] cannot be stacked with mixtures[0]: components, columns, families and dtypes must "
                f"be the same, and of fits names, starts and max_iter; {part!r} and {parts[0]!r}"
            )
    # A status is an integer of Python's.
    return jax.tree.map(
        lambda *leaves: jnp.stack([np.int32(leaf) if isinstance(leaf, int) else leaf for leaf in leaves]), *parts
    )


def unstack(stacked: Any) -> list[Any]:
    """The mixtures, or fits, of a stack, along its first axis.

    Raises:
        TypeError: if it is neither.
        ValueError: if it is not a stack.

    Example:
        >>> one, other = (jaxgmm.make_mixture([1.0], [[mean]], [[[1.0]]]) for mean in (0.0, 4.0))
        >>> [float(mixture.means[0, 0]) for mixture in jaxgmm.unstack(jaxgmm.stack([one, other]))]
        [0.0, 4.0]
    """
    mixture: Mixture = as_mixtures(stacked, "stacked")
    if mixture.means.ndim < 3:
        raise ValueError(f"stacked is one {type(stacked).__name__}, not a stack: {stacked!r}")
    return [jax.tree.map(lambda leaf, at=place: leaf[at], stacked) for place in range(mixture.means.shape[0])]


def _is_leaf(part: Any) -> bool:
    """Whether a value is no pytree of arrays."""
    return jax.tree_util.treedef_is_leaf(jax.tree.structure(part))


def _described(part: Any) -> tuple[Any, ...]:
    """What parts of a stack have in common: structure, shapes and dtypes."""
    leaves, structure = jax.tree.flatten(part)
    return structure, [(np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]
