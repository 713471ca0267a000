"""Rows with gaps and with errors that the batteries share, and what the twin makes of them."""

import jax
import numpy as np

import jaxgmm
from jaxgmm import Incomplete, Noisy
from jaxgmm.data.layouts import layout_of
from tests import cases, reference

N_ROWS, N_FEATURES, N_COMPONENTS = 48, 3, 2

KINDS = {"gaps": 0, "variances": 1, "covariances": 2}
"""Rows with gaps alone, and with gaps and errors of known variances or covariances: what axes the errors have more."""


def problem(family, dtype=np.float64, n_rows=N_ROWS, share=0.3, seed=1, n_features=N_FEATURES):
    """A mixture, rows of it with a share of gaps, each with something observed, and their weights."""
    sizes = dict(n_components=N_COMPONENTS, n_features=n_features)
    mixture, x, weights = cases.drawn_rows(family, n_rows, dtype, seed, **sizes)
    return mixture, gappy(x, share, seed), weights


def gappy(x, share, seed=0):
    """Rows with a share of their values gone; none is left without any."""
    rng = np.random.default_rng(seed)
    gone = rng.random(x.shape) < share
    gone[np.arange(len(x)), rng.integers(0, x.shape[1], len(x))] = False
    return np.where(gone, x.dtype.type(np.nan), x)


def noise_of(x, kind, seed=2):
    """Variances or covariances of errors for rows, some of them 0 and some infinite; None for gaps alone."""
    rng = np.random.default_rng(seed)
    if kind == "gaps":
        return None
    variances = rng.uniform(0.1, 1.0, x.shape) * (rng.random(x.shape) < 0.9)
    variances[2], variances[[1, 5, 6], 1] = 0.0, np.inf
    if kind == "variances":
        return variances.astype(x.dtype)
    factors = rng.normal(size=(len(x), x.shape[1], 2)) / 2
    noise = factors @ np.swapaxes(factors, 1, 2)
    noise[::6] = 0.0
    noise[np.isinf(variances)] = np.inf
    noise = np.where(np.isinf(variances)[:, None, :], np.inf, noise)
    return noise.astype(x.dtype)


def as_data(x, weights, noise=None):
    """Rows with gaps, and with errors where there are any."""
    return Incomplete(x, weights) if noise is None else Noisy(x, noise, weights)


def laid_out(x, weights):
    """Rows with gaps as `fit` holds many of them: in their layout, and measured."""
    layout = layout_of(~np.isnan(x))
    assert layout is not None
    return jax.tree.map(jax.numpy.asarray, Incomplete(x, weights, layout)).ready(None)


def dense(mixture):
    """The weights, means and dense covariances of a mixture, in float64."""
    return [np.asarray(leaf, np.float64) for leaf in (mixture.weights, mixture.means, mixture.covs.dense())]


def twin(family, mixture, x, row_weights, noise=None):
    """What `everything` gives, by the twin; a row with nothing observed has a density of 1, and counts for nothing."""
    weights, means, covariances = dense(mixture)
    covariances = np.broadcast_to(covariances, (len(weights), *covariances.shape[1:]))
    log_components, true, spread = reference.blurred(means, covariances, x, noise)
    joint = np.log(weights) + log_components
    log_prob, resp = reference.log_prob(joint), reference.responsibilities(joint)
    counted = np.where(log_components[:, 0] == 0, 0, np.asarray(row_weights, np.float64))
    mass, mean, scatter = reference.blurred_moments(counted, resp, true, spread)
    total = counted @ log_prob
    whole = np.einsum("nk,nkd->nd", resp, true)
    between = true - whole[:, None]
    within = np.einsum("nk,nkij->nij", resp, spread + between[..., :, None] * between[..., None, :])
    return dict(
        moments=(mass, mean, reference.reduced(family, scatter)),
        log_likelihood=total,
        log_prob=log_prob,
        log_components=log_components,
        log_joint=joint,
        responsibilities=resp,
        true=(whole, within),
    )


@jax.jit
def everything(mixture, data):
    """All that rows tell of a mixture."""
    moments, total = jaxgmm.e_step(mixture, data)
    return dict(
        moments=tuple(moments),
        log_likelihood=total,
        log_prob=jaxgmm.log_prob(mixture, data),
        log_components=jaxgmm.log_components(mixture, data),
        log_joint=jaxgmm.log_joint(mixture, data),
        responsibilities=jaxgmm.responsibilities(mixture, data),
        true=tuple(jaxgmm.conditional_moments(mixture, data)),
    )


e_step = jax.jit(jaxgmm.e_step)
columns = jax.jit(lambda data: data.columns())
draw_rows = jax.jit(lambda key, data, most: data.draw_rows(key, most), static_argnums=2)


def check_close(found, expected, rtol):
    """Every leaf as expected, relative to its largest entry."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, one), other in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        other = np.asarray(other, np.float64)
        assert np.shape(one) == np.shape(other), path
        scale = np.abs(other).max(initial=0.0, where=np.isfinite(other))
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * scale, err_msg=jax.tree_util.keystr(path))
