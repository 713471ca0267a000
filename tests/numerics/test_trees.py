"""Dataclasses as pytrees: jit tells them apart, which JAX's own registration does not do in every process."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import pytest

import jaxgmm
from jaxgmm.data.rows import ResidualRows
from jaxgmm.numerics.trees import register_dataclass


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Base:
    x: jax.Array
    power: int = dataclasses.field(default=1, metadata={"static": True})


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Derived(Base):
    pass


def test_structures_of_two_classes_differ():
    base, derived = Base(1.0), Derived(1.0)
    assert jax.tree.structure(base) != jax.tree.structure(derived) != jax.tree.structure(Derived(1.0, 2))
    assert jax.tree.structure(base) == jax.tree.structure(Base(2.0))
    assert jax.tree.structure([Base(jaxgmm.Rows(1, 2))]) != jax.tree.structure([Base(ResidualRows(1, 2))])
    jax.tree.map(lambda a, b: None, base, Base(2.0))
    with pytest.raises(ValueError, match="Derived"):
        jax.tree.map(lambda a, b: None, base, derived)


def test_leaves_have_names_and_static_fields_none():
    tree = Derived(jnp.arange(3.0), power=2)
    assert [str(path[0]) for path, _ in jax.tree_util.tree_leaves_with_path(tree)] == [".x"]
    doubled = jax.jit(lambda tree: jax.tree.map(lambda leaf: tree.power * leaf, tree))(tree)
    assert type(doubled) is Derived and doubled.power == 2 and doubled.x[2] == 4


def test_the_library_registers_no_dataclass_by_jax_itself():
    sources = pathlib.Path(jaxgmm.__file__).parent.rglob("*.py")
    assert not [path for path in sources if "@jax.tree_util.register_dataclass" in path.read_text()]
