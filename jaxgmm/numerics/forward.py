"""An identity with a derivative in forward mode only, whose error in reverse mode names the remedy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_tangent_p = Primitive("jaxgmm_forward_only")
"""The identity on tangents, a primitive without a transpose rule."""

_tangent_p.def_impl(lambda tangent: tangent)
_tangent_p.def_abstract_eval(lambda tangent: tangent)
mlir.register_lowering(_tangent_p, lambda _, tangent: [tangent])
batching.defvectorized(_tangent_p)


def _refuse(*_: Any) -> Any:
    raise TypeError(
        "jaxgmm.run has a derivative forward only (jax.jvp, jax.jacfwd), not in reverse: for jax.grad, jax.vjp and "
        "jax.jacrev take jaxgmm.solution, the fitted mixture as a function of rows, weights and the prior's strength"
    )


ad.deflinear2(_tangent_p, _refuse)


@jax.custom_jvp
def forward_only(tree: Any) -> Any:
    """The tree itself; its derivative in reverse mode is a TypeError that names `jaxgmm.solution`."""
    return tree


@forward_only.defjvp
def _tangents(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    return primals[0], jax.tree.map(_marked, primals[0], tangents[0])


def _marked(primal: Any, tangent: Any) -> Any:
    return _tangent_p.bind(tangent) if jnp.issubdtype(jnp.result_type(primal), jnp.inexact) else tangent
