"""The contenders for one pass of EM: the same rows, the same start, no ridge; E, then M."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm
from experiments.benchmarks.problems import Parameters, Problem
from experiments.benchmarks.timing import Contender
from jaxgmm.data.rows import as_rows
from jaxgmm.fitting.problem import posed
from jaxgmm.model.priors.ridge import settle


class Passes(Protocol):
    """A library at work on a problem."""

    def restart(self) -> None:
        """Go back to the start."""

    def step(self) -> None:
        """One pass of EM over the rows, waited for."""

    def parameters(self) -> Parameters:
        """The mixture after the last M-step."""


@jax.jit
def em_step(state: Any, problem: Any) -> Any:
    """The step that `jaxgmm.run` loops over."""
    return jaxgmm.EM().step(state, problem)


class Jaxgmm:
    """`EM().step`, jitted: E, then M, as everybody's."""

    def __init__(self, problem: Problem, covariance_type: str) -> None:
        """Make the rows ready."""
        start = jaxgmm.make_mixture(*problem.start, covariance_type=covariance_type)
        rows = as_rows(jnp.asarray(problem.x))
        self.problem = jax.jit(posed)(rows, settle(None, rows.x.dtype))
        self.first = self.state = jaxgmm.EM().init(start, self.problem)[0]
        self.covariance_type = covariance_type

    def restart(self) -> None:
        """Go back to the start."""
        self.state = self.first

    def step(self) -> None:
        """One pass of EM over the rows, waited for."""
        self.state, _ = jax.block_until_ready(em_step(self.state, self.problem))

    def parameters(self) -> Parameters:
        """The mixture after the last M-step."""
        mixture = self.state.image
        dense = np.asarray(mixture.covariances)
        own = {
            "full": lambda: dense,
            "tied": lambda: dense[0],
            "diag": lambda: np.diagonal(dense, axis1=1, axis2=2),
            "spherical": lambda: dense[:, 0, 0],
        }
        return Parameters(np.asarray(mixture.weights), np.asarray(mixture.means), own[self.covariance_type]())


class ScikitLearn:
    """`GaussianMixture._e_step` and `_m_step`, as its own loop calls them.

    By as many BLAS threads as serve it better, one or all: where anybody else is on the machine, OpenBLAS's
    threads wait for one another at each of its many small products.
    """

    def __init__(self, problem: Problem, covariance_type: str, choose: bool = True) -> None:
        """Set up without fitting, and choose the number of threads where asked to."""
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import ThreadpoolController

        self.problem = problem
        self.model = GaussianMixture(len(problem.start.weights), covariance_type=covariance_type, reg_covar=0.0)
        self.controller, self.threads = ThreadpoolController(), None
        took: dict[int | None, float] = {None: math.inf}
        for threads in (None, 1, None, 1) if choose else ():
            self.restart()
            self.threads = threads
            began = time.perf_counter()
            self.step()
            took[threads] = min(time.perf_counter() - began, took.get(threads, math.inf))
        self.threads = min(took, key=lambda threads: took[threads])

    def restart(self) -> None:
        """Go back to the start."""
        from sklearn.mixture._gaussian_mixture import _compute_precision_cholesky

        model = self.model
        model.weights_, model.means_, model.covariances_ = (array.copy() for array in self.problem.start)
        model.precisions_cholesky_ = _compute_precision_cholesky(model.covariances_, model.covariance_type)

    def step(self) -> None:
        """One pass of EM over the rows."""
        with self.controller.limit(limits=self.threads, user_api="blas"):
            _, log_resp = self.model._e_step(self.problem.x)
            self.model._m_step(self.problem.x, log_resp)

    def parameters(self) -> Parameters:
        """The mixture after the last M-step."""
        return Parameters(self.model.weights_, self.model.means_, self.model.covariances_)


class Pomegranate:
    """`GeneralMixtureModel` of `Normal`s on CPU tensors: `summarize`, then `from_summaries`."""

    def __init__(self, problem: Problem, covariance_type: str) -> None:
        """Take the rows over as a tensor."""
        import torch

        if covariance_type not in ("full", "diag"):
            raise NotImplementedError(f"no {covariance_type!r} mixture")
        self.problem, self.covariance_type = problem, covariance_type
        # Its sums are kept in torch's default dtype, whatever the data's.
        torch.set_default_dtype(torch.float64 if problem.x.dtype == np.float64 else torch.float32)
        self.x = torch.from_numpy(problem.x)

    def restart(self) -> None:
        """Build the model anew: it updates in place."""
        import torch
        from pomegranate.distributions import Normal
        from pomegranate.gmm import GeneralMixtureModel

        weights, means, covariances = (torch.tensor(array) for array in self.problem.start)
        normals = [
            Normal(mean, covariance, covariance_type=self.covariance_type, check_data=False)
            for mean, covariance in zip(means, covariances, strict=True)
        ]
        self.model = GeneralMixtureModel(normals, priors=weights, check_data=False)

    def step(self) -> None:
        """One pass of EM over the rows."""
        self.model.summarize(self.x)
        self.model.from_summaries()

    def parameters(self) -> Parameters:
        """The mixture after the last M-step."""
        means, covariances = (
            np.stack([np.asarray(getattr(normal, name).detach()) for normal in self.model.distributions])
            for name in ("means", "covs")
        )
        return Parameters(np.asarray(self.model.priors.detach()), means, covariances)


class Gmmx:
    """`EMFitter.e_step` and `m_step` under one jit, as its loop has them."""

    def __init__(self, problem: Problem, covariance_type: str) -> None:
        """Take the rows over, and compile."""
        if problem.x.dtype != np.float32:
            raise NotImplementedError("float32 only")
        if covariance_type not in ("full", "diag"):
            raise NotImplementedError(f"no {covariance_type!r} mixture")
        self.x = jnp.asarray(problem.x)
        self.pass_over, self.first = gmmx_pass(problem.start, covariance_type)
        self.restart()

    def restart(self) -> None:
        """Go back to the start."""
        self.mixture = self.first

    def step(self) -> None:
        """One pass of EM over the rows, waited for."""
        self.mixture, _ = jax.block_until_ready(self.pass_over(self.mixture, self.x))

    def parameters(self) -> Parameters:
        """The mixture after the last M-step."""
        mixture = self.mixture
        return Parameters(mixture.weights_numpy, mixture.means_numpy, mixture.covariances.values_numpy)


def gmmx_pass(start: Parameters, covariance_type: str) -> tuple[Callable[..., Any], Any]:
    """The jitted pass of gmmx, and its mixture at the start."""
    from gmmx import EMFitter, GaussianMixtureModelJax

    fitter = EMFitter(reg_covar=0.0)
    first = GaussianMixtureModelJax.from_squeezed(
        weights=jnp.asarray(start.weights),
        means=jnp.asarray(start.means),
        covariances=jnp.asarray(start.covariances),
        covariance_type=covariance_type,
    )

    @jax.jit
    def pass_over(mixture: Any, x: jax.Array) -> tuple[Any, jax.Array]:
        log_likelihood, log_resp = fitter.e_step(x, mixture)
        return fitter.m_step(x, mixture, log_resp), log_likelihood

    return pass_over, first


LIBRARIES: dict[str, Callable[[Problem, str], Passes]] = {
    "jaxgmm": Jaxgmm,
    "scikit-learn": ScikitLearn,
    "pomegranate": Pomegranate,
    "gmmx": Gmmx,
}


def contender(passes: Passes) -> Contender:
    """A library as `race` takes it."""
    return Contender(passes.step, passes.restart)
