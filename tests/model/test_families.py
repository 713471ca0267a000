import copy
import dataclasses
import functools
import pickle
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.model.families.table import FAMILIES as TABLE
from jaxgmm.model.families.table import family_of
from jaxgmm.model.moments import DENSE, columns_of
from jaxgmm.model.priors.ridge import prepare
from tests import cases, reference
from tests.cases import CODES, FAMILIES, tolerance


def test_the_battery_covers_the_table():
    assert list(TABLE) == FAMILIES
    for name, code in CODES.items():
        assert family_of(code) is family_of(name) is family_of(TABLE[name])
    with pytest.raises(ValueError, match="covariance_type 'fulll' is not known; it is one of 'full'"):
        family_of("fulll")
    with pytest.raises(TypeError, match="must be a name or a family"):
        family_of(3)
    with pytest.raises(TypeError, match="must be a name or a family, not SimpleNamespace"):
        family_of(types.SimpleNamespace(statistic=DENSE))


@pytest.mark.parametrize("strength", [None, 0.1])
@pytest.mark.parametrize("family", FAMILIES)
def test_m_step_matches_the_twin(family, strength, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    x, weights = cases.rows(50, dtype=dtype)
    prior = None if strength is None else jaxgmm.Ridge(strength)
    moments, _ = jaxgmm.e_step(mixture, x, weights)
    resp = np.asarray(jaxgmm.responsibilities(mixture, x), np.float64)
    mass, mean, scatter = reference.moments(x, weights, resp)
    variances = reference.column_variances(x, weights)
    expected_weights, expected = reference.m_step(family, mass, scatter, strength or 0.0, variances)
    rtol = 10 * tolerance(dtype, 10)
    for fitted in (
        jaxgmm.m_step(moments, family, prior=prior),
        jaxgmm.from_responsibilities(x, resp, weights, covariance_type=family, prior=prior),
    ):
        np.testing.assert_allclose(fitted.weights, expected_weights, rtol=rtol)
        np.testing.assert_allclose(fitted.means, mean, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(fitted.covariances, expected, rtol=10 * rtol, atol=10 * rtol)
        assert fitted.covariance_type == family and fitted.means.dtype == dtype


@pytest.mark.parametrize("family", FAMILIES)
def test_log_prior_matches_the_twin(family, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    x, weights = cases.rows(50, dtype=dtype)
    penalty = prepare(jaxgmm.Ridge(0.3), jaxgmm.Rows(jnp.asarray(x), jnp.asarray(weights)).columns())
    expected = reference.log_ridge(
        family, np.asarray(mixture.covariances, np.float64), 0.3, weights.sum(), reference.column_variances(x, weights)
    )
    np.testing.assert_allclose(penalty.log_prob(mixture), expected, rtol=100 * tolerance(dtype))


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_round_trip_and_are_counted(family, dtype):
    mixture, _ = cases.mixture(family, 4, 3, dtype)
    params = jaxgmm.unconstrain(mixture)
    back = jaxgmm.constrain(params)
    for a, b in zip(jax.tree.leaves(mixture), jax.tree.leaves(back), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert size == mixture.n_parameters == jaxgmm.n_parameters(family, 4, 3) == jaxgmm.n_parameters(CODES[family], 4, 3)
    assert back.means.dtype == dtype
    anything = jax.tree.map(lambda leaf: leaf + 1.5, params)
    valid = jaxgmm.constrain(anything)
    np.testing.assert_allclose(valid.weights.sum(), 1, rtol=1e-5)
    assert (np.linalg.eigvalsh(np.asarray(valid.covariances)) > 0).all()
    absent = dataclasses.replace(mixture, log_weights=mixture.log_weights.at[1].set(-jnp.inf))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jaxgmm.unconstrain(absent)))


@pytest.mark.needs_x64
@pytest.mark.parametrize("family", FAMILIES)
def test_log_det_jacobian_matches_autodiff(family):
    mixture, _ = cases.mixture(family, 3, 3)
    flat, unravel = jax.flatten_util.ravel_pytree(jaxgmm.unconstrain(mixture))
    distinct = 1 if family == "tied" else 3
    lower = np.tril_indices(3)

    def theta(v):
        m = jaxgmm.constrain(unravel(v))
        covariances = m.covariances[:distinct]
        free = {
            "full": covariances[:, lower[0], lower[1]],
            "tied": covariances[:, lower[0], lower[1]],
            "diag": jnp.diagonal(covariances, axis1=1, axis2=2),
            "spherical": covariances[:, 0, 0],
        }[family]
        return jnp.concatenate([m.weights[:-1], m.means.ravel(), free.ravel()])

    _, expected = np.linalg.slogdet(jax.jacobian(theta)(flat))
    np.testing.assert_allclose(jaxgmm.log_det_jacobian(unravel(flat)), expected, rtol=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_empty_components_keep_previous_or_take_the_pool(family, dtype):
    x, _ = cases.rows(30, dtype=dtype)
    resp = np.zeros((30, 3), dtype)
    resp[:15, 0] = resp[15:, 2] = 1
    alone = jaxgmm.from_responsibilities(x, resp, covariance_type=family)
    assert alone.log_weights[1] == -np.inf
    np.testing.assert_allclose(alone.means[1], x.mean(axis=0), rtol=1e-4, atol=1e-5)
    pooled = jaxgmm.from_responsibilities(x, np.ones((30, 1), dtype), covariance_type=family)
    if family != "tied":
        np.testing.assert_allclose(alone.covariances[1], pooled.covariances[0], rtol=1e-4, atol=1e-5)
    previous, _ = cases.mixture(family, dtype=dtype)
    statistic = previous.family.statistic
    dense, _ = jaxgmm.e_step(jaxgmm.project(previous, "full"), x)
    emptied = dense._replace(mass=dense.mass.at[1].set(0.0), scatter=dense.scatter.at[1].set(0.0))
    emptied = emptied._replace(scatter=statistic.of_dense(emptied.scatter))
    kept = jaxgmm.m_step(emptied, family, previous=previous)
    np.testing.assert_array_equal(kept.means[1], previous.means[1])
    if family != "tied":
        np.testing.assert_allclose(kept.covariances[1], previous.covariances[1], rtol=1e-5)
    moved = jaxgmm.m_step(emptied, family, prior=jaxgmm.Ridge(0.1), previous=previous)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((moved.means, moved.covs)))
    np.testing.assert_array_equal(moved.means[1], previous.means[1])
    if family != "tied":
        # Nothing but the prior is known of it: (0 + λV) / (0 + λ).
        variances = columns_of(emptied).variance
        variances = jnp.full_like(variances, variances.mean()) if family == "spherical" else variances
        np.testing.assert_allclose(moved.covariances[1], np.diag(variances), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_empty_component_spoils_no_derivative(family, dtype):
    previous, _ = cases.mixture(family, dtype=dtype)
    moments, _ = jaxgmm.e_step(previous, cases.rows(30, dtype=dtype)[0])

    def update(moments):
        emptied = moments._replace(mass=moments.mass.at[1].set(0.0))
        if family != "tied":
            emptied = emptied._replace(scatter=emptied.scatter.at[1].set(0.0))
        return jaxgmm.m_step(emptied, family, previous=previous)

    slopes = jax.grad(lambda moments: jnp.sum(update(moments).covariances) + jnp.sum(update(moments).means))(moments)
    assert all(np.isfinite(leaf).all() for leaf in slopes)


@pytest.mark.parametrize("family", FAMILIES)
def test_traces_against_any_scatter(family, dtype):
    mixture, _ = cases.mixture(family, dtype=dtype)
    factor = np.random.default_rng(0).normal(size=(3, 3, 3)).astype(dtype)
    scatter = factor @ np.swapaxes(factor, 1, 2)
    inverse = np.linalg.inv(np.asarray(mixture.covariances, np.float64))
    diagonal = np.diagonal(scatter, axis1=1, axis2=2)
    for given, dense in ((scatter, scatter), (diagonal, diagonal[:, :, None] * np.eye(3))):
        expected = np.einsum("kij,kji->k", inverse, dense)
        np.testing.assert_allclose(mixture.covs.trace_solve(jnp.asarray(given)), expected, rtol=1e-4)


@pytest.mark.parametrize("source", FAMILIES)
@pytest.mark.parametrize("target", FAMILIES)
def test_project_follows_the_m_steps_rule(source, target, dtype):
    mixture, _ = cases.mixture(source, dtype=dtype)
    weights = np.asarray(mixture.weights, np.float64)
    scatter = weights[:, None, None] * np.asarray(mixture.covariances, np.float64)
    projected = jaxgmm.project(mixture, target)
    _, expected = reference.m_step(target, weights, scatter)
    np.testing.assert_allclose(projected.covariances, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(projected.log_weights, mixture.log_weights)
    np.testing.assert_array_equal(projected.means, mixture.means)
    assert projected.covariance_type == target


@pytest.mark.parametrize("source", ["full", "spherical"])
def test_an_absent_component_has_no_part_in_a_common_covariance(source, dtype):
    covs = {"full": [[[2.0]], [[1e30]], [[4.0]]], "spherical": [2.0, 1e30, 4.0]}[source]
    weights, means = np.array([0.5, 0.0, 0.5], dtype), np.zeros((3, 1), dtype)
    mixture = jaxgmm.make_mixture(weights, means, np.asarray(covs, dtype), covariance_type=source)
    np.testing.assert_allclose(jaxgmm.project(mixture, "tied").covariances[0], 3.0, rtol=1e-5)
    other = jaxgmm.project(mixture, "diag")
    np.testing.assert_allclose(np.ravel(other.covariances), np.ravel(covs), rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_mixtures_copy_and_pickle(family):
    mixture, _ = cases.mixture(family)
    x, _ = cases.rows(20)
    fitted = jaxgmm.run(jaxgmm.EM(), mixture, x, prior=jaxgmm.Ridge(1e-2), max_iter=3)
    for other in (copy.deepcopy(mixture), pickle.loads(pickle.dumps(mixture))):
        assert other.family == mixture.family and other.n_parameters == mixture.n_parameters
        assert jax.tree.structure(other) == jax.tree.structure(mixture)
        again = jaxgmm.run(jaxgmm.EM(), other, x, prior=jaxgmm.Ridge(1e-2), max_iter=3)
        np.testing.assert_allclose(again.objective, fitted.objective)
        assert jaxgmm.project(other, "full").covariance_type == "full"


def test_projection_keeps_small_variances_beside_far_components(dtype):
    tiny = 1e-6 if dtype == np.float32 else 1e-14
    variances = np.array([[tiny, tiny], [1.0, 1.0]], dtype)
    mixture = jaxgmm.make_mixture(
        np.array([0.5, 0.5], dtype), np.array([[0, 0], [1e4, 1e4]], dtype), variances, covariance_type="diag"
    )
    full = jaxgmm.project(mixture, "full")
    np.testing.assert_allclose(np.diagonal(full.covariances[0]), variances[0], rtol=1e-4)
    np.testing.assert_allclose(jaxgmm.project(full, "diag").covariances, mixture.covariances, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_mixture_is_a_plain_pytree(family, dtype):
    mixture, (weights, means, covs) = cases.mixture(family, dtype=dtype)
    assert not isinstance(mixture, tuple) and not hasattr(mixture, "__len__")
    np.testing.assert_allclose(mixture.weights, weights, rtol=1e-5)
    np.testing.assert_allclose(
        mixture.covariances, reference.dense_covariances(family, covs, *means.shape), rtol=1e-4, atol=1e-6
    )
    inverse = np.linalg.inv(np.asarray(mixture.covariances, np.float64))
    np.testing.assert_allclose(mixture.precisions, inverse, rtol=1e-3, atol=1e-4)
    assert (mixture.n_components, mixture.n_features, mixture.covariance_type) == (3, 3, family)
    assert repr(mixture) == f"Mixture(K=3, D=3, {family!r}, {np.dtype(dtype).name})"
    stacked = jax.vmap(lambda _: mixture)(jnp.arange(2))
    assert "stacked (2,)" in repr(stacked)
    assert jax.tree.structure(jax.tree.map(lambda leaf: leaf, mixture)) == jax.tree.structure(mixture)
    with pytest.raises(dataclasses.FrozenInstanceError):
        mixture.means = means


def halves(n_rows, n_components=2):
    return np.eye(n_components)[np.arange(n_rows) % n_components]


SINGULAR = "the covariance of component {} is singular, so that its density has no bound: "
SHARED = "the covariance that all components share is singular, so that its density has no bound: "
REMEDY = r". Give a prior such as prior=jaxgmm.Ridge\(1e-3\), a covariance_type of fewer parameters, or fewer columns"


@pytest.mark.parametrize("rows", ["few", "flat", "level", "twice", "two", "wide"])
def test_classes_without_a_covariance_are_refused(rows, dtype):
    rng = np.random.default_rng(0)
    few, wide, flat = (rng.normal(size=shape).astype(dtype) for shape in ((6, 5), (100, 128), (40, 3)))
    twice, level, two = flat.copy(), flat.copy(), np.repeat(flat[:2], 20, axis=0)[np.arange(40) * 20 % 39]
    twice[:, 2] = 2 * twice[:, 0] + 1
    flat[1::2, 1] = level[:, 1] = 3
    constant = r"column \d is constant in it to rounding"
    hard = {"few": few, "flat": flat, "level": level, "twice": twice, "two": two, "wide": wide}[rows]
    for x, family, message in (
        (few, "full", SINGULAR.format(0) + "it has a spread in only 2 of 5 directions"),
        (few, "tied", SHARED + "it has a spread in only 4 of 5 directions"),
        (few, "diag", None),
        (flat, "full", SINGULAR.format(1) + constant),
        (flat, "tied", None),
        (flat, "diag", SINGULAR.format(1) + constant),
        (flat, "spherical", None),
        (level, "tied", SHARED + constant),
        (twice, "full", SINGULAR.format(0) + "it has a spread in only 2 of 3 directions"),
        (twice, "diag", None),
        (two, "spherical", SINGULAR.format(0) + constant),
        (wide, "full", SINGULAR.format(0) + "it has a spread in only 99 of 128 directions"),
    ):
        if x is not hard:
            continue
        resp = halves(len(x), 1 if x is wide else 2)
        fit = functools.partial(jaxgmm.from_responsibilities, x, resp, covariance_type=family)
        if message is not None:
            with pytest.raises(ValueError, match=message + REMEDY):
                fit()
        healed = fit() if message is None else fit(prior=jaxgmm.Ridge(1e-3))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(healed))


def test_classes_that_a_prior_or_a_trace_leaves_without_a_covariance(dtype):
    rng = np.random.default_rng(0)
    few, flat = (rng.normal(size=shape).astype(dtype) for shape in ((6, 5), (40, 3)))
    flat[1::2, 1] = 3
    with pytest.raises(
        ValueError, match=r"Give a stronger prior than Ridge\(strength=None, floor.*\), a covariance_type"
    ):
        jaxgmm.from_responsibilities(few, halves(6), prior=jaxgmm.Ridge())
    traced = jax.jit(lambda x: jaxgmm.from_responsibilities(x, halves(40)))(flat)
    assert np.isfinite(traced.covs.cholesky[0]).all() and np.isnan(traced.covs.cholesky[1]).all()
    assert np.isnan(jaxgmm.log_prob(traced, flat)).all()


def test_columns_without_a_spread_are_named():
    pandas = pytest.importorskip("pandas")
    x = np.random.default_rng(0).normal(size=(40, 2))
    x[::2, 1] = 3
    with pytest.raises(ValueError, match=r"component 0 is singular, .*column 1 \('flipper'\) is constant in it"):
        jaxgmm.from_responsibilities(pandas.DataFrame(x, columns=["bill", "flipper"]), halves(40))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_m_step_without_a_maximum_is_refused(family, dtype):
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(dtype)
    wide, _ = cases.mixture(family, dtype=dtype)
    moments, _ = jaxgmm.e_step(wide, x)
    kept = np.array([1, 0, 1], dtype)
    flat = jax.tree.map(lambda leaf: leaf * kept.reshape(-1, *[1] * (leaf.ndim - 1)), moments.scatter)
    flat = 0 * flat if family == "tied" else flat
    spoiled = moments._replace(scatter=flat)
    message = "covariance that all" if family == "tied" else "covariance of component 1 is singular"
    with pytest.raises(ValueError, match=message):
        jaxgmm.m_step(spoiled, family)
    assert np.isfinite(jaxgmm.log_prob(jaxgmm.m_step(spoiled, family, prior=jaxgmm.Ridge(1e-2)), x)).all()
    factors = jax.jit(lambda moments: jaxgmm.m_step(moments, family))(spoiled).covs
    lost = np.isnan(jax.tree.leaves(factors)[0]).reshape(factors.count, -1)
    np.testing.assert_array_equal(lost.all(axis=1), [True] if family == "tied" else [False, True, False])
