"""Inverses, factors and the divergence of two scales, with their derivatives, against NumPy and differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.numerics import stacks as module
from jaxgmm.numerics.factors import cholesky, eigenvalues, inverse_lower, lower_factor, nearest_rotation
from jaxgmm.numerics.linalg import conjugate_gradients, excess
from tests import cases


def factors(n_rows, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    lower = np.tril(rng.normal(size=(2, n_rows, n_rows))) / np.sqrt(n_rows)
    lower[:, np.arange(n_rows), np.arange(n_rows)] = rng.uniform(1, 2, size=(2, n_rows))
    return jnp.asarray(lower, dtype), jnp.asarray(rng.normal(size=lower.shape), dtype)


@pytest.mark.parametrize("n_rows", [1, 3, 17])
def test_derivatives_of_inverses_and_factors(n_rows, dtype):
    lower, change = factors(n_rows, dtype)
    wide, wide_change = (jnp.concatenate(pair, axis=-1) for pair in ((lower, change), (change, lower)))
    tol = dict(rtol=0, atol=1e3 * cases.tolerance(dtype))
    for function, at, along in ((inverse_lower, lower, change), (lower_factor, wide, wide_change)):
        value, tangent = jax.jit(lambda at, along, f=function: jax.jvp(f, (at,), (along,)))(at, along)
        x, dx = np.asarray(at, np.float64), np.asarray(along, np.float64)
        if function is inverse_lower:
            expected = np.linalg.inv(x)
            slope = -expected @ np.tril(dx) @ expected
        else:
            expected, square = np.linalg.cholesky(x @ x.mT), dx @ x.mT + x @ dx.mT
            # The derivative by its definition: lower triangular, with dL Lᵀ + L dLᵀ = d(R Rᵀ).
            np.testing.assert_allclose(tangent @ value.mT + value @ tangent.mT, square, **tol)
            slope = np.tril(tangent)
        np.testing.assert_allclose(value, expected, **tol)
        np.testing.assert_allclose(tangent, slope, **tol)


@pytest.mark.parametrize("n_rows", [1, 3, 17, 101])
def test_derivatives_of_cholesky_factors(n_rows, dtype):
    lower, change = factors(n_rows, dtype)
    matrices, change = lower @ lower.mT, change + change.mT
    value, tangent = jax.jit(lambda at, along: jax.jvp(cholesky, (at,), (along,)))(matrices, change)
    tol = dict(rtol=0, atol=1e3 * cases.tolerance(dtype))
    np.testing.assert_allclose(value, lower, **tol)
    np.testing.assert_array_equal(tangent, np.tril(tangent))
    np.testing.assert_allclose(tangent @ value.mT + value @ tangent.mT, change, **tol)
    assert np.isnan(cholesky(-matrices)).any(axis=(-2, -1)).all()


@pytest.mark.exhaustive
@pytest.mark.parametrize("most", [1 << 24, 8**3 * 5, 1])
def test_stacks_are_the_same_a_few_at_a_time(most, monkeypatch, dtype):
    monkeypatch.setattr(module, "_MOST_AT_ONCE", most)
    jax.clear_caches()
    rng = np.random.default_rng(0)
    squares = rng.normal(size=(4, 3, 4, 4)).astype(dtype)
    positive = squares @ np.swapaxes(squares, -2, -1) + np.eye(4, dtype=dtype)
    lower = np.linalg.cholesky(positive)
    expected = {
        cholesky: (positive, lower),
        inverse_lower: (lower, np.linalg.inv(lower)),
        eigenvalues: (positive, np.linalg.eigvalsh(positive)),
        nearest_rotation: (squares, (lambda u, _, v: u @ v)(*np.linalg.svd(squares))),
    }
    tol = dict(rtol=0, atol=100 * cases.tolerance(dtype))
    for function, (given, wanted) in expected.items():
        np.testing.assert_allclose(jax.jit(function)(given), wanted, **tol)
        np.testing.assert_allclose(jax.jit(jax.vmap(function))(given), wanted, **tol)
        np.testing.assert_allclose(jax.vmap(jax.vmap(function), 1, 1)(given), wanted, **tol)
        assert ("scan" in str(jax.make_jaxpr(jax.vmap(function))(given))) == (most < 1 << 24)
    jax.clear_caches()


def test_what_is_held_fixed_has_no_derivative():
    matrices = jnp.eye(3)[None] * 2
    for function in (eigenvalues, nearest_rotation):
        np.testing.assert_array_equal(jax.grad(lambda at, f=function: jnp.sum(f(at) ** 2))(matrices), 0.0)


@pytest.mark.needs_x64
@pytest.mark.parametrize(
    "function", [inverse_lower, lower_factor, lambda a: cholesky(a @ a.mT)], ids=lambda f: f.__name__
)
def test_second_derivatives_agree_with_differences(function):
    lower, change = factors(3)
    at = lower if function is inverse_lower else jnp.concatenate([lower, change], axis=-1)
    along, step = jnp.cos(jnp.arange(at.size, dtype=at.dtype)).reshape(at.shape), 1e-5
    gradient = jax.jit(jax.grad(lambda at: jnp.sum(jnp.sin(function(at)) * change)))
    bend = jax.jit(lambda at: jax.jvp(gradient, (at,), (along,))[1])(at)
    expected = (gradient(at + step * along) - gradient(at - step * along)) / (2 * step)
    np.testing.assert_allclose(bend, expected, rtol=1e-7, atol=1e-8)
    stack = jnp.stack([at, 2 * at])
    np.testing.assert_allclose(jax.vmap(gradient)(stack), [gradient(one) for one in stack], rtol=1e-12, atol=1e-14)


def test_derivatives_take_no_second_solve():
    # Several of LAPACK's batched solves at once can stall jaxlib 0.10.2.
    lower, _ = factors(3, np.float32)
    written = str(jax.make_jaxpr(jax.grad(lambda at: jnp.sum(inverse_lower(at))))(lower))
    assert written.count("triangular_solve[") == 1


def test_the_divergence_of_two_scales_keeps_its_digits(dtype):
    eps = np.finfo(dtype).eps
    ratio = np.array([1e-30, 1e-8, 1e-3, 0.5, 1 - 1e-3, 1, 1 + 1e-3, 1.5, 2, 1e3], dtype)
    t = ratio.astype(np.longdouble)
    expected, slope = (t**2 - 1) / 2 - np.log(t), t - 1 / t
    found, gradient = map(np.asarray, jax.vmap(jax.value_and_grad(excess))(ratio))
    # Near 1 by the series of t − 1, where the formula itself cancels.
    e = t - 1
    expected = np.where(np.abs(e) < 0.01, e**2 - e**3 / 3 + e**4 / 4 - e**5 / 5, expected)
    assert (np.abs(found - expected) <= 20 * eps * expected + 4 * eps * np.abs(e)).all()
    assert (np.abs(gradient - slope) <= 20 * eps * np.abs(slope) + 4 * eps).all()


def test_conjugate_gradients_solve_in_every_unit(dtype):
    lower, _ = factors(5, dtype)
    matrix = lower[0] @ lower[0].mT
    solve = jax.jit(lambda right: conjugate_gradients(lambda step: matrix @ step, right))
    right = jnp.arange(1, 6, dtype=dtype)
    expected = np.linalg.solve(np.asarray(matrix, np.float64), right)
    for unit in np.array([1, 1e-25, 1e25] if dtype == np.float32 else [1, 1e-200, 1e200], dtype):
        np.testing.assert_allclose(solve(unit * right)[0] / unit, expected, rtol=1e4 * cases.tolerance(dtype, 13))
    solution, n_products = solve(jnp.zeros_like(right))
    assert (solution == 0).all() and n_products == 0
    assert np.isnan(solve(right.at[2].set(jnp.nan))[0]).all()
