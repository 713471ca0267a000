"""What is drawn is what the mixture says; bad input is named, and no figure is left behind."""

import importlib
import inspect
import sys

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from matplotlib.colors import to_rgb
from matplotlib.contour import QuadContourSet
from scipy import stats

import jaxgmm
from jaxgmm import Candidate, FitResult, Selection, Status, plotting
from jaxgmm.plotting import colours, regions, views
from tests import cases

PUBLIC = "clusters ellipses uncertainty contours curves pairs responsibilities criteria traces palette".split()
DRAWN_FROM_ROWS = [plotting.clusters, plotting.uncertainty, plotting.contours, plotting.curves, plotting.pairs]
NAMES = ["length", "depth", "mass"]
TABLES = {
    "pandas": lambda x: pd.DataFrame(x, columns=NAMES),
    "polars": lambda x: pl.DataFrame(x, schema=NAMES),
    "pyarrow": lambda x: pa.table(dict(zip(NAMES, x.T, strict=True))),
}
MIXTURE, _ = cases.mixture("full")
X, WEIGHTS = cases.rows()


@pytest.fixture(autouse=True)
def _settings_and_figures():
    """No function changes a setting; every test begins without figures."""
    settings = dict(matplotlib.rcParams)
    yield
    plt.close("all")
    assert dict(matplotlib.rcParams) == settings


@pytest.fixture
def ax():
    return plt.figure().add_subplot()


def result(history, status=Status.CONVERGED, n_iter=None, n_passes=None, mixture=MIXTURE, names=None):
    """A fit of `n_iter` iterations, whose history goes on with NaN."""
    history = np.asarray(history, np.float64)
    n_iter = len(history) if n_iter is None else n_iter
    last = float(history[n_iter - 1])
    n_passes = n_iter + 1 if n_passes is None else n_passes
    padded = jnp.asarray(np.append(history, np.full(3, np.nan)))
    return FitResult(mixture, last, last, n_iter, n_passes, status, padded, feature_names=names)


def outlines(ax):
    return [patch for patch in ax.patches if not patch.get_fill()]


def texts(legend):
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_function_is_documented(name):
    function = getattr(plotting, name)
    text = inspect.getdoc(function)
    assert "Args:" in text and "Returns:" in text and "Raises:" in text and f"    {name} " in plotting.__doc__
    for parameter in inspect.signature(function).parameters.values():
        assert f"    {parameter.name}:" in text and parameter.annotation is not inspect.Parameter.empty


def test_without_matplotlib_the_remedy_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "jaxgmm.plotting")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxgmm\[plot\]'"):
        importlib.import_module("jaxgmm.plotting")


@pytest.mark.parametrize("draw", DRAWN_FROM_ROWS, ids=lambda draw: draw.__name__)
def test_draws_in_the_axes_given_or_in_one_new_figure(draw, ax):
    if draw is not plotting.pairs:
        assert draw(MIXTURE, X, ax) is ax
    assert plt.get_fignums() == [1]
    drawn = draw(MIXTURE, X)
    assert plt.get_fignums() == [1, 2]
    np.ravel(drawn)[0].figure.canvas.draw()


@pytest.mark.parametrize("covariance_type", cases.FAMILIES)
@pytest.mark.parametrize("dims", [(0, 1), (2, 0)])
def test_ellipses_are_the_marginal_covariances(covariance_type, dims, ax):
    mixture, _ = cases.mixture(covariance_type)
    plotting.ellipses(mixture, ax, dims=dims, coverage=(0.5, 0.9))
    drawn = outlines(ax)
    assert len(drawn) == 2 * mixture.n_components
    for place, ellipse in enumerate(drawn):
        k, squared = place // 2, stats.chi2.ppf((0.5, 0.9)[place % 2], 2)
        angle = np.radians(ellipse.angle)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        axes = np.diag([ellipse.width**2, ellipse.height**2]) / 4
        expected = squared * np.asarray(mixture.covariances)[k][np.ix_(dims, dims)]
        np.testing.assert_allclose(turn @ axes @ turn.T, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(ellipse.center, np.asarray(mixture.means)[k, list(dims)], rtol=1e-6)
        np.testing.assert_allclose(ellipse.get_edgecolor()[:3], plotting.palette(3)[k])
    assert [text.get_text() for text in ax.texts] == ["0", "1", "2"]


def test_components_without_weight_are_not_drawn(ax):
    mixture = jaxgmm.make_mixture([0.4, 0.0, 0.6], np.asarray(MIXTURE.means), np.asarray(MIXTURE.covariances))
    plotting.clusters(mixture, X, ax)
    assert len(outlines(ax)) == 4
    assert texts(ax.get_legend())[:2] == ["0: 40%", "2: 60%"]
    np.testing.assert_allclose(outlines(ax)[2].get_edgecolor()[:3], plotting.palette(3)[2])
    bars = plotting.responsibilities(mixture, X[0])
    assert [label.get_text() for label in bars.get_yticklabels()] == ["0", "2"]


def test_numbers_of_components_at_one_place_stand_apart(ax):
    mixture = jaxgmm.make_mixture([0.4, 0.6], np.zeros((2, 2)), np.array([1.0, 4.0]), covariance_type="spherical")
    plotting.ellipses(mixture, ax)
    ax.figure.canvas.draw()
    first, second = (text.get_window_extent() for text in ax.texts)
    assert abs(first.y0 - second.y0) > 8


def test_certain_rows_have_their_component_s_colour_and_doubtful_ones_a_blend(ax):
    mixture = jaxgmm.make_mixture([0.5, 0.5], [[-9.0, 0.0], [9.0, 0.0]], [1.0, 1.0], covariance_type="spherical")
    x = np.array([[-9.0, 0.0], [9.0, 0.0], [0.0, 1.0]])
    plotting.clusters(mixture, x, ax)
    rows = ax.collections[0]
    first, second, between = rows.get_facecolors()[:, :3]
    np.testing.assert_allclose([first, second], plotting.palette(2), atol=1e-5)
    np.testing.assert_array_equal(rows.get_offsets(), x)
    assert np.abs(between - first).max() > 0.2 and np.abs(between - second).max() > 0.2
    assert texts(ax.get_legend()) == ["0: 50%", "1: 50%", "50%, 95% inside"]


def test_blends_are_even_in_lightness_and_stay_colours():
    ends = plotting.palette(2)
    share = np.linspace(0, 1, 5)[:, None]
    mixed = colours.blend(np.hstack([1 - share, share]), ends)
    np.testing.assert_allclose(np.diff(colours._to_oklab(mixed), n=2, axis=0), 0, atol=1e-7)
    np.testing.assert_allclose(mixed[[0, -1]], ends, atol=1e-7)
    every = colours.blend(np.random.default_rng(0).dirichlet(np.ones(48), 100), plotting.palette(48))
    assert ((every >= 0) & (every <= 1)).all()


def test_the_palette_is_one_sequence_that_every_eye_tells_apart():
    assert [tuple(colour) for colour in plotting.palette(3)] == [to_rgb(f"#{name}") for name in colours.OKABE_ITO[:3]]
    np.testing.assert_array_equal(plotting.palette(20)[:9], plotting.palette(9))
    np.testing.assert_array_equal(plotting.palette(50)[48:], plotting.palette(2))
    assert len(np.unique(plotting.palette(48), axis=0)) == 48
    for vision in (np.eye(3), colours.DEUTERANOPIA, colours.PROTANOPIA):
        lab = colours._to_oklab(colours.simulate(plotting.palette(10), vision))
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(10, 1)]
        assert apart.min() > 0.05
        np.testing.assert_allclose(colours.simulate(np.ones(3), vision), 1, atol=1e-5)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_columns_name_the_axes_and_the_dims(table):
    x = table(X)
    drawn = plotting.clusters(MIXTURE, x)
    assert (drawn.get_xlabel(), drawn.get_ylabel()) == ("length", "depth")
    drawn = plotting.contours(MIXTURE, x, dims=("mass", "length"))
    assert (drawn.get_xlabel(), drawn.get_ylabel()) == ("mass", "length")
    assert plotting.curves(MIXTURE, x, dims="mass").get_xlabel() == "mass"


def test_a_fit_and_a_candidate_lend_their_mixture_and_names():
    fitted = jaxgmm.fit(jax.random.key(0), TABLES["pandas"](X), 2, covariance_type="diag", n_init=1, max_iter=2)
    for thing in (fitted, Candidate(2, "diag", 1, result=fitted)):
        drawn = plotting.ellipses(thing, dims=("depth", 2))
        assert (drawn.get_xlabel(), drawn.get_ylabel()) == ("depth", "mass")
    drawn = plotting.ellipses(MIXTURE, dims=(-1, 0))
    assert (drawn.get_xlabel(), drawn.get_ylabel()) == ("column 2", "column 0")
    with pytest.raises(ValueError, match=r"x has the columns .*: pass x\[\['length', 'depth', 'mass'\]\]"):
        plotting.clusters(fitted, TABLES["pandas"](X)[["mass", "depth", "length"]])
    renamed = TABLES["pandas"](X).rename(columns={"depth": "height"})
    with pytest.raises(ValueError, match="rename the one that is 'depth', and pass x"):
        plotting.clusters(fitted, renamed, dims=[0, 1])


def test_a_row_has_its_columns_where_the_fit_had_them():
    fitted = result([-1.0], names=tuple(NAMES))
    table = TABLES["pandas"](X)
    expected = [text.get_text() for text in plotting.responsibilities(MIXTURE, X[0]).texts]
    for row in (table[:1], table.iloc[0], TABLES["polars"](X)[:1], TABLES["pyarrow"](X)[:1], list(X[0]), X[0]):
        assert [text.get_text() for text in plotting.responsibilities(fitted, row).texts] == expected
    turned, n_figures = table[NAMES[::-1]], len(plt.get_fignums())
    for row in (turned[:1], turned.iloc[0]):
        with pytest.raises(ValueError, match=r"row has the columns .*: pass row\[\['length', 'depth', 'mass'\]\]"):
            plotting.responsibilities(fitted, row)
    assert len(plt.get_fignums()) == n_figures


def test_uncertainty_is_area_and_the_hard_assignment_colour(ax):
    plotting.uncertainty(MIXTURE, X, ax)
    rows = ax.collections[0]
    doubt = np.asarray(jaxgmm.uncertainty(MIXTURE, X))
    order = np.argsort(doubt, kind="stable")
    np.testing.assert_array_equal(rows.get_offsets(), X[order, :2])
    np.testing.assert_allclose(rows.get_sizes(), 5 + 150 * doubt[order])
    expected = plotting.palette(3)[np.asarray(jaxgmm.predict(MIXTURE, X))][order]
    np.testing.assert_allclose(rows.get_facecolors()[:, :3], expected)
    assert texts(ax.get_legend()) == ["0", "0.1", "0.25", "0.5"]


def test_uncertainty_of_one_column_is_a_height(ax):
    plotting.uncertainty(MIXTURE, X, ax, dims=2)
    heights = sorted(segment[1, 1] for segment in ax.collections[0].get_segments())
    np.testing.assert_allclose(heights, np.sort(jaxgmm.uncertainty(MIXTURE, X)))


@pytest.mark.parametrize("covariance_type", cases.FAMILIES)
def test_levels_hold_what_they_say(covariance_type):
    mixture, _ = cases.mixture(covariance_type, n_features=2)
    shown = views.as_view(mixture, None, None).components()
    coverage = (0.1, 0.5, 0.95)
    found = regions.levels(mixture, shown, coverage)
    draws, _ = jaxgmm.sample(jax.random.key(0), mixture, 20_000)
    inside = np.asarray(jaxgmm.log_prob(mixture, draws))[:, None] >= found
    np.testing.assert_allclose(inside.mean(axis=0), coverage, atol=0.012)


def test_levels_of_one_gaussian_are_its_ellipses():
    one = jaxgmm.make_mixture([1.0], [[3.0, -5.0]], [[[2.0, 0.9], [0.9, 0.5]]])
    found = regions.levels(one, views.as_view(one, None, None).components(), (0.25, 0.5, 0.95))
    peak = float(jaxgmm.log_prob(one, np.array([3.0, -5.0])))
    np.testing.assert_allclose(peak - found, stats.chi2.ppf((0.25, 0.5, 0.95), 2) / 2, rtol=2e-3)


def test_regions_that_hold_all_but_little_hold_that_and_say_so(ax):
    coverage = 1 - np.array([1e-2, 5e-3, 1e-3, 1e-4, 1e-6, 1e-9, 1e-12])
    one = jaxgmm.make_mixture([1.0], np.zeros((1, 2)), [np.diag([1.0, 9.0])])
    found = regions.levels(one, views.as_view(one, None, None).components(), tuple(coverage))
    outside = stats.chi2.sf(2 * (float(jaxgmm.log_prob(one, np.zeros(2))) - found), 2)
    np.testing.assert_allclose(outside, 1 - coverage, rtol=0.02)
    far_apart = jaxgmm.make_mixture([0.9, 0.1], [[0.0, 0.0], [90.0, 0.0]], [np.eye(2), 4 * np.eye(2)])
    found = regions.levels(far_apart, views.as_view(far_apart, None, None).components(), tuple(coverage))
    heights = np.log([0.9, 0.1]) - np.log(2 * np.pi * np.array([1.0, 4.0]))
    outside = stats.chi2.sf(2 * np.maximum(heights - found[:, None], 0), 2) @ [0.9, 0.1]
    np.testing.assert_allclose(outside, 1 - coverage, rtol=0.02)
    plotting.contours(one, None, ax, coverage=(0.995, 0.9999, 1 - 1e-9))
    assert texts(ax.get_legend()) == ["99.5%", "99.99%", "99.9999999%"]
    low, high = np.array([path.get_extents().get_points() for path in ax.collections[-1].get_paths()]).swapaxes(0, 1)
    radii = np.sqrt(-2 * np.log([1e-9, 1e-4, 5e-3]))
    np.testing.assert_allclose(high, radii[:, None] * [1.0, 3.0], rtol=0.01)
    np.testing.assert_allclose(low, -high, rtol=0.01)


def test_contours_are_at_the_levels(ax):
    plotting.contours(MIXTURE, X, ax, dims=(0, 2), coverage=(0.5, 0.9))
    filled, lines = (drawn for drawn in ax.collections if isinstance(drawn, QuadContourSet))
    plane = jaxgmm.marginal(MIXTURE, (0, 2))
    expected = regions.levels(plane, views.as_view(plane, None, None).components(), (0.5, 0.9))[::-1]
    np.testing.assert_allclose(lines.levels, expected)
    np.testing.assert_allclose(filled.levels, [*expected, np.inf])
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        on_line = np.asarray(jaxgmm.log_prob(plane, path.vertices[:50]))
        np.testing.assert_allclose(on_line, level, atol=0.01)
    assert texts(ax.get_legend()) == ["50%", "90%"]
    assert ax.get_xlim()[0] < X[:, 0].min() and ax.get_xlim()[1] > X[:, 0].max()


@pytest.mark.parametrize("covariance_type", cases.FAMILIES)
def test_curves_are_the_components_and_their_sum(covariance_type, ax):
    mixture, _ = cases.mixture(covariance_type)
    plotting.curves(mixture, X, ax, dims=1, sample_weight=WEIGHTS)
    total, *parts = ax.lines
    at = total.get_xdata()
    deviations = np.sqrt(np.asarray(mixture.covariances)[:, 1, 1])
    for k, part in enumerate(parts):
        expected = float(mixture.weights[k]) * stats.norm.pdf(at, float(mixture.means[k, 1]), deviations[k])
        np.testing.assert_allclose(part.get_ydata(), expected, rtol=1e-4, atol=1e-7)
    assert np.trapezoid(total.get_ydata(), at) == pytest.approx(1, abs=2e-3)
    assert sum(bar.get_width() * bar.get_height() for bar in ax.patches) == pytest.approx(1)
    assert texts(ax.get_legend())[-1] == "sum" and (ax.get_xlabel(), ax.get_ylabel()) == ("column 1", "density")


def test_one_column_is_drawn_by_curves(ax):
    mixture, _ = cases.mixture("spherical", n_features=1)
    plotting.clusters(mixture, X[:, :1], ax)
    assert ax.get_ylabel() == "density" and len(ax.lines) == 4
    with pytest.raises(ValueError, match="mixture has 1 column, but 2 are needed: a single one is drawn by curves"):
        plotting.ellipses(mixture)


def test_narrow_components_are_seen_in_curves_and_grids():
    mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [50.0]], [1e-4, 100.0], covariance_type="spherical")
    shown = views.as_view(mixture, None, None).components()
    lines = regions.lines(shown, 0, 240, np.zeros(0))
    assert len(lines) == 240 and (np.diff(lines) >= 0).all()
    # Of the 60 over seven of its standard deviations, those within one of its mean.
    assert np.sum(np.abs(lines) <= 0.01) == 17


def test_pairs_are_a_triangle_with_common_limits():
    axes = plotting.pairs(MIXTURE, TABLES["pandas"](X), sample_weight=WEIGHTS)
    assert axes.shape == (3, 3)
    assert [[ax.get_visible() for ax in row] for row in axes] == np.tri(3, dtype=bool).tolist()
    for d in range(3):
        assert len({ax.get_xlim() for ax in axes[d:, d]} | {ax.get_ylim() for ax in axes[d, :d]}) == 1
    assert [ax.get_xlabel() for ax in axes[2]] == NAMES
    assert [ax.get_ylabel() for ax in axes[1:, 0]] == NAMES[1:]
    np.testing.assert_array_equal(axes[2, 1].collections[0].get_offsets(), X[:, [1, 2]])
    assert texts(axes[0, 0].figure.legends[0])[-1] == "50%, 95% inside"


def test_pairs_in_axes_given():
    own = plt.figure().subplots(2, 2)
    assert plotting.pairs(MIXTURE, None, own, dims=(2, 0)) is own
    assert plt.get_fignums() == [1]
    assert own[1, 0].get_xlabel() == "column 2" and not own[0, 1].get_visible()
    for axes, error, message in (
        (np.array([own[0, 0]]), ValueError, r"axes must have shape \(2, 2\), one for each pair of dims, not \(1,\)"),
        ("axes", TypeError, "axes must be an array of matplotlib Axes or None, but holds str"),
    ):
        with pytest.raises(error, match=message):
            plotting.pairs(MIXTURE, X, axes, dims=(2, 0))
    wide = jaxgmm.make_mixture([1.0], np.zeros((1, 13)), np.ones(1), covariance_type="spherical")
    with pytest.raises(ValueError, match="dims must name 2 to 12 columns, not 13: .* some are chosen by dims"):
        plotting.pairs(wide)


def test_of_many_rows_a_sample_is_drawn_and_said(ax):
    plotting.clusters(MIXTURE, X, ax, max_rows=10)
    first = ax.collections[0].get_offsets()
    assert len(first) == 10 and "10 of 40 rows" in [text.get_text() for text in ax.texts]
    np.testing.assert_array_equal(first, plotting.clusters(MIXTURE, X, max_rows=10).collections[0].get_offsets())
    assert len(plotting.clusters(MIXTURE, X, max_rows=None).collections[0].get_offsets()) == 40


def test_rows_of_weight_zero_are_left_out(ax):
    x, weights = X.copy(), WEIGHTS.copy()
    x[3], weights[3] = np.nan, 0.0
    plotting.clusters(MIXTURE, x, ax, sample_weight=weights)
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), np.delete(X, 3, axis=0)[:, :2])


def test_float32_and_an_offset(ax):
    mixture, _ = cases.mixture("full", dtype=np.float32)
    plotting.clusters(mixture, X.astype(np.float32), ax)
    far = jaxgmm.affine(MIXTURE, 1.0, 1e6)
    for draw in DRAWN_FROM_ROWS:
        draw(far, X + 1e6)


def test_responsibilities_are_bars_beside_the_weights(ax):
    plotting.responsibilities(MIXTURE, X[0], ax)
    expected = np.asarray(jaxgmm.responsibilities(MIXTURE, X[:1]))[0]
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], expected, rtol=1e-6)
    np.testing.assert_allclose([bar.get_facecolor()[:3] for bar in ax.patches], plotting.palette(3))
    starts = [segment[0, 0] for segment in ax.collections[0].get_segments()]
    np.testing.assert_allclose(starts, MIXTURE.weights, rtol=1e-6)
    assert [text.get_text() for text in ax.texts] == [f"{value:.2g}" for value in expected]


def test_of_many_components_the_least_responsible_are_one_bar(ax):
    means = np.arange(20.0)[:, None]
    mixture = jaxgmm.make_mixture(np.full(20, 0.05), means, np.full(20, 9.0), covariance_type="spherical")
    plotting.responsibilities(mixture, [3.0], ax)
    widths = [bar.get_width() for bar in ax.patches]
    assert len(widths) == 15 and sum(widths) == pytest.approx(1, rel=1e-6)
    assert ax.get_yticklabels()[-1].get_text() == "6 others"


def candidate(n_components, family, bic, status=Status.CONVERGED):
    fitted = result([1.0], status)
    return Candidate(n_components, family, 1, 1.0, bic + 7, bic, bic + 1, fitted)


SELECTION = Selection(
    (
        candidate(1, "full", 30.0),
        candidate(2, "full", 10.0),
        candidate(3, "full", -500.0, Status.COLLAPSED),
        candidate(4, "full", float("nan"), Status.NONFINITE),
        candidate(5, "full", 14.0),
        Candidate(6, "full", 1, skipped="only 5 rows"),
        candidate(2, "tied", 16.0),
        candidate(1, "tied", 20.0),
        candidate(1, "spherical", 9000.0),
        Candidate(1, "diag", 1, skipped="the same model as 'full'"),
    ),
    "bic",
)


def test_criteria_are_lines_with_collapsed_fits_off_them(ax):
    plotting.criteria(SELECTION, ax)
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    np.testing.assert_array_equal(lines["full"].get_ydata(), [30, 10, np.nan, np.nan, 14, np.nan])
    np.testing.assert_array_equal(lines["tied"].get_xdata(), [1, 2])
    np.testing.assert_array_equal(lines["tied"].get_ydata(), [20, 16])
    collapsed = ax.lines[1]
    assert collapsed.get_markerfacecolor() == "none"
    bottom, top = ax.get_ylim()
    np.testing.assert_array_equal(collapsed.get_ydata(), [np.nan, np.nan, bottom, np.nan, np.nan, np.nan])
    assert bottom < 10 and 20 < top < 30
    assert (ax.lines[-1].get_xdata()[0], ax.lines[-1].get_ydata()[0]) == (2, 10)
    assert texts(ax.get_legend()) == ["full", "tied", "spherical (above)", "collapsed", "lowest: K = 2, full"]
    assert ax.get_ylabel() == "BIC (lower is better)"


def test_another_criterion_and_selections_without_a_sound_fit(ax):
    plotting.criteria(SELECTION, ax, criterion="aic", legend=False)
    assert ax.lines[0].get_ydata()[0] == 37 and ax.get_legend() is None
    lone = Selection((candidate(2, "full", 3.0, Status.COLLAPSED),), "icl")
    assert plotting.criteria(lone).get_ylim()[0] < 4 < plotting.criteria(lone).get_ylim()[1]
    with pytest.raises(ValueError, match="criterion must be one of 'bic', 'aic', 'icl', not 'dic'"):
        plotting.criteria(SELECTION, criterion="dic")
    with pytest.raises(ValueError, match="no candidate could be fitted: only 5 rows"):
        plotting.criteria(Selection(SELECTION.candidates[5:6], "bic"))
    with pytest.raises(TypeError, match="selection must be what jaxgmm.select returned, not list"):
        plotting.criteria([1])


def test_traces_are_gaps_to_the_best(ax):
    results = {
        "EM": result([-20.0, -12.0, -10.0]),
        "Adam": result([-30.0, -20.0, -15.0, -14.0], Status.MAX_ITER, n_passes=9),
        "singular": result([-11.0, 50.0], Status.COLLAPSED),
    }
    plotting.traces(results, ax)
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["EM"].get_ydata(), [10, 2, np.nan])
    np.testing.assert_allclose(lines["EM"].get_xdata(), [2, 3, 4])
    np.testing.assert_allclose(lines["Adam"].get_ydata(), [20, 10, 5, 4])
    np.testing.assert_allclose(lines["Adam"].get_xdata(), [3, 5, 7, 9])
    np.testing.assert_allclose(lines["singular"].get_ydata(), [1, np.nan])
    assert ax.get_yscale() == "log" and ax.get_xlabel() == "passes over the data"
    named = texts(ax.get_legend())
    assert named[:2] == ["EM: 4 passes", "Adam: 9 passes"]
    assert named[3:] == ["converged", "max iter", "collapsed", "rounding"]


def test_traces_from_a_known_best_by_iterations_per_row(ax):
    plotting.traces(result([-20.0, -12.0, -10.0]), ax, against="iterations", best=-10.0, n_rows=4)
    rounding, line, end = ax.lines
    floor = np.finfo(np.float64).eps * 10 / 4
    np.testing.assert_allclose(line.get_ydata(), [2.5, 0.5, floor])
    np.testing.assert_allclose(line.get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(rounding.get_ydata(), floor)
    assert (end.get_xdata()[0], end.get_ydata()[0], end.get_marker()) == (3, floor, "o")
    assert ax.get_ylabel() == "objective below the best, per row"


def test_stacked_traces_and_a_climb_that_never_stepped(ax):
    one, other = result([-5.0, -3.0], Status.MAX_ITER), result([-4.0, -1.0])
    stack = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), one, other)
    still = result([-2.0], n_iter=1)._replace(n_iter=0, n_passes=1, history=jnp.full(3, jnp.nan))
    plotting.traces({"EM": stack, "still": still}, ax)
    drawn = [line for line in ax.lines if line.get_label() == "EM"]
    np.testing.assert_allclose([line.get_ydata() for line in drawn], [[4, 2], [3, np.nan]])
    assert texts(ax.get_legend())[:2] == ["EM: 2 climbs, median 3 passes", "still: 1 pass"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: plotting.clusters(MIXTURE, X[:, :2]),
            ValueError,
            r"x has 2 columns \(shape .*\), but the mixture has 3",
        ),
        (lambda: plotting.clusters(MIXTURE, X[0]), ValueError, r"x must have shape \(N, D\), not \(3,\)"),
        (lambda: plotting.clusters(X, X), TypeError, "mixture must be a Mixture or a FitResult, not ndarray"),
        (lambda: plotting.clusters(MIXTURE, X, dims=(0, 3)), ValueError, "dims names column 3, but the mixture has 3"),
        (lambda: plotting.clusters(MIXTURE, X, dims=(0, 0)), ValueError, r"dims must not repeat a column, .* \(0, 0\)"),
        (lambda: plotting.clusters(MIXTURE, X, dims=(0, 1, 2)), ValueError, "dims must name 1 to 2 columns, not 3"),
        (lambda: plotting.clusters(MIXTURE, X, dims="mass"), ValueError, "dims names 'mass', but the columns are 'col"),
        (lambda: plotting.clusters(MIXTURE, X, dims=(0, 1.5)), TypeError, "dims must hold indices or names .* not 1.5"),
        (lambda: plotting.clusters(MIXTURE, X, dims=(0, True)), TypeError, "dims must hold indices or names .* True"),
        (
            lambda: plotting.contours(MIXTURE, X, dims=1),
            ValueError,
            "dims must name 2 columns, not 1: curves draws one",
        ),
        (lambda: plotting.curves(MIXTURE, X, dims=(0, 1)), ValueError, "dims must name 1 column, not 2: clusters and"),
        (
            lambda: plotting.clusters(MIXTURE, X, coverage=1.0),
            ValueError,
            "distinct probabilities between 0 and 1, not",
        ),
        (lambda: plotting.clusters(MIXTURE, X, coverage="all"), TypeError, "coverage must hold probabilities such as"),
        (lambda: plotting.clusters(MIXTURE, X, max_rows=0), ValueError, "max_rows must be at least 1, not 0"),
        (
            lambda: plotting.clusters(MIXTURE, X, sample_weight=[1.0]),
            ValueError,
            r"sample_weight must have shape \(40,\)",
        ),
        (lambda: plotting.clusters(MIXTURE, X, "ax"), TypeError, "ax must be a matplotlib Axes or None, not str"),
        (lambda: plotting.ellipses(MIXTURE, np.zeros(2)), TypeError, r"not ndarray of shape \(2,\): choose one of it"),
        (lambda: plotting.responsibilities(MIXTURE, X), ValueError, r"row must be a single row, .* not \(40, 3\)"),
        (lambda: plotting.responsibilities(MIXTURE, X[0, :2]), ValueError, "row has 2 columns, but the mixture has 3"),
        (lambda: plotting.responsibilities(MIXTURE, [0, np.nan, 0]), ValueError, "row holds nan in column 1"),
        (lambda: plotting.traces({"EM": MIXTURE}), TypeError, "results must be a FitResult, or a dict of them"),
        (lambda: plotting.traces({}), ValueError, "results is empty"),
        (lambda: plotting.traces(result([np.nan])), ValueError, "results hold no finite objective"),
        (
            lambda: plotting.traces(result([1.0]), against="seconds"),
            ValueError,
            "against must be 'passes' or 'iterations'",
        ),
        (lambda: plotting.palette(2.0), TypeError, "n_components must be an integer, not 2.0"),
    ],
)
def test_bad_input_is_named_and_leaves_no_figure(call, error, message):
    with pytest.raises(error, match=message):
        call()
    assert plt.get_fignums() == []


def test_nan_in_rows_and_in_mixtures_and_stacks_are_named():
    x = X.copy()
    x[7, 1] = np.nan
    for draw in DRAWN_FROM_ROWS:
        with pytest.raises(ValueError, match=r"x holds nan in row 7, column 1 \('depth'\): drop such rows"):
            draw(MIXTURE, TABLES["pandas"](x))
    broken = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), MIXTURE)
    with pytest.raises(ValueError, match="mixture cannot be drawn: component 1 holds NaN or infinity"):
        plotting.ellipses(broken)
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), MIXTURE)
    with pytest.raises(ValueError, match=r"mixture is a stack \(2,\) of mixtures: choose one, .* leaf\[0\], mixture"):
        plotting.ellipses(stack)
    with pytest.raises(TypeError, match="mixture is being traced by JAX: pictures are drawn on the host"):
        jax.jit(lambda mixture: plotting.ellipses(mixture))(MIXTURE)
    assert plt.get_fignums() == []
