import dataclasses
import subprocess
import sys
import textwrap
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgmm
from jaxgmm import EM, Gradient, Ridge, Status
from tests import cases, reference
from tests.cases import FAMILIES

KEY = jax.random.key(0)
LBFGS = optax.lbfgs()


def data(family="full", dtype=np.float64, n_rows=300):
    return cases.drawn_rows(family, n_rows, dtype)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fit_is_sound_and_told_in_the_users_units(family, dtype):
    _, x, weights = data(family, dtype)
    fitted = jaxgmm.fit(KEY, x, 3, weights, covariance_type=family, n_init=2)
    assert fitted.status is Status.CONVERGED and fitted.converged
    assert fitted.mixture.means.dtype == fitted.objective.dtype == dtype
    rtol = 1e-5 if dtype == np.float32 else 1e-10
    expected = jaxgmm.log_likelihood(fitted.mixture, x, weights)
    np.testing.assert_allclose(fitted.log_likelihood, expected, rtol=rtol)
    n_iter = int(fitted.n_iter)
    np.testing.assert_allclose(fitted.history[n_iter - 1], fitted.objective, rtol=rtol)
    assert np.isnan(fitted.history[n_iter:]).all() and fitted.history.shape == (1000,)
    assert fitted.restarts.objective.shape == fitted.restarts.status.shape == fitted.restarts.n_iter.shape == (2,)
    np.testing.assert_allclose(fitted.restarts.objective.max(), fitted.objective, rtol=rtol)
    strong = jaxgmm.fit(KEY, x, 3, weights, covariance_type=family, prior=Ridge(0.05), n_init=2)
    variances = reference.column_variances(x.astype(np.float64), weights)
    if family == "spherical":
        variances = np.full(3, variances.mean())
    covariances = np.asarray(strong.mixture.covariances, np.float64)
    penalty = reference.log_ridge(family, covariances, 0.05, weights.sum(dtype=np.float64), variances)
    np.testing.assert_allclose(strong.objective - strong.log_likelihood, penalty, rtol=1e-3)


def transformed(fitted, a, b):
    means = np.asarray(fitted.mixture.means, np.float64) * a + b
    covariances = np.asarray(fitted.mixture.covariances, np.float64) * np.outer(a, a)
    return means, covariances


def check_same(mixture, means, covariances, atol):
    """Means and covariances in units of the expected standard deviations, components matched by a mean."""
    order, found = np.argsort(means[:, 0]), np.argsort(np.asarray(mixture.means)[:, 0])
    deviation = np.sqrt(np.einsum("kii->ki", covariances))[order]
    outer = deviation[:, :, None] * deviation[:, None, :]
    np.testing.assert_allclose((np.asarray(mixture.means)[found] - means[order]) / deviation, 0, atol=atol)
    np.testing.assert_allclose(np.asarray(mixture.covariances)[found] / outer, covariances[order] / outer, atol=atol)


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_equivariant_under_affine_maps_of_the_columns(family, dtype):
    _, x, weights = data(family, dtype)
    # A fixed number of steps: where a tolerance stops float32 may differ by a step.
    options = dict(covariance_type=family, n_init=2, max_iter=50, tol=0)
    fitted = jaxgmm.fit(KEY, x, 3, weights, **options)
    a = np.full(3, -8.0) if family == "spherical" else np.array([-4.0, 0.5, 1024.0])
    b = np.array([64.0, -8.0, 0.0])
    moved = jaxgmm.fit(KEY, (x.astype(np.float64) * a + b).astype(dtype), 3, weights, **options)
    means, covariances = transformed(fitted, a, b)
    atol = 2e-3 if dtype == np.float32 else 1e-7
    check_same(moved.mixture, means, covariances, atol)
    volume = weights.sum(dtype=np.float64) * np.log(np.abs(a)).sum()
    np.testing.assert_allclose(moved.log_likelihood, float(fitted.log_likelihood) - volume, rtol=atol)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_offsets_and_scales(family, offset, scale, dtype):
    _, x, _ = data(family, np.float64)
    reference_fit = jaxgmm.fit(KEY, x.astype(dtype), 3, covariance_type=family, n_init=2)
    far = offset * (1e3 if dtype == np.float32 else 1e8)
    factors = np.full(3, scale) if family == "spherical" else np.array([scale, 1.0, 1 / scale])
    moved_x = ((x + far) * factors).astype(dtype)
    fitted = jaxgmm.fit(KEY, moved_x, 3, covariance_type=family, n_init=2)
    assert fitted.status == reference_fit.status == Status.CONVERGED
    means, covariances = transformed(reference_fit, factors, far * factors)
    check_same(fitted.mixture, means, covariances, 2e-2 if dtype == np.float32 else 1e-3)
    per_row = jaxgmm.log_prob(fitted.mixture, moved_x)
    np.testing.assert_allclose(per_row.sum(), fitted.log_likelihood, rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_constant_collinear_and_duplicated_data_give_a_fit(family, dtype):
    _, x, _ = data(family, dtype, n_rows=120)
    hard = {
        "collinear": np.stack([x[:, 0], 2 * x[:, 0], x[:, 1]], axis=1),
        "constant": np.stack([x[:, 0], x[:, 1], np.full(120, 7.0, dtype)], axis=1),
        "duplicated": np.repeat(x[:6], 20, axis=0),
        "equal": np.ones_like(x),
    }
    check_hard(family, hard)


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_as_many_components_as_rows_give_a_fit(family, dtype):
    check_hard(family, {"as many components as rows": data(family, dtype, n_rows=120)[1][:3]})


def check_hard(family, hard):
    for name, rows in hard.items():
        fitted, told = cases.told_fit(KEY, rows, 3, covariance_type=family, n_init=2)
        assert fitted.status in (Status.CONVERGED, Status.COLLAPSED, Status.MAX_ITER), name
        assert np.isfinite(fitted.objective), name
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((fitted.mixture.means, fitted.mixture.covs)))
        assert np.isfinite(jaxgmm.log_prob(fitted.mixture, rows)).all(), name
        if name == "constant" and family != "spherical":
            assert fitted.status == Status.COLLAPSED
            np.testing.assert_allclose(fitted.mixture.means[:, 2], 7.0, rtol=1e-5)
            assert "column 2 is constant" in told
        if name == "collinear" and family in ("full", "tied"):
            assert fitted.status == Status.COLLAPSED and "is flat where column 0, column 1 follow each other" in told
        if name == "as many components as rows" and family != "tied":
            assert fitted.status == Status.COLLAPSED


def test_zero_weights_equal_leaving_rows_out(dtype):
    _, x, weights = data("full", dtype)
    spoiled = np.concatenate([x, np.full((4, 3), np.nan, dtype)])
    zero = np.concatenate([weights, np.zeros(4, dtype)])
    fitted = jaxgmm.fit(KEY, x, 3, weights, n_init=2)
    padded = jaxgmm.fit(KEY, spoiled, 3, zero, n_init=2)
    np.testing.assert_allclose(padded.objective, fitted.objective, rtol=1e-5)
    np.testing.assert_allclose(padded.mixture.means, fitted.mixture.means, rtol=1e-2, atol=1e-2)
    tiny = jaxgmm.fit(KEY, x, 3, weights.astype(np.float64) * 1e-30, n_init=2)
    np.testing.assert_allclose(tiny.mixture.means, fitted.mixture.means, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("prior", [Ridge(), None])
@pytest.mark.parametrize("init", ["k-means++", "k-means", "random-rows", "random-responsibilities"])
def test_every_start_and_its_restarts(init, prior, blobs, dtype):
    x, labels = blobs[0].astype(dtype), blobs[1]
    fitted = jaxgmm.fit(KEY, x, 4, init=init, prior=prior, n_init=4)
    assert fitted.status == Status.CONVERGED
    np.testing.assert_allclose(fitted.log_likelihood, -1264.859, atol=0.05)
    sound = np.asarray(fitted.restarts.status) <= Status.MAX_ITER
    np.testing.assert_allclose(np.asarray(fitted.restarts.objective)[sound].max(), fitted.objective, rtol=1e-6)
    agreement = np.asarray(jaxgmm.predict(fitted.mixture, x))
    assert all((agreement[labels == k] == np.bincount(agreement[labels == k]).argmax()).mean() > 0.95 for k in range(4))


def test_given_starts(blobs, dtype):
    x, labels = blobs[0].astype(dtype), blobs[1]
    by_labels = jaxgmm.fit(KEY, x, 4, init=labels)
    by_responsibilities = jaxgmm.fit(KEY, x, 4, init=np.eye(4)[labels])
    by_mixture = jaxgmm.fit(KEY, x, 4, init=by_labels.mixture)
    projected = jaxgmm.fit(KEY, x, 4, init=by_labels.mixture, covariance_type="diag")
    for fitted in (by_labels, by_responsibilities, by_mixture):
        assert fitted.restarts.objective.shape == (1,)
        np.testing.assert_allclose(fitted.log_likelihood, -1264.859, atol=0.05)
    assert by_mixture.n_iter <= 4 and projected.mixture.covariance_type == "diag"
    for init, message in (
        (labels[:-1], "labels \\(400,\\)"),
        (labels + 1, "labels row .* but labels run from 0 to 3"),
        (np.zeros(400, int), "labels no row with 1"),
        (np.full((400, 4), np.nan), "at least 0, but holds nan in row 0"),
        (by_labels.mixture, "init has 4 components in 2 columns, but n_components is 3"),
        ("kmedians", "must be one of 'k-means\\+\\+'"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxgmm.fit(KEY, x, 3 if init is by_labels.mixture else 4, init=init)
    with pytest.raises(TypeError, match="labels must hold integers"):
        jaxgmm.fit(KEY, x, 4, init=labels * 1.0)


@pytest.mark.exhaustive
def test_gradient_through_the_host_door(blobs, dtype):
    x = blobs[0].astype(dtype)
    climbed = jaxgmm.fit(KEY, x, 4, algorithm=Gradient(LBFGS), n_init=2, max_iter=300)
    assert climbed.status == Status.CONVERGED and climbed.restarts.objective.shape == (2,)
    np.testing.assert_allclose(climbed.log_likelihood, -1264.859, atol=0.05)


@pytest.mark.exhaustive
def test_the_best_sound_restart_wins_and_collapsed_ones_are_told(dtype):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(100, 1)), np.full((4, 1), 9.0)]).astype(dtype)
    # With three components some starts put one on the four equal rows, where the likelihood is high.
    fitted, _ = cases.told_fit(KEY, x, 3, n_init=20, init="random-rows", max_iter=300)
    status = np.asarray(fitted.restarts.status)
    assert (status == Status.COLLAPSED).any()
    sound = status != Status.COLLAPSED
    if sound.any():
        assert fitted.status != Status.COLLAPSED
        np.testing.assert_allclose(fitted.objective, np.asarray(fitted.restarts.objective)[sound].max(), rtol=1e-6)
    else:
        assert fitted.status == Status.COLLAPSED


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", ["full", "diag"])
def test_a_collapse_names_the_components_and_the_columns(family, blobs, dtype):
    pandas = pytest.importorskip("pandas")
    x = np.concatenate([blobs[0], np.tile([[20.0, 20.0]], (40, 1))]).astype(dtype)
    table = pandas.DataFrame({"a": x[:, 0], "b": x[:, 1]})
    fitted, told = cases.told_fit(KEY, table, 5, n_init=2, covariance_type=family)
    k = int(np.argmin(np.abs(np.asarray(fitted.mixture.means) - 20).sum(axis=1)))
    assert f"component {k} " in told and "column 0 ('a')" in told
    if family == "full":
        assert "column 1 ('b')" in told
    else:
        assert "does not spread in column 0 ('a') (standard deviation" in told and "floor_is_fine=True" in told


def test_what_nothing_can_help_is_not_climbed_on(dtype):
    few = np.random.default_rng(0).normal(size=(8, 11)).astype(dtype)
    fitted, told = cases.told_fit(KEY, few, 2, n_init=3)
    assert "of 11 directions" in told and "rows are too few for so many columns" in told
    assert (np.asarray(fitted.restarts.n_iter) <= 3).all()


@pytest.mark.exhaustive
def test_what_nothing_can_help_is_not_climbed_on_by_run(dtype):
    few = np.random.default_rng(0).normal(size=(8, 11)).astype(dtype)
    lone = jaxgmm.initialize(KEY, few, 1, prior=Ridge())
    assert jaxgmm.run(EM(), lone, few, prior=Ridge(), max_iter=5).n_iter == 1
    assert jaxgmm.run(EM(), lone, few, prior=Ridge(), max_iter=5, tol=0).n_iter == 5


@pytest.mark.parametrize("family", ["full", "diag", "spherical"])
def test_a_floor_can_be_meant(family, blobs, dtype):
    """A third of an image is of one colour; half a grey level is what its numbers are rounded to."""
    flat = np.tile([[200.0, 150.0]], (200, 1))
    x = np.concatenate([20 * blobs[0], flat]).astype(dtype)
    strength = 200 / 600 * (0.5 / x.std(axis=0).max()) ** 2
    fitted, told = cases.told_fit(KEY, x, 5, covariance_type=family, prior=Ridge(strength), n_init=4)
    assert fitted.status == Status.COLLAPSED and "does not spread" in told
    meant, _ = cases.told_fit(KEY, x, 5, covariance_type=family, prior=Ridge(strength, floor_is_fine=True), n_init=4)
    assert meant.status == Status.CONVERGED
    k = int(np.argmin(np.abs(np.asarray(meant.mixture.means) - flat[0]).sum(axis=1)))
    np.testing.assert_allclose(meant.mixture.weights[k], 1 / 3, rtol=1e-3)
    variances = x.astype(np.float64).var(axis=0)
    variances = np.full(2, variances.mean()) if family == "spherical" else variances
    floor = strength * 600 / (200 + strength * 600) * variances
    np.testing.assert_allclose(np.diagonal(meant.mixture.covariances[k]), floor, rtol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_dead_component_comes_back(family, blobs, dtype):
    x, labels = blobs[0].astype(dtype), blobs[1]
    whole = jaxgmm.fit(KEY, x, 4, init=labels, covariance_type=family)
    dead = whole.mixture.log_weights.at[2].set(-jnp.inf)
    away = whole.mixture.means.at[2].add(1e4)
    for start, message in (
        (dataclasses.replace(whole.mixture, log_weights=dead), "component 2 of init holds less than one row of x"),
        (dataclasses.replace(whole.mixture, means=away), "component 2 of init holds less than one row of x"),
        (dataclasses.replace(whole.mixture, log_weights=jnp.full_like(dead, -jnp.inf)), "0, 1, 2, 3 of init hold less"),
    ):
        with pytest.warns(UserWarning, match=message):
            again = jaxgmm.fit(KEY, x, 4, init=start, covariance_type=family)
        assert again.status == Status.CONVERGED
        np.testing.assert_allclose(again.log_likelihood, whole.log_likelihood, rtol=1e-5)


def test_no_row_is_left_out_where_rows_of_a_component_are_counted(dtype):
    """Two rows of 0.6 are more than one row, wherever in the data they stand: no draw of rows may miss them."""
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(70_000, 1)).astype(dtype), np.ones(70_000, dtype)
    x[[1234, 56_789]], weights[[1234, 56_789]] = [[100], [101]], 0.6
    start = jaxgmm.make_mixture([1 - 1e-4, 1e-4], [[0.0], [100.5]], [1.0, 1.0], covariance_type="spherical")
    start = jax.tree.map(lambda leaf: leaf.astype(dtype), start)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = jaxgmm.fit(KEY, x, 2, weights, init=start, covariance_type="spherical", max_iter=2)
    np.testing.assert_allclose(fitted.mixture.means[1], 100.5, rtol=1e-5)


ARRAYS = {
    "integers": lambda x: x.astype(np.int32),
    "half": lambda x: x.astype(np.float16),
    "big-endian": lambda x: x.astype(">f4"),
    "by columns": lambda x: np.asfortranarray(x.astype(np.float32)),
    "every other row": lambda x: np.repeat(x, 2, axis=0)[::2].astype(np.float32),
    "bfloat16": lambda x: jnp.asarray(x, jnp.bfloat16),
    "booleans": lambda x: x > 4,
    "double": lambda x: x.astype(np.float64),
}


@pytest.mark.parametrize("made", ARRAYS)
def test_dtypes_in_and_out(made, blobs):
    fitted, _ = cases.told_fit(KEY, ARRAYS[made](np.round(blobs[0] * 4)), 2, n_init=1, max_iter=3)
    wide = made == "double" and jax.config.jax_enable_x64
    assert fitted.mixture.means.dtype == fitted.objective.dtype == (np.float64 if wide else np.float32)


def test_tables_and_memory_maps(tmp_path, blobs):
    x = blobs[0].astype(np.float32)
    alone = jaxgmm.fit(KEY, x, 2, n_init=1, max_iter=3)
    pandas, polars, pyarrow = (
        pytest.importorskip("pandas"),
        pytest.importorskip("polars"),
        pytest.importorskip("pyarrow"),
    )
    np.save(tmp_path / "x.npy", x)
    frame = pandas.DataFrame(x, columns=["a", "b"])
    tables = [
        frame,
        frame.astype("Float32"),
        polars.DataFrame(x, schema=["a", "b"]),
        pyarrow.table({"a": x[:, 0], "b": x[:, 1]}),
        np.load(tmp_path / "x.npy", mmap_mode="r"),
        x.tolist(),
    ]
    for table in tables:
        fitted = jaxgmm.fit(KEY, table, 2, n_init=1, max_iter=3)
        if fitted.mixture.means.dtype == np.float32:  # pandas' nullable numbers arrive as float64
            np.testing.assert_allclose(fitted.mixture.means, alone.mixture.means, rtol=1e-5)
        assert jaxgmm.log_prob(fitted.mixture, table).shape == (400,)
    assert jaxgmm.fit(KEY, x.tolist(), 2, n_init=1, max_iter=3).mixture.n_features == 2


def test_weights_too_small_for_the_dtype_are_scaled_or_refused(blobs):
    x, w = blobs[0].astype(np.float32), np.random.default_rng(0).uniform(0.5, 2.0, 400)
    plain = jaxgmm.fit(KEY, x, 2, w, n_init=1, max_iter=3)
    for factor in (1e-44, 1e-50):
        fitted = jaxgmm.fit(KEY, x, 2, w * factor, n_init=1, max_iter=3)
        np.testing.assert_allclose(fitted.mixture.weights, plain.mixture.weights, rtol=1e-5)
        np.testing.assert_allclose(fitted.mixture.means, plain.mixture.means, rtol=1e-5)
    resp, refused = np.eye(2)[np.arange(400) % 2], "the largest entry of {} is .* too little for float32: divide {} by"
    doors = [
        lambda w: jaxgmm.from_responsibilities(x, resp, w),
        lambda w: jaxgmm.initialize(KEY, x, 2, w),
        lambda w: jaxgmm.run(jaxgmm.EM(), plain.mixture, x, w),
        lambda w: jaxgmm.score(plain.mixture, x, w),
        lambda w: jaxgmm.standard_errors(plain.mixture, x, w),
    ]
    for door in doors:
        with pytest.raises(ValueError, match=refused.format(*2 * ["sample_weight"])):
            door(w * 1e-38)
    with pytest.raises(ValueError, match=refused.format(*2 * ["the weights of x"])):
        jaxgmm.log_likelihood(plain.mixture, jaxgmm.Rows(x, w * 1e-38))


def test_weights_too_large_for_a_log_likelihood_are_named(blobs):
    x = blobs[0].astype(np.float32)
    with pytest.raises(ValueError, match="the log-likelihood is .* more than float32 can hold: divide sample_weight"):
        jaxgmm.fit(jax.random.key(0), x, 2, np.full(len(x), 1e36), n_init=1, max_iter=3)
    with pytest.raises(ValueError, match="sample_weight sums to more than float64 can hold"):
        jaxgmm.fit(jax.random.key(0), x, 2, np.full(len(x), 1e307), n_init=1)


def test_what_cannot_be_represented_is_refused_by_column(blobs):
    x = blobs[0]
    far = np.stack([x[:, 0], x[:, 1] + 1e7], axis=1).astype(np.float64)
    if not jax.config.jax_enable_x64:
        with pytest.raises(ValueError, match=r"column 1 .*too fine for float32.*subtract an offset.*jax_enable_x64"):
            jaxgmm.fit(KEY, far, 2)
    with pytest.raises(ValueError, match="column 0 .*overflow when squared in float32"):
        jaxgmm.fit(KEY, (x * 1e25).astype(np.float32), 2)
    with pytest.raises(ValueError, match="column 0 .*underflows when squared in float32"):
        jaxgmm.fit(KEY, (x * 1e-25).astype(np.float32), 2)
    if jax.config.jax_enable_x64:
        with pytest.raises(ValueError, match="overflow when squared in float64"):
            jaxgmm.fit(KEY, x * 1e200, 2)
        huge = jaxgmm.fit(KEY, x * 1e150, 4, n_init=4)
        np.testing.assert_allclose(huge.mixture.means.max() / 1e150, x.max(), rtol=0.5)


def test_refitting_with_new_numbers_does_not_compile(blobs, dtype):
    from jaxgmm.fitting import race, restarts

    x = blobs[0].astype(dtype)
    jaxgmm.fit(KEY, x, 4, n_init=4, tol=1e-3)
    caches = [restarts.start_all, race.advance, restarts.end_all]
    before = [cache.n_programs() for cache in caches]
    for i in range(3):
        jaxgmm.fit(jax.random.key(i), x * (i + 2) + i, 4, np.full(400, i + 1.0), n_init=4, tol=10.0 ** -(i + 4))
    assert [cache.n_programs() for cache in caches] == before


@pytest.mark.exhaustive
def test_blocks_share_one_program(blobs, dtype):
    from jaxgmm.fitting import race

    for algorithm in (EM(), Gradient(LBFGS), Gradient(optax.adam(0.01))):
        race.advance.clear_cache()
        fitted = jaxgmm.fit(KEY, blobs[0].astype(dtype), 4, algorithm=algorithm, n_init=2, max_iter=300, tol=0)
        assert fitted.n_iter == 300 and race.advance.n_programs() == 1


def test_a_traced_fit_points_to_run(blobs):
    with pytest.raises(TypeError, match="jaxgmm.run"):
        jax.jit(lambda x: jaxgmm.fit(KEY, x, 2).objective)(blobs[0])


def test_importing_changes_no_configuration():
    code = """
        import jax
        before = dict(jax.config.values)
        import sys, jaxgmm
        changed = {n: (v, before[n]) for n, v in jax.config.values.items() if n in before and before[n] != v}
        assert not changed, changed
        heavy = {"sklearn", "matplotlib", "tqdm", "pandas", "scipy.stats"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_results_print_in_a_line(blobs, dtype):
    x = blobs[0].astype(dtype)
    fitted = jaxgmm.fit(KEY, x, 4, n_init=1)
    name = np.dtype(dtype).name
    assert repr(fitted).startswith(f"FitResult(CONVERGED after {fitted.n_iter} iterations, log_likelihood=-1264.")
    assert repr(fitted).endswith(f"Mixture(K=4, D=2, 'full', {name}))")
    starts = jax.tree.map(lambda leaf: np.stack([leaf] * 3), fitted.mixture)
    stack = jax.vmap(lambda start: jaxgmm.run(EM(), start, x))(starts)
    assert "stacked (3,)" in repr(stack) and "status=(3,)" in repr(stack)
    jax.jit(lambda start: (repr(jaxgmm.run(EM(), start, x)), start.means)[1])(fitted.mixture)


def test_em_is_the_default():
    assert isinstance(jaxgmm.fitting.fit.Options().algorithm, EM)


def test_nothing_is_compiled_again_within_a_bucket():
    """New tolerances, priors and learning rates, and a few rows more, are new numbers of the same program."""
    from jax import monitoring

    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, 2)) + 5 * rng.integers(0, 2, size=(160, 1))
    compiled = []

    def count(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jaxgmm.fit(KEY, x[:150], 2, n_init=2)
    monitoring.register_event_duration_secs_listener(count)
    try:
        for step in range(10):
            jaxgmm.fit(KEY, x[: 145 + step], 2, n_init=2, tol=1e-6 * (1 + step), prior=Ridge(1e-9 * (1 + step)))
            jaxgmm.fit(KEY, x[: 145 + step], 2, rng.uniform(1, 2, 145 + step), n_init=2)
        assert not compiled
        jax.jit(lambda x: x + 1)(x)
        assert compiled
    finally:
        monitoring.unregister_event_duration_listener(count)
