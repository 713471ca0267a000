"""scikit-learn's `reg_covar`, as EM for an objective of its own.

scikit-learn adds a variance c to every covariance after the M-step, S_k/N_k + c, and leaves the E-step alone: together
they maximise no objective. But that M-step is the right one for rows observed with noise of variance c, for which
E log N(x + ε; μ, Σ) = log N(x; μ, Σ) − ½ tr(c Σ⁻¹). With the same term in the E-step, EM climbs

    Σᵢ wᵢ log Σ_k π_k N(xᵢ; μ_k, Σ_k) exp(−½ tr(c Σ_k⁻¹)),

which is bounded, and never above the log-likelihood (Bishop 1995, on training with noise as regularisation).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.data.scaling import measure
from jaxgmm.fitting.algorithms.em import EM, EMState
from jaxgmm.fitting.algorithms.protocol import Algorithm, Info
from jaxgmm.fitting.problem import Problem
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, Statistic
from jaxgmm.model.priors.ridge import Ridge
from jaxgmm.numerics.trees import register_dataclass


class Noisy(NamedTuple):
    """Data observed with noise: the part of `Data` that EM uses.

    Attributes:
        data: the data.
        variances: variances c of the noise in each column, (D,).
    """

    data: Any
    variances: Array

    def moments(self, mixture: Mixture, statistic: Statistic) -> tuple[Moments, Array]:
        """The E-step: expected moments, S_k + N_k c, and the objective."""
        moments, objective = self.data.moments(discounted(mixture, self.variances), statistic)
        noise = statistic.of_dense(moments.mass[:, None, None] * jnp.diag(self.variances)[None])
        return moments._replace(scatter=moments.scatter + noise), objective


def discounted(mixture: Mixture, variances: Array) -> Mixture:
    """The mixture with weights π_k exp(−½ tr(c Σ_k⁻¹)), which do not sum to 1: the objective is its log-likelihood."""
    discount = -0.5 * mixture.covs.trace_solve(variances[None, :])
    return dataclasses.replace(mixture, log_weights=mixture.log_weights + discount)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Regularised:
    """EM for rows observed with noise.

    Attributes:
        variances: variances of the noise in each column, in the fit's units, (D,).
    """

    variances: Array
    by_moments: ClassVar[bool] = True
    takes_spares: ClassVar[bool] = True

    def init(self, mixture: Mixture, problem: Problem) -> tuple[EMState, Info]:
        """The state at the start, by no pass: the first step visits the start."""
        return EM().init(mixture, self._seen(problem))

    def surrogate(self, mixture: Mixture) -> Mixture:
        """The mixture with which EM visits the rows."""
        return discounted(mixture, self.variances)

    def step(self, state: EMState, problem: Problem) -> tuple[EMState, Info]:
        """The state after an E-step and an M-step: one pass."""
        return EM().step(state, self._seen(problem))

    def _seen(self, problem: Problem) -> Problem:
        return problem._replace(data=Noisy(problem.data, self.variances))


def method_of(reg_covar: float | None, x: np.ndarray, weights: np.ndarray, family: Family) -> tuple[Algorithm, Any]:
    """The algorithm and the prior for a `reg_covar`.

    Args:
        reg_covar: c, in the squared units of x; None is plain EM under `Ridge()`, 0 maximum likelihood.
        x: rows, (N, D).
        weights: weights of the rows, (N,).
        family: the family to be fitted, which determines the fit's units.
    """
    if reg_covar is None:
        return EM(), Ridge()
    if reg_covar == 0:
        return EM(), None
    scale = np.asarray(measure(x, weights, family, x.dtype).scale)
    return Regularised(jnp.asarray(reg_covar / scale**2, x.dtype)), Ridge()
