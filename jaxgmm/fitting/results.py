"""Results of a fit: its status, its mixture, its restarts."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

import jax
from jax import Array

from jaxgmm.host.arrays import Names
from jaxgmm.model.mixture import Mixture, mixture_table


class Status(enum.IntEnum):
    """Why a fit ended.

    `CONVERGED`: the algorithm's estimate of the gain that remains fell below `tol`.
    `MAX_ITER`: the iterations ran out first.
    `NONFINITE`: the objective or a parameter is NaN or infinite.
    `COLLAPSED`: a component holds less than one row of average weight, or its covariance sits on the
    prior's floor (without a prior: is numerically singular), and the prior's `floor_is_fine` does not say that it may.
    `INTERRUPTED`: stopped from the keyboard; the best so far.
    `STOPPED`: a restart given up in favour of better ones.

    Example:
        >>> x = np.random.default_rng(0).normal([[0.0, 0.0], [4.0, 4.0]] * 50)
        >>> fitted = jaxgmm.fit(jax.random.key(1), x, 2)
        >>> fitted.status is jaxgmm.Status.CONVERGED
        True
    """

    CONVERGED = 0
    MAX_ITER = 1
    NONFINITE = 2
    COLLAPSED = 3
    INTERRUPTED = 4
    STOPPED = 5


FAILED = (Status.NONFINITE, Status.COLLAPSED)
"""Statuses of a fit whose mixture is not to be used."""


class Restarts(NamedTuple):
    """The ends of all restarts of a fit.

    Attributes:
        objective: final objective, (R,).
        status: `Status` of each, (R,).
        n_iter: iterations of each, (R,).

    Example:
        >>> x = np.random.default_rng(0).normal([[0.0, 0.0], [4.0, 4.0]] * 50)
        >>> fitted = jaxgmm.fit(jax.random.key(1), x, 2)
        >>> fitted.restarts.objective.shape, bool((fitted.restarts.objective <= fitted.objective).all())
        ((20,), True)
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
        n_passes: passes over the data, ().
        status: a `Status` from `fit`; from `run` an int32 array of one, (), which may be traced.
        history: objective after each iteration, NaN past the end, (max_iter,).
        restarts: the ends of all restarts; None from `run`.
        feature_names: names of the columns, where `fit` was given a table that has them; static.

    Example:
        >>> x = np.random.default_rng(0).normal([[0.0, 0.0], [4.0, 4.0]] * 50)
        >>> fitted = jaxgmm.fit(jax.random.key(1), x, 2)
        >>> bool(fitted.converged), fitted.history.shape
        (True, (1000,))
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
        return mixture_table(self.mixture, repr(self), self.feature_names)
