"""Starts that are given: a mixture, labels or responsibilities."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.data.conversion import completed, rows_of
from jaxgmm.data.intake import Intake
from jaxgmm.data.protocol import over
from jaxgmm.data.rows import Rows
from jaxgmm.fitting.collapse import LEAST_ROWS
from jaxgmm.fitting.projection import project
from jaxgmm.fitting.starts.assigned import Start, assignment_of
from jaxgmm.fitting.starts.drawn import placed_anew
from jaxgmm.fitting.visits import whitening_of
from jaxgmm.host.arrays import as_numbers
from jaxgmm.host.cautions import caution
from jaxgmm.host.checks import BLOCK_ROWS
from jaxgmm.host.weights import check_responsibilities
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.priors.penalty import Prior
from jaxgmm.model.units import to_host

_VALUES = 1 << 22
"""The most numbers in a block of rows: rows times components times columns."""


def given_start(init: Any, taken: Intake, n_components: int, family: Family, prior: Prior, key: Array) -> Start:
    """A start from a mixture, labels or responsibilities, in the fit's units, with a restart axis of 1.

    A component of a mixture that holds less than one row here would stay without rows: it is placed anew, with a
    warning.
    """
    data: Any = taken.data
    n_features = data.n_features
    if isinstance(init, Mixture):
        if (init.n_components, init.n_features) != (n_components, n_features):
            raise ValueError(
                f"init has {init.n_components} components in {init.n_features} columns, "
                f"but n_components is {n_components} and x has {n_features} columns"
            )
        mixture = taken.units.standardise(to_host(project(init, family)))
        rows = rows_of(data, key)
        absent = rowless(mixture, np.asarray(rows.x), np.asarray(rows.weights, np.float64))
        mixture = jax.tree.map(lambda leaf: jnp.asarray(leaf, taken.dtype), mixture)
        if absent.any():
            caution(_told(absent))
            mixture = over(data, placed_anew)(key, data, mixture, jnp.asarray(absent), prior)
    else:
        rows = Rows(*completed(data, None, key))
        n_given = taken.n_given
        resp = _as_responsibilities(init, n_given, n_components, np.asarray(rows.weights)[:n_given] > 0)
        resp = np.pad(resp, ((0, rows.x.shape[0] - n_given), (0, 0)))
        return assignment_of(rows, resp, family, taken.dtype)
    return jax.tree.map(lambda leaf: leaf[None], mixture)


def _as_responsibilities(init: Any, n_rows: int, n_components: int, counted: np.ndarray) -> np.ndarray:
    array = np.asarray(as_numbers(init, "init"))
    if array.shape == (n_rows,):
        if array.dtype.kind not in "iu":
            raise TypeError(f"init as labels must hold integers, not {array.dtype}")
        beyond = (array < 0) | (array >= n_components)
        if beyond.any():
            row = int(np.argmax(beyond))
            raise ValueError(f"init labels row {row} with {array[row]}, but labels run from 0 to {n_components - 1}")
        missing = np.setdiff1d(np.arange(n_components), array[counted])
        if missing.size:
            raise ValueError(f"init labels no row with {missing[0]}: each of the {n_components} components needs one")
        return np.eye(n_components)[array]
    if array.shape != (n_rows, n_components):
        raise ValueError(
            f"init must be a name, a Mixture, labels ({n_rows},) or responsibilities ({n_rows}, {n_components}), "
            f"not an array of shape {array.shape}"
        )
    check_responsibilities(array, counted, "init as responsibilities")
    return array


def _told(absent: np.ndarray) -> str:
    listed = ", ".join(map(str, np.flatnonzero(absent)))
    if absent.sum() == 1:
        return f"component {listed} of init holds less than one row of x: it starts anew, drawn as by k-means++"
    return f"components {listed} of init hold less than one row of x each: they start anew, drawn as by k-means++"


def rowless(mixture: Mixture, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Whether each component holds less than one row of average weight, (K,), in NumPy and float64.

    Args:
        mixture: the mixture, with NumPy leaves, in the units of x.
        x: rows, (N, D).
        weights: weights of the rows, (N,).
    """
    there, mass = np.isfinite(mixture.log_weights), np.zeros(mixture.n_components)
    seen = whitening_of(mixture)
    n_rows = int(np.clip(_VALUES // mixture.means.size, 1, BLOCK_ROWS))
    for start in range(0, len(x) if there.any() else 0, n_rows):
        block, weight = x[start : start + n_rows].T.astype(np.float64), weights[start : start + n_rows]
        white = np.stack([seen.whiten(k, block - mean[:, None]) for k, mean in enumerate(seen.means)])
        with np.errstate(over="ignore", invalid="ignore"):
            log_joint = (seen.log_weights - 0.5 * seen.log_det)[:, None] - 0.5 * (white**2).sum(axis=1)
            share = np.exp(log_joint - log_joint.max(axis=0))
            share = share / share.sum(axis=0)
        # A row beyond all of them is nobody's, and a row without weight has no say.
        mass[there] += np.where(np.isfinite(share) & (weight > 0), share * weight, 0.0).sum(axis=1)
    return ~(mass * np.count_nonzero(weights) >= LEAST_ROWS * weights.sum())
