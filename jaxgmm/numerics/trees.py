"""Pytrees that leave a compiled program without the arrays that came into it, which would be copied."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Place:
    """Where an array stood among a program's inputs."""

    index: int = dataclasses.field(metadata={"static": True})


def without_inputs(tree: Any, inputs: Any) -> Any:
    """The tree with a place instead of each of its arrays that is one of the inputs' arrays; see `with_inputs`."""
    places = {id(leaf): place for place, leaf in enumerate(jax.tree.leaves(inputs))}
    return jax.tree.map(lambda leaf: _Place(places[id(leaf)]) if id(leaf) in places else leaf, tree)


def with_inputs(tree: Any, inputs: Any) -> Any:
    """What `without_inputs` was given, from what it gave and the same inputs outside of the program."""
    leaves = jax.tree.leaves(inputs)
    return jax.tree.map(
        lambda leaf: leaves[leaf.index] if isinstance(leaf, _Place) else leaf,
        tree,
        is_leaf=lambda leaf: isinstance(leaf, _Place),
    )
