"""What rows with gaps and errors tell of a mixture is what a slow twin makes of them, one by one, on every way."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Incomplete, Noisy, Rows
from jaxgmm.data.patterns import trusted
from tests import blurred, cases
from tests.blurred import KINDS, check_close, e_step, everything
from tests.cases import FAMILIES
from tests.programs import programs_with


def tolerance(dtype):
    return 1e-8 if dtype == np.float64 else 1e-4


def expectation_of_twin(family, mixture, x, weights):
    expected = blurred.twin(family, mixture, x, weights)
    return expected["moments"], expected["log_likelihood"]


def stretched(mixture, scale, shift=0.0):
    """The mixture with standard deviations times a scale, and means moved."""
    covs = jax.tree.map(lambda leaf: leaf * np.asarray(scale, leaf.dtype), mixture.covs)
    return jaxgmm.Mixture(mixture.log_weights, mixture.means + shift, covs, mixture.family)


QUICK = [*(("full", kind) for kind in KINDS), ("tied", "gaps"), ("diag", "variances"), ("spherical", "gaps")]
"""Families and kinds of rows that are compiled by default, for as many ways as there are."""


def test_row_by_row_they_are_the_twins(dtype):
    check_row_by_row(QUICK, dtype)


@pytest.mark.exhaustive
def test_row_by_row_they_are_the_twins_in_every_family(dtype):
    check_row_by_row([(family, kind) for family in FAMILIES for kind in KINDS], dtype)


def check_row_by_row(members, dtype):
    for family, kind in members:
        for seed, share in enumerate((0.05, 0.3, 0.5)):
            mixture, x, weights = blurred.problem(family, dtype, share=share, seed=seed)
            noise = blurred.noise_of(x, kind)
            found = everything(mixture, blurred.as_data(x, weights, noise))
            check_close(found, blurred.twin(family, mixture, x, weights, noise), tolerance(dtype))


def test_by_patterns_and_by_masks_they_are_the_twins(dtype):
    """The same where these are not exact enough: components so tight, so far away, that rows go one by one."""
    for family in FAMILIES:
        mixture, x, weights = blurred.problem(family, dtype)
        tight, far = (3e-4, 0.0) if dtype == np.float64 else (2e-7, 1.0)
        away = stretched(mixture, tight, far)
        around = np.asarray(away.means)[np.arange(len(x)) % 2] + tight * x
        for there, rows in ((mixture, x), (away, around.astype(dtype))):
            data = blurred.laid_out(rows, weights)
            stack = jax.tree.map(lambda leaf: leaf[None], there)
            assert trusted(stack, data.measured) == (there is mixture)
            moments, total = e_step(there, data)
            expected = expectation_of_twin(family, there, rows, weights)
            rtol = tolerance(dtype) if there is mixture or dtype == np.float64 else 0.5
            check_close((tuple(moments), total), expected, rtol)


@pytest.mark.parametrize("family", FAMILIES)
def test_stacks_are_their_members(family, dtype):
    """Of mixtures, of weights, of both, and of rows: one larger stack, or passes of their own."""
    mixture, x, weights = blurred.problem(family, dtype)
    data = blurred.laid_out(x, weights)
    mixtures = [mixture, stretched(mixture, 1.5, 0.25)]
    weighings = [weights, np.where(np.arange(len(x)) % 5 == 0, 0, weights).astype(dtype)]
    others = [x, blurred.problem(family, dtype, seed=5)[1]]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *mixtures)

    @jax.jit
    def together(stack, data, weighings, others):
        def weighed(mixture, weights):
            return jaxgmm.e_step(mixture, dataclasses.replace(data, weights=weights))

        def of_rows(rows):
            return jaxgmm.e_step(mixture, Incomplete(rows, data.weights).ready(None))

        along = jax.vmap(lambda mixture: jax.vmap(weighed, (None, 0))(mixture, weighings))(stack)
        return jax.vmap(jaxgmm.e_step, (0, None))(stack, data), along, jax.vmap(of_rows)(others)

    of_mixtures, of_both, of_rows = together(stack, data, np.stack(weighings), np.stack(others))
    of_both = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), of_both)
    for found, given in (
        (of_mixtures, [(m, x, weights) for m in mixtures]),
        (of_both, [(m, x, w) for m in mixtures for w in weighings]),
        (of_rows, [(mixture, rows, weights) for rows in others]),
    ):
        for place, each in enumerate(given):
            moments, total = jax.tree.map(lambda leaf, place=place: leaf[place], found)
            check_close((tuple(moments), total), expectation_of_twin(family, *each), tolerance(dtype))


@pytest.mark.parametrize("family", FAMILIES)
def test_several_chunks_are_one(family, dtype):
    mixture, x, weights = blurred.problem(family, dtype)
    small = {
        "jaxgmm.numerics.chunks._ELEMENTS": 16 * 18,
        "jaxgmm.data.patterns.CHUNK": 64,
        "jaxgmm.data.masks.CHUNK": 64,
    }
    with programs_with(small):
        for data in (Incomplete(x, weights), blurred.laid_out(x, weights)):
            moments, total = jaxgmm.e_step(mixture, data)
            check_close((tuple(moments), total), expectation_of_twin(family, mixture, x, weights), tolerance(dtype))


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_without_gaps_or_errors_are_plain(family, dtype):
    mixture, x, weights = cases.drawn_rows(family, blurred.N_ROWS, dtype, n_components=blurred.N_COMPONENTS)
    expected = everything(mixture, Rows(x, weights))
    plain = [Noisy(x, np.zeros_like(x), weights), Noisy(x, np.zeros((*x.shape, 3), dtype), weights)]
    for data in (Incomplete(x, weights), *plain):
        check_close(everything(mixture, data), expected, tolerance(dtype))
    moments, total = e_step(mixture, blurred.laid_out(x, weights))
    check_close((tuple(moments), total), (expected["moments"], expected["log_likelihood"]), tolerance(dtype))


@pytest.mark.exhaustive
def test_columns_and_starts_are_those_of_the_true_rows(dtype):
    """Of rows without gaps or errors these themselves; of many with them close to them."""
    _, x, weights = cases.drawn_rows("full", blurred.N_ROWS, dtype, n_components=2)
    wanted = blurred.columns(Rows(x, weights))
    for data in (Incomplete(x, weights), Noisy(x, np.zeros_like(x), weights)):
        check_close(blurred.columns(data), wanted, tolerance(dtype))
        drawn = blurred.draw_rows(jax.random.key(0), data, 100)
        np.testing.assert_array_equal(drawn.x, x)
        np.testing.assert_array_equal(drawn.weights, weights)
    _, x, weights = cases.drawn_rows("full", 6000, dtype, n_components=2)
    noise = np.random.default_rng(0).uniform(0.5, 8.0, x.shape).astype(dtype)
    noisy = x + np.sqrt(noise) * np.random.default_rng(1).normal(size=x.shape).astype(dtype)
    wanted = blurred.columns(Rows(x, weights))
    for data in (Incomplete(blurred.gappy(x, 0.4), weights), Noisy(blurred.gappy(noisy, 0.4), noise, weights)):
        for found in (blurred.columns(data), blurred.columns(blurred.draw_rows(jax.random.key(0), data, 3000))):
            np.testing.assert_allclose(found.mean, wanted.mean, atol=0.15 * np.sqrt(np.max(wanted.variance)))
            np.testing.assert_allclose(found.variance, wanted.variance, rtol=0.2)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_leaves_the_rows_as_they_are_changes_nothing(family, dtype):
    """An infinite variance for a gap, another order, repeats for weights, and parts, merged, for the whole."""
    mixture, x, weights = blurred.problem(family, dtype)
    rtol = tolerance(dtype)
    for kind in KINDS:
        noise = blurred.noise_of(x, kind)

        def figures(rows, weights, noise=noise):
            return everything(mixture, blurred.as_data(rows, weights, noise))

        expected = figures(x, weights)
        if kind != "gaps":
            variances = noise if kind == "variances" else np.diagonal(noise, axis1=1, axis2=2)
            absurd = np.where(np.isinf(variances), dtype(1e9), x)
            check_close(figures(absurd, weights), expected, rtol)
        order = np.random.default_rng(0).permutation(len(x))
        shuffled = figures(x[order], weights[order], None if noise is None else noise[order])
        for name in ("moments", "log_likelihood"):
            check_close(shuffled[name], expected[name], rtol)
        check_close(shuffled["true"], jax.tree.map(lambda leaf, order=order: leaf[order], expected["true"]), rtol)
        counts = np.bincount(np.random.default_rng(1).integers(0, len(x), len(x)), minlength=len(x)).astype(dtype)
        again = np.repeat(np.arange(len(x)), counts.astype(int))
        repeated = figures(x[again], np.ones_like(weights), None if noise is None else noise[again])
        weighed = figures(x, counts)
        for name in ("moments", "log_likelihood"):
            check_close(repeated[name], weighed[name], rtol)
        first = np.arange(len(x)) < 17
        parts = [figures(x, np.where(part, weights, 0).astype(dtype)) for part in (first, ~first)]
        merged = jaxgmm.merge(*(jaxgmm.Moments(*part["moments"]) for part in parts))
        check_close(tuple(merged), expected["moments"], rtol)
        check_close(parts[0]["log_likelihood"] + parts[1]["log_likelihood"], expected["log_likelihood"], rtol)


@pytest.mark.parametrize("family", FAMILIES)
def test_columns_in_another_order_and_columns_never_seen(family, dtype):
    mixture, x, weights = blurred.problem(family, dtype)
    order, rtol = [2, 0, 1], tolerance(dtype)
    turned = jaxgmm.marginal(mixture, order)
    gone, rest = x.copy(), jaxgmm.marginal(mixture, [0, 2])
    gone[:, 1] = np.nan
    few = Incomplete(x[:, [0, 2]], weights)
    for kind in KINDS:
        noise = blurred.noise_of(x, kind)
        expected = everything(mixture, blurred.as_data(x, weights, noise))
        again = noise if noise is None else noise[:, order] if kind == "variances" else noise[:, order][:, :, order]
        found = everything(turned, blurred.as_data(x[:, order], weights, again))
        for name in ("log_prob", "log_components", "responsibilities"):
            check_close(found[name], expected[name], rtol)
        mean, covariance = (np.asarray(leaf) for leaf in expected["true"])
        check_close(found["true"], (mean[:, order], covariance[:, order][:, :, order]), rtol)
    found = everything(mixture, Incomplete(gone, weights))
    for name in ("log_prob", "log_components", "log_joint", "responsibilities"):
        check_close(found[name], getattr(jaxgmm, name)(rest, few), rtol)


def test_rows_of_which_nothing_was_seen_count_for_nothing(dtype):
    """So do rows of weight 0, whatever they hold."""
    for family in ("full", "diag"):
        mixture, x, weights = blurred.problem(family, dtype)
        for kind in KINDS:
            noise = blurred.noise_of(x, kind)
            empty, none, hollow = x.copy(), weights.copy(), noise
            empty[[3, 9]] = np.nan
            if kind == "variances":
                empty[9], hollow = 1.0, np.where(np.arange(len(x))[:, None] == 9, dtype(np.inf), noise)
            none[[3, 9, 20]] = 0
            wild = empty.copy()
            wild[20] = [np.inf, -np.inf, np.finfo(dtype).max]
            expected = everything(mixture, blurred.as_data(x, none, noise))
            given = np.where(np.arange(len(x)) == 20, 0, weights).astype(dtype)
            found = everything(mixture, blurred.as_data(wild, given, hollow))
            for name in ("moments", "log_likelihood"):
                check_close(found[name], expected[name], tolerance(dtype))
            np.testing.assert_allclose(found["log_prob"][np.array([3, 9])], 0, atol=tolerance(dtype))
            np.testing.assert_allclose(found["responsibilities"][3], mixture.weights, rtol=tolerance(dtype))
            whole = jaxgmm.total_moments(mixture)
            check_close(jax.tree.map(lambda leaf: leaf[3], found["true"]), tuple(whole), tolerance(dtype))
        moments, total = e_step(mixture, blurred.laid_out(empty, weights))
        expected = everything(mixture, Incomplete(x, np.where(np.isin(np.arange(len(x)), [3, 9]), 0, weights)))
        check_close((tuple(moments), total), (expected["moments"], expected["log_likelihood"]), tolerance(dtype))
