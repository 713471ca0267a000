"""Reordering of components: in mixtures, in fits, and in standard errors and bootstraps of them."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jaxgmm.fitting.results import FitResult
from jaxgmm.host.arrays import float_dtype, is_traced
from jaxgmm.inference.bootstrap import Bootstrap, summary
from jaxgmm.inference.information import Parameters
from jaxgmm.model.fitted import as_mixture, check_same_names
from jaxgmm.model.mixture import Mixture
from jaxgmm.probability.algebra import affine, total_moments
from jaxgmm.probability.transport import cheapest_plan, squared_distances

ORDERS = ("weight", "mean")
"""Names of the orders that a mixture alone determines."""

Labelled = TypeVar("Labelled", Mixture, FitResult, Parameters, Bootstrap)


def component_order(mixture: Mixture | FitResult, order: str | Mixture | FitResult | ArrayLike) -> Array:
    """An order of a mixture's components, as the indices that `relabel` applies.

    A reference gives the one-to-one matching with the least total squared Wasserstein distance between components. It
    is exact, takes the columns in units of the reference's standard deviations, and ignores the weights.

    Args:
        mixture: the mixture, or a fit of it.
        order: "weight", heaviest first; "mean", ascending in the first column, in the next where that ties; a
            reference, a mixture or a fit of as many components in as many columns; or the order itself, a permutation
            of 0 … K − 1.

    Returns:
        Indices, (K,): component order[k] goes to place k. Under a trace an order that is no permutation is returned as
        it is.

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit, or the order none of these.
        ValueError: if the mixture is a stack, the order's name is not known, the reference has other components or
            columns, or, where it is concrete, the order is no permutation or the mixture or the reference holds NaN.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> print(jaxgmm.component_order(mixture, "weight"))
        [1 0]
    """
    held = as_mixture(mixture, name="mixture")
    n_components = held.n_components
    if isinstance(order, str):
        if order not in ORDERS:
            known = ", ".join(map(repr, ORDERS))
            raise ValueError(f"order must be {known}, a mixture or a permutation of components, not {order!r}")
        return _own_order(held, order)
    if not isinstance(order, Mixture | FitResult):
        return _as_order(order, n_components)
    check_same_names(mixture, order, "mixture", "order")
    reference = as_mixture(order, name="order")
    if reference.means.shape != held.means.shape:
        raise ValueError(f"order is {reference!r}, whose components cannot be matched one for one with {held!r}")
    indices = _matched(held, reference)
    if not is_traced(indices) and int(indices[0]) < 0:
        raise ValueError("the components cannot be matched: the mixture or the reference holds NaN or infinity")
    return indices


def relabel(value: Labelled, order: str | Mixture | FitResult | ArrayLike) -> Labelled:
    """A mixture, or what was computed from one, with its components in another order, for every family.

    Args:
        value: a mixture, a fit, standard errors, or a bootstrap.
        order: as for `component_order`. Standard errors do not know their mixture's weights and means, and take
            indices alone; of a bootstrap each refit has its own order, so that a reference undoes labels that switched
            between refits.

    Returns:
        The value with component order[k] in place k. The standard errors of a bootstrap are computed anew from the
        reordered refits. Under a trace an order that is no permutation gives NaN.

    Raises:
        TypeError: if the value is something else, or the order none of those.
        ValueError: as `component_order` does.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> print(np.asarray(jaxgmm.relabel(mixture, "weight").weights).round(3))
        [0.6 0.4]
    """
    if isinstance(value, Parameters):
        if isinstance(order, str | Mixture | FitResult):
            hint = "pass jaxgmm.component_order(mixture, order), and relabel the mixture by it too"
            raise TypeError(f"standard errors do not know the components of their mixture: {hint}")
        return _taken(value, _as_order(order, value.weights.shape[-1]))
    if isinstance(value, Bootstrap):
        return _relabelled(value, order)
    mixture: Any = _taken(as_mixture(value, name="value"), component_order(value, order))
    fit: Any = value
    return fit._replace(mixture=mixture) if isinstance(value, FitResult) else mixture


def _relabelled(refits: Bootstrap, order: Any) -> Bootstrap:
    first = jax.tree.map(lambda leaf: leaf[0], refits.mixtures)
    if isinstance(order, str | Mixture | FitResult):
        # What is wrong with the order is said of the first, since the others are traced. A refit that failed may
        # hold NaN, and then stays so.
        own = functools.partial(component_order, order=order)
        jax.eval_shape(own, first)
        orders = jax.vmap(own)(refits.mixtures)
    else:
        indices = _as_order(order, first.n_components)
        orders = jnp.broadcast_to(indices, (refits.status.shape[0], *indices.shape))
    return _summary(jax.vmap(_taken)(refits.mixtures, orders), refits.status)


_summary = jax.jit(summary)


@jax.jit
def _taken(value: Any, order: Array) -> Any:
    """A mixture or parameters with components in an order (K,); NaN where that is no permutation."""
    sound = jnp.all(jnp.sort(order) == jnp.arange(order.shape[0], dtype=order.dtype))

    def take(leaf: Array, axis: int) -> Array:
        return jnp.where(sound, jnp.take(leaf, order, axis=axis, mode="clip"), jnp.nan)

    if isinstance(value, Parameters):
        return Parameters(take(value.weights, -1), take(value.means, -2), take(value.covariances, -3))
    covs = value.covs.reordered(order)
    return Mixture(take(value.log_weights, -1), take(value.means, -2), covs, value.family)


@functools.partial(jax.jit, static_argnums=1)
def _own_order(mixture: Mixture, order: str) -> Array:
    by_weight = order == "weight"
    indices = jnp.argsort(-mixture.log_weights) if by_weight else jnp.lexsort(mixture.means.T[::-1])
    return indices.astype(jnp.int32)


@jax.jit
def _matched(mixture: Mixture, reference: Mixture) -> Array:
    """The index of the mixture's component matched with each of the reference's, (K,); −1 where there is none."""
    dtype = float_dtype(mixture.means, reference.means)
    mixture, reference = jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf.astype(dtype)), (mixture, reference))
    centre, covariance = total_moments(reference)
    unit = 1 / jnp.sqrt(jnp.diagonal(covariance))

    def standardised(given: Mixture) -> Mixture:
        return affine(dataclasses.replace(given, means=given.means - centre[None, :]), unit)

    n_components = mixture.n_components
    everywhere = jnp.ones((n_components, n_components), bool)
    _, costs = squared_distances(standardised(mixture), standardised(reference), everywhere)
    # Each component is one unit of mass: the plan is of zeros and ones.
    ones = jnp.ones(n_components, dtype)
    plan, *_ = cheapest_plan(ones, ones, costs)
    return jnp.where(jnp.all(jnp.isfinite(plan)), jax.lax.argmax(plan, 0, jnp.int32), -1)


def _as_order(order: Any, n_components: int) -> Array:
    """A permutation of components, as indices, (K,); a traced one as it is.

    Raises:
        TypeError: if it holds no integers.
        ValueError: if it has another shape, or is concrete and not a permutation.
    """
    array = order if isinstance(order, jax.Array) else np.asarray(order)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"order must be 'weight', 'mean', a mixture or integers, not {order!r}")
    if array.shape != (n_components,):
        raise ValueError(f"order must have shape ({n_components},), a place for each component, not {array.shape}")
    if not is_traced(array) and not np.array_equal(np.sort(array), np.arange(n_components)):
        raise ValueError(f"order must hold each of 0 to {n_components - 1} once, not {np.asarray(array).tolist()}")
    return jnp.asarray(array, jnp.int32)
