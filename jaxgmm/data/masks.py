"""The pass over incomplete rows where columns are independent, given the component: no factor, and no pattern.

With o = 1 where a value was observed, the log-joints are linear in the features (o x², o x, o, 1): two matrix products,
as for complete rows, and the gaps are filled afterwards.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxgmm.data.centring import about
from jaxgmm.data.passes import normalise, weighted_sum
from jaxgmm.data.patterns import CHUNK, centre_of_stack
from jaxgmm.data.tiers import wide
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, Statistic
from jaxgmm.numerics import chunks
from jaxgmm.numerics.linalg import product, varying_as


def by_masks(statistic: Statistic, stack: Mixture, x: Array, weights: Array) -> tuple[Moments, Array]:
    """Moments and log-likelihoods of R mixtures of independent columns at once, by features in float64.

    Args:
        statistic: the part of the scatter to keep, without products.
        stack: mixtures with a leading axis R.
        x: rows, NaN where nothing was observed, (N, D).
        weights: (1, N), or (R, N) where each mixture has its own.
    """
    dtype, (n_stacked, n_components, n_features) = stack.means.dtype, stack.means.shape
    shape, n_rows, n_sums = (n_stacked, n_components), x.shape[0], 3 * n_features + 1
    with jax.enable_x64(True):
        stack = jax.tree.map(wide, stack)
        centre = centre_of_stack(stack)
        stack = jax.vmap(about, (0, None))(stack, centre)
        deviations = jax.vmap(lambda covs: covs.deviations())(stack.covs)
        variances = jnp.broadcast_to(deviations**2, stack.means.shape)
        level = -0.5 * (stack.means**2 / variances + jnp.log(2 * np.pi * variances))
        constant = jnp.maximum(stack.log_weights, -float(np.sqrt(np.finfo(np.float64).max)))[..., None]
        coefficients = jnp.concatenate([-0.5 / variances, stack.means / variances, level, constant], axis=-1)
        coefficients = coefficients.reshape(-1, n_sums)
        n_chunks, size = chunks.divide(n_rows, max(64, CHUNK // (n_sums + n_stacked * n_components)))

        def step(index: Array, held: tuple[Array, Array]) -> tuple[Array, Array]:
            start, fresh = chunks.window(index, size, n_rows)
            rows = lax.dynamic_slice_in_dim(x, start, size).astype(jnp.float64).T - centre[:, None]
            mass = jnp.where(fresh[None, :], lax.dynamic_slice_in_dim(weights, start, size, axis=1), 0.0)
            mass = mass.astype(jnp.float64)
            observed = ~jnp.isnan(rows) & jnp.any(mass != 0, axis=0)[None, :]
            rows = jnp.where(observed, rows, 0.0)
            phi = jnp.concatenate([rows**2, rows, observed.astype(jnp.float64), jnp.ones((1, size))])
            log_joint = product("mf,fc->mc", coefficients, phi).reshape(*shape, size)
            shares, log_prob = normalise(log_joint, mass, dtype)
            raw = product("fc,mc->fm", phi, shares.reshape(-1, size))
            return held[0] + raw, held[1] + weighted_sum(mass, log_prob)

        empty = jnp.zeros((n_sums, coefficients.shape[0])), jnp.zeros(n_stacked)
        anchor = stack.means.ravel()[0] + wide(x[0, 0])
        sums, log_likelihood = lax.fori_loop(np.int32(0), np.int32(n_chunks), step, varying_as(empty, anchor))
        squares, firsts, counts, mass = jnp.split(sums.reshape(n_sums, *shape), n_features * np.arange(1, 4))
        squares, firsts, counts = (jnp.moveaxis(sum_, 0, -1) for sum_ in (squares, firsts, counts))
        mass = mass[0]
        seen = firsts / jnp.where(counts > 0, counts, 1.0)
        absent, whole = mass[..., None] - counts, jnp.where(mass > 0, mass, 1.0)[..., None]
        shift = jnp.where(counts > 0, seen - stack.means, 0.0)
        mean = stack.means + counts / whole * shift
        scatter = squares - counts * seen**2 + absent * variances + counts * absent / whole * shift**2
        moments = Moments(mass, mean + centre[None, None, :], jax.vmap(statistic.of_diagonal)(scatter))
        return jax.tree.map(lambda leaf: lax.convert_element_type(leaf, dtype), (moments, log_likelihood))
