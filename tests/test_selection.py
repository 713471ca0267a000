import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Status
from tests import cases
from tests.cases import FAMILIES

KEY = jax.random.key(0)


@pytest.mark.parametrize("family", FAMILIES)
def test_criteria_follow_their_formulas(family, dtype):
    mixture, x, weights = cases.drawn_rows(family, dtype=dtype)
    value, size = float(jaxgmm.log_likelihood(mixture, x, weights)), mixture.n_parameters
    mass = weights.sum(dtype=np.float64)
    np.testing.assert_allclose(jaxgmm.aic(mixture, x, weights), -2 * value + 2 * size, rtol=1e-5)
    bic = -2 * value + size * np.log(mass)
    np.testing.assert_allclose(jaxgmm.bic(mixture, x, weights), bic, rtol=1e-5)
    certainty = np.log(np.asarray(jaxgmm.responsibilities(mixture, x), np.float64).max(axis=1))
    np.testing.assert_allclose(jaxgmm.icl(mixture, x, weights), bic - 2 * weights @ certainty, rtol=1e-5)


def test_number_of_parameters():
    assert [jaxgmm.n_parameters(family, 3, 4) for family in FAMILIES] == [44, 24, 26, 17]
    with pytest.raises(ValueError, match="K must be at least 1"):
        jaxgmm.n_parameters("full", 0, 2)


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
    from jaxgmm import restarts

    x = blobs[0].astype(dtype)
    restarts.start_drawn.clear_cache()
    selection = jaxgmm.select(KEY, x, range(1, 7), ["full"], n_init=2)
    assert restarts.start_drawn._cache_size() == 1
    assert selection.best.n_components == 4
    for candidate in selection:
        assert candidate.sound and candidate.mixture.n_components == candidate.n_components
        expected = jaxgmm.log_likelihood(candidate.mixture, x)
        np.testing.assert_allclose(candidate.log_likelihood, expected, rtol=1e-5)
        np.testing.assert_allclose(candidate.bic, jaxgmm.bic(candidate.mixture, x), rtol=1e-5)
    again = jaxgmm.fit(KEY, x, 3, init=list(selection)[2].mixture)
    np.testing.assert_allclose(again.objective, list(selection)[2].result.objective, atol=0.05)


def test_impossible_and_other_candidates(dtype):
    x = np.random.default_rng(0).normal(size=(4, 2)).astype(dtype)
    selection = jaxgmm.select(KEY, x, [1, 2, 9], ["diag", "spherical"], criterion="aic", n_init=1)
    skipped = [c for c in selection if c.skipped]
    assert [(c.n_components, c.covariance_type) for c in skipped] == [(9, "diag"), (9, "spherical")]
    assert "skipped: only 4 rows" in str(selection)
    with pytest.raises(ValueError, match="was skipped"):
        skipped[0].mixture  # noqa: B018
    nothing = jaxgmm.select(KEY, x, [9], ["diag"])
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


def test_criteria_jit(dtype):
    mixture, x, weights = cases.drawn_rows("full", dtype=dtype)
    for criterion in (jaxgmm.aic, jaxgmm.bic, jaxgmm.icl):
        compiled = jax.jit(criterion)(mixture, jnp.asarray(x), weights)
        np.testing.assert_allclose(compiled, criterion(mixture, x, weights), rtol=1e-5)


def test_the_table_has_a_gap_between_its_columns(faithful):
    text = str(jaxgmm.select(KEY, faithful[0][:3], [1, 10], ["full"], n_init=1, max_iter=2))
    head, rule, first, skipped = text.splitlines()
    assert head.startswith("  K  covariance ") and len(rule) == len(head)
    assert first.startswith("  1  full ") and skipped.startswith(" 10  full ") and "skipped: only 3 rows" in skipped
