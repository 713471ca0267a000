"""Mixtures from every form of their parts, without loss; and their components in another order."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import component_order, log_prob, make_mixture, relabel
from tests import cases, reference
from tests.cases import FAMILIES

OF_WEIGHTS, OF_COVARIANCES = ("weights", "log_weights", "logits"), ("covariances", "scale_tril", "precisions")
POINT = np.array([0.3, -1.0, 0.7])


def parts(family, dtype):
    """The same mixture's weights and covariances in every form, and dense covariances (K, D, D) in float64."""
    _, (weights, means, covs) = cases.mixture(family, dtype=dtype)
    covs = covs.astype(np.float64)
    if covs.ndim > 1 and family != "diag":
        inverse = np.linalg.inv(covs)
        forms = covs, np.linalg.cholesky(covs), (inverse + np.swapaxes(inverse, -1, -2)) / 2
    else:
        forms = covs, np.sqrt(covs), 1 / covs
    logs = np.log(weights)
    arrays = dict(zip(OF_WEIGHTS + OF_COVARIANCES, (weights, logs, logs + dtype(3), *forms), strict=True))
    dense = reference.dense_covariances(family, covs, *means.shape)
    return {name: np.asarray(array, dtype) for name, array in arrays.items()}, means, dense


def twin(family, form, weights, means, value):
    """Log-density at `POINT` in NumPy, from any form of the covariances."""
    lower = np.tril(value) if value.ndim > 1 and family != "diag" else None
    covs = {
        "covariances": lambda: value,
        "scale_tril": lambda: value**2 if lower is None else lower @ np.swapaxes(lower, -1, -2),
        "precisions": lambda: 1 / value if lower is None else np.linalg.inv((value + np.swapaxes(value, -1, -2)) / 2),
    }[form]()
    dense = reference.dense_covariances(family, covs, *means.shape)
    return reference.log_prob(reference.log_joint(weights, means, dense, POINT[None]))[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_form_of_the_parts_is_the_same_mixture(family, dtype):
    arrays, means, dense = parts(family, dtype)
    rtol = 1e-11 if dtype == np.float64 else 2e-5

    @jax.jit
    def all_ways(arrays):
        def density(form, value, of_weights):
            given = {form: value, of_weights: arrays[of_weights]}
            return log_prob(make_mixture(means=means, covariance_type=family, **given), POINT.astype(dtype))

        found = {}
        for form, of_weights in zip(OF_COVARIANCES, OF_WEIGHTS, strict=True):
            both = jnp.stack([arrays[form], 4 * arrays[form]])
            value_and_slope = jax.value_and_grad(functools.partial(density, form, of_weights=of_weights))
            found[form] = jax.vmap(value_and_slope)(both)
        return found

    for form, (values, slopes) in all_ways(arrays).items():
        for scale, value, slope in zip((1, 4), values, slopes, strict=True):
            at = functools.partial(twin, family, form, arrays["weights"].astype(np.float64), means.astype(np.float64))
            given = scale * arrays[form].astype(np.float64)
            np.testing.assert_allclose(value, at(given), rtol=rtol, err_msg=form)
            expected = reference.finite_difference(at, given, 1e-5 * np.abs(given).max())
            np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=2e-4 * np.abs(expected).max(), err_msg=form)
    for of_weights, form in zip(OF_WEIGHTS, OF_COVARIANCES[::-1], strict=True):
        given = {name: arrays[name] for name in (of_weights, form)}
        mixture = make_mixture(means=means, covariance_type=family, **given)
        assert mixture.means.dtype == dtype and mixture.covariance_type == family
        np.testing.assert_allclose(mixture.weights, arrays["weights"], rtol=10 * rtol)
        np.testing.assert_allclose(mixture.covariances, dense, rtol=10 * rtol, atol=10 * rtol)


def test_nothing_is_lost_on_the_way_from_logits():
    def density(**given):
        means, ones = np.float32([[0], [20]]), np.ones(2, np.float32)
        return log_prob(make_mixture(means=means, covariances=ones, covariance_type="spherical", **given), means[1])

    logits = jnp.array([0, -110], jnp.float32)
    for name in ("logits", "log_weights"):
        for function in (jax.value_and_grad, lambda f: jax.jit(jax.value_and_grad(f))):
            value, slope = function(lambda at, name=name: density(**{name: at}))(logits)
            np.testing.assert_allclose(value, -110.91894, rtol=1e-6)
            np.testing.assert_allclose(slope, [-1, 1], atol=1e-6)
    masked = jax.grad(lambda at: density(logits=at))(jnp.array([-jnp.inf, 5], jnp.float32))
    np.testing.assert_array_equal(masked, [0, 0])


@pytest.mark.parametrize("function", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_nothing_is_lost_on_the_way_from_factors_and_precisions(function):
    """Neither covariance has a factor in float32, or one with half its digits."""
    mean = np.zeros((1, 2), np.float32)

    def at_mean(form, matrix):
        mixture = function(lambda m: make_mixture(np.ones(1, np.float32), mean, covariance_type="tied", **{form: m}))(
            np.float32(matrix)
        )
        return log_prob(mixture, mean[0]), mixture.covariances[0]

    value, _ = at_mean("scale_tril", [[1, 0], [1, 1e-4]])
    np.testing.assert_allclose(value, -np.log(2 * np.pi) - np.log(1e-4), rtol=1e-6)
    # Σ⁻¹ = L⁻ᵀ L⁻¹ with L = [[1, 0], [2048, 1]]: of determinant 1, which inverting it misses by a quarter.
    value, covariance = at_mean("precisions", [[1 + 2**22, -2048], [-2048, 1]])
    np.testing.assert_allclose(value, -np.log(2 * np.pi), rtol=1e-6)
    np.testing.assert_allclose(covariance, [[1, 2048], [2048, 2**22]], rtol=1e-6)


EYE = np.eye(2)
BAD = [
    ("full", dict(covariances=[[1, 0.5], [0, 1]]), "covariances must be symmetric, but component 1"),
    ("full", dict(covariances=[[1, 2], [2, 1]]), "covariances must be positive definite, but component 1"),
    (
        "full",
        dict(scale_tril=[[1, 0.5], [0, 1]]),
        "scale_tril must be lower triangular, but component 1 has 0.5 in row 0",
    ),
    (
        "full",
        dict(scale_tril=[[1, 0], [0.5, 0]]),
        "scale_tril must have a positive diagonal, but component 1 has 0.0 in",
    ),
    (
        "full",
        dict(scale_tril=[[-1, 0], [0.5, 1]]),
        "positive diagonal, but component 1 has -1.0 in row 0: exp or softplus",
    ),
    (
        "full",
        dict(scale_tril=[[1, 0], [np.inf, 1]]),
        "scale_tril must be finite, but component 1 holds NaN or infinity",
    ),
    ("full", dict(precisions=[[1, 0.5], [0, 1]]), "precisions must be symmetric, but component 1"),
    ("full", dict(precisions=[[1, 2], [2, 1]]), "precisions must be positive definite, but component 1"),
    ("tied", dict(precisions=[[1, 0], [0, np.nan]]), "precisions must be finite, but component 0"),
    ("tied", dict(scale_tril=[[1, 1e-3], [0, 1]]), "scale_tril must be lower triangular, but component 0"),
    ("diag", dict(covariances=[1, 0]), "covariances must be finite and positive, but component 1 has 0.0"),
    ("diag", dict(covariances=[1, np.inf]), "covariances must be finite and positive, but component 1 has inf"),
    ("diag", dict(scale_tril=[1, -1]), "scale_tril must be finite and positive, but component 1 has -1.0"),
    ("diag", dict(precisions=[1, 0]), "precisions must be finite and positive, but component 1 has 0.0"),
    ("spherical", dict(scale_tril=0), "scale_tril must be finite and positive, but component 1 has 0.0"),
    ("spherical", dict(precisions=np.nan), "precisions must be finite and positive, but component 1 has nan"),
    ("spherical", dict(weights=[0.5, 0.6]), "weights must sum to 1, not 1.1"),
    ("spherical", dict(weights=[1.5, -0.5]), "weights must be finite and at least 0, but component 1 has -0.5"),
    ("spherical", dict(log_weights=[0, 0]), "weights of log_weights must sum to 1, not 2: pass them as logits"),
    ("spherical", dict(log_weights=[0, np.nan]), "log_weights must be below infinity, but component 1 has nan"),
    ("spherical", dict(logits=[0, np.inf]), "logits must be below infinity, but component 1 has inf"),
    ("spherical", dict(logits=[-np.inf, -np.inf]), "logits must be above -inf for one component at least"),
]


@pytest.mark.parametrize(
    "family,given,message", BAD, ids=[f"{next(iter(given))} {i}" for i, (_, given, _) in enumerate(BAD)]
)
def test_bad_parts_are_refused_by_name_and_give_nan_under_a_trace(family, given, message):
    (name, value), sound = next(iter(given.items())), {"full": EYE, "diag": np.ones(2), "spherical": np.ones(())}
    if name in OF_COVARIANCES and family != "tied":
        value = np.stack([sound[family], np.asarray(value, float)])
    arrays = {name: np.asarray(value, np.float32)}
    if name in OF_COVARIANCES:
        arrays |= {"logits": np.zeros(2, np.float32)}
    else:
        arrays |= {"scale_tril": np.ones(2, np.float32)}

    def build(arrays):
        return make_mixture(means=np.zeros((2, 2), np.float32), covariance_type=family, **arrays)

    with pytest.raises(ValueError, match=message):
        build(arrays)
    assert np.isnan(log_prob(jax.jit(build)(arrays), np.zeros(2, np.float32)))


def test_one_form_of_each_part_is_asked_for():
    zero = [[0.0]]
    for given, message in (
        (dict(covariances=[1.0]), "exactly one of weights, log_weights, logits, not none of them"),
        (dict(weights=[1.0], logits=[0.0], covariances=[1.0]), "log_weights, logits, not weights and logits"),
        (dict(logits=[0.0]), "exactly one of covariances, scale_tril, precisions, not none of them"),
        (dict(logits=[0.0], covariances=[1.0], precisions=[1.0]), "precisions, not covariances and precisions"),
    ):
        with pytest.raises(TypeError, match=message):
            make_mixture(means=zero, covariance_type="spherical", **given)
    with pytest.raises(TypeError, match="means must hold real numbers, .*NoneType"):
        make_mixture(logits=[0.0], precisions=[1.0], covariance_type="spherical")
    for given, message in (
        (
            dict(logits=[0.0, 0.0], scale_tril=[1.0]),
            r"logits must have shape \(1,\), one for each of means, not \(2,\)",
        ),
        (
            dict(logits=[0.0], scale_tril=[[1.0]]),
            r"scale_tril of type 'spherical' must have shape \(1,\), not \(1, 1\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make_mixture(means=zero, covariance_type="spherical", **given)


@pytest.mark.parametrize("family", ["full", "diag"])
def test_a_component_too_steep_to_be_squared_has_no_part_in_rows_that_another_is_near(family):
    """In float32 its residuals are 1e25 deviations and more; the inverse of the last factor is beyond the dtype."""
    weights, means = np.float32([0.25, 0.5, 0.25]), np.float32([[0, 0], [1, -1], [0, 0]])
    scales = {
        "full": np.float32([[[1, 0], [0.5, 2]], [[1e-25, 0], [0, 1e-25]], [[1e-25, 0], [1, 1e-25]]]),
        "diag": np.float32([[1, 2], [1e-25, 1e-25], [1e-25, 1]]),
    }[family]
    rows = np.float32([[10, 3], [-2, 5], [0.5, 0.25]])
    first = reference.dense_covariances(family, scales[:1].astype(float) ** 2, 1, 2)
    if family == "full":
        first = scales[:1].astype(float) @ np.swapaxes(scales[:1].astype(float), 1, 2)
    expected = reference.log_joint(weights[:1], means[:1], first, rows)[:, 0]

    def build(logits, scales):
        return make_mixture(logits=logits, means=means, scale_tril=scales, covariance_type=family)

    def density(logits, scales, x):
        return log_prob(build(logits, scales), x)

    logs = np.log(weights)
    mixture = build(logs, scales)
    np.testing.assert_allclose(log_prob(mixture, rows), expected, rtol=1e-6)
    np.testing.assert_allclose(jaxgmm.log_likelihood(mixture, rows), expected.sum(), rtol=1e-6)
    np.testing.assert_array_equal(jaxgmm.log_joint(mixture, rows)[:, 1:], -np.inf)
    np.testing.assert_array_equal(jaxgmm.responsibilities(mixture, rows), [[1, 0, 0]] * 3)
    moments, log_likelihood = jaxgmm.e_step(mixture, rows)
    np.testing.assert_allclose(log_likelihood, expected.sum(), rtol=1e-6)
    np.testing.assert_allclose(moments.mass, [3, 0, 0])
    np.testing.assert_allclose(moments.mean[0], rows.mean(axis=0), rtol=1e-6)
    alone = make_mixture(logits=logs[:1], means=means[:1], scale_tril=scales[:1], covariance_type=family)
    values, (of_logits, of_scales, of_rows) = jax.jit(
        jax.vmap(jax.value_and_grad(density, argnums=(0, 1, 2)), (None, None, 0))
    )(logs, scales, rows)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    np.testing.assert_allclose(of_logits, [[0.75, -0.5, -0.25]] * 3, rtol=1e-6)
    np.testing.assert_allclose(of_rows, jax.vmap(jax.grad(log_prob, argnums=1), (None, 0))(alone, rows), rtol=1e-5)
    assert np.isfinite(of_scales).all() and not of_scales[:, 1:].any() and of_scales[:, 0].any()
    # Far from all of them, nothing can be told.
    assert log_prob(mixture, np.float32([1e25, 0])) == -np.inf


@pytest.mark.parametrize("positive", [jnp.exp, jax.nn.softplus], ids=["exp", "softplus"])
def test_a_head_of_a_network_with_outputs_times_30_has_finite_gradients(positive):
    n_components, n_features, hidden = 3, 2, 16
    n_outputs = n_components * (1 + n_features + n_features * (n_features + 1) // 2)
    row, column = np.tril_indices(n_features, -1)
    on = np.arange(n_features)
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, (200, 1)).astype(np.float32), rng.normal(size=(200, n_features)).astype(np.float32)

    def as_mixture(outputs, positive):
        logits, means, scales, below = jnp.split(outputs, np.cumsum([n_components, *2 * [n_components * n_features]]))
        factors = jnp.zeros((n_components, n_features, n_features), outputs.dtype)
        factors = factors.at[:, on, on].set(positive(scales).reshape(n_components, -1))
        factors = factors.at[:, row, column].set(below.reshape(n_components, -1))
        return make_mixture(logits=logits, means=means.reshape(n_components, -1), scale_tril=factors)

    def loss(params, positive):
        first, last = params
        outputs = jnp.tanh(x @ first) @ last
        each = jax.vmap(lambda outputs, y: log_prob(as_mixture(outputs, positive), y))
        return -jnp.mean(each(outputs, y))

    def initial(seed):
        rng = np.random.default_rng(seed)
        last = 30 * rng.normal(size=(hidden, n_outputs)) / np.sqrt(hidden)
        return rng.normal(size=(1, hidden)).astype(np.float32), last.astype(np.float32)

    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(initial, range(20)))
    value_and_slope = jax.value_and_grad(functools.partial(loss, positive=positive))
    losses, slopes = jax.jit(jax.vmap(value_and_slope))(stack)
    assert np.isfinite(losses).all() and losses.max() > 1e3, losses
    assert all(np.isfinite(leaf).all() and leaf.any() for leaf in slopes)


# Components in another order


@pytest.mark.parametrize("family", FAMILIES)
def test_components_are_reordered(family, dtype):
    mixture, _ = cases.mixture(family, 4, 3, dtype)
    order = np.array([2, 0, 3, 1])
    found, covariances = relabel(mixture, order), np.asarray(mixture.covariances)
    np.testing.assert_array_equal(found.weights, mixture.weights[order])
    np.testing.assert_array_equal(found.means, mixture.means[order])
    np.testing.assert_array_equal(found.covariances, covariances[order])
    assert found.covs.count == mixture.covs.count and found.n_parameters == mixture.n_parameters
    np.testing.assert_allclose(log_prob(found, POINT), log_prob(mixture, POINT), rtol=1e-5)
    # Back, by the other as a reference, in units that differ from column to column.
    units = np.array([1e-3, 1.0, 1e4], dtype)
    scaled = jaxgmm.affine(mixture, units)
    np.testing.assert_array_equal(component_order(jaxgmm.affine(found, units), scaled), np.argsort(order))
    np.testing.assert_array_equal(relabel(found, mixture).means, mixture.means)
    heaviest, leftmost = relabel(mixture, "weight"), relabel(mixture, "mean")
    np.testing.assert_array_equal(heaviest.weights, np.sort(mixture.weights)[::-1])
    np.testing.assert_array_equal(leftmost.means, np.asarray(mixture.means)[np.argsort(mixture.means[:, 0])])
    orders = jnp.array([order, [0, 1, 2, 3], [0, 1, 1, 3], [0, 1, 2, 4]])
    stack = jax.jit(jax.vmap(relabel, (None, 0)))(mixture, orders)
    np.testing.assert_array_equal(stack.means[0], found.means)
    np.testing.assert_array_equal(stack.means[1], mixture.means)
    assert np.isnan(stack.means[2:]).all() and np.isnan(stack.log_weights[2:]).all()
    back = jax.jit(jax.vmap(relabel, (0, None)))(stack, mixture)
    np.testing.assert_array_equal(back.means[:2], np.stack([mixture.means] * 2))
    assert np.isnan(back.means[2:]).all()


def test_means_that_tie_are_told_apart_by_the_next_column():
    means = np.array([[1.0, 5.0], [0.0, 7.0], [1.0, 2.0], [0.0, 7.0]])
    mixture = make_mixture(
        logits=np.array([1.0, 2.0, 2.0, 3.0]), means=means, scale_tril=np.eye(2), covariance_type="tied"
    )
    np.testing.assert_array_equal(component_order(mixture, "mean"), [1, 3, 2, 0])
    np.testing.assert_array_equal(component_order(mixture, "weight"), [3, 1, 2, 0])


@pytest.mark.needs_x64
def test_the_matching_is_the_cheapest():
    from itertools import permutations

    for seed in range(5):
        first, _ = cases.mixture("full", 5, 2, seed=seed)
        other, _ = cases.mixture("diag", 5, 2, seed=seed + 10)
        _, covariance = jaxgmm.total_moments(first)
        unit = 1 / np.sqrt(np.diagonal(covariance))
        costs = np.asarray(jaxgmm.wasserstein(jaxgmm.affine(other, unit), jaxgmm.affine(first, unit)).costs)
        best = min(permutations(range(5)), key=lambda order: sum(costs[order[k], k] for k in range(5)))
        np.testing.assert_array_equal(component_order(other, first), best)


@pytest.mark.needs_x64
@pytest.mark.parametrize("family", ["tied", "diag"])
def test_fits_and_standard_errors_are_reordered(family):
    start, x, weights = cases.drawn_rows(family)
    result = jaxgmm.run(jaxgmm.EM(), start, x, weights, tol=1e-12)
    order = np.array([2, 0, 1])
    found = relabel(result, order)
    assert found.status == result.status and found.objective == result.objective
    errors = jaxgmm.standard_errors(result.mixture, x, weights)
    again = jaxgmm.standard_errors(found.mixture, x, weights)
    for a, b in zip(relabel(errors, order), again, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    np.testing.assert_array_equal(relabel(found, result).mixture.means, result.mixture.means)


def test_labels_that_switched_between_refits_are_undone(dtype):
    mixture, _ = cases.mixture("full", dtype=dtype)
    rng, orders = np.random.default_rng(0), np.array([[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 1, 2]])
    shifts = jnp.asarray(1e-2 * rng.normal(size=(4, *mixture.means.shape)).astype(dtype))
    refits = [
        relabel(jaxgmm.affine(mixture, 1.0, shift[0]), order) for shift, order in zip(shifts, orders, strict=True)
    ]
    mixtures = jax.tree.map(lambda *leaves: jnp.stack(leaves), *refits)
    spread = jaxgmm.Parameters(mixture.weights, mixture.means, mixture.covariances)
    switched = jaxgmm.Bootstrap(mixtures, jnp.zeros(4, jnp.int32), spread)
    found = relabel(switched, mixture)
    expected = np.asarray(mixture.means)[None] + np.asarray(shifts)[:, :1]
    np.testing.assert_allclose(found.mixtures.means, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.standard_errors.means, expected.std(axis=0, ddof=1), rtol=1e-3)
    turned = relabel(found, [1, 2, 0])
    np.testing.assert_allclose(
        turned.standard_errors.means, found.standard_errors.means[jnp.array([1, 2, 0])], rtol=1e-5
    )


def test_what_is_no_order_is_named():
    mixture, _ = cases.mixture("full", 3, 2)
    lost = jax.tree.map(lambda leaf: leaf * jnp.nan, mixture)
    errors = jaxgmm.Parameters(mixture.weights, mixture.means, mixture.covariances)
    for value, order, error, message in (
        (mixture, [0, 1], ValueError, r"order must have shape \(3,\), a place for each component, not \(2,\)"),
        (mixture, [0, 1, 1], ValueError, r"order must hold each of 0 to 2 once, not \[0, 1, 1\]"),
        (mixture, [0, 1, -1], ValueError, r"order must hold each of 0 to 2 once, not \[0, 1, -1\]"),
        (mixture, [0.0, 1.0, 2.0], TypeError, r"order must be 'weight', 'mean', a mixture or integers, not \[0.0"),
        (mixture, [True, False, True], TypeError, "order must be 'weight', 'mean', a mixture or integers"),
        (mixture, None, TypeError, "order must be 'weight', 'mean', a mixture or integers, not None"),
        (mixture, "size", ValueError, "order must be 'weight', 'mean', a mixture or a permutation .*, not 'size'"),
        (
            mixture,
            cases.mixture("full", 2, 2)[0],
            ValueError,
            r"order is Mixture\(K=2, .*cannot be matched one for one",
        ),
        (mixture, lost, ValueError, "cannot be matched: the mixture or the reference holds NaN or infinity"),
        (errors, "weight", TypeError, "standard errors do not know .*component_order"),
        (errors, [0, 0, 0], ValueError, "order must hold each of 0 to 2 once"),
        (np.zeros((3, 2)), [0, 1, 2], TypeError, "value must be a Mixture or a FitResult, not ndarray"),
    ):
        with pytest.raises(error, match=message):
            relabel(value, order)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixture_whose_leaves_do_not_fit_its_family_is_refused(family):
    mixture, _ = cases.mixture(family, 3, 2)
    x, order = np.zeros((4, 2)), np.array([2, 0, 1])
    indexed = jax.tree.map(lambda leaf: leaf[order], mixture)
    doors = (
        lambda m: log_prob(m, x),
        lambda m: jaxgmm.standard_errors(m, x),
        lambda m: jaxgmm.run(jaxgmm.EM(), m, x, max_iter=1),
        lambda m: jaxgmm.wasserstein(mixture, m),
        lambda m: relabel(m, order),
        jax.jit(lambda m: jaxgmm.bic(m, x)),
        jaxgmm.unconstrain,
    )
    if family == "tied":
        for door in doors:
            with pytest.raises(
                ValueError, match=r"'tied' must have shape \(1, 2, 2\), not \(3, 2, 2\). .*jaxgmm.relabel"
            ):
                door(indexed)
    else:
        np.testing.assert_array_equal(indexed.means, relabel(mixture, order).means)
    for spoiled, part in (
        (jaxgmm.Mixture(mixture.log_weights[:2], mixture.means, mixture.covs, mixture.family), "log_weights"),
        (jaxgmm.Mixture(mixture.log_weights, mixture.means[:, :1], mixture.covs, mixture.family), "covs"),
    ):
        # One scale for all columns has the same shape whatever their number.
        told = f"{part} of '{family}' must have shape"
        told = "its covariances are of 2 columns" if (part, family) == ("covs", "spherical") else told
        with pytest.raises(ValueError, match=told):
            log_prob(spoiled, x[:, : spoiled.n_features])
