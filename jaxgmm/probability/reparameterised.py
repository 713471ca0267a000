"""Draws with derivatives in the mixture: each row moves so that its conditional CDFs stay constant.

With y_k = L_k⁻¹ (x − μ_k), column d of a row, given those before it, has the CDF F_d = Σ_k w_kd Φ(y_kd), where
w_kd ∝ π_k Π_{j<d} φ(y_kj) / L_kjj. A small change of the mixture moves the row by dx, with dF_d = 0 for every d.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero
from jax.scipy.special import ndtr
from numpy.typing import ArrayLike

from jaxgmm.data.centring import about, centre_of, centred
from jaxgmm.data.conversion import as_points
from jaxgmm.host.checks import keyed
from jaxgmm.model.covariances.dense import as_dense
from jaxgmm.model.fitted import Fitted, as_mixture
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics import chunks
from jaxgmm.numerics.linalg import instantiated
from jaxgmm.probability.sampling import sample

_HALF_LOG_TWO_PI = 0.5 * float(np.log(2 * np.pi))
_TEMPORARIES = 8
"""The number of arrays (K, D, C) held at once for a chunk: chunks of that size were 1.2 to 1.8 times as fast."""


@keyed
def sample_reparameterised(key: Array, mixture: Mixture | Fitted, n: int) -> Array:
    """Rows drawn from a mixture, those of `sample`, with derivatives in the mixture.

    ∇ E f(x) = E[∇f(x) dx/dθ], with dx/dθ as in `reparameterise`: the gradient of a mean over the rows is an unbiased
    estimate of the gradient of the expectation, in the weights too. In means and factors its variance is usually far
    below that of the score-function estimate; in the weights it grows with the distance between components, and may be
    far above.

    Args:
        key: a typed key, `jax.random.key(0)`.
        mixture: the mixture.
        n: number of rows; static.

    Returns:
        Rows, (n, D): those of `sample(key, mixture, n)`.

    Raises:
        TypeError: if the key is not typed, `mixture` is neither a mixture nor a fit, or n is not an integer.
        ValueError: if n is negative.

    References:
        Figurnov, Mohamed & Mnih (2018), Implicit reparameterization gradients.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> mean_of = lambda mixture: jaxgmm.sample_reparameterised(jax.random.key(0), mixture, 100)[:, 0].mean()
        >>> round(float(jax.grad(mean_of)(mixture).means[:, 0].sum()), 3)
        1.0
    """
    mixture = as_mixture(mixture)
    x, _ = sample(key, lax.stop_gradient(mixture), n)
    return _reparameterise(mixture, x)


def reparameterise(mixture: Mixture | Fitted, x: ArrayLike) -> Array:
    """The rows themselves, with the derivative in the mixture that keeps their conditional CDFs constant.

    dx/dθ = −(∂F/∂x)⁻¹ ∂F/∂θ for F_d(x) = P(X_d ≤ x_d | X_j = x_j for j < d), a lower triangular system. The weights
    count as softmax(log_weights). In x the derivative is the identity. Second derivatives, in the mixture and the rows,
    are those of the moving row; third derivatives are exact where the rows are held fixed.

    Args:
        mixture: the mixture.
        x: rows that count as drawn from it, (..., D).

    Returns:
        x, (..., D). The derivative is bounded where it might overflow since F is flat, in a gap between components many
        standard deviations wide.

    Raises:
        TypeError: if `mixture` is neither a mixture nor a fit, or x holds no real numbers.
        ValueError: if the last axis of x is not D.

    References:
        Figurnov, Mohamed & Mnih (2018), Implicit reparameterization gradients; Rosenblatt (1952), for F.

    Example:
        >>> mixture = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> x, labels = jaxgmm.sample(jax.random.key(0), mixture, 100)
        >>> moved = jax.grad(lambda mixture: jaxgmm.reparameterise(mixture, x)[:, 0].mean())(mixture)
        >>> round(float(moved.means[:, 0].sum()), 3)
        1.0
    """
    mixture, points = as_points(mixture, x)
    return _reparameterise(mixture, points)


@jax.jit
def _reparameterise(mixture: Mixture, x: Array) -> Array:
    return _held(mixture, x.reshape(-1, mixture.n_features)).reshape(x.shape)


@jax.custom_jvp
def _held(mixture: Mixture, x: Array) -> Array:
    """The rows T(θ, x) for which F(θ, T) = F(θ₀, x), θ₀ being the value of θ: x itself."""
    return x


@functools.partial(_held.defjvp, symbolic_zeros=True)
def _held_tangent(primals: tuple[Mixture, Array], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    mixture, x = primals
    change, shift = tangents
    # T, not x: the rows move with the mixture when this is differentiated again.
    rows = _held(mixture, x)
    tangent = _velocity(mixture, instantiated(change), rows)
    if isinstance(shift, SymbolicZero):
        return rows, tangent
    # ∂T/∂x is the identity, and its derivative in the mixture that of the velocity in x.
    still = lax.stop_gradient(mixture)
    slack = jax.tree.map(lambda leaf, held: jnp.where(jnp.isfinite(held), leaf - held, 0.0), mixture, still)
    _, carried = jax.jvp(lambda rows: _velocity(still, slack, rows), (x,), (shift,))
    return rows, tangent + shift + carried


class _Frame(NamedTuple):
    """A mixture prepared to whiten rows about a centre.

    Attributes:
        inverse: L⁻¹ in the form that `Covariances.whiten` takes.
        means: μ_k less the centre, (K, D).
        log_scales: log L_kdd, (K, D) or (1, D).
        log_weights: log π_k, (K,).
    """

    inverse: Array
    means: Array
    log_scales: Array
    log_weights: Array


class _Conditionals(NamedTuple):
    """The conditional distribution of each column given those before it, for C rows.

    Attributes:
        weights: w_kd, (K, D, C).
        posterior: r_kd = w_k,d+1, the weights once column d is seen too, (K, D, C).
        ratio: w_kd (Φ(y_kd) − c_d) / p_d, with p_d the density of column d and c_d 0 or 1, (K, D, C).
        pull: −d log φ(y_kd) / dy_kd, (K, D, C).
    """

    weights: Array
    posterior: Array
    ratio: Array
    pull: Array


def _velocity(mixture: Mixture, change: Any, x: Array) -> Array:
    """The changes dx, (N, D), that keep the rows' F constant as the mixture moves by `change`; linear in that."""
    centre, covs = centre_of(mixture), mixture.covs
    frame, turn = jax.jvp(lambda mixture: _frame(mixture, centre), (mixture,), (change,))

    def chunk(x: Array, weights: Array) -> Array:
        columns = centred(x, weights, centre)
        y, drift = jax.jvp(
            lambda inverse, means: covs.whiten(inverse, means, columns),
            (frame.inverse, frame.means),
            (turn.inverse, turn.means),
        )
        return _substitute(frame, turn, drift, _conditionals(frame, y)).T

    return chunks.each(_TEMPORARIES * mixture.means.size, chunk, x, jnp.ones(x.shape[0], x.dtype))


def _frame(mixture: Mixture, centre: Array) -> _Frame:
    covs = mixture.covs
    scales = jnp.diagonal(as_dense(covs).cholesky, axis1=-2, axis2=-1) if covs.mixes else covs.deviations()
    log_scales = jnp.broadcast_to(jnp.log(scales), (covs.count, mixture.n_features))
    return _Frame(covs.inverse(), about(mixture, centre).means, log_scales, mixture.log_weights)


def _conditionals(frame: _Frame, y: Array) -> _Conditionals:
    """The `_Conditionals` of rows from their whitened residuals (K, D, C).

    With t_k = ±y_k, of the sign for which Σ w Φ(t) ≤ ½, no term of the ratio cancels another. The ratio is
    r_k L_kdd Φ(t_k)/φ(t_k), bounded where t_k ≤ 0, and by its logarithm elsewhere.
    """
    greatest = float(np.log(jnp.finfo(y.dtype).max)) / 4
    # A row too far to be squared counts as drawn in where it is weighed, and only there.
    shrink = lax.stop_gradient(jnp.maximum(1.0, jnp.max(jnp.abs(y), axis=(0, 1)) / float(np.exp(greatest))))
    near = y / shrink[None, None, :]
    log_scales = frame.log_scales[:, :, None]
    gathered = jnp.cumsum(-0.5 * near**2 - log_scales, axis=1)
    joint = frame.log_weights[:, None, None] + jnp.pad(gathered, ((0, 0), (1, 0), (0, 0)))
    logs = jax.nn.log_softmax(joint, axis=0)
    weights, posterior = jnp.exp(logs[:, :-1]), jnp.exp(logs[:, 1:])

    distance = jnp.where(near > 0, near, -near)
    tail = ndtr(-distance)
    is_lower = jnp.sum(weights * jnp.where(near > 0, 1 - tail, tail), axis=0, keepdims=True) <= 0.5
    is_same_side = (near <= 0) == is_lower
    log_across = logs[:, 1:] + 0.5 * distance**2 + _HALF_LOG_TWO_PI
    across = jnp.exp(jnp.minimum(log_across, greatest)) * (1 - tail)
    ratio = jnp.where(is_same_side, posterior * _mills(distance, tail), across) * jnp.exp(log_scales)
    return _Conditionals(weights, posterior, jnp.where(is_lower, ratio, -ratio), near / shrink[None, None, :])


def _mills(distance: Array, tail: Array) -> Array:
    """Φ(−t)/φ(t) for t ≥ 0, given Φ(−t); far out by its asymptotic series Σ_n (−1)ⁿ (2n−1)!! t^(−2n−1)."""
    far = 20.0 if distance.dtype == np.float64 else 7.0
    is_far = distance > far
    direct = tail * jnp.exp(0.5 * jnp.minimum(distance, far) ** 2 + _HALF_LOG_TWO_PI)
    inverse = 1 / jnp.where(is_far, distance, far)
    series = jnp.ones_like(distance)
    for n in range(15, 0, -2):
        series = 1 - n * inverse**2 * series
    return jnp.where(is_far, inverse * series, direct)


def _substitute(frame: _Frame, turn: _Frame, drift: Array, given: _Conditionals) -> Array:
    """The changes dx, (D, C), that solve dF = 0, column by column.

    With q_kd = drift_kd + Σ_{j<d} (L_k⁻¹)_dj dx_j, dy_kd = q_kd + dx_d / L_kdd; and
    0 = dF_d / p_d = dx_d + Σ_k [r_kd L_kdd q_kd + ratio_kd (a_kd − Σ_l w_ld a_ld)] for a_kd = d log w_kd up to a
    constant, since Σ_k dw_kd = 0.

    Args:
        frame: the frame of the mixture.
        turn: its tangent.
        drift: the tangent of y for fixed rows, (K, D, C).
        given: the conditionals of the columns.
    """
    n_components, n_features, n_rows = drift.shape
    mixes = frame.inverse.ndim == 3

    def column(carry: tuple[Array, Array], at: tuple[Any, ...]) -> tuple[tuple[Array, Array], None]:
        moved, log_weight = carry
        d, drift, (weights, posterior, ratio, pull), log_scale, log_scale_change, *inverse = at
        q = drift
        for rows in inverse:
            # Term by term, not as a product: see `Dense.whiten`. Columns from d on are still 0.
            q = q + jnp.sum(rows[:, :, None] * moved[None, :, :], axis=1)
        scale = jnp.exp(log_scale)[:, None]
        relative = log_weight - jnp.sum(weights * log_weight, axis=0, keepdims=True)
        step = -jnp.sum(posterior * scale * q + ratio * relative, axis=0)
        log_weight = log_weight - pull * (q + step[None, :] / scale) - log_scale_change[:, None]
        return (moved.at[d].set(step), log_weight), None

    def by_column(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), tree)

    start = jnp.zeros((n_features, n_rows), drift.dtype), jnp.broadcast_to(turn.log_weights[:, None], drift[:, 0].shape)
    inverse = (frame.inverse,) if mixes else ()
    each = by_column((drift, given, frame.log_scales, turn.log_scales, *inverse))
    (moved, _), _ = lax.scan(column, start, (jnp.arange(n_features), *each))
    return moved
