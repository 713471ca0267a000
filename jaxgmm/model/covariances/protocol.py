"""The protocol of covariances: a representation, which knows no family."""

from __future__ import annotations

from typing import ClassVar, Protocol, Self

import numpy as np
from jax import Array


class Covariances(Protocol):
    """K covariances, or one that all components share, held as factors: a pytree of arrays.

    `solve` and `colour` apply L⁻¹ and L, where Σ = L Lᵀ; `mixes` says whether L mixes columns.
    """

    mixes: ClassVar[bool]
    """Whether L mixes columns: then whitened scatter is dense. Where not, L is diagonal, and `deviations` are L."""

    @property
    def count(self) -> int:
        """Number of distinct covariances held: K, or 1 that all components share."""
        ...

    @property
    def n_features(self) -> int:
        """Number of columns D."""
        ...

    def solve(self, vectors: Array) -> Array:
        """L_k⁻¹ v_k for vectors (K, D): undoes `colour`."""
        ...

    def colour(self, vectors: Array) -> Array:
        """L_k v_k for vectors (K, D)."""
        ...

    def colour_scatter(self, scatter: Array) -> Array:
        """L_k A_k L_kᵀ for whitened scatter A."""
        ...

    def inverse(self) -> Array:
        """L⁻¹ in the form that `whiten` takes; made once for many chunks."""
        ...

    def whiten(self, inverse: Array, means: Array, columns: Array) -> Array:
        """L_k⁻¹ (x − μ_k) for columns x (D, C): (K, D, C). Its squares sum to the Mahalanobis distance."""
        ...

    def log_det(self) -> Array:
        """Log|Σ|, (K,) or (1,)."""
        ...

    def deviations(self) -> Array:
        """Standard deviations of the columns: the roots of the diagonal of `dense`."""
        ...

    def dense(self) -> Array:
        """Σ = L Lᵀ, (K, D, D) or (1, D, D)."""
        ...

    def precision(self) -> Array:
        """Σ⁻¹, (K, D, D) or (1, D, D)."""
        ...

    def rescale(self, factors: Array) -> Self:
        """The covariances after column j is multiplied by factors[j] > 0, (D,)."""
        ...

    def reordered(self, order: Array) -> Self:
        """The covariances with that of component order[k] in place k; a shared one stays."""
        ...

    def trace_solve(self, scatter: Array) -> Array:
        """tr(Σ_k⁻¹ S_k), (K,) or (1,), for scatter S."""
        ...

    def whitened_variances(self, deviations: Array) -> Array:
        """Variances of L⁻¹v, (K, D), for v of independent coordinates of given standard deviations."""
        ...

    def divergence(self, other: Self, rounding: float = 0.0) -> Array:
        """Kullback–Leibler divergence from N(0, other) to N(0, self), never negative, (K,) or (1,).

        What errors of the relative size `rounding` make of each of its terms is left out.
        """
        ...

    def curvatures(self) -> np.ndarray:
        """Second derivatives of `divergence` along each coordinate of `displaced`, at no displacement, (C,)."""
        ...

    def displaced(self, steps: Array) -> Self:
        """The covariances moved by steps (n, C) along C coordinates that make `divergence` a sum of squares near 0."""
        ...

    def steps_to(self, other: Self) -> Array:
        """The steps by which `displaced` comes to other covariances, (n, C)."""
        ...

    def slopes(self, whitened: Array) -> Array:
        """Derivatives of log N(x; μ_k, Σ_k) along `displaced`, (K, C, ·), from whitened residuals y (K, D, ·)."""
        ...
