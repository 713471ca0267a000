"""A mixture as a numpyro distribution, and back: `pip install 'jaxgmm[numpyro]'`.

The distribution holds the mixture itself, and is not numpyro's own mixture of the same components: its log-density
takes rows a chunk at a time, backwards too, where `MixtureSameFamily` holds N·K·D numbers (100000 rows, D = 8, K = 16,
two cores, float32: 80 ms against 1030 for value and gradient); gradients stay finite with components of weight 0 and
with far rows; and draws have derivatives in every parameter, so that a mixture can be a guide.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions.util import validate_sample

from jaxgmm import distributions
from jaxgmm.model.covariances.dense import Dense, as_dense
from jaxgmm.model.covariances.diagonal import Diagonal
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.fitted import Fitted, as_mixtures
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics.factors import cholesky


class GaussianMixture(dist.Distribution):
    """A mixture as a distribution over rows (D,), for `numpyro.sample`.

    A pytree, whose leaves are the mixture's. A mixture stacked along axes B has the batch shape B.

    Attributes:
        mixture: the mixture.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> distribution = jaxgmm.numpyro.to_distribution(mixture)
        >>> distribution.log_prob(np.zeros((100, 2))).shape
        (100,)
    """

    arg_constraints: dict[str, Any] = {}
    pytree_data_fields = ("mixture",)
    support: Any = dist.constraints.real_vector

    def __init__(self, mixture: Mixture, *, validate_args: bool | None = None) -> None:
        """Hold a mixture; see `to_distribution`."""
        self.mixture = mixture
        shape = distributions.batch_shape(mixture)
        super().__init__(batch_shape=shape, event_shape=(mixture.n_features,), validate_args=validate_args)

    def sample(self, key: Array | None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Rows, (*sample_shape, *B, D), with derivatives in the mixture; see `jaxgmm.sample_reparameterised`."""
        return distributions.draw(key, self.mixture, sample_shape)

    @validate_sample
    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Log-density of rows (..., *B, D); see `jaxgmm.log_prob`."""
        return distributions.log_prob(self.mixture, value)

    @property
    def mean(self) -> Array:
        """Mean of the whole mixture, (*B, D)."""
        return distributions.moments(self.mixture)[0]

    @property
    def variance(self) -> Array:
        """Variances of the columns, (*B, D)."""
        return jnp.diagonal(self.covariance_matrix, axis1=-2, axis2=-1)

    @property
    def covariance_matrix(self) -> Array:
        """Covariance of the whole mixture, (*B, D, D)."""
        return distributions.moments(self.mixture)[1]

    @property
    def mixture_size(self) -> int:
        """Number of components K."""
        return self.mixture.n_components

    @property
    def mixing_distribution(self) -> Any:
        """The components' weights, as a categorical distribution."""
        # Validation has no room for a log-weight of −∞.
        return dist.CategoricalLogits(self.mixture.log_weights, validate_args=False)

    @property
    def component_distribution(self) -> dist.Distribution:
        """The components, with the batch shape (*B, K)."""
        means, covs = self.mixture.means, self.mixture.covs
        if covs.mixes:
            return dist.MultivariateNormal(means, scale_tril=as_dense(covs).cholesky)
        return dist.Normal(means, covs.deviations()).to_event(1)


def to_distribution(mixture: Mixture | Fitted, *, validate_args: bool | None = None) -> GaussianMixture:
    """A mixture as a numpyro distribution.

    Where all rows of a large data set are observed, `numpyro.factor("rows", jaxgmm.log_likelihood(mixture, x))` says
    the same with a gradient by Fisher's identity, five times faster again. numpyro's own distribution is
    `MixtureSameFamily(it.mixing_distribution, it.component_distribution)`.

    Args:
        mixture: the mixture, or a stack of them as `vmap` gives.
        validate_args: as numpyro's distributions take it.

    Returns:
        The distribution: batch shape () or the stack's, event shape (D,).

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> distribution = jaxgmm.numpyro.to_distribution(mixture)
        >>> tuple(distribution.event_shape), tuple(distribution.batch_shape)
        ((2,), ())
    """
    return GaussianMixture(as_mixtures(mixture), validate_args=validate_args)


def from_distribution(distribution: dist.Distribution, *, covariance_type: str | Family | None = None) -> Mixture:
    """The mixture that is equal to a numpyro distribution.

    Args:
        distribution: from `to_distribution`; or a `MixtureSameFamily` of `MultivariateNormal` (however parametrised),
            `LowRankMultivariateNormal`, or `Normal`: a row after `to_event(1)`, by itself one column.
        covariance_type: a name or a family, to project the mixture onto. None is the family with the fewest
            parameters that holds the covariances; under a trace their shapes decide alone.

    Returns:
        The mixture.

    Raises:
        TypeError: if the distribution, or a component, is of another kind.
        ValueError: if it holds NaN, or a covariance that is not positive definite.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> distribution = jaxgmm.numpyro.to_distribution(mixture)
        >>> print(jaxgmm.numpyro.from_distribution(distribution).means)
        [[0. 0.]
         [4. 4.]]
    """
    return distributions.unwrap(distribution, GaussianMixture, dist.MixtureSameFamily, _parts, covariance_type)


def _parts(distribution: Any) -> distributions.Parts:
    mixing = distribution.mixing_distribution
    logits = mixing.logits if isinstance(mixing, dist.CategoricalLogits) else jnp.log(mixing.probs)
    return logits, *_gaussian(distribution.component_distribution)


def _gaussian(component: Any) -> tuple[Array, Dense | Diagonal]:
    """Means, (*B, K, D), and factors of the covariances of normal components."""
    inner: Any = component
    while isinstance(inner, dist.Independent | dist.ExpandedDistribution):
        inner = inner.base_dist
    kind, n_axes, shape = type(inner), component.event_dim, component.batch_shape + component.event_shape
    if n_axes > 1:
        raise TypeError(f"components must be normal distributions over rows, not over {component.event_shape}")
    if issubclass(kind, dist.MultivariateNormal):
        return jnp.broadcast_to(inner.loc, shape), Dense(inner.scale_tril)
    if issubclass(kind, dist.LowRankMultivariateNormal):
        return jnp.broadcast_to(inner.loc, shape), Dense(cholesky(inner.covariance_matrix))
    if issubclass(kind, dist.Normal) and n_axes == 1:
        return jnp.broadcast_to(inner.loc, shape), Diagonal(inner.scale)
    if issubclass(kind, dist.Normal) and n_axes == 0:
        return jnp.broadcast_to(inner.loc, shape)[..., None], Diagonal(jnp.asarray(inner.scale)[..., None])
    raise TypeError(f"components must be normal distributions over rows, not {kind.__name__}")
