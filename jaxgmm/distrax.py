"""A mixture as a distrax distribution, and back: `pip install 'jaxgmm[distrax]'`.

The distribution holds the mixture itself, and is not distrax's own mixture of the same components: its log-density
takes rows a chunk at a time, backwards too, where `MixtureSameFamily` holds N·K·D numbers; gradients stay finite with
components of weight 0 and with far rows; and draws have derivatives in every parameter.
"""

from __future__ import annotations

from typing import Any

import distrax
import jax.numpy as jnp
from jax import Array

from jaxgmm import distributions
from jaxgmm.model.covariances.dense import Dense, as_dense
from jaxgmm.model.covariances.diagonal import Diagonal
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.fitted import Fitted, as_mixtures
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics.factors import cholesky


class GaussianMixture(distrax.Distribution):
    """A mixture as a distribution over rows (D,).

    A pytree, whose leaves are the mixture's. A mixture stacked along axes B has the batch shape B.

    Attributes:
        mixture: the mixture.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> distribution = jaxgmm.distrax.to_distribution(mixture)
        >>> distribution.log_prob(np.zeros((100, 2))).shape
        (100,)
    """

    def __init__(self, mixture: Mixture) -> None:
        """Hold a mixture; see `to_distribution`."""
        super().__init__()
        self.mixture = mixture

    def __getitem__(self, index: Any) -> GaussianMixture:
        """The distribution of the mixtures of a stack at an index, as for an array of the batch shape."""
        return GaussianMixture(distributions.chosen(self.mixture, index))

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of a row, (D,)."""
        return (self.mixture.n_features,)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape B of the axes along which mixtures are stacked."""
        return distributions.batch_shape(self.mixture)

    @property
    def dtype(self) -> Any:
        """The dtype of the rows."""
        return self.mixture.means.dtype

    def _sample_n(self, key: Array, n: int) -> Array:
        return distributions.draw(key, self.mixture, (n,))

    def log_prob(self, value: Any) -> Array:
        """Log-density of rows (..., *B, D); see `jaxgmm.log_prob`."""
        return distributions.log_prob(self.mixture, value)

    def mean(self) -> Array:
        """Mean of the whole mixture, (*B, D)."""
        return distributions.moments(self.mixture)[0]

    def variance(self) -> Array:
        """Variances of the columns, (*B, D)."""
        return jnp.diagonal(self.covariance(), axis1=-2, axis2=-1)

    def covariance(self) -> Array:
        """Covariance of the whole mixture, (*B, D, D)."""
        return distributions.moments(self.mixture)[1]

    @property
    def mixture_distribution(self) -> distrax.Distribution:
        """The components' weights, as a categorical distribution."""
        return distrax.Categorical(logits=self.mixture.log_weights)

    @property
    def components_distribution(self) -> distrax.Distribution:
        """The components, with the batch shape (*B, K)."""
        means, covs = self.mixture.means, self.mixture.covs
        if covs.mixes:
            return distrax.MultivariateNormalTri(
                means, jnp.broadcast_to(as_dense(covs).cholesky, (*means.shape, means.shape[-1]))
            )
        return distrax.MultivariateNormalDiag(means, jnp.broadcast_to(covs.deviations(), means.shape))


def to_distribution(mixture: Mixture | Fitted) -> GaussianMixture:
    """A mixture as a distrax distribution.

    distrax's own distribution is `MixtureSameFamily(it.mixture_distribution, it.components_distribution)`.

    Args:
        mixture: the mixture, or a stack of them as `vmap` gives.

    Returns:
        The distribution: batch shape () or the stack's, event shape (D,).

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> distribution = jaxgmm.distrax.to_distribution(mixture)
        >>> tuple(distribution.event_shape), tuple(distribution.batch_shape)
        ((2,), ())
    """
    return GaussianMixture(as_mixtures(mixture))


def from_distribution(distribution: distrax.Distribution, *, covariance_type: str | Family | None = None) -> Mixture:
    """The mixture that is equal to a distrax distribution.

    Args:
        distribution: from `to_distribution`; or a `MixtureSameFamily` of distrax's multivariate normal distributions
            (triangular, of a full covariance, diagonal, diagonal plus low rank), or of `Normal`: a row inside
            `Independent`, by itself one column.
        covariance_type: a name or a family, to project the mixture onto. None is the family with the fewest
            parameters that holds the covariances; under a trace their shapes decide alone.

    Returns:
        The mixture.

    Raises:
        TypeError: if the distribution, or a component, is of another kind.
        ValueError: if it holds NaN, or a covariance that is not positive definite.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> distribution = jaxgmm.distrax.to_distribution(mixture)
        >>> print(jaxgmm.distrax.from_distribution(distribution).means)
        [[0. 0.]
         [4. 4.]]
    """
    return distributions.unwrap(distribution, GaussianMixture, distrax.MixtureSameFamily, _parts, covariance_type)


def _parts(distribution: Any) -> distributions.Parts:
    logits = distribution.mixture_distribution.logits_parameter()
    return logits, *_gaussian(distribution.components_distribution)


def _gaussian(component: Any) -> tuple[Array, Dense | Diagonal]:
    """Means, (*B, K, D), and factors of the covariances of normal components."""
    kind, n_axes = type(component), len(component.event_shape)
    if issubclass(kind, distrax.MultivariateNormalTri) and component.is_lower:
        return component.mean(), Dense(component.scale_tri)
    if issubclass(kind, distrax.MultivariateNormalDiag):
        return component.mean(), Diagonal(component.scale_diag)
    if issubclass(kind, distrax.MultivariateNormalFromBijector):
        return component.mean(), Dense(cholesky(component.covariance()))
    inner = component.distribution if issubclass(kind, distrax.Independent) else component
    if issubclass(type(inner), distrax.Normal) and n_axes == 1:
        return component.mean(), Diagonal(component.stddev())
    if issubclass(kind, distrax.Normal):
        return component.mean()[..., None], Diagonal(component.stddev()[..., None])
    raise TypeError(f"components must be normal distributions over rows, not {type(inner).__name__}")
