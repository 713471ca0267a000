"""Draws from a mixture."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgmm.host.checks import as_count, as_key, keyed
from jaxgmm.model.covariances.dense import as_dense
from jaxgmm.model.fitted import Fitted, as_mixture
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics.linalg import product
from jaxgmm.numerics.programs import program


@keyed
def sample(key: Array, mixture: Mixture | Fitted, n: int) -> tuple[Array, Array]:
    """Rows drawn from a mixture, k ~ π and x ~ N(μ_k, Σ_k), and their components.

    Args:
        key: a typed key, `jax.random.key(0)`.
        mixture: the mixture.
        n: number of rows; static.

    Returns:
        Rows, (n, D), and the component that each came from, (n,); NaN and −1 where a weight is NaN.

    Raises:
        TypeError: if the key is not typed, `mixture` is neither a mixture nor a fit, or n is not an integer.
        ValueError: if the mixture is a stack, or n is negative.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> x.shape, labels.shape
        ((100, 2), (100,))
    """
    mixture = as_mixture(mixture)
    return _sample(as_key(key), mixture, as_count(n, "n", least=0))


@program(static_argnums=(2,), size=lambda key, mixture, n: n * mixture.n_features)
def _sample(key: Array, mixture: Mixture, n: int) -> tuple[Array, Array]:
    key_labels, key_normal = jax.random.split(key)
    labels = jax.random.categorical(key_labels, mixture.log_weights, shape=(n,))
    sound = ~jnp.any(jnp.isnan(mixture.log_weights))
    normal = jax.random.normal(key_normal, (n, mixture.n_features), mixture.means.dtype)
    rows = mixture.means[labels] + _coloured(mixture, labels, normal)
    return jnp.where(sound, rows, jnp.nan), jnp.where(sound, labels, -1)


def _coloured(mixture: Mixture, labels: Array, normal: Array) -> Array:
    """L_k z for each row, computed component by component, since a factor for each row would take n·D² numbers."""
    covs = mixture.covs
    if not covs.mixes:
        scales = covs.deviations()
        return normal * jnp.broadcast_to(scales, (mixture.n_components, scales.shape[1]))[labels]
    factors = as_dense(covs).cholesky
    if covs.count == 1:
        return product("nd,ed->ne", normal, factors[0])

    def component(coloured: Array, numbered: tuple[Array, Array]) -> tuple[Array, None]:
        k, factor = numbered
        return jnp.where((labels == k)[:, None], product("nd,ed->ne", normal, factor), coloured), None

    return lax.scan(component, jnp.zeros_like(normal), (jnp.arange(covs.count), factors))[0]
