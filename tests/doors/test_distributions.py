"""Mixtures as other libraries' distributions, and back."""

import importlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.model.covariances.dense import Dense
from jaxgmm.model.covariances.diagonal import Diagonal
from tests import cases
from tests.conftest import DTYPES

EXTRAS = {"numpyro": "numpyro", "distrax": "distrax", "tfp": "tensorflow_probability.substrates.jax"}
DTYPE = DTYPES[0]
DIGITS = {"rtol": cases.tolerance(DTYPE, 10), "atol": cases.tolerance(DTYPE, 10)}


def opened(name):
    """A door, or the reason why it is shut."""
    with warnings.catch_warnings():
        # TFP asks JAX for names that are on their way out.
        warnings.simplefilter("ignore")
        try:
            importlib.import_module(EXTRAS[name])
        except ModuleNotFoundError:
            pytest.skip(f"the extra {name!r} is not installed")
        except AttributeError as error:
            pytest.skip(f"this version of {EXTRAS[name]} cannot be imported with jax {jax.__version__}: {error}")
        return importlib.import_module(f"jaxgmm.{name}")


@pytest.fixture(params=EXTRAS)
def door(request):
    return opened(request.param)


@pytest.fixture(autouse=True)
def _their_promotion():
    """The other libraries mix ranks and dtypes freely, and use names that JAX deprecates."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def native(distribution):
    """The library's own mixture of the same components."""
    if hasattr(distribution, "component_distribution"):
        import numpyro.distributions as dist

        return dist.MixtureSameFamily(distribution.mixing_distribution, distribution.component_distribution)
    library = importlib.import_module("distrax" if "distrax" in type(distribution).__module__ else "jaxgmm.tfp")
    same_family = getattr(library, "tfd", library).MixtureSameFamily
    return same_family(distribution.mixture_distribution, distribution.components_distribution)


def statistic(distribution, name):
    """Numpyro's are properties, the others' methods."""
    names = (name, f"{name}_matrix") if name == "covariance" else (name,)
    found = next(getattr(distribution, name) for name in names if hasattr(distribution, name))
    return found() if callable(found) else found


def draws(distribution, key, shape):
    if hasattr(distribution, "component_distribution"):
        return distribution.sample(key, shape)
    return distribution.sample(seed=key, sample_shape=shape)


def stack(mixtures):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *mixtures)


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_density_and_moments_are_ours_and_theirs(door, family):
    mixture, _ = cases.mixture(family, dtype=DTYPE)
    x, _ = cases.rows(dtype=DTYPE)
    distribution = door.to_distribution(mixture)
    theirs = native(distribution)
    assert tuple(distribution.batch_shape) == () and tuple(distribution.event_shape) == (3,)
    assert jnp.asarray(distribution.log_prob(x)).dtype == DTYPE
    np.testing.assert_array_equal(distribution.log_prob(x), jaxgmm.log_prob(mixture, x))
    np.testing.assert_array_equal(distribution.log_prob(x[0]), jaxgmm.log_prob(mixture, x[0]))
    np.testing.assert_allclose(distribution.log_prob(x), theirs.log_prob(x), **DIGITS)
    mean, covariance = jaxgmm.total_moments(mixture)
    np.testing.assert_array_equal(statistic(distribution, "covariance"), covariance)
    for name, ours in (("mean", mean), ("variance", np.diagonal(covariance))):
        np.testing.assert_array_equal(statistic(distribution, name), ours)
        np.testing.assert_allclose(statistic(theirs, name), ours, **DIGITS)


def test_draws_are_ours_and_have_derivatives(door):
    mixture, _ = cases.mixture("full", dtype=DTYPE)
    distribution, key = door.to_distribution(mixture), jax.random.key(3)
    x = draws(distribution, key, (4, 5))
    assert x.shape == (4, 5, 3) and x.dtype == DTYPE
    np.testing.assert_array_equal(x.reshape(20, 3), jaxgmm.sample(key, mixture, 20)[0])
    np.testing.assert_array_equal(draws(distribution, jax.random.key_data(key), (4, 5)), x)
    assert draws(distribution, key, ()).shape == (3,)
    # All means shifted alike, all rows follow.
    slope = jax.grad(lambda it: jnp.sum(draws(it, key, (4, 5))))(distribution).mixture.means
    np.testing.assert_allclose(slope.sum(axis=0), np.full(3, 20.0), rtol=cases.tolerance(DTYPE, 8))


def test_distributions_are_pytrees(door):
    mixture, _ = cases.mixture("tied", dtype=DTYPE)
    x, _ = cases.rows(dtype=DTYPE)
    distribution = door.to_distribution(mixture)
    assert len(jax.tree.leaves(distribution)) == 3
    slope = jax.jit(jax.grad(lambda it: it.log_prob(x).sum()))(distribution)
    expected = jax.grad(jaxgmm.log_likelihood)(mixture, x)
    for ours, theirs in zip(jax.tree.leaves(slope.mixture), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=cases.tolerance(DTYPE, 8), atol=10 * DIGITS["atol"])


def test_a_component_without_weight_and_a_far_row_have_finite_gradients(door):
    mixture, _ = cases.mixture("diag", dtype=DTYPE)
    log_weights = jnp.log(jnp.asarray([0.5, 0.5, 0.0], DTYPE))
    mixture = jaxgmm.Mixture(log_weights, mixture.means, mixture.covs, mixture.family)
    x = jnp.asarray([[0.0, 0.0, 0.0], [1e12, 0.0, 0.0]], DTYPE)
    value, slope = jax.value_and_grad(lambda it: it.log_prob(x).sum())(door.to_distribution(mixture))
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_stacks_have_a_batch_shape(door):
    mixtures = [cases.mixture("full", dtype=DTYPE, seed=seed)[0] for seed in range(2)]
    x, _ = cases.rows(dtype=DTYPE)
    distribution = door.to_distribution(stack(mixtures))
    assert tuple(distribution.batch_shape) == (2,) and tuple(distribution.event_shape) == (3,)
    expected = np.stack([jaxgmm.log_prob(mixture, x) for mixture in mixtures], axis=1)
    np.testing.assert_allclose(distribution.log_prob(x[:, None, :]), expected, **DIGITS)
    np.testing.assert_allclose(distribution.log_prob(np.stack([x, x], axis=1)), expected, **DIGITS)
    np.testing.assert_allclose(native(distribution).log_prob(x[:, None, :]), expected, **DIGITS)
    assert distribution.log_prob(x[0]).shape == (2,)
    rows = draws(distribution, jax.random.key(0), (30,))
    assert rows.shape == (30, 2, 3) and not np.array_equal(rows[:, 0], rows[:, 1])
    np.testing.assert_allclose(statistic(distribution, "mean"), statistic(native(distribution), "mean"), **DIGITS)
    assert statistic(distribution, "covariance").shape == (2, 3, 3)
    back = door.from_distribution(native(distribution))
    np.testing.assert_allclose(back.means, distribution.mixture.means)
    np.testing.assert_allclose(jax.vmap(lambda it: it.covariances)(back)[1], mixtures[1].covariances, **DIGITS)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["tfp", "distrax"])
@pytest.mark.parametrize("family", cases.FAMILIES)
def test_a_stack_is_indexed_as_an_array_of_its_batch_shape(name, family):
    door = opened(name)
    x, _ = cases.rows(dtype=DTYPE)
    mixtures = [cases.mixture(family, dtype=DTYPE, seed=seed)[0] for seed in range(6)]
    grid = jax.tree.map(lambda leaf: leaf.reshape(2, 3, *leaf.shape[1:]), stack(mixtures))
    distribution, places = door.to_distribution(grid), np.arange(6).reshape(2, 3)
    for index in ((1, 2), 1, slice(1, None), (..., 0), (slice(None), slice(0, 2)), (np.array([1, 0, 1]), 2)):
        chosen, expected = distribution[index], places[index]
        assert type(chosen) is type(distribution) and tuple(chosen.batch_shape) == np.shape(expected)
        found = np.broadcast_to(chosen.log_prob(x[0]), np.shape(expected))
        for k, value in zip(np.ravel(expected), np.ravel(found), strict=True):
            np.testing.assert_allclose(value, jaxgmm.log_prob(mixtures[k], x[:1])[0], **DIGITS)
    assert distribution[0, 1].sample(seed=jax.random.key(0)).shape == (3,)
    traced = jax.jit(lambda k: distribution[0, k].log_prob(x[0]))(2)
    np.testing.assert_allclose(traced, jaxgmm.log_prob(mixtures[2], x[:1])[0], **DIGITS)
    with pytest.raises(IndexError):
        distribution[0, 3]


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_and_back(door, family):
    mixture, _ = cases.mixture(family, dtype=DTYPE)
    distribution = door.to_distribution(mixture)
    assert door.from_distribution(distribution) is mixture
    back = door.from_distribution(native(distribution))
    assert back.covariance_type == family and back.means.dtype == DTYPE
    for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(mixture), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, **DIGITS)
    projected = door.from_distribution(native(distribution), covariance_type="VII")
    assert projected.covariance_type == "spherical"
    np.testing.assert_allclose(projected.covariances, jaxgmm.project(mixture, "spherical").covariances, **DIGITS)


def test_under_a_trace_shapes_decide(door):
    mixture, _ = cases.mixture("spherical", dtype=DTYPE)
    theirs = native(door.to_distribution(mixture))
    seen = jax.jit(door.from_distribution)(theirs)
    assert seen.covariance_type in ("diag", "spherical")
    np.testing.assert_allclose(seen.covariances, mixture.covariances, **DIGITS)
    slope = jax.grad(lambda it: jaxgmm.log_prob(door.from_distribution(it), np.zeros(3, DTYPE)))(theirs)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_a_fit_is_taken_in_place_of_its_mixture(door):
    mixture = jaxgmm.make_mixture([1.0], np.zeros((1, 2), DTYPE), np.ones(1, DTYPE), covariance_type="spherical")
    fitted = jaxgmm.FitResult(mixture, *[np.zeros(())] * 6)
    assert door.to_distribution(fitted).mixture is mixture


def test_another_kind_is_refused(door):
    with pytest.raises(TypeError, match="mixture must be a Mixture or a FitResult, not"):
        door.to_distribution(3)
    with pytest.raises(TypeError, match="mixture of normal"):
        door.from_distribution(object())


THREE = np.arange(1.0, 4.0, dtype=DTYPE)
NINE = np.arange(1.0, 10.0, dtype=DTYPE).reshape(3, 3)
NUMPYROS = {
    "covariances": ("full", lambda d, m: d.MultivariateNormal(m.means, covariance_matrix=m.covariances)),
    "precisions": ("full", lambda d, m: d.MultivariateNormal(m.means, precision_matrix=m.precisions)),
    "one factor": ("tied", lambda d, m: d.MultivariateNormal(m.means, scale_tril=m.covs.cholesky[0])),
    "equal means": ("full", lambda d, m: d.MultivariateNormal(jnp.zeros((3, 3)), scale_tril=m.covs.cholesky)),
    "one normal": ("tied", lambda d, m: d.MultivariateNormal(jnp.zeros(3), jnp.diag(THREE)).expand([3])),
    "round": ("spherical", lambda d, m: d.MultivariateNormal(m.means, jnp.eye(3) * THREE[:, None, None])),
    "low rank": ("full", lambda d, m: d.LowRankMultivariateNormal(m.means, jnp.ones((3, 3, 1)), NINE)),
    "columns": ("diag", lambda d, m: d.Normal(m.means, NINE).to_event(1)),
    "one scale each": ("spherical", lambda d, m: d.Normal(m.means, jnp.asarray([[1.0], [2.0], [3.0]])).to_event(1)),
    "one scale": ("spherical", lambda d, m: d.Normal(0.0, 2.0).expand([3, 3]).to_event(1)),
    "expanded": ("tied", lambda d, m: d.Normal(jnp.arange(3.0), THREE).to_event(1).expand([3])),
    "scalars": ("full", lambda d, m: d.Normal(jnp.arange(3.0), THREE)),
}
"""Families, and components that NumPyro makes of a mixture m, or of numbers, by its distributions d."""


@pytest.mark.parametrize("form", NUMPYROS)
def test_numpyros_parametrisations_come_back(form):
    door = opened("numpyro")
    import numpyro.distributions as dist

    mixture, _ = cases.mixture("full", dtype=DTYPE)
    family, made = NUMPYROS[form]
    components = made(dist, mixture)
    theirs = dist.MixtureSameFamily(dist.Categorical(probs=mixture.weights), components)
    back = door.from_distribution(theirs)
    assert back.covariance_type == family
    x, _ = cases.rows(dtype=DTYPE)
    x = x if components.event_dim else x[:, :1]
    expected = theirs.log_prob(x if components.event_dim else x[:, 0])
    np.testing.assert_allclose(jaxgmm.log_prob(back, x), expected, rtol=1e-4 if DTYPE == np.float32 else 1e-9)


def test_what_numpyro_can_say_and_a_mixture_cannot_is_refused():
    door = opened("numpyro")
    import numpyro.distributions as dist

    mixture, _ = cases.mixture("full", dtype=DTYPE)
    weights = dist.Categorical(probs=mixture.weights)
    matrices = dist.MultivariateNormal(jnp.zeros((3, 2, 3)), jnp.eye(3)).to_event(1)
    with pytest.raises(TypeError, match=r"over rows, not over \(2, 3\)"):
        door.from_distribution(dist.MixtureSameFamily(weights, matrices))
    with pytest.raises(TypeError, match="not Laplace"):
        door.from_distribution(dist.MixtureSameFamily(weights, dist.Laplace(jnp.arange(3.0), 1.0)))
    with pytest.raises(ValueError, match="NaN"):
        nothing = dist.Normal(jnp.full(3, jnp.nan), 1.0, validate_args=False)
        door.from_distribution(dist.MixtureSameFamily(weights, nothing))
    components = dist.MultivariateNormal(mixture.means, scale_tril=mixture.covs.cholesky)
    empty = dist.MixtureSameFamily(dist.Categorical(probs=jnp.asarray([1.0, 0.0, 0.0])), components)
    assert np.isneginf(door.from_distribution(empty).log_weights[1])


@pytest.mark.parametrize("name", ["distrax", "tfp"])
def test_the_others_parametrisations_come_back(name):
    door = opened(name)
    library = door.tfd if name == "tfp" else importlib.import_module("distrax")
    triangular = library.MultivariateNormalTriL if name == "tfp" else library.MultivariateNormalTri
    mixture, _ = cases.mixture("full", dtype=DTYPE)
    means, scales = mixture.means, jnp.arange(1, 10, dtype=DTYPE).reshape(3, 3)
    normal = library.Normal(means, scales)
    forms = [
        (triangular(means, mixture.covs.cholesky), "full"),
        (triangular(means, -mixture.covs.cholesky), "full"),
        (library.MultivariateNormalFullCovariance(means, mixture.covariances), "full"),
        (triangular(means, jnp.broadcast_to(mixture.covs.cholesky[0], (3, 3, 3))), "tied"),
        (library.MultivariateNormalDiag(means, scales), "diag"),
        (library.MultivariateNormalDiag(means, jnp.ones_like(scales) * scales[:, :1]), "spherical"),
        (library.Independent(normal, 1), "diag"),
        (library.Normal(means[:, 0], scales[:, 0]), "full"),
    ]
    weights = library.Categorical(logits=mixture.log_weights)
    x, _ = cases.rows(dtype=DTYPE)
    for components, family in forms:
        theirs = library.MixtureSameFamily(weights, components)
        back = door.from_distribution(theirs)
        assert back.covariance_type == family, components
        is_row = len(components.event_shape) == 1
        found = jaxgmm.log_prob(back, x if is_row else x[:, :1])
        np.testing.assert_allclose(found, theirs.log_prob(x if is_row else x[:, 0]), rtol=10 * DIGITS["rtol"])


def test_a_mixture_observes_rows_in_a_numpyro_model():
    door = opened("numpyro")
    import numpyro
    import numpyro.distributions as dist
    from numpyro import handlers
    from numpyro.infer.util import log_density

    mixture, _ = cases.mixture("full", dtype=DTYPE)
    x, _ = cases.rows(dtype=DTYPE)

    def model(x):
        shift = numpyro.sample("shift", dist.Normal(jnp.zeros(3, DTYPE), 1.0).to_event(1))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("x", door.to_distribution(jaxgmm.affine(mixture, 1.0, shift)), obs=x)

    def value(shift):
        return log_density(model, (x,), {}, {"shift": shift})[0]

    at = jnp.full(3, 0.5, DTYPE)
    prior = dist.Normal(jnp.zeros(3, DTYPE), 1.0).log_prob(at).sum()
    np.testing.assert_allclose(value(at) - prior, jaxgmm.log_likelihood(mixture, x - 0.5), rtol=DIGITS["rtol"] * 10)
    assert np.isfinite(jax.jit(jax.grad(value))(at)).all()
    with handlers.seed(rng_seed=0), numpyro.plate("rows", 7):
        assert numpyro.sample("x", door.to_distribution(mixture)).shape == (7, 3)
    assert door.to_distribution(mixture).has_rsample


def test_a_mixture_is_a_base_for_transformations():
    for name in ("distrax", "tfp"):
        door = opened(name)
        library = door.tfd if name == "tfp" else importlib.import_module("distrax")
        mixture, _ = cases.mixture("full", dtype=DTYPE)
        x, _ = cases.rows(dtype=DTYPE)
        if name == "tfp":
            moved = library.TransformedDistribution(door.to_distribution(mixture), door.tfb.Shift(jnp.ones(3, DTYPE)))
        else:
            shift = library.Block(library.ScalarAffine(jnp.ones(3, DTYPE)), 1)
            moved = library.Transformed(door.to_distribution(mixture), shift)
        np.testing.assert_allclose(moved.log_prob(x), jaxgmm.log_prob(mixture, x - 1), rtol=DIGITS["rtol"] * 10)


def test_assembling_keeps_to_shapes_under_a_trace():
    from jaxgmm.distributions import assemble

    logits, means = np.zeros(2), np.arange(6.0).reshape(2, 3)
    for covs, traced, concrete in (
        (Dense(np.broadcast_to(np.eye(3), (2, 3, 3))), "full", "spherical"),
        (Dense(np.eye(3)), "tied", "spherical"),
        (Diagonal(np.asarray([[1.0], [2.0]])), "spherical", "spherical"),
        (Diagonal(np.ones((2, 3))), "diag", "spherical"),
    ):
        assert assemble(logits, means, covs).covariance_type == concrete
        assert jax.jit(assemble)(logits, means, covs).covariance_type == traced
    with pytest.raises(ValueError, match="not positive definite"):
        assemble(logits, means, Diagonal(np.asarray([[1.0], [0.0]])))
