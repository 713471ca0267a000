"""Dataclasses as pytrees, and pytrees that leave a compiled program without the arrays that came into it."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def register_dataclass(cls: type[T]) -> type[T]:
    """The dataclass itself, registered as a pytree; fields with `metadata={"static": True}` are no leaves.

    Take it for `jax.tree_util.register_dataclass`, whose structures of two classes are equal where their static values
    are (jax 0.10 to 0.12). With those `jax.jit` answers for one class with the program of the other in every process
    where the structures' hashes, which are addresses, fall together: of 45 processes it was seen in two.

    Example:
        >>> @jaxgmm.numerics.trees.register_dataclass
        ... @dataclasses.dataclass(frozen=True)
        ... class Shifted:
        ...     rows: jax.Array
        ...     shift: float = dataclasses.field(default=0.0, metadata={"static": True})
        >>> len(jax.tree.leaves(Shifted(jnp.ones(3), shift=2.0)))
        1
    """
    fields = [field for field in dataclasses.fields(cls) if field.init]  # pyright: ignore[reportArgumentType]
    static = tuple(field.name for field in fields if field.metadata.get("static"))
    leaves = tuple(field.name for field in fields if not field.metadata.get("static"))
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in leaves)

    def flatten(node: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(node, name) for name in leaves), tuple(getattr(node, name) for name in static)

    def flatten_with_keys(node: T) -> tuple[tuple[tuple[Any, Any], ...], tuple[Any, ...]]:
        children, held = flatten(node)
        return tuple(zip(keys, children, strict=True)), held

    def unflatten(held: tuple[Any, ...], children: Any) -> T:
        return cls(**dict(zip(leaves, children, strict=True)), **dict(zip(static, held, strict=True)))

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


@register_dataclass
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
