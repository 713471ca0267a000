"""Facts that hold whatever the numbers: hypothesis looks for some that break them.

Shapes are few, for each is a compilation; ties, duplicates, weights of zero and units do the variation.
`JAXGMM_EXAMPLES=2000 pytest tests/house/test_properties.py` looks longer, with other numbers each time.
"""

import os
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid

import jaxgmm
from jaxgmm import EM, Accelerated, Ridge
from tests import cases

N = 24
FEW = 30
EXAMPLES = int(os.environ.get("JAXGMM_EXAMPLES", FEW))
EM_STEPS = EM()
X64 = bool(jax.config.jax_enable_x64)
DTYPE = np.float64 if X64 else np.float32
EPS = float(np.finfo(DTYPE).eps)

every_family = pytest.mark.parametrize("family", cases.FAMILIES)
every_case = pytest.mark.parametrize(
    "family,shape",
    [*((family, (3, 3)) for family in cases.FAMILIES), ("full", (1, 3)), ("spherical", (3, 1))],
    ids=lambda value: value if isinstance(value, str) else "K={}, D={}".format(*value),
)


def suite(test):
    return settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == FEW)(test)


# What is drawn


def whole(shape, least, most):
    """Whole numbers, simplest at 0 or `least`; drawn as bytes, for one choice is quicker than hundreds."""

    def read(drawn):
        number = np.frombuffer(drawn, np.uint8).astype(int) - min(least, 0)
        return (number % (most - least + 1) + least).reshape(shape).astype(DTYPE)

    size = int(np.prod(shape))
    return st.binary(min_size=size, max_size=size).map(read)


@st.composite
def rows(draw, n_features, n_rows=N):
    """Rows of a coarse grid, (n_rows, D): ties are common, and so are duplicates."""
    distinct = draw(st.sampled_from([n_rows, n_rows, max(1, n_rows // 3)]))
    return draw(whole((n_rows, n_features), -16, 16))[np.arange(n_rows) % distinct] / 2


def weights(n_rows=N, most=3):
    """Whole weights, (n_rows,), of which some are zero and not all."""
    return whole((n_rows,), 0, most).filter(lambda drawn: drawn.any())


@st.composite
def units(draw, n_features, common=False):
    """Scale and shift of each column, ((D,), (D,)), that leave DTYPE its digits; `common` is one scale for all."""
    factors = st.sampled_from([1e-3, -0.37, 1.0, 8.0, -1e3])
    scale = np.array(draw(st.lists(factors, min_size=n_features, max_size=n_features)), DTYPE)
    scale = np.full_like(scale, scale[0]) if common else scale
    far = st.sampled_from([0.0, 1.0, -30.0, 1e4 if X64 else 100.0])
    return scale, scale * np.array(draw(st.lists(far, min_size=n_features, max_size=n_features)), DTYPE)


def covariances(family, n_components, n_features):
    """Covariances in scikit-learn's shape, with exact Cholesky factors."""
    deviations = whole((n_components, n_features), 1, 6).map(lambda n: n / 2)
    below = whole((n_components, n_features, n_features), -2, 2).map(lambda n: n / 4)

    def assemble(drawn):
        scale, lower = drawn
        factor = (np.tril(lower, -1) + np.eye(n_features, dtype=DTYPE)) * scale[:, :, None]
        dense = factor @ np.swapaxes(factor, 1, 2)
        return {"full": dense, "tied": dense[0], "diag": scale**2, "spherical": scale[:, 0] ** 2}[family]

    return st.tuples(deviations, below).map(assemble)


@st.composite
def mixtures(draw, family, n_components, n_features, some_empty=True):
    """A mixture whose components may coincide, or have no weight."""
    shares = draw(weights(n_components) if some_empty else whole((n_components,), 1, 3))
    means = draw(rows(n_features, n_components))
    covs = draw(covariances(family, n_components, n_features))
    return jaxgmm.make_mixture(shares / shares.sum(), means, covs, covariance_type=family)


strengths = st.sampled_from([1e-2, 1e-3, 1e-6] if X64 else [1e-2, 1e-3])


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def assert_close(found, wanted, rtol, atol=0.0):
    for a, b in zip(leaves(found), leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def relabelled(mixture, order):
    covs = mixture.covs if mixture.covs.count < len(order) else jax.tree.map(lambda leaf: leaf[order], mixture.covs)
    return jaxgmm.Mixture(mixture.log_weights[order], mixture.means[order], covs, mixture.family)


# Densities


@every_case
def test_log_prob_is_the_sum_over_components_and_responsibilities_its_shares(family, shape):
    @suite
    @given(mixtures(family, *shape), rows(shape[1]), st.sampled_from([1.0, 1e3, 1e150 if X64 else 1e16]))
    def holds(mixture, x, far):
        x = x * DTYPE(far)
        joint, log_prob = np.asarray(jaxgmm.log_joint(mixture, x)), np.asarray(jaxgmm.log_prob(mixture, x))
        np.testing.assert_allclose(log_prob, np.logaddexp.reduce(joint, axis=1), rtol=20 * EPS, atol=20 * EPS)
        soft = np.asarray(jaxgmm.responsibilities(mixture, x))
        np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=20 * EPS)
        assert (soft[:, np.asarray(mixture.log_weights) == -np.inf] == 0).all()
        chosen = np.asarray(jaxgmm.predict(mixture, x))
        assert (soft[np.arange(N), chosen] == soft.max(axis=1)).all()
        np.testing.assert_allclose(jaxgmm.uncertainty(mixture, x), 1 - soft.max(axis=1), atol=20 * EPS)

    holds()


@pytest.mark.parametrize("family,n_features", [*((family, 2) for family in cases.FAMILIES), ("full", 1)])
def test_densities_integrate_to_one(family, n_features):
    n_points = 4001 if n_features == 1 else 301

    @suite
    @given(mixtures(family, 3, n_features), units(n_features, family == "spherical"))
    def holds(mixture, unit):
        scale, shift = unit
        spread = np.sqrt(np.diagonal(mixture.covariances, axis1=1, axis2=2).max())
        reach = np.abs(mixture.means).max() + 9 * spread
        axis = np.linspace(-reach, reach, n_points, dtype=DTYPE)
        grid = np.stack(np.meshgrid(*[axis] * n_features, indexing="ij"), axis=-1)
        moved = jaxgmm.affine(mixture, scale[0] if family == "spherical" else scale, shift)
        density = np.exp(np.asarray(jaxgmm.log_prob(moved, grid * scale + shift), np.float64))
        for _ in range(n_features):
            density = trapezoid(density, axis.astype(np.float64), axis=-1)
        np.testing.assert_allclose(density * np.abs(np.prod(scale)), 1, rtol=1e-9 if X64 else 2e-4)

    holds()


@every_family
def test_a_change_of_variables_changes_the_density_by_its_jacobian(family):
    matrices = whole((3, 3), -3, 3).filter(lambda a: abs(np.linalg.det(a)) > 0.5)

    @suite
    @given(mixtures(family, 3, 3), rows(3), matrices, rows(3, 1))
    def holds(mixture, x, matrix, shift):
        y = x @ matrix.T + shift
        log_det = np.linalg.slogdet(matrix)[1]
        found = jaxgmm.log_prob(jaxgmm.affine(mixture, matrix, shift[0]), y) + log_det
        np.testing.assert_allclose(found, jaxgmm.log_prob(mixture, x), rtol=1e5 * EPS, atol=1e5 * EPS)

    holds()


@pytest.mark.parametrize(
    "family,known", [("full", (0,)), ("full", (2, 0)), ("tied", (2, 0)), ("diag", (0,)), ("spherical", (2, 0))]
)
def test_the_joint_is_the_marginal_times_the_conditional(family, known):
    other = [d for d in range(3) if d not in known]

    @suite
    @given(mixtures(family, 3, 3), rows(3))
    def holds(mixture, x):
        values = x[0, list(known)]
        given_them = jaxgmm.condition(mixture, known, values)
        beside = np.tile(x[:1], (N, 1))
        beside[:, other] = x[:, other]
        marginal = jaxgmm.log_prob(jaxgmm.marginal(mixture, known), values)
        found = np.asarray(jaxgmm.log_prob(given_them, x[:, other])) + float(marginal)
        np.testing.assert_allclose(found, jaxgmm.log_prob(mixture, beside), rtol=1e4 * EPS, atol=1e4 * EPS)
        alone = jaxgmm.marginal(jaxgmm.marginal(mixture, [*other, *known]), range(len(other), 3))
        assert_close(alone, jaxgmm.marginal(mixture, known), rtol=1e3 * EPS, atol=1e3 * EPS)

    holds()


@every_family
def test_draws_have_the_mixtures_moments(family):
    n = 4000

    @suite
    @given(mixtures(family, 3, 3), st.integers(0, 2**32 - 1))
    def holds(mixture, seed):
        x, labels = (np.asarray(a, np.float64) for a in jaxgmm.sample(jax.random.key(seed), mixture, n))
        mean, covariance = (np.asarray(a, np.float64) for a in jaxgmm.total_moments(mixture))
        products = np.einsum("ni,nj->nij", x - mean, x - mean)
        shares = np.asarray(mixture.weights, np.float64)
        drawn = labels[:, None] == np.arange(3)
        for seen, wanted in ((x, mean), (products, covariance), (drawn.astype(float), shares)):
            error = seen.std(axis=0) / np.sqrt(n)
            assert (np.abs(seen.mean(axis=0) - wanted) <= 6 * error + 1e-6).all()

    holds()


# Moments


@every_family
def test_moments_are_a_commutative_monoid(family):
    @suite
    @given(mixtures(family, 3, 3), rows(3), weights(), whole((N,), 0, 2), units(3, True))
    def holds(mixture, x, weight, parts, unit):
        scale, shift = unit
        mixture, x = jaxgmm.affine(mixture, scale[0], shift), x * scale + shift
        a, b, c = (jaxgmm.e_step(mixture, x, weight * (parts == part))[0] for part in range(3))
        whole, log_likelihood = jaxgmm.e_step(mixture, x, weight)
        # In units of the data's reach and mass, in which rounding is counted.
        reach, mass = float(np.abs(scale[0]) * 16 + np.abs(shift).max()), float(weight.sum())

        def same(p, q):
            held = np.asarray(q.mass) > 1e-9 * mass
            np.testing.assert_allclose(p.mass, q.mass, atol=100 * EPS * mass)
            np.testing.assert_allclose(np.asarray(p.mean)[held], np.asarray(q.mean)[held], atol=1e5 * EPS * reach)
            np.testing.assert_allclose(p.scatter, q.scatter, atol=100 * EPS * mass * reach**2)

        nothing = jax.tree.map(jnp.zeros_like, a)
        merge = jaxgmm.merge
        for found in (
            merge(merge(a, b), c),
            merge(a, merge(b, c)),
            merge(merge(c, a), b),
            merge(nothing, merge(merge(b, c), a)),
            merge(merge(merge(a, b), c), nothing),
            jaxgmm.pool(jax.tree.map(lambda *parts: jnp.stack(parts), a, b, c)),
        ):
            same(found, whole)
        same(merge(a, b), merge(b, a))
        np.testing.assert_allclose(log_likelihood, jaxgmm.log_likelihood(mixture, x, weight), rtol=1e3 * EPS)

    holds()


@every_family
def test_an_m_step_keeps_the_datas_mean_and_covariance(family):
    @suite
    @given(rows(3), whole((N, 3), 0, 4), weights())
    def holds(x, shares, weight):
        assume((weight > 0).sum() >= 3)
        shares = shares + (shares.sum(axis=1) == 0)[:, None]
        resp = shares / shares.sum(axis=1, keepdims=True)
        try:
            mixture = jaxgmm.from_responsibilities(x, resp, weight, covariance_type=family)
        except ValueError as error:
            assert "is singular, so that its density has no bound" in str(error)
            return
        mean, covariance = (np.asarray(a) for a in jaxgmm.total_moments(mixture))
        np.testing.assert_allclose(mean, np.average(x, axis=0, weights=weight), atol=100 * EPS * 8)
        wanted = np.cov(x.T, aweights=weight, ddof=0)
        see = {"full": lambda c: c, "tied": lambda c: c, "diag": np.diagonal, "spherical": np.trace}[family]
        np.testing.assert_allclose(see(covariance), see(wanted), atol=100 * EPS * 64)

    holds()


# Fits


def climb(mixture, x, weight, prior, algorithm=EM_STEPS):
    return jaxgmm.run(algorithm, mixture, x, weight, prior=prior, max_iter=12, tol=0.0)


def never_falls(family, algorithm):
    @suite
    @given(mixtures(family, 3, 3), rows(3), weights(), strengths, units(3, True))
    def holds(mixture, x, weight, strength, unit):
        prior, (scale, shift) = Ridge(strength), unit
        mixture, x = jaxgmm.affine(mixture, scale[0], shift), x * scale + shift
        fitted = climb(mixture, x, weight, prior, algorithm)
        history = np.asarray(fitted.history, np.float64)
        assert np.isfinite(history).all()
        # On the prior's floor variances are strength times the columns': rounding of distances counts 1/strength.
        slack = EPS * weight.sum() * (1e3 + 10 / strength) + 100 * EPS * np.abs(history).max()
        assert (np.diff(history) >= -slack).all(), np.diff(history).min()
        assert np.isclose(fitted.objective, history[-1], rtol=10 * EPS)

    holds()


@every_family
def test_the_objective_never_falls_under_em(family):
    never_falls(family, EM())


@pytest.mark.exhaustive
def test_the_objective_never_falls_under_accelerated_em():
    never_falls("full", Accelerated(EM()))


@every_family
def test_neither_the_order_of_rows_nor_the_components_labels_matter(family):
    @suite
    @given(
        mixtures(family, 3, 3),
        rows(3),
        weights(),
        st.permutations(range(N)),
        st.permutations(range(3)),
    )
    def holds(mixture, x, weight, rows_order, labels_order):
        rows_order, labels_order = np.array(rows_order), np.array(labels_order)
        prior = Ridge(1e-3)
        fitted = climb(mixture, x, weight, prior)
        found = climb(relabelled(mixture, labels_order), x[rows_order], weight[rows_order], prior)
        np.testing.assert_allclose(found.objective, fitted.objective, rtol=1e-8 if X64 else 1e-3)
        wanted = relabelled(fitted.mixture, labels_order)
        assert_close(jnp.exp(found.mixture.log_weights), jnp.exp(wanted.log_weights), 0, 1e-6 if X64 else 1e-2)
        for soft, order in ((jaxgmm.log_joint, labels_order), (jaxgmm.responsibilities, labels_order)):
            plain = np.asarray(soft(mixture, x))[rows_order][:, order]
            moved = soft(relabelled(mixture, labels_order), x[rows_order])
            np.testing.assert_allclose(moved, plain, rtol=100 * EPS, atol=100 * EPS)

    holds()


@every_family
def test_weights_are_repeats_and_a_row_of_none_may_hold_anything(family):
    @suite
    @given(mixtures(family, 3, 3), rows(3), weights(N // 3))
    def holds(mixture, x, weight):
        weight = np.append(weight, np.zeros(N - N // 3, DTYPE))
        repeated = np.repeat(x, weight.astype(int), axis=0)
        padded = np.full((N, 3), np.nan, DTYPE)
        padded[: len(repeated)] = repeated
        counted = (np.arange(N) < len(repeated)).astype(DTYPE)
        spoiled = np.where((weight > 0)[:, None], x, np.inf).astype(DTYPE)
        close = dict(rtol=1e4 * EPS, atol=1e4 * EPS)
        for function in (jaxgmm.log_likelihood, jaxgmm.score, jaxgmm.bic, jaxgmm.icl):
            wanted = function(mixture, padded, counted)
            np.testing.assert_allclose(function(mixture, x, weight), wanted, **close)
            np.testing.assert_allclose(function(mixture, spoiled, weight), wanted, **close)
        assert_close(jaxgmm.e_step(mixture, spoiled, weight), jaxgmm.e_step(mixture, padded, counted), 0, 1e5 * EPS)
        prior = Ridge(1e-3)
        one, other = climb(mixture, spoiled, weight, prior), climb(mixture, padded, counted, prior)
        np.testing.assert_allclose(one.objective, other.objective, rtol=1e-8 if X64 else 1e-3)

    holds()


@pytest.mark.exhaustive
@every_family
def test_a_fit_commutes_with_affine_maps(family):
    labels = np.arange(N) % 3
    options = dict(covariance_type=family, prior=Ridge(1e-2), init=labels, max_iter=8, tol=0.0)

    @suite
    @given(rows(3), weights(), units(3, family == "spherical"))
    def holds(x, weight, unit):
        assume((x[weight > 0].std(axis=0) > 0).all() and len(set(labels[weight > 0])) == 3)
        scale, shift = unit
        fitted, _ = cases.told_fit(jax.random.key(0), x, 3, weight, **options)
        moved, _ = cases.told_fit(jax.random.key(0), x * scale + shift, 3, weight, **options)
        wanted = jaxgmm.affine(fitted.mixture, scale[0] if family == "spherical" else scale, shift)
        tolerance = 1e-6 if X64 else 2e-2
        deviations = np.abs(scale) * 8
        assert_close(moved.mixture.weights, wanted.weights, 0, tolerance)
        moved_by = np.asarray(moved.mixture.means) - np.asarray(wanted.means)
        np.testing.assert_allclose(moved_by / deviations, 0, atol=tolerance)
        moved_by = np.asarray(moved.mixture.covariances) - np.asarray(wanted.covariances)
        relative = moved_by / np.outer(deviations, deviations)
        np.testing.assert_allclose(relative, 0, atol=tolerance)
        lost = weight.sum() * np.log(np.abs(scale)).sum()
        rtol = 1e-7 if X64 else 1e-3
        np.testing.assert_allclose(moved.log_likelihood, fitted.log_likelihood - lost, rtol=rtol, atol=rtol * 100)

    holds()


# There and back


@every_case
def test_constrain_and_unconstrain_are_inverse(family, shape):
    n_components, n_features = shape
    shapes = jax.eval_shape(lambda: jaxgmm.unconstrain(cases.mixture(family, *shape, dtype=DTYPE)[0]))

    @suite
    @given(
        mixtures(family, n_components, n_features, some_empty=False),
        mixtures(family, n_components, n_features),
        whole(shapes.logits.shape, -40, 40).map(lambda n: n / 8),
        whole(shapes.means.shape, -40, 40).map(lambda n: n / 8),
        whole(shapes.scales.shape, -40, 40).map(lambda n: n / 8),
    )
    def holds(mixture, with_empty, logits, means, scales):
        back = jaxgmm.constrain(jaxgmm.unconstrain(mixture))
        assert back.family == mixture.family
        assert_close(back, mixture, rtol=100 * EPS, atol=100 * EPS)
        params = jaxgmm.Params(jnp.asarray(logits), jnp.asarray(means), jnp.asarray(scales), mixture.family)
        assert_close(jaxgmm.unconstrain(jaxgmm.constrain(params)), params, rtol=1e3 * EPS, atol=1e3 * EPS)
        raised = jaxgmm.constrain(jaxgmm.unconstrain(with_empty))
        np.testing.assert_allclose(raised.weights, with_empty.weights, atol=100 * EPS)

    holds()


@every_family
def test_save_and_load_are_inverse(family):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "mixture.npz")

        @suite
        @given(mixtures(family, 3, 3), units(3, family == "spherical"), st.sampled_from(["float32", DTYPE.__name__]))
        def holds(mixture, unit, dtype):
            scale = unit[0][0] if family == "spherical" else unit[0]
            moved = jaxgmm.affine(mixture, scale, unit[1])
            value = jax.tree.map(lambda leaf: leaf.astype(dtype), moved)
            jaxgmm.save(path, value)
            back = jaxgmm.load(path)
            assert jax.tree.structure(back) == jax.tree.structure(value)
            for found, wanted in zip(leaves(back), leaves(value), strict=True):
                assert found.dtype == wanted.dtype and found.tobytes() == wanted.tobytes()

        holds()
