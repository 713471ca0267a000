"""A mixture as a distribution of TensorFlow Probability's JAX substrate, and back: `pip install 'jaxgmm[tfp]'`.

The distribution holds the mixture itself, and is not TFP's own mixture of the same components: its log-density takes
rows a chunk at a time, backwards too, where `MixtureSameFamily` holds N·K·D numbers; gradients stay finite with
components of weight 0 and with far rows; and draws have derivatives in every parameter, for every family.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from tensorflow_probability.substrates import jax as tfp

from jaxgmm import distributions
from jaxgmm.model.covariances.dense import Dense, as_dense
from jaxgmm.model.covariances.diagonal import Diagonal
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.fitted import Fitted, as_mixtures
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics.factors import cholesky

tfb, tfd = tfp.bijectors, tfp.distributions


@jax.tree_util.register_pytree_node_class
class GaussianMixture(tfd.Distribution):
    """A mixture as a distribution over rows (D,).

    A pytree, whose leaves are the mixture's. A mixture stacked along axes B has the batch shape B.

    Attributes:
        mixture: the mixture.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> distribution = jaxgmm.tfp.to_distribution(mixture)
        >>> distribution.log_prob(np.zeros((100, 2))).shape
        (100,)
    """

    def __init__(self, mixture: Mixture, validate_args: bool = False, name: str = "GaussianMixture") -> None:
        """Hold a mixture; see `to_distribution`."""
        self.mixture = mixture
        super().__init__(
            # What unflattens a pytree may have no arrays in its place.
            dtype=getattr(mixture.means, "dtype", None),
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=validate_args,
            allow_nan_stats=True,
            parameters={"mixture": mixture, "validate_args": validate_args, "name": name},
            name=name,
        )

    def tree_flatten(self) -> tuple[tuple[Mixture], tuple[bool, str]]:
        """The mixture, and the static arguments, for JAX."""
        return (self.mixture,), (self.validate_args, self.name)

    @classmethod
    def tree_unflatten(cls, static: tuple[bool, str], children: tuple[Any]) -> GaussianMixture:
        """The distribution from what `tree_flatten` gives, for JAX."""
        return cls(*children, *static)

    @classmethod
    def _parameter_properties(cls, dtype: DTypeLike, num_classes: Any = None) -> dict[str, Any]:
        return {}

    def __getitem__(self, slices: Any) -> GaussianMixture:
        """The distribution of the mixtures of a stack at an index, as for an array of the batch shape."""
        chosen = distributions.chosen(self.mixture, slices)
        return GaussianMixture(chosen, validate_args=self.validate_args, name=self.name)

    def _event_shape(self) -> Any:
        return (self.mixture.n_features,)

    def _event_shape_tensor(self) -> Any:
        return jnp.asarray(self._event_shape(), jnp.int32)

    def _batch_shape(self) -> Any:
        return distributions.batch_shape(self.mixture)

    def _sample_n(self, n: Any, seed: Any = None) -> Array:
        return distributions.draw(seed, self.mixture, (int(n),))

    def _log_prob(self, x: Any) -> Array:
        return distributions.log_prob(self.mixture, x)

    def _mean(self) -> Array:
        return distributions.moments(self.mixture)[0]

    def _variance(self) -> Array:
        return jnp.diagonal(self._covariance(), axis1=-2, axis2=-1)

    def _covariance(self) -> Array:
        return distributions.moments(self.mixture)[1]

    def _default_event_space_bijector(self) -> Any:
        return tfb.Identity(validate_args=self.validate_args)

    @property
    def mixture_distribution(self) -> Any:
        """The components' weights, as a categorical distribution."""
        return tfd.Categorical(logits=self.mixture.log_weights)

    @property
    def components_distribution(self) -> Any:
        """The components, with the batch shape (*B, K)."""
        means, covs = self.mixture.means, self.mixture.covs
        if covs.mixes:
            return tfd.MultivariateNormalTriL(means, as_dense(covs).cholesky)
        return tfd.MultivariateNormalDiag(means, jnp.broadcast_to(covs.deviations(), means.shape))


def to_distribution(mixture: Mixture | Fitted, *, validate_args: bool = False) -> GaussianMixture:
    """A mixture as a distribution of TFP's JAX substrate.

    TFP's own distribution is `MixtureSameFamily(it.mixture_distribution, it.components_distribution)`.

    Args:
        mixture: the mixture, or a stack of them as `vmap` gives.
        validate_args: as TFP's distributions take it.

    Returns:
        The distribution: batch shape () or the stack's, event shape (D,).

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> distribution = jaxgmm.tfp.to_distribution(mixture)
        >>> tuple(distribution.event_shape), tuple(distribution.batch_shape)
        ((2,), ())
    """
    return GaussianMixture(as_mixtures(mixture), validate_args=validate_args)


def from_distribution(distribution: Any, *, covariance_type: str | Family | None = None) -> Mixture:
    """The mixture that is equal to a distribution of TFP's JAX substrate.

    Args:
        distribution: from `to_distribution`; or a `MixtureSameFamily` of TFP's multivariate normal distributions, or
            of `Normal`: a row inside `Independent`, by itself one column.
        covariance_type: a name or a family, to project the mixture onto. None is the family with the fewest
            parameters that holds the covariances; under a trace their shapes decide alone.

    Returns:
        The mixture.

    Raises:
        TypeError: if the distribution, or a component, is of another kind.
        ValueError: if it holds NaN, or a covariance that is not positive definite.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> distribution = jaxgmm.tfp.to_distribution(mixture)
        >>> print(jaxgmm.tfp.from_distribution(distribution).means)
        [[0. 0.]
         [4. 4.]]
    """
    return distributions.unwrap(distribution, GaussianMixture, tfd.MixtureSameFamily, _parts, covariance_type)


def _parts(distribution: Any) -> distributions.Parts:
    logits = distribution.mixture_distribution.logits_parameter()
    return logits, *_gaussian(distribution.components_distribution)


def _gaussian(component: Any) -> tuple[Array, Dense | Diagonal]:
    """Means, (*B, K, D), and factors of the covariances of normal components."""
    if isinstance(component, tfd.MultivariateNormalLinearOperator):
        scale = component.scale
        if isinstance(scale, tfp.tf2jax.linalg.LinearOperatorDiag | tfp.tf2jax.linalg.LinearOperatorIdentity):
            return component.mean(), Diagonal(component.stddev())
        if isinstance(scale, tfp.tf2jax.linalg.LinearOperatorLowerTriangular):
            return component.mean(), Dense(scale.to_dense())
        return component.mean(), Dense(cholesky(component.covariance()))
    inner = component.distribution if isinstance(component, tfd.Independent) else component
    if isinstance(inner, tfd.Normal) and len(component.event_shape) == 1:
        return component.mean(), Diagonal(component.stddev())
    if isinstance(component, tfd.Normal):
        return component.mean()[..., None], Diagonal(component.stddev()[..., None])
    raise TypeError(f"components must be normal distributions over rows, not {type(inner).__name__}")
