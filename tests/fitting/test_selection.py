import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Status
from jaxgmm.fitting import select as selection
from tests import cases
from tests.cases import FAMILIES

KEY = jax.random.key(0)


@pytest.mark.parametrize("family", FAMILIES)
def test_criteria_follow_their_formulas(family, dtype):
    mixture, x, weights = cases.drawn_rows(family, dtype=dtype)
    value, size = float(jaxgmm.log_likelihood(mixture, x, weights)), mixture.n_parameters
    mass = weights.sum(dtype=np.float64)
    certainty = weights @ np.log(np.asarray(jaxgmm.responsibilities(mixture, x), np.float64).max(axis=1))
    for options, n in (({}, mass), ({"n": 150}, 150), ({"n": jnp.asarray(1.0)}, 1)):
        unit = n / mass
        expected = {
            jaxgmm.aic: -2 * unit * value + 2 * size,
            jaxgmm.bic: -2 * unit * value + size * np.log(n),
            jaxgmm.icl: -2 * unit * value + size * np.log(n) - 2 * unit * certainty,
        }
        for criterion, wanted in expected.items():
            np.testing.assert_allclose(criterion(mixture, x, weights, **options), wanted, rtol=1e-5)


@pytest.fixture(scope="module")
def two_clusters():
    x = np.random.default_rng(0).normal(size=(300, 2))
    x[:100] += 7
    return x


def test_weights_that_are_no_counts_choose_as_their_rows_do(two_clusters, dtype):
    x, weights = two_clusters.astype(dtype), np.full(300, 1 / 300, dtype)
    options = dict(n_init=2, max_iter=100)
    for criterion in ("bic", "aic", "icl"):
        with pytest.warns(UserWarning, match="sums to 1 over 300 rows, so it holds no counts.*as 300 rows") as caught:
            chosen = jaxgmm.select(KEY, x, [1, 2, 4], ["full"], weights, criterion=criterion, **options)
        assert len(caught) == 1 and caught[0].filename == __file__
        assert chosen.best.n_components == 2 or criterion == "aic"
    plain = jaxgmm.select(KEY, x, [1, 2, 4], ["full"], **options)
    said = jaxgmm.select(KEY, x, [1, 2, 4], ["full"], weights, n=300, **options)
    for one, other, third in zip(chosen, plain, said, strict=True):
        for name in ("aic", "bic", "icl"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-5)
            assert getattr(one, name) == pytest.approx(getattr(third, name), rel=1e-12)


def test_kishs_number_is_for_weights_that_cannot_be_frequencies(two_clusters, dtype):
    x, weights = two_clusters.astype(dtype), np.random.default_rng(1).lognormal(size=300).astype(dtype)
    weights[:3] = 0
    mixture = jaxgmm.from_responsibilities(x, np.eye(2)[(np.arange(300) < 100).astype(int)])
    kish = weights.sum(dtype=float) ** 2 / (weights.astype(float) ** 2).sum()
    for criterion in (jaxgmm.aic, jaxgmm.bic, jaxgmm.icl):
        compiled = jax.jit(criterion)
        wanted = criterion(mixture, x, weights * dtype(kish / weights.sum()), n=kish)
        for unit in (1e-15, 296.9 / float(weights.sum())):
            scaled = dtype(unit) * weights
            with pytest.warns(UserWarning, match="over 297 rows") as caught:
                np.testing.assert_allclose(criterion(mixture, x, scaled), wanted, rtol=1e-4)
            assert len(caught) == 1 and caught[0].filename == __file__
            np.testing.assert_allclose(compiled(mixture, x, scaled), wanted, rtol=1e-4)
        # Of an average of 1 they may be frequencies, and of Kish's number they are what they say.
        for total in (297, 297 * (1 + 1e-6), 297 * (1 - 1e-6), kish):
            scaled = (weights * (total / weights.sum(dtype=float))).astype(dtype)
            np.testing.assert_allclose(criterion(mixture, x, scaled), criterion(mixture, x, scaled, n=total), rtol=1e-4)
            np.testing.assert_allclose(compiled(mixture, x, scaled), criterion(mixture, x, scaled), rtol=1e-5)


def test_number_of_parameters():
    assert [jaxgmm.n_parameters(family, 3, 4) for family in FAMILIES] == [44, 24, 26, 17]
    with pytest.raises(ValueError, match="K must be at least 1"):
        jaxgmm.n_parameters("full", 0, 2)


@pytest.mark.exhaustive
@pytest.mark.needs_x64
def test_agrees_with_mclusts_choice(faithful, mclust):
    x, _ = faithful
    selection = jaxgmm.select(KEY, x, range(1, 5), n_init=10)
    chosen = next(s for s in mclust["selection"] if s["data"] == "faithful")
    assert (selection.best.covariance_type, selection.best.n_components) == ("tied", chosen["G"])
    # mclust stopped early, at its own tolerance of 1e-5: its likelihood is below ours by up to 0.05, and its
    # responsibilities, on which ICL rests, are still those of that mixture.
    assert -0.1 < selection.best.bic + chosen["bic"] < 1e-3
    assert abs(selection.best.icl + chosen["icl"]) < 1
    np.testing.assert_allclose(selection.best.icl, jaxgmm.icl(selection.best.mixture, x), rtol=1e-9)
    lines = str(selection).splitlines()
    assert len(lines) == 2 + 16 and sum("<- lowest BIC" in line for line in lines) == 1
    assert len(selection) == 16 and [c.n_components for c in selection][:4] == [1, 2, 3, 4]


def test_one_program_serves_every_k(blobs, dtype):
    from jaxgmm.fitting import race, restarts

    x = blobs[0].astype(dtype)
    programs = restarts.start_all, race.advance, restarts.end_all
    for program in programs:
        program.clear_cache()
    selection = jaxgmm.select(KEY, x, [1, 4], ["full"], n_init=2)
    assert [program.n_programs() for program in programs] == [1, 1, 1]
    check_candidates(selection, x)


def check_candidates(selection, x):
    assert selection.best.n_components == 4
    for candidate in selection:
        assert candidate.sound and candidate.mixture.n_components == candidate.n_components
        expected = jaxgmm.log_likelihood(candidate.mixture, x)
        np.testing.assert_allclose(candidate.log_likelihood, expected, rtol=1e-5)
        np.testing.assert_allclose(candidate.bic, jaxgmm.bic(candidate.mixture, x), rtol=1e-5)


@pytest.mark.exhaustive
def test_a_fit_from_a_candidate_stays_there(blobs, dtype):
    x = blobs[0].astype(dtype)
    selection = jaxgmm.select(KEY, x, [1, 3, 4], ["full"], n_init=2)
    check_candidates(selection, x)
    again = jaxgmm.fit(KEY, x, 3, init=list(selection)[1].mixture)
    np.testing.assert_allclose(again.objective, list(selection)[1].result.objective, atol=0.05)


def check_starts(impl, counts, x):
    key, options = jax.random.key(3, impl=impl), dict(n_init=4, max_iter=4, tol=0)
    for candidate in jaxgmm.select(key, x, counts, ["full"], **options):
        fitted = jaxgmm.fit(key, x, candidate.n_components, **options)
        for name in ("objective", "status", "n_iter"):
            pair = [np.asarray(getattr(result.restarts, name)) for result in (candidate.result, fitted)]
            np.testing.assert_allclose(*pair, rtol=1e-4 if x.dtype == np.float32 else 1e-9)


def test_select_climbs_from_the_starts_of_fit(faithful, dtype):
    """Of the same key: spare components, and programs that several K share, change neither starts nor halving."""
    check_starts("threefry2x32", [3, 8], faithful[0].astype(dtype))


@pytest.mark.exhaustive
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_select_climbs_from_the_starts_of_fit_for_more_counts_and_keys(impl, faithful, dtype):
    check_starts(impl, [2, 3, 8], faithful[0].astype(dtype))


def test_starts_that_agree_are_counted():
    converged, stopped, collapsed, failed = Status.CONVERGED, Status.STOPPED, Status.COLLAPSED, Status.NONFINITE
    objective = [-10.0, -10.0 - 1e-4, -10.5, -9.0, np.nan, -10.0]
    status = [converged, converged, Status.MAX_ITER, collapsed, failed, stopped]
    fits = jaxgmm.Restarts(np.array(objective), np.array(status), np.zeros(6, int))
    result = jaxgmm.FitResult(None, -10.0, -10.0, 1, 1, converged, None, fits)
    assert selection._agreement(result, 1e-4) == (5, 2) and selection._agreement(result, 1e-6) == (5, 1)
    assert selection._agreement(result._replace(objective=-9.0, status=collapsed), 1e-4) == (5, 1)


@pytest.mark.exhaustive
def test_of_models_that_are_one_the_first_is_fitted(two_clusters, dtype):
    x = two_clusters[:, :1].astype(dtype)
    chosen = jaxgmm.select(KEY, x, [1, 2], ["diag", "full", "tied", "spherical"], n_init=2)
    told = [(c.covariance_type, c.n_components, c.skipped) for c in chosen]
    assert told == [
        ("diag", 1, None),
        ("diag", 2, None),
        ("full", 1, "the same model as 'diag'"),
        ("full", 2, "the same model as 'diag'"),
        ("tied", 1, "the same model as 'diag'"),
        ("tied", 2, None),
        ("spherical", 1, "the same model as 'diag'"),
        ("spherical", 2, "the same model as 'diag'"),
    ]
    sizes = {c.n_parameters for c in chosen if c.skipped and c.n_components == 2}
    assert sizes == {chosen.candidates[1].n_parameters}
    for family, k in (("full", 2), ("spherical", 2), ("tied", 1)):
        fitted = jaxgmm.fit(KEY, x, k, covariance_type=family, n_init=2)
        np.testing.assert_allclose(fitted.objective, chosen.candidates[k - 1].result.objective, rtol=1e-5)
    assert sum("skipped: the same model as 'diag'" in line for line in str(chosen).splitlines()) == 5
    wide = jaxgmm.select(KEY, two_clusters.astype(dtype), [1], n_init=1)
    assert [c.skipped for c in wide] == [None, "the same model as 'full'", None, None]


def test_impossible_and_other_candidates(dtype):
    x = np.random.default_rng(0).normal(size=(4, 2)).astype(dtype)
    selection = jaxgmm.select(KEY, x, [1, 9], ["diag"], criterion="aic", n_init=1)
    skipped = [c for c in selection if c.skipped]
    assert [(c.n_components, c.covariance_type) for c in skipped] == [(9, "diag")]
    assert "skipped: only 4 rows" in str(selection)
    with pytest.raises(ValueError, match="was skipped"):
        skipped[0].mixture  # noqa: B018
    nothing = jaxgmm.select(KEY, x, [9], ["diag", "spherical"])
    assert [(c.n_components, c.covariance_type) for c in nothing if c.skipped] == [(9, "diag"), (9, "spherical")]
    assert "skipped" in str(nothing)
    with pytest.raises(ValueError, match="no candidate could be fitted"):
        nothing.best  # noqa: B018
    with pytest.raises(ValueError, match="criterion must be one of"):
        jaxgmm.select(KEY, x, [1], criterion="BIC")
    with pytest.raises(ValueError, match="at least one candidate"):
        jaxgmm.select(KEY, x, [])
    with pytest.raises(TypeError, match="n_components must be an integer"):
        jaxgmm.select(KEY, x, [1.5])
    with pytest.raises(TypeError, match="unknown option 'tolerance'; fit takes algorithm"):
        jaxgmm.select(KEY, x, [1], tolerance=3)


def test_collapsed_candidates_do_not_win(dtype):
    x = np.concatenate([np.random.default_rng(0).normal(size=(60, 2)), np.repeat([[5.0, 5.0]], 12, axis=0)]).astype(
        dtype
    )
    selection = jaxgmm.select(KEY, x, [1, 2], ["full"], n_init=4)
    by_k = {c.n_components: c for c in selection}
    assert by_k[2].result.status == Status.COLLAPSED and by_k[2].bic < by_k[1].bic
    assert selection.best is by_k[1]


def test_that_every_candidate_collapsed_is_told_once(dtype):
    # Columns that follow each other, in the shape of the rows above.
    x = np.repeat(np.random.default_rng(0).normal(size=(72, 1)), 2, axis=1).astype(dtype)
    with pytest.warns(UserWarning, match="every candidate that was fitted collapsed") as told:
        jaxgmm.select(KEY, x, [1, 2], ["full"], n_init=4)
    assert len(told) == 1


@pytest.mark.exhaustive
def test_criteria_jit(dtype):
    mixture, x, weights = cases.drawn_rows("full", dtype=dtype)
    for criterion in (jaxgmm.aic, jaxgmm.bic, jaxgmm.icl):
        compiled = jax.jit(criterion)(mixture, jnp.asarray(x), weights)
        np.testing.assert_allclose(compiled, criterion(mixture, x, weights), rtol=1e-5)


def test_the_table_has_a_gap_between_its_columns(faithful):
    text = str(jaxgmm.select(KEY, faithful[0][:3], [1, 10], ["diag"], n_init=1))
    head, rule, first, skipped = text.splitlines()
    assert head.startswith("  K  covariance ") and len(rule) == len(head)
    assert first.startswith("  1  diag ") and skipped.startswith(" 10  diag ") and "skipped: only 3 rows" in skipped
    assert head.rstrip().endswith("agree  status") and "    1/1  " in first
