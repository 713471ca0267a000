"""Passes over blurred rows, chunk by chunk, each row with a factor of its own; and the E-step by the faster way."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgmm.data.centring import about, centre_of
from jaxgmm.data.kernels import blurred
from jaxgmm.data.kernels.blurred import Blur, View
from jaxgmm.data.kernels.patterned import ByFeatures, ByWhitening
from jaxgmm.data.layouts import Layout
from jaxgmm.data.masks import by_masks
from jaxgmm.data.noise import variances_of
from jaxgmm.data.passes import combine, weighted_sum
from jaxgmm.data.patterns import Measured, by_patterns, trusted
from jaxgmm.data.stacked import stacked_pass
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, Statistic
from jaxgmm.numerics import chunks


def seen_of(x: Array, weights: Array, noise: Array | None) -> tuple[Array, Array | None]:
    """Whether each value of rows (N, D) was observed, and the errors' variances or covariances, finite.

    A value counts as missing where it is NaN or its variance of error infinite; so does all of a row of weight 0 that
    is not finite.
    """
    observed = ~jnp.isnan(x)
    if noise is None:
        variances = jnp.zeros((), x.dtype)
    else:
        variances = variances_of(noise)
        observed = observed & (variances != jnp.inf)
    sound = jnp.isfinite(jnp.sum(jnp.where(observed, x**2 + variances, 0.0), axis=-1))
    observed = observed & ((weights != 0) | sound)[:, None]
    if noise is None:
        return observed, None
    there = observed if noise.ndim == 2 else observed[:, :, None] & observed[:, None, :]
    return observed, jnp.where(there, noise, 0.0)


Rowwise = Callable[[Mixture, View, Array], Any]
"""A function of a mixture about the centre, what it makes of a chunk of rows, and their weights."""


def each(rows: Rowwise, mixture: Mixture, x: Array, weights: Array, noise: Array | None) -> Array:
    """The values of a function of the rows for all of them, (N, ...)."""
    return chunks.each(*_chunked(rows, mixture, noise), *_arrays(x, weights, noise))


def fold(
    rows: Rowwise, combine: Callable[..., Any], mixture: Mixture, x: Array, weights: Array, noise: Array | None
) -> Any:
    """The values of a function of the rows for all chunks, combined."""
    width, chunk = _chunked(rows, mixture, noise)
    return chunks.fold(width, chunk, combine, *_arrays(x, weights, noise))


def _arrays(x: Array, weights: Array, noise: Array | None) -> tuple[Array, ...]:
    return (x, weights) if noise is None else (x, weights, noise)


def _chunked(rows: Rowwise, mixture: Mixture, noise: Array | None) -> tuple[int, Callable[..., Any]]:
    """The numbers that a row takes in a chunk, and a function of a chunk's rows, weights and noise."""
    centre = centre_of(mixture)
    moved = about(mixture, centre)
    width = mixture.means.size * (mixture.n_features if blurred.is_dense(mixture, noise) else 1)

    def chunk(x: Array, weights: Array, noise: Array | None = None) -> Any:
        observed, noise = seen_of(x, weights, noise)
        noise = None if noise is None else jnp.moveaxis(noise, 0, -1)
        return rows(moved, blurred.look(moved, x.T - centre[:, None], Blur(observed.T, noise)), weights)

    return width, chunk


def by_rows(
    statistic: Statistic, mixture: Mixture, x: Array, weights: Array, noise: Array | None
) -> tuple[Moments, Array]:
    """Moments of the true rows and Σ wᵢ log p(xᵢ), row by row: differentiable in every mode."""

    def chunk(about: Mixture, view: View, weights: Array) -> tuple[Moments, Array]:
        gathered, log_prob = blurred.moments(about, view, weights, statistic)
        return gathered, weighted_sum(weights, log_prob)

    gathered, log_likelihood = fold(chunk, combine, mixture, x, weights, noise)
    return gathered._replace(mean=gathered.mean + centre_of(mixture)[None]), log_likelihood


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def expectation(
    statistic: Statistic,
    mixture: Mixture,
    x: Array,
    weights: Array,
    noise: Array | None,
    layout: Layout | None,
    measured: Measured | None,
) -> tuple[Moments, Array]:
    """The moments of the true rows under a mixture's responsibilities, and Σ wᵢ log p(xᵢ).

    Values of rows in part that have been measured are computed by features, as long as these are exact enough, else by
    residuals, in either case pattern by pattern where the rows have a layout; derivatives always row by row.
    """
    if noise is not None or measured is None:
        return by_rows(statistic, mixture, x, weights, noise)
    stack = jax.tree.map(lambda leaf: leaf[None], mixture)
    results = _stacked(statistic)(stack, x, weights[None], (layout, measured))
    return jax.tree.map(lambda leaf: leaf[0], results)


@expectation.defjvp
def _derivative(statistic: Statistic, primals: Any, tangents: Any) -> Any:
    values = expectation(statistic, *primals)
    mixture, x, weights, noise, *_ = primals

    def told(mixture: Mixture, x: Array, weights: Array, *noises: Array) -> tuple[Moments, Array]:
        return by_rows(statistic, mixture, x, weights, *(noises or (None,)))

    given = (mixture, *_arrays(x, weights, noise))
    return values, jax.jvp(told, given, tangents[: len(given)])[1]


@functools.cache
def _stacked(statistic: Statistic) -> Any:
    """The pass over rows in part for a stack of R mixtures at once; `vmap` makes the stack larger."""

    def each_by_rows(stack: Mixture, x: Array, weights: Array) -> tuple[Moments, Array]:
        weights = jnp.broadcast_to(weights, (stack.means.shape[0], weights.shape[1]))
        return lax.map(lambda given: by_rows(statistic, given[0], x, given[1], None), (stack, weights))

    def together(stack: Mixture, x: Array, weights: Array, known: tuple[Layout | None, Measured]) -> Any:
        layout, measured = known
        quick, careful = functools.partial(by_masks, statistic), each_by_rows
        if stack.covs.mixes or statistic.products:
            if layout is None:
                return each_by_rows(stack, x, weights)
            by_kernel = (ByFeatures, ByWhitening)
            quick, careful = (
                functools.partial(by_patterns, kernel, statistic, measured, layout) for kernel in by_kernel
            )
        return lax.cond(trusted(stack, measured), quick, careful, stack, x, weights)

    return stacked_pass(together, each_by_rows)
