"""The contenders, each as a newcomer calls it: its defaults, and more than one start where it has them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm
from experiments.torture.problems import Problem
from experiments.torture.truth import Arrays


class Answer(NamedTuple):
    """What a library says.

    Attributes:
        mixture: what it fitted; None where it refused to.
        remark: why it refused, or its own warning that the fit is not to be relied on; empty where it is content.
    """

    mixture: Arrays | None
    remark: str = ""


def by_jaxgmm(problem: Problem, family: str) -> Answer:
    """`jaxgmm.fit` as it comes."""
    try:
        with warnings.catch_warnings():
            # A collapse is told by the status, too.
            warnings.filterwarnings("ignore", "the fit collapsed")
            fitted = jaxgmm.fit(
                jax.random.key(0), problem.x, problem.n_components, problem.weights, covariance_type=family
            )
    except (ValueError, TypeError, RuntimeError) as error:
        return Answer(None, str(error))
    mixture = jax.device_get(fitted.mixture)
    arrays = Arrays(np.asarray(mixture.weights), mixture.means, np.asarray(mixture.covariances))
    return Answer(arrays, "" if fitted.converged else jaxgmm.Status(int(fitted.status)).name)


def by_scikit_learn(problem: Problem, family: str) -> Answer:
    """`GaussianMixture` with ten starts."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    if problem.weights is not None:
        return Answer(None, "no weights")
    model = GaussianMixture(problem.n_components, covariance_type=family, n_init=10, random_state=0)
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        try:
            model.fit(problem.x)
        except ValueError as error:
            return Answer(None, str(error))
    remarks = [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)]
    k, d = model.means_.shape
    covariances = {
        "full": lambda c: c,
        "tied": lambda c: np.broadcast_to(c, (k, d, d)),
        "diag": lambda c: c[:, :, None] * np.eye(d),
        "spherical": lambda c: c[:, None, None] * np.eye(d),
    }[family](model.covariances_)
    return Answer(Arrays(model.weights_, model.means_, covariances), remarks[0] if remarks else "")


def by_gmmx(problem: Problem, family: str) -> Answer:
    """`EMFitter` from its own k-means, which has ten starts; full and diagonal, float32."""
    from gmmx import EMFitter, GaussianMixtureModelJax
    from gmmx.gmm import CovarianceType

    if problem.weights is not None:
        return Answer(None, "no weights")
    if family not in ("full", "diag") or problem.x.dtype != np.float32:
        return Answer(None, "not offered")
    # It mixes dtypes where x64 is on.
    with warnings.catch_warnings(), np.errstate(all="ignore"), jax.enable_x64(False):
        warnings.simplefilter("ignore")
        try:
            kind = CovarianceType(family)
            start = GaussianMixtureModelJax.from_k_means(
                jnp.asarray(problem.x), problem.n_components, covariance_type=kind, random_state=0
            )
            result = EMFitter(max_iter=1000).fit(jnp.asarray(problem.x), start)
        except ValueError as error:
            return Answer(None, str(error))
    covariances = np.asarray(result.gmm.covariances.values_numpy)
    if family == "diag":
        covariances = covariances[:, :, None] * np.eye(covariances.shape[1])
    arrays = Arrays(np.asarray(result.gmm.weights_numpy), np.asarray(result.gmm.means_numpy), covariances)
    return Answer(arrays, "" if result.converged else "not converged")


LIBRARIES: dict[str, Callable[[Problem, str], Answer]] = {
    "jaxgmm": by_jaxgmm,
    "scikit-learn": by_scikit_learn,
    "gmmx": by_gmmx,
}
