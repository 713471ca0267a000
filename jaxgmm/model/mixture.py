"""A mixture of Gaussians, as a pytree.

Legend, used throughout: N rows, K components, D columns, R restarts. Arrays are named by their shape
in brackets, e.g. `means (K, D)`. A leading axis of 1 on a covariance means that all components share it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.host.arrays import Names, is_traced
from jaxgmm.host.html import component_table
from jaxgmm.numerics.trees import register_dataclass
from jaxgmm.numerics.zero_weights import weight


@register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Mixture:
    """A mixture of K Gaussians in D dimensions: p(x) = Σ_k π_k N(x; μ_k, Σ_k).

    A pytree: the three arrays are leaves, the family is static. Build one with `make_mixture`, or let
    `fit` or `run` return one.

    Attributes:
        log_weights: log π_k, (K,); −∞ is legal.
        means: μ_k, (K, D).
        covs: factors of the covariances, `Dense` or `Diagonal`.
        family: the constraint on the covariances.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> mixture.n_components, mixture.n_features, mixture.covariance_type
        (2, 2, 'full')
        >>> print(np.asarray(mixture.weights).round(3))
        [0.4 0.6]
    """

    log_weights: Array
    means: Array
    covs: Any
    family: Any = dataclasses.field(metadata={"static": True})

    @property
    def n_components(self) -> int:
        """Number of components K."""
        return self.means.shape[-2]

    @property
    def n_features(self) -> int:
        """Number of columns D."""
        return self.means.shape[-1]

    @property
    def covariance_type(self) -> str:
        """Name of the family: "full", "tied", "diag" or "spherical"."""
        return self.family.name

    @property
    def n_parameters(self) -> int:
        """Number of free parameters: weights, means and distinct covariance entries."""
        n_weights, n_means = self.n_components - 1, self.n_components * self.n_features
        return n_weights + n_means + self.family.n_parameters(self.n_components, self.n_features)

    @property
    def weights(self) -> Array:
        """π_k, (K,)."""
        return weight(self.log_weights)

    @property
    def covariances(self) -> Array:
        """Σ_k, (K, D, D), dense for every family."""
        return self._every_component(self.covs.dense())

    @property
    def precisions(self) -> Array:
        """Σ_k⁻¹, (K, D, D), dense for every family."""
        return self._every_component(self.covs.precision())

    def __getitem__(self, place: Any) -> Mixture:
        """A mixture of a stack by its place on the first axis, or a part of the stack by a slice or an array of places.

        Raises:
            TypeError: if this is one mixture, not a stack, or the place is something else.
            IndexError: if there is no such place, and it is not traced.

        Example:
            >>> stacked = jaxgmm.stack([jaxgmm.make_mixture([1.0], [[m]], [[[1.0]]]) for m in (0.0, 4.0)])
            >>> float(stacked[1].means[0, 0])
            4.0
        """
        if self.means.ndim < 3:
            raise TypeError(f"{self!r} is one mixture, not a stack of them: it has no place {place!r}")
        if not isinstance(place, slice):
            place = np.asarray(place) if isinstance(place, int | list) else place
            if not np.issubdtype(getattr(place, "dtype", object), np.integer):
                raise TypeError(f"a place in a stack is an integer, a slice or an array of integers, not {place!r}")
            length = self.means.shape[0]
            if not is_traced(place) and np.any((place < -length) | (place >= length)):
                raise IndexError(f"a stack of {length} mixtures has no place {place}")
        return jax.tree.map(lambda leaf: leaf[place], self)

    def _every_component(self, matrices: Array) -> Array:
        return jnp.broadcast_to(matrices, (*self.means.shape, self.n_features))

    def __repr__(self) -> str:
        """A line of text: K, D, the family and the dtype."""
        means = getattr(self.means, "shape", None)
        if means is None or len(means) < 2:
            return f"Mixture({type(self.means).__name__}, {self.family.name!r})"
        stack = f", stacked {means[:-2]}" if len(means) > 2 else ""
        return f"Mixture(K={means[-2]}, D={means[-1]}, {self.family.name!r}, {self.means.dtype}{stack})"

    def _repr_html_(self) -> str | None:
        """A table for notebooks: weights, means ± standard deviations."""
        return mixture_table(self, repr(self), None)


def mixture_table(mixture: Mixture, title: str, names: Names | None) -> str | None:
    """The table of a mixture in HTML; None for a stack of mixtures, and under a trace."""
    if is_traced(mixture.means) or getattr(mixture.means, "ndim", 0) != 2:
        return None
    weights, means = np.asarray(mixture.weights), np.asarray(mixture.means)
    deviations = np.broadcast_to(np.asarray(mixture.covs.deviations()), means.shape)
    return component_table(title, names, weights, means, deviations)
