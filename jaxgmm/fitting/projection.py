"""The nearest mixture of another family."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from jaxgmm.fitting.steps import maximise
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.families.table import family_of
from jaxgmm.model.fitted import Fitted, as_mixture
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, columns_of, convert
from jaxgmm.model.priors.ridge import prepare


def project(mixture: Mixture | Fitted, covariance_type: str | Family) -> Mixture:
    """The nearest mixture of another family, by the M-step's own rule.

    It minimises Σ_k π_k KL(N(μ_k, Σ_k) ‖ N(μ_k, Σ'_k)) over the family: "tied" averages the covariances with
    their weights, "diag" keeps the variances, "spherical" averages them.

    Args:
        mixture: the mixture.
        covariance_type: a name or a family.

    Returns:
        The mixture, with the same weights and means.

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit.
        ValueError: if the family is not known.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> jaxgmm.project(mixture, "tied").covs.cholesky.shape
        (1, 2, 2)
    """
    mixture = as_mixture(mixture)
    family = family_of(covariance_type)
    return mixture if family == mixture.family else _project(mixture, family)


@functools.partial(jax.jit, static_argnums=1)
def _project(mixture: Mixture, family: Family) -> Mixture:
    mass = mixture.weights
    # Components without weight keep their own covariance, in the new family: mass cancels per component. They have no
    # part in a common one.
    least = (
        0.0 if family.n_distinct(mixture.n_components) < mixture.n_components else float(jnp.finfo(mass.dtype).eps) ** 2
    )
    alone = jnp.where(mass > 0, mass, least)
    moments = Moments(alone, mixture.means, alone[:, None, None] * mixture.covariances)
    moments = convert(moments, family.statistic)
    # No data, no rounding of theirs: variances as small as the dtype holds are kept.
    columns = columns_of(moments)
    columns = columns._replace(mean=jnp.zeros_like(columns.mean), variance=jnp.zeros_like(columns.variance))
    projected = maximise(moments, family, columns, prepare(None, columns))
    return Mixture(mixture.log_weights, mixture.means, projected.covs, family)
