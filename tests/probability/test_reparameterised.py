import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import log_ndtr, logsumexp

import jaxgmm
from jaxgmm.probability.reparameterised import reparameterise, sample_reparameterised
from tests import cases, reference
from tests.cases import FAMILIES


def held(mixture):
    """Leaves in NumPy, and the way back."""
    leaves, structure = jax.tree.flatten(mixture)
    return [np.asarray(leaf, np.float64) for leaf in leaves], lambda new: jax.tree.unflatten(structure, new)


def dense(factors, n_components, n_features):
    covariances = factors @ np.swapaxes(factors, 1, 2) if factors.ndim == 3 else None
    if covariances is None:
        covariances = np.broadcast_to(factors**2, (len(factors), n_features))[:, :, None] * np.eye(n_features)
    return np.broadcast_to(covariances, (n_components, n_features, n_features))


def conditional(leaves, row, d):
    """Log-weights, means and deviations of column d given those before it, by Schur complements."""
    log_weights, means, factors = leaves
    covariances = dense(factors, *means.shape)
    log_w, mean, deviation = log_weights.copy(), means[:, d].copy(), np.empty(len(means))
    for k, covariance in enumerate(covariances):
        known, cross = covariance[:d, :d], covariance[d, :d]
        if d:
            log_w[k] += reference.log_normal(row[:d], means[k, :d], known)
        slope = np.linalg.solve(known, cross)
        mean[k] += slope @ (row[:d] - means[k, :d])
        deviation[k] = np.sqrt(covariance[d, d] - slope @ cross)
    return log_w - logsumexp(log_w), mean, deviation


def log_sides(given, value):
    """log F and log (1 − F) of a column at a value."""
    log_w, mean, deviation = given
    y = (value - mean) / deviation
    return np.array([logsumexp(log_w + log_ndtr(y)), logsumexp(log_w + log_ndtr(-y))])


def moved(before, after, row):
    """The row with the same conditional CDFs in another mixture, column by column."""
    out = row.copy()
    for d in range(len(row)):
        sides = log_sides(conditional(before, row, d), row[d])
        side, given = int(np.argmin(sides)), conditional(after, out, d)

        def gap(value, given=given, side=side, target=sides[side]):
            return log_sides(given, value)[side] - target

        out[d] = brentq(gap, row[d] - 1, row[d] + 1, xtol=1e-15)
    return out


def differences(leaves, row, function=lambda leaves, row: row, step=1e-5):
    """Central differences of a function of leaves and row, where the row moves with the leaves."""
    out = []
    for i, leaf in enumerate(leaves):
        free = np.ones(leaf.shape) if leaf.ndim < 3 else np.tril(np.ones(leaf.shape))
        for index in zip(*np.nonzero(free), strict=True):
            ends = []
            for sign in (1, -1):
                changed = [other.copy() for other in leaves]
                changed[i][index] += sign * step
                ends.append(function(changed, moved(leaves, changed, row)))
            out.append((ends[0] - ends[1]) / (2 * step))
    return np.stack(out, axis=-1)


def free(tree, lead):
    """Leaves with leading shape `lead`, less what lies above a diagonal, side by side."""
    flat = []
    for leaf in jax.tree.leaves(tree):
        leaf = np.asarray(leaf, np.float64)
        if leaf.ndim - lead == 3:
            leaf = leaf[..., np.tril(np.ones(leaf.shape[-2:])) > 0]
        flat.append(leaf.reshape(*leaf.shape[:lead], -1))
    return np.concatenate(flat, axis=-1)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_those_of_sample(family, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    x = sample_reparameterised(jax.random.key(5), mixture, 300)
    assert x.dtype == dtype
    np.testing.assert_array_equal(x, jaxgmm.sample(jax.random.key(5), mixture, 300)[0])
    np.testing.assert_array_equal(reparameterise(mixture, x), x)


@pytest.mark.parametrize("family", ["full", "diag", "spherical"])
def test_one_component_moves_as_mean_plus_factor_times_noise(family, dtype):
    mixture, _ = cases.mixture(family, n_components=1, dtype=dtype)
    rng = np.random.default_rng(0)
    change = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape).astype(dtype)), mixture)
    x = jaxgmm.sample(jax.random.key(0), mixture, 50)[0]
    big = 1e20 if dtype == np.float32 else 1e200
    x = jnp.concatenate([x, 1e3 * x, np.array(big, dtype) * jnp.sign(x)])
    _, tangent = jax.jvp(lambda m: reparameterise(m, x), (mixture,), (change,))
    (_, mean, factor), (_, mean_change, factor_change) = held(mixture)[0], held(change)[0]
    if factor.ndim == 3:
        noise = (np.asarray(x, np.float64) - mean) @ np.linalg.inv(factor[0]).T
        expected = mean_change + noise @ np.tril(factor_change[0]).T
    else:
        expected = mean_change + (np.asarray(x, np.float64) - mean) / factor * factor_change
    scale = np.abs(expected).max(axis=1, keepdims=True)
    np.testing.assert_allclose(tangent / scale, expected / scale, atol=100 * cases.tolerance(dtype))


@pytest.mark.needs_x64
@pytest.mark.parametrize(
    "family, n_features", [*((family, 3) for family in FAMILIES), ("full", 1), ("tied", 2), ("spherical", 1)]
)
def test_derivative_is_that_of_the_inverted_conditional_cdfs(family, n_features):
    mixture, _ = cases.mixture(family, n_features=n_features)
    leaves, _ = held(mixture)
    x = np.concatenate([cases.rows(2, n_features)[0], np.full((1, n_features), 12.0)])
    jacobian = free(jax.jit(jax.jacfwd(reparameterise))(mixture, x), 2)
    for row, found in zip(x, jacobian, strict=True):
        expected = differences(leaves, row)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.exhaustive
@pytest.mark.needs_x64
def test_second_derivatives_let_the_row_move():
    mixture, _ = cases.mixture("full", n_components=2, n_features=2)
    leaves, rebuilt = held(mixture)
    row = cases.rows(1, 2)[0][0]
    flat, unravel = jax.flatten_util.ravel_pytree(mixture)

    def value(vector, row):
        return jnp.sum(jnp.sin(reparameterise(unravel(vector), row)) * jnp.array([1.0, 2.0]))

    gradient = jax.jit(jax.grad(value))

    def after(leaves, row):
        return np.asarray(gradient(jax.flatten_util.ravel_pytree(rebuilt(leaves))[0], row))

    expected = differences(leaves, row, after, step=1e-4)
    kept = free(unravel(jnp.arange(len(flat))), 0).astype(int)
    joint = jax.jit(jax.hessian(lambda both: value(both[:-2], both[-2:])))(jnp.concatenate([flat, row]))
    hessian = np.asarray(joint)
    np.testing.assert_allclose(hessian[:-2, kept], expected, rtol=1e-5, atol=1e-6)
    # In rows and mixture together, in either order.
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(hessian[-2:, -2:], np.diag(-np.sin(row) * np.array([1.0, 2.0])), atol=1e-12)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
def test_rows_flow_as_their_density_does():
    # The continuity equation, ∂p/∂θ + div(p dx/dθ) = 0, for every parameter: it holds row by row.
    mixture, _ = cases.mixture("full", n_features=2)
    flat, unravel = jax.flatten_util.ravel_pytree(mixture)
    x = jaxgmm.sample(jax.random.key(1), mixture, 200)[0]

    def log_prob(vector, row):
        whole = unravel(vector)
        weighed = jax.nn.log_softmax(whole.log_weights)
        return jaxgmm.log_prob(
            jax.tree.unflatten(jax.tree.structure(whole), [weighed, *jax.tree.leaves(whole)[1:]]), row
        )

    def left_over(row):
        velocity = jax.jacfwd(lambda vector, row: reparameterise(unravel(vector), row))
        along, slope = jax.grad(log_prob, (0, 1))(flat, row)
        divergence = jnp.trace(jax.jacfwd(velocity, 1)(flat, row), axis1=0, axis2=2)
        return along + slope @ velocity(flat, row) + divergence

    np.testing.assert_allclose(jax.jit(jax.vmap(left_over))(x), 0, atol=1e-10)


def functional(n_features, dtype):
    """f(x) = a·x + (b·x)(c·x), and its expectation from the mean and covariance of x.

    Without a matrix: `jit(vmap(f))` must not meet the compiler's trap (jax #39103).
    """
    a, b, c = jnp.asarray(np.random.default_rng(3).normal(size=(3, n_features)).astype(dtype))

    def of(row):
        return jnp.sum(a * row) + jnp.sum(b * row) * jnp.sum(c * row)

    def expected(mixture):
        mean, covariance = jaxgmm.total_moments(mixture)
        second = covariance + mean[:, None] * mean[None, :]
        return jnp.sum(a * mean) + jnp.sum(b[:, None] * second * c[None, :])

    return of, expected


def simplex(mixture):
    """The mixture with its log-weights normalised, as a function of those given."""
    weighed = jax.nn.log_softmax(mixture.log_weights)
    return jax.tree.unflatten(jax.tree.structure(mixture), [weighed, *jax.tree.leaves(mixture)[1:]])


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_expectations(family, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    n_rows = 40_000
    of, expected = functional(3, dtype)
    x = jaxgmm.sample(jax.random.key(2), mixture, n_rows)[0]
    truth = free(jax.grad(lambda m: expected(simplex(m)))(mixture), 0)

    def each(mixture, row):
        pathwise = jax.grad(lambda m: of(reparameterise(m, row)))(mixture)
        return pathwise, jax.grad(lambda m: of(row) * jaxgmm.log_prob(simplex(m), row))(mixture)

    pathwise, score = (free(found, 1) for found in jax.jit(jax.vmap(each, (None, 0)))(mixture, x))
    errors = [found.std(axis=0) / np.sqrt(n_rows) for found in (pathwise, score)]
    assert (np.abs(pathwise.mean(axis=0) - truth) < 4.5 * errors[0] + 1e-4).all()
    assert (np.abs(pathwise.mean(axis=0) - score.mean(axis=0)) < 4.5 * np.hypot(*errors)).all()
    # Means and factors gain; weights lose where components lie apart, as a row must cross the gap between them.
    assert (errors[0][3:] ** 2).sum() < 0.5 * (errors[1][3:] ** 2).sum()


@pytest.mark.parametrize("family", FAMILIES)
def test_far_rows_gaps_and_absent_components_have_finite_derivatives(family, dtype):
    big = 1e25 if dtype == np.float32 else 1e200
    shapes = {
        "full": np.array([[[1.0, 0.3], [0.3, 1.0]]] * 3),
        "tied": np.array([[1.0, 0.3], [0.3, 1.0]]),
        "diag": np.array([[1.0, 2.0], [0.5, 1.0], [1.0, 1.0]]),
        "spherical": np.array([1.0, 2.0, 0.5]),
    }
    weights, means = np.array([0.5, 0.5, 0.0], dtype), np.array([[-60.0, 0.0], [60.0, 1.0], [2.0, 2.0]], dtype)
    mixture = jaxgmm.make_mixture(weights, means, shapes[family].astype(dtype), covariance_type=family)
    x = [[0.0, 0.0], [-60.0, 0.0], [1.0, 9.0], [-90.0, 40.0], [1e3, -1e5], [big, big], [-big, 0.0], [0.0, big]]
    x = np.array(x, dtype)
    rows = jnp.concatenate([x, sample_reparameterised(jax.random.key(0), mixture, 100)])
    each = jax.jit(jax.vmap(jax.grad(lambda m, x: jnp.sum(reparameterise(m, x)), (0, 1)), (None, 0)))
    gradient, along = each(mixture, rows)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert (np.asarray(along) == 1).all()
    assert (np.asarray(gradient.log_weights)[:, 2] == 0).all() and (np.asarray(gradient.means)[:, 2] == 0).all()
    # Rows that one component must have given move with it alone.
    np.testing.assert_allclose(np.asarray(gradient.means)[[1, 8, 9], :2].sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("family", ["full", "diag"])
def test_rows_move_alike_in_every_unit(family, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    rng = np.random.default_rng(0)
    change = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), dtype), mixture)
    x = jaxgmm.sample(jax.random.key(0), mixture, 200)[0]

    @jax.jit
    def moved(unit):
        def scaled(tree):
            covs = jax.tree.map(lambda leaf: leaf * unit, tree.covs)
            return jaxgmm.Mixture(tree.log_weights, tree.means * unit, covs, tree.family)

        return jax.jvp(lambda m: reparameterise(m, x * unit), (scaled(mixture),), (scaled(change),))[1] / unit

    expected = moved(jnp.ones((), dtype))
    for unit in np.array([1e-15, 1e15] if dtype == np.float32 else [1e-150, 1e150], dtype):
        np.testing.assert_allclose(moved(unit), expected, atol=100 * cases.tolerance(dtype) * np.abs(expected).max())


@pytest.mark.needs_x64
def test_float32_keeps_its_digits_in_the_tails():
    wide, _ = cases.mixture("full")
    single, _ = cases.mixture("full", dtype=np.float32)
    x = np.asarray(jaxgmm.sample(jax.random.key(4), single, 500)[0])
    x = np.concatenate([x, 3 * x])
    jacobian = jax.jit(jax.jacfwd(reparameterise))
    jacobians = [free(jacobian(m, x.astype(m.means.dtype)), 2) for m in (wide, single)]
    scale = np.abs(jacobians[0]).max(axis=2, keepdims=True)
    np.testing.assert_allclose(jacobians[1] / scale, jacobians[0] / scale, atol=1e-4)


def test_jit_equals_eager_vmap_equals_a_loop_and_modes_agree(dtype):
    mixture, _ = cases.mixture("tied", dtype=dtype)
    other, _ = cases.mixture("tied", dtype=dtype, seed=5)
    x = jnp.asarray(cases.rows(6, dtype=dtype)[0])
    close = dict(rtol=1000 * cases.tolerance(dtype), atol=1000 * cases.tolerance(dtype))

    def gradient(mixture):
        return jax.vjp(lambda m: reparameterise(m, x), mixture)[1](x)[0]

    eager, compiled = gradient(mixture), jax.jit(gradient)
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), mixture, other)
    over_mixtures = jax.jit(jax.vmap(gradient))(stack)
    for r, single in enumerate((mixture, other)):
        one = jax.tree.map(lambda leaf, r=r: leaf[r], over_mixtures)
        chex.assert_trees_all_close(one, compiled(single), **close)
    chex.assert_trees_all_close(eager, compiled(mixture), **close)
    _, forward = jax.jvp(lambda m: reparameterise(m, x), (mixture,), (other,))
    products = jax.tree.map(lambda a, b: np.vdot(a, b), eager, other)
    np.testing.assert_allclose(np.vdot(forward, x), sum(jax.tree.leaves(products)), **close)


def test_vmap_over_keys(dtype):
    mixture, _ = cases.mixture("diag", dtype=dtype)
    keys = jax.random.split(jax.random.key(0), 2)
    stack = jax.vmap(lambda key: sample_reparameterised(key, mixture, 4))(keys)
    for key, rows in zip(keys, stack, strict=True):
        np.testing.assert_allclose(rows, sample_reparameterised(key, mixture, 4), rtol=1e-5)


@pytest.mark.exhaustive
def test_rows_in_chunks_add_up(dtype):
    mixture, _ = cases.mixture("full", dtype=dtype)
    key, n_rows = jax.random.key(3), 10_000
    x, labels = jaxgmm.sample(key, mixture, n_rows)

    def value(rows, weights):
        return jnp.sum(weights[:, None] * jnp.sin(rows))

    weights = labels.astype(dtype)
    drawn = jax.jit(jax.grad(lambda m: value(sample_reparameterised(key, m, n_rows), weights)))(mixture)
    part = jax.jit(jax.grad(lambda m, x, weights: value(reparameterise(m, x), weights)))
    parts = [part(mixture, x[i : i + 500], weights[i : i + 500]) for i in range(0, n_rows, 500)]
    found, expected = free(drawn, 0), sum(free(gradient, 0) for gradient in parts)
    np.testing.assert_allclose(found, expected, atol=10 * cases.tolerance(dtype) * np.abs(expected).max())


def test_memory_does_not_grow_with_components_times_columns(dtype):
    n_components, n_rows = 16, 1 << 20
    mixture, _ = cases.mixture("full", n_components=n_components, n_features=4, dtype=dtype)
    x = jax.ShapeDtypeStruct((n_rows, 4), dtype)
    compiled = jax.jit(jax.grad(lambda m, x: jnp.sum(reparameterise(m, x)))).lower(mixture, x).compile()
    # A few times the rows, where one array (N, K, D) would be 16 times.
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * x.size * np.dtype(dtype).itemsize


def test_dtypes_edges_and_wrong_arguments():
    mixture, _ = cases.mixture("full", dtype=np.float32)
    assert sample_reparameterised(jax.random.key(0), mixture, 0).shape == (0, 3)
    empty = jax.jit(jax.grad(lambda m: jnp.sum(sample_reparameterised(jax.random.key(0), m, 0))))(mixture)
    assert all((np.asarray(leaf) == 0).all() and leaf.dtype == np.float32 for leaf in jax.tree.leaves(empty))
    assert reparameterise(mixture, np.zeros((2, 2, 3), np.int32)).dtype == np.float32
    assert reparameterise(mixture, [0, 1, 2]).shape == (3,)
    with pytest.raises(ValueError, match="x has 2 columns .* the mixture has 3"):
        reparameterise(mixture, np.zeros((4, 2)))
    with pytest.raises(TypeError, match="key must be a typed key"):
        sample_reparameterised(0, mixture, 3)
    with pytest.raises(ValueError, match="n must be at least 0"):
        sample_reparameterised(jax.random.key(0), mixture, -1)
