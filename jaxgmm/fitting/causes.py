"""The reasons for a collapse in words, on the host in NumPy, computed only after a fit has collapsed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxgmm.data.scaling import constant_columns, measure
from jaxgmm.fitting.collapse import LEAST_ROWS
from jaxgmm.host.arrays import Names, column_label
from jaxgmm.host.weights import as_weights
from jaxgmm.model.columns import Columns
from jaxgmm.model.families.table import FAMILIES
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.priors.penalty import Prior
from jaxgmm.model.priors.ridge import prepare

REMEDY = (
    "Leave out columns that are constant or follow others, ask for fewer components or another covariance_type, "
    "or give a stronger prior, such as Ridge(1e-6); where a component without spread is meant, "
    "Ridge(strength, floor_is_fine=True)"
)
"""The remedy that the message offers."""

_MOST_TOLD = 3
"""The most components or columns that a message names; of the others it gives the number."""

_SLACK = 1.1
"""The factor by which a value may exceed its limit, since the mixture was rounded in the user's units."""


def why_collapsed(
    mixture: Mixture, x: np.ndarray, sample_weight: ArrayLike | None, prior: Prior | None, names: Names | None
) -> str:
    """Part of a sentence that says which components have collapsed, and in which columns.

    Args:
        mixture: the collapsed mixture, in the units of x.
        x: the rows that it was fitted to, NaN where a value is missing, (N, D).
        sample_weight: weights of the rows, (N,); None is 1 for each.
        prior: the prior, or None.
        names: names of the columns.
    """
    weights = as_weights(sample_weight, len(x))
    constant = constant_columns(x, weights)
    scale = np.asarray(measure(x, weights, FAMILIES["full"], np.float64).scale)
    causes = []
    if constant.any():
        verb = "is" if constant.sum() == 1 else "are"
        causes = [f"{_listed([column_label(int(j), names) for j in np.flatnonzero(constant)])} {verb} constant"]
    n_rows = np.exp(np.asarray(mixture.log_weights, np.float64)) * np.count_nonzero(weights)
    causes += [
        f"component {k} holds less than a row ({n_rows[k]:.2g} rows)" for k in np.flatnonzero(n_rows < LEAST_ROWS)
    ]
    seen = np.isfinite(x) if x.dtype.kind == "f" else np.ones(x.shape, bool)
    observed = float((weights @ seen).min() / weights.sum())
    shared = mixture.covs.count < mixture.n_components
    mass, unit = jnp.asarray(n_rows.sum()), jnp.ones(x.shape[1])
    penalty = prepare(prior, Columns(mass=mass, count=mass, mean=0 * unit, variance=unit))
    for k in [0] if shared else np.flatnonzero(n_rows >= LEAST_ROWS):
        rows = n_rows.sum() if shared else n_rows[k]
        floor = float(penalty.floor(jnp.asarray(rows * observed)))
        flat = _flat(mixture, int(k), scale, floor, ~constant, names, float(rows))
        causes += [("the shared covariance " if shared else f"component {k} ") + clause for clause in flat]
    return _listed(causes, "; ") or "a covariance is singular to rounding"


def _listed(texts: list[str], between: str = ", ") -> str:
    """The first few texts as a list, and how many more there are."""
    more = [f"and {len(texts) - _MOST_TOLD} more"] if len(texts) > _MOST_TOLD + 1 else []
    return between.join([*texts[:_MOST_TOLD], *more] if more else texts)


def _flat(
    mixture: Mixture,
    k: int,
    scale: np.ndarray,
    floor: float,
    varies: np.ndarray,
    names: Names | None,
    n_rows: float,
) -> list[str]:
    """Text that says where a covariance is flat: in which columns, or in combinations of columns."""
    eps, n_features = float(jnp.finfo(mixture.means.dtype).eps), mixture.n_features
    with jax.enable_x64(True):
        covariance = np.asarray(mixture.covariances[k], np.float64)
    deviations = np.sqrt(np.diagonal(covariance))
    least = _SLACK * max(1.01 * floor, 4 * (8 * eps) ** 2)
    flat = ((deviations / scale) ** 2 <= least) & varies
    clauses = []
    if flat.any():
        told = [f"{column_label(int(j), names)} (standard deviation {deviations[j]:.2g})" for j in np.flatnonzero(flat)]
        clauses = [f"does not spread in {_listed(told)}"]
    rest = np.flatnonzero(~flat & varies)
    if not mixture.covs.mixes or not rest.size:
        return clauses
    among = np.ix_(rest, rest)
    spectrum, directions = np.linalg.eigh((covariance / deviations[:, None] / deviations[None, :])[among])
    relative = np.linalg.eigvalsh((covariance / scale[:, None] / scale[None, :])[among])
    n_flat = int(np.sum((spectrum <= _SLACK * 3 * n_features * eps) | (relative <= least)))
    if n_flat > _MOST_TOLD or (n_flat and n_rows <= n_features):
        few = f": {n_rows:.0f} rows are too few for so many columns" if n_rows <= n_features else ""
        return [*clauses, f"is flat in {n_flat} of {n_features} directions{few}"]
    for direction in directions.T[:n_flat]:
        members = rest[np.abs(direction) > 0.1 * np.abs(direction).max()]
        told = [column_label(int(j), names) for j in members]
        clauses.append(f"is flat where {_listed(told)} follow each other")
    return clauses
