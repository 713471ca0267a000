"""The vocabulary: what flows between the modules.

Legend, used throughout: N rows, K components, D columns, R restarts. Arrays are named by their shape
in brackets, e.g. `means (K, D)`. A leading axis of 1 on a covariance means that all components share it.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.arrays import Names, is_traced
from jaxgmm.tables import component_table
from jaxgmm.zero_weights import weight


class Status(enum.IntEnum):
    """Why a fit ended.

    `CONVERGED`: the algorithm's estimate of the gain that remains fell below `tol`.
    `MAX_ITER`: the iterations ran out first.
    `NONFINITE`: the objective or a parameter is NaN or infinite.
    `COLLAPSED`: a component holds less than one row of average weight, or its covariance sits on the
    prior's floor (without a prior: is numerically singular).
    `INTERRUPTED`: stopped from the keyboard; the best so far.
    `STOPPED`: a restart given up in favour of better ones.
    """

    CONVERGED = 0
    MAX_ITER = 1
    NONFINITE = 2
    COLLAPSED = 3
    INTERRUPTED = 4
    STOPPED = 5


FAILED = (Status.NONFINITE, Status.COLLAPSED)
"""Ends that leave no mixture to rely on."""


class Columns(NamedTuple):
    """What a fit knows of the columns as a whole, from one cheap pass.

    Attributes:
        mass: sum of the weights, ().
        count: number of rows with positive weight, ().
        mean: weighted means, (D,).
        variance: weighted variances, divisor `mass`, (D,).
    """

    mass: Array
    count: Array
    mean: Array
    variance: Array

    def resolution(self) -> Array:
        """Variance, (D,), below which rounding of the data in this dtype hides a spread."""
        info = jnp.finfo(self.mean.dtype)
        spread = jnp.sqrt(self.variance) + jnp.abs(self.mean)
        return jnp.maximum((8 * float(info.eps) * spread) ** 2, float(info.tiny))

    def unit(self) -> Array:
        """Variances, (D,), with 1 in place of a constant column's, as a scaler would have it."""
        return jnp.where(self.variance > self.resolution(), self.variance, 1.0)


class Moments(NamedTuple):
    """Weighted moments of the rows, component by component: a commutative monoid under `merge`.

    Attributes:
        mass: N_k = Σᵢ rᵢₖ wᵢ, (K,).
        mean: weighted means, (K, D).
        scatter: central scatter Σᵢ rᵢₖ wᵢ (xᵢ − mean_k)(xᵢ − mean_k)ᵀ in a family's statistic: dense
            (K, D, D), pooled over components (1, D, D), its diagonal (K, D), or its trace (K,).
    """

    mass: Array
    mean: Array
    scatter: Array


@jax.tree_util.register_dataclass
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
        return self._every_component(self.covs.dense(self.n_features))

    @property
    def precisions(self) -> Array:
        """Σ_k⁻¹, (K, D, D), dense for every family."""
        return self._every_component(self.covs.precision(self.n_features))

    def _every_component(self, matrices: Array) -> Array:
        return jnp.broadcast_to(matrices, (*self.means.shape, self.n_features))

    def __repr__(self) -> str:
        means = getattr(self.means, "shape", None)
        if means is None or len(means) < 2:
            return f"Mixture({type(self.means).__name__}, {self.family.name!r})"
        stack = f", stacked {means[:-2]}" if len(means) > 2 else ""
        return f"Mixture(K={means[-2]}, D={means[-1]}, {self.family.name!r}, {self.means.dtype}{stack})"

    def _repr_html_(self) -> str | None:
        """A table for notebooks: weights, and each column's mean ± standard deviation."""
        return _mixture_table(self, repr(self), None)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Params:
    """A mixture in unconstrained coordinates: every real value is a valid mixture.

    Attributes:
        logits: coordinates of log π less its mean, in an orthonormal basis of the vectors that sum to
            zero, (K−1,).
        means: μ_k, (K, D).
        scales: for each distinct covariance, D log-diagonal entries of its Cholesky factor followed by
            the entries below the diagonal, row by row; log standard deviations for diagonal families.
        family: the constraint on the covariances.
    """

    logits: Array
    means: Array
    scales: Array
    family: Any = dataclasses.field(metadata={"static": True})


class Info(NamedTuple):
    """What one step of an algorithm reports.

    Attributes:
        objective: log-likelihood plus log-prior after the step, ().
        gain: the algorithm's estimate of the gain in the objective that remains, ().
        n_passes: passes over the data that the step took, ().
    """

    objective: Array
    gain: Array
    n_passes: Array


class Restarts(NamedTuple):
    """What became of each restart of a fit.

    Attributes:
        objective: final objective, (R,).
        status: `Status` of each, (R,).
        n_iter: iterations of each, (R,).
    """

    objective: Array
    status: Array
    n_iter: Array


class FitResult(NamedTuple):
    """A fitted mixture and how the fit went.

    Attributes:
        mixture: the fitted mixture.
        log_likelihood: total log-likelihood Σ wᵢ log p(xᵢ) of that mixture, ().
        objective: log-likelihood plus log-prior, ().
        n_iter: iterations, ().
        n_passes: passes over the data; what EM and line searches are compared by, ().
        status: a `Status` from `fit`; from `run` an int32 array of one, (), which may be traced.
        history: objective after each iteration, NaN past the end, (max_iter,).
        restarts: what became of each restart; None from `run`.
        feature_names: names of the columns, where `fit` was given a table that has them; static.
    """

    mixture: Mixture
    log_likelihood: Array
    objective: Array
    n_iter: Array
    n_passes: Array
    status: Any
    history: Array
    restarts: Restarts | None = None
    feature_names: Names | None = None

    @property
    def converged(self) -> Any:
        """Whether the status is `CONVERGED`."""
        return self.status == Status.CONVERGED

    def __repr__(self) -> str:
        """One line where the fit is a single concrete one, else the shape of the stack."""
        try:
            name, n_iter = Status(int(self.status)).name, int(self.n_iter)
            values = f"log_likelihood={float(self.log_likelihood):.8g}, objective={float(self.objective):.8g}"
        except (TypeError, ValueError, jax.errors.ConcretizationTypeError):
            return f"FitResult({self.mixture!r}, status={getattr(self.status, 'shape', self.status)})"
        return f"FitResult({name} after {n_iter} iterations, {values}, {self.mixture!r})"

    def _repr_html_(self) -> str | None:
        """A table for notebooks; None where it is not a single concrete fit."""
        return _mixture_table(self.mixture, repr(self), self.feature_names)


def _mixture_table(mixture: Mixture, title: str, names: Names | None) -> str | None:
    if is_traced(mixture.means) or getattr(mixture.means, "ndim", 0) != 2:
        return None
    weights, means = np.asarray(mixture.weights), np.asarray(mixture.means)
    deviations = np.broadcast_to(np.asarray(mixture.covs.deviations()), means.shape)
    return component_table(title, names, weights, means, deviations)
