"""Starts with scikit-learn's names and parameters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxgmm.host.arrays import as_numbers
from jaxgmm.model.build import make_mixture
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.mixture import Mixture
from jaxgmm.sklearn.conversion import arrays_of, mixture_of

METHODS = {
    "kmeans": "k-means",
    "k-means++": "k-means++",
    "random": "random-responsibilities",
    "random_from_data": "random-rows",
}
"""Names of starts in this library, by their names in scikit-learn."""


class Given(NamedTuple):
    """The parts of a start that the user gives, in scikit-learn's shapes; those that are None are drawn.

    Attributes:
        weights_init: π_k, (K,).
        means_init: μ_k, (K, D).
        precisions_init: Σ_k⁻¹, in the family's shape.
    """

    weights_init: np.ndarray | None
    means_init: np.ndarray | None
    precisions_init: np.ndarray | None

    @property
    def whole(self) -> bool:
        """Whether all parts are given."""
        return all(part is not None for part in self)


def as_given(parts: Given, n_components: int, n_features: int, family: Family) -> Given | None:
    """The given parts as float64 arrays of the right shapes; None for the others.

    Raises:
        TypeError: if one holds no real numbers.
        ValueError: if one has another shape, or means are not finite.
    """
    shapes = Given((n_components,), (n_components, n_features), family.shape(n_components, n_features))  # pyright: ignore
    arrays = []
    for name, part, shape in zip(Given._fields, parts, shapes, strict=True):
        array = None if part is None else np.asarray(as_numbers(part, name), np.float64)
        if array is not None and array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, not {array.shape}")
        arrays.append(array)
    means = arrays[1]
    if means is not None and not np.isfinite(means).all():
        k, d = np.argwhere(~np.isfinite(means))[0]
        raise ValueError(f"means_init must be finite, but component {k} has {means[k, d]} in column {d}")
    return None if all(array is None for array in arrays) else Given(*arrays)


def start_from(given: Given, drawn: Mixture | None, family: Family) -> Mixture:
    """The start made of the given parts, and of a drawn mixture for the rest.

    Where means are given, each takes the missing parts of the drawn component nearest to it, one-to-one.

    Raises:
        ValueError: if the parts are no valid mixture; the message names the component.
    """
    weights, means, precisions = given
    if drawn is not None:
        arrays = arrays_of(drawn)
        order = np.arange(drawn.n_components) if means is None else _nearest(means, arrays["means_"])
        weights = arrays["weights_"][order] if weights is None else weights
        means = arrays["means_"] if means is None else means
        if precisions is None:
            own = drawn.covs.count == drawn.n_components
            precisions = arrays["precisions_"][order] if own else arrays["precisions_"]
    assert weights is not None and means is not None and precisions is not None
    try:
        make_mixture(weights, means, precisions=precisions, covariance_type=family)
    except ValueError as error:
        named = [name for name, part in zip(Given._fields, given, strict=True) if part is not None]
        raise ValueError(f"{', '.join(named)}: {error}") from None
    return mixture_of(weights, means, _roots(precisions, family), family)


def _nearest(means: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The index of the drawn mean matched with each mean, (K,): the assignment of least total squared distance."""
    from scipy.optimize import linear_sum_assignment

    apart = means[:, None, :] / 2 - drawn[None, :, :] / 2
    distances = ((apart / max(np.abs(apart).max(), np.finfo(float).tiny)) ** 2).sum(axis=-1)
    return linear_sum_assignment(distances)[1]


def _roots(precisions: np.ndarray, family: Family) -> np.ndarray:
    """U with Σ⁻¹ = U Uᵀ, upper triangular: the Cholesky factor of the columns in reverse, reversed again."""
    if not family.statistic.products:
        return np.sqrt(precisions)
    return np.linalg.cholesky(precisions[..., ::-1, ::-1])[..., ::-1, ::-1]
