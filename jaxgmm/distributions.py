"""Mixtures as distributions, and back: the part that `jaxgmm.numpyro`, `jaxgmm.distrax` and `jaxgmm.tfp` share.

Mixtures may be stacked along batch axes B, as `vmap` stacks them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm.fitting.projection import project
from jaxgmm.host.arrays import as_floats, float_dtype, is_traced
from jaxgmm.host.checks import as_key
from jaxgmm.model.covariances.dense import Dense, as_dense
from jaxgmm.model.covariances.diagonal import Diagonal
from jaxgmm.model.families.dense import FULL, TIED
from jaxgmm.model.families.diagonal import DIAG, SPHERICAL
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.families.table import family_of
from jaxgmm.model.mixture import Mixture
from jaxgmm.probability import algebra, density
from jaxgmm.probability.reparameterised import sample_reparameterised

Parts = tuple[Any, Any, Dense | Diagonal]
"""Log-weights up to a constant, (*B, K), means, (*B, K, D), and factors of the covariances of a mixture."""


def batch_shape(mixture: Mixture) -> tuple[int, ...]:
    """The shape B of the axes along which mixtures are stacked.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> stack = jax.vmap(lambda shift: jaxgmm.affine(mixture, 1.0, shift))(jnp.arange(3.0))
        >>> distributions.batch_shape(stack)
        (3,)
    """
    return mixture.means.shape[:-2]


def chosen(mixture: Mixture, index: Any) -> Mixture:
    """The mixtures of a stack at an index, as for an array of shape B.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> stack = jax.vmap(lambda shift: jaxgmm.affine(mixture, 1.0, shift))(jnp.arange(3.0))
        >>> print(distributions.chosen(stack, 1).means)
        [[1. 1.]
         [5. 5.]]
    """
    batch = batch_shape(mixture)
    places = np.arange(math.prod(batch)).reshape(batch)
    # NumPy minds an index that is out of bounds, which JAX would clip.
    places = jnp.asarray(places)[index] if is_traced(index) else places[index]
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[len(batch) :])[places], mixture)


def log_prob(mixture: Mixture, x: Any) -> Array:
    """Log-densities, (..., *B), of rows x (..., *B, D), which are broadcast to that shape.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> stack = jax.vmap(lambda shift: jaxgmm.affine(mixture, 1.0, shift))(jnp.arange(3.0))
        >>> distributions.log_prob(stack, jnp.zeros((100, 1, 2))).shape
        (100, 3)
    """
    batch = batch_shape(mixture)
    if not batch:
        return density.log_prob(mixture, x)
    shape = jnp.broadcast_shapes(jnp.shape(x)[:-1], batch)
    rows = jnp.broadcast_to(x, (*shape, jnp.shape(x)[-1])).reshape(-1, math.prod(batch), jnp.shape(x)[-1])
    return jax.vmap(density.log_prob, (0, 1), 1)(_in_line(mixture), rows).reshape(shape)


def draw(seed: Any, mixture: Mixture, shape: tuple[int, ...]) -> Array:
    """Rows (*shape, *B, D), with derivatives in the mixture; see `sample_reparameterised`.

    Args:
        seed: a key, typed or raw, or an integer.
        mixture: the mixture, or a stack of them.
        shape: the shape of the draws.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> stack = jax.vmap(lambda shift: jaxgmm.affine(mixture, 1.0, shift))(jnp.arange(3.0))
        >>> distributions.draw(0, stack, (100,)).shape
        (100, 3, 2)
    """
    if isinstance(seed, int | np.integer):
        seed = jax.random.key(int(seed))
    elif isinstance(seed, np.ndarray | jax.Array) and not jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        seed = jax.random.wrap_key_data(jnp.asarray(seed))
    key = as_key(seed)
    batch, n = batch_shape(mixture), math.prod(shape)
    if not batch:
        return sample_reparameterised(key, mixture, n).reshape(*shape, mixture.n_features)
    keys = jax.random.split(key, math.prod(batch))
    rows = jax.vmap(lambda key, one: sample_reparameterised(key, one, n), out_axes=1)(keys, _in_line(mixture))
    return rows.reshape(*shape, *batch, mixture.n_features)


def moments(mixture: Mixture) -> tuple[Array, Array]:
    """Means, (*B, D), and covariances, (*B, D, D), of whole mixtures.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> stack = jax.vmap(lambda shift: jaxgmm.affine(mixture, 1.0, shift))(jnp.arange(3.0))
        >>> means, covariances = distributions.moments(stack)
        >>> means.shape, covariances.shape
        ((3, 2), (3, 2, 2))
    """
    each = algebra.total_moments
    for _ in batch_shape(mixture):
        each = jax.vmap(each)
    return each(mixture)


def unwrap(
    distribution: Any,
    own: type,
    theirs: type,
    parts: Callable[[Any], Parts],
    covariance_type: str | Family | None = None,
) -> Mixture:
    """The mixture that is equal to a library's distribution.

    Args:
        distribution: the distribution.
        own: the class of this library's distributions, which hold a mixture.
        theirs: the library's class of mixtures.
        parts: a function from one of the latter to its `Parts`.
        covariance_type: a name or a family, to project the mixture onto; None keeps the tightest.

    Raises:
        TypeError: if the distribution is of neither class.
        ValueError: if it holds NaN, or a covariance that is not positive definite.

    Example:
        >>> from types import SimpleNamespace
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> held = SimpleNamespace(mixture=mixture)
        >>> distributions.unwrap(held, SimpleNamespace, dict, lambda parts: parts) is mixture
        True
    """
    if isinstance(distribution, own):
        return projected(distribution.mixture, covariance_type)  # pyright: ignore[reportAttributeAccessIssue]
    if not isinstance(distribution, theirs):
        raise TypeError(f"distribution must be a mixture of normal distributions, not {type(distribution).__name__}")
    return assemble(*parts(distribution), covariance_type)


def assemble(logits: Any, means: Any, covs: Dense | Diagonal, covariance_type: str | Family | None = None) -> Mixture:
    """A mixture of Gaussian components, in the family with the fewest parameters that holds them.

    For a tracer the shape alone decides on the family; for concrete factors also which entries are zero or equal.

    Args:
        logits: log π_k up to a constant, (*B, K).
        means: μ_k, (*B, K, D).
        covs: factors of Σ_k, without axes, or with axes of 1, where they are shared. Diagonals may be negative.
        covariance_type: a name or a family, to project the mixture onto; None keeps the tightest.

    Raises:
        ValueError: if a number is NaN, a mean infinite, or a covariance not positive definite.

    Example:
        >>> from jaxgmm.model.covariances.diagonal import Diagonal
        >>> factors = Diagonal(jnp.ones((2, 2)))
        >>> distributions.assemble(jnp.zeros(2), jnp.zeros((2, 2)), factors).covariance_type
        'spherical'
    """
    logits, means = as_floats(logits, "logits"), as_floats(means, "loc")
    (factors,) = jax.tree.leaves(covs)
    dtype = float_dtype(logits, means, as_floats(factors, "scale"))
    logits, means, factors = (jnp.asarray(array, dtype) for array in (logits, means, factors))
    core = 3 if covs.mixes else 2
    factors = factors.reshape(*[1] * (core - factors.ndim), *factors.shape)
    if covs.mixes:
        signs = jnp.sign(jnp.diagonal(factors, axis1=-2, axis2=-1))
        scales, factors = jnp.abs(signs), jnp.tril(factors) * signs[..., None, :]
    else:
        scales = factors = jnp.abs(factors)
    if not is_traced(logits, means, factors):
        # NaN fails every comparison.
        sound = jnp.all(logits < jnp.inf) & jnp.all(jnp.max(logits, axis=-1) > -jnp.inf) & jnp.all(scales > 0)
        if not (sound & jnp.all(jnp.isfinite(means)) & jnp.all(jnp.isfinite(factors))):
            raise ValueError("the distribution holds NaN or infinity, or a covariance that is not positive definite")
    n_components, n_features = means.shape[-2:]
    covs = Dense(factors) if covs.mixes else Diagonal(factors, n_features if factors.shape[-1] == 1 else None)
    family = _tightest(covs, n_components, n_features)
    covs = _held(covs, family, n_features)
    core = 3 if covs.mixes else 2
    (factors,) = jax.tree.leaves(covs)
    batch = jnp.broadcast_shapes(logits.shape[:-1], means.shape[:-2], factors.shape[:-core])
    n_distinct = 1 if family == TIED else n_components
    factors = jnp.broadcast_to(factors, (*batch, n_distinct, *factors.shape[1 - core :]))
    mixture = Mixture(
        log_weights=jnp.broadcast_to(jax.nn.log_softmax(logits), (*batch, n_components)),
        means=jnp.broadcast_to(means, (*batch, n_components, n_features)),
        covs=jax.tree.map(lambda _: factors, covs),
        family=family,
    )
    return projected(mixture, covariance_type)


def projected(mixture: Mixture, covariance_type: str | Family | None) -> Mixture:
    """The mixture, stacked or not, projected onto a family; None leaves it as it is.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> stack = jax.vmap(lambda shift: jaxgmm.affine(mixture, 1.0, shift))(jnp.arange(3.0))
        >>> distributions.projected(stack, "tied").covs.cholesky.shape
        (3, 1, 2, 2)
    """
    if covariance_type is None:
        return mixture
    onto = functools.partial(project, covariance_type=family_of(covariance_type))
    for _ in batch_shape(mixture):
        onto = jax.vmap(onto)
    return onto(mixture)


def _tightest(covs: Dense | Diagonal, n_components: int, n_features: int) -> Family:
    """The family with the fewest parameters among those that contain the covariances."""
    is_concrete = not is_traced(covs)
    (factors,) = jax.tree.leaves(covs)
    first = factors[..., :1, :, :] if covs.mixes else factors[..., :1, :]
    shared = covs.count == 1 or bool(is_concrete and jnp.all(factors == first))
    if covs.mixes:
        above = np.tril_indices(n_features, -1)
        diagonal = n_features == 1 or bool(is_concrete and jnp.all(factors[..., above[0], above[1]] == 0))
        scales = jnp.diagonal(factors, axis1=-2, axis2=-1)
    else:
        diagonal, scales = True, factors
    common = diagonal and (scales.shape[-1] == 1 or bool(is_concrete and jnp.all(scales == scales[..., :1])))
    able = {FULL: True, TIED: shared, DIAG: diagonal, SPHERICAL: common}
    return min((family for family in able if able[family]), key=lambda it: it.n_parameters(n_components, n_features))


def _held(covs: Dense | Diagonal, family: Family, n_features: int) -> Dense | Diagonal:
    """The covariances in the form in which a family holds them, up to axes of 1."""
    if family in (FULL, TIED):
        return Dense(as_dense(covs).cholesky[..., :1, :, :]) if family == TIED else as_dense(covs)
    scales = jnp.diagonal(as_dense(covs).cholesky, axis1=-2, axis2=-1) if covs.mixes else covs.deviations()
    if family == SPHERICAL:
        return Diagonal(scales[..., :1], n_features)
    return Diagonal(jnp.broadcast_to(scales, (*scales.shape[:-1], n_features)))


def _in_line(mixture: Mixture) -> Mixture:
    """The mixtures stacked along one axis."""
    lead = len(batch_shape(mixture))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[lead:]), mixture)
