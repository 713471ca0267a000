"""Schur complements of stacks of small matrices, entry by entry and by factors."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.numerics import schur
from tests.cases import tolerance


def given(n_rows, dtype, lead=(2, 3)):
    """Positive definite A, v, B and C with axes (2, 3) last, C of one matrix for all."""
    generator = np.random.default_rng(n_rows)
    roots = generator.normal(size=(n_rows, 2 * n_rows, *lead))
    matrices = np.einsum("ia...,ja...->ij...", roots, roots)
    vectors, rows = generator.normal(size=(n_rows, *lead)), generator.normal(size=(n_rows, 4, *lead))
    corner = generator.normal(size=(4, 4, 1, 1))
    return tuple(np.asarray(a, dtype) for a in (matrices, vectors, rows, corner + corner.swapaxes(0, 1)))


def test_both_ways_are_those_of_numpy_with_derivatives(dtype):
    rtol = 1e3 * tolerance(dtype)
    for n_rows, ways in {3: (schur._entry_by_entry, schur._by_factors), 7: (schur.eliminated,)}.items():
        arguments = given(n_rows, dtype)
        matrices, vectors, rows, corner = (np.moveaxis(a, (-2, -1), (0, 1)).astype(np.float64) for a in arguments)
        solved = np.linalg.solve(matrices, rows)
        expected = {
            "square": np.einsum("abi,abi->ab", vectors, np.linalg.solve(matrices, vectors[..., None])[..., 0]),
            "log_scale": np.linalg.slogdet(matrices)[1] / 2,
            "shift": np.einsum("abi,abim->mab", vectors, solved),
            "corner": np.moveaxis(corner - np.einsum("abim,abin->abmn", rows, solved), (0, 1), (-2, -1)),
        }
        slopes = []
        for way in ways:

            def told(*arguments, way=way):
                left = way(*arguments)
                return {"square": jnp.sum(left.whitened**2, axis=0)} | {name: getattr(left, name) for name in _TOLD}

            found, back = jax.jit(lambda *a, told=told: jax.vjp(told, *a))(*arguments)
            for name, value in expected.items():
                np.testing.assert_allclose(found[name], value, rtol=rtol, atol=rtol, err_msg=name)
            slopes.append(back(jax.tree.map(jnp.ones_like, found)))
        for one, other in zip(*[slopes[0], slopes[-1]], strict=True):
            # Of a symmetric matrix one way reads half, the other both halves.
            same = one.shape[0] == one.shape[1]
            one, other = ((a + jnp.swapaxes(a, 0, 1)) / 2 if same else a for a in (one, other))
            np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)


_TOLD = ("log_scale", "shift", "corner")
