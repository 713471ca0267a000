"""Draws from a mixture."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxgmm.data.gaps import check_noise, check_noise_shape
from jaxgmm.data.noise import errors
from jaxgmm.host.arrays import as_floats, is_traced
from jaxgmm.host.checks import as_count, as_key, keyed
from jaxgmm.model.covariances.dense import as_dense
from jaxgmm.model.fitted import Fitted, as_mixture
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics.linalg import product
from jaxgmm.numerics.programs import program


@keyed
def sample(key: Array, mixture: Mixture | Fitted, n: int, *, noise: ArrayLike | None = None) -> tuple[Array, Array]:
    """Rows drawn from a mixture, k ~ π and x ~ N(μ_k, Σ_k), and their components; with errors, where noise is given.

    Args:
        key: a typed key, `jax.random.key(0)`.
        mixture: the mixture.
        n: number of rows; static.
        noise: variances (n, D) or covariances (n, D, D) of errors e_i ~ N(0, S_i) that are added to the rows; see
            `Noisy`. None is no errors.

    Returns:
        Rows, (n, D), and the component that each came from, (n,); NaN and −1 where a weight is NaN.

    Raises:
        TypeError: if the key is not typed, `mixture` is neither a mixture nor a fit, or n is not an integer.
        ValueError: if the mixture is a stack, n is negative, or noise is of another shape, negative, not
            finite, or not positive semi-definite.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> x.shape, labels.shape
        ((100, 2), (100,))
    """
    mixture, key, n = as_mixture(mixture), as_key(key), as_count(n, "n", least=0)
    rows, labels = _sample(key, mixture, n)
    if noise is None:
        return rows, labels
    if not is_traced(noise):
        noise = check_noise(noise, np.zeros(rows.shape), None)
        if not np.isfinite(noise).all():
            raise ValueError("noise must be finite: errors of infinite variance cannot be drawn")
    held = as_floats(noise, "noise", rows).astype(rows.dtype)
    check_noise_shape(held.shape, rows.shape)
    return _with_errors(jax.random.fold_in(key, 1), rows, held), labels


@program()
def _with_errors(key: Array, rows: Array, noise: Array) -> Array:
    return rows + errors(jax.random.normal(key, rows.shape, rows.dtype), noise)


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
