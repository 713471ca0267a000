"""Known mixtures are recovered as closely as the information allows, and BIC finds their number of components."""

import numpy as np
import pytest

import jaxgmm
from experiments.recovery.estimates import compare
from experiments.recovery.truths import draws, error_of_best, truth

pytestmark = pytest.mark.needs_x64

N_SETS, N_ROWS, N_REFERENCE = 16, 500, 20_000


@pytest.fixture(scope="module")
def apart():
    return truth("full", 2, 0.001, N_REFERENCE)


@pytest.fixture(scope="module")
def selections(apart):
    """Rows, labels and what was chosen of them."""
    return [
        (x, labels, jaxgmm.select(key, x, range(2, 5), ["full"], n_init=2, max_iter=100))
        for key, x, labels in draws(apart, N_ROWS, N_SETS)
    ]


def test_the_best_classifier_errs_as_often_as_asked(apart):
    assert error_of_best(apart, N_REFERENCE) == pytest.approx(0.001, rel=0.01)


@pytest.mark.exhaustive
def test_bic_takes_as_many_components_as_there_are(selections):
    assert [chosen.best.n_components for _, _, chosen in selections] == [3] * N_SETS


@pytest.mark.exhaustive
def test_errors_are_what_the_information_says(apart, selections):
    """2N KL over its 17 degrees of freedom is 1 ± 0.09 for 16 data sets, by χ²; the ratios are 1 ± 0.1 or so."""
    fits = [(chosen.candidates[1].result, x, labels) for x, labels, chosen in selections]
    found = compare(apart, fits, N_REFERENCE)
    assert found.n_unsound == 0
    assert found.divergence == pytest.approx(1, abs=0.3)
    np.testing.assert_allclose(found.ratios, 1, atol=0.3)
    assert found.agreement > found.best_agreement - 0.005
