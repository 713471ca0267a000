"""Divergences between two mixtures: Kullback–Leibler, L2 and Cauchy–Schwarz; finite where terms overflow."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax, nn

from jaxgmm.host.checks import as_count, as_key, keyed
from jaxgmm.model.fitted import Fitted
from jaxgmm.model.mixture import Mixture
from jaxgmm.numerics.linalg import excess, product
from jaxgmm.numerics.programs import program
from jaxgmm.numerics.zero_weights import log_sum
from jaxgmm.probability.density import log_prob
from jaxgmm.probability.pairs import as_pair, components, drawn_in, log_inner_products, normalised
from jaxgmm.probability.sampling import sample


class Estimate(NamedTuple):
    """An estimate from random draws, with its standard error.

    Attributes:
        value: the estimate, ().
        standard_error: its standard deviation over keys, estimated from the same draws, (); it has no derivative.

    Example:
        >>> p = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> estimate = jaxgmm.kl_divergence(jax.random.key(0), p, jaxgmm.affine(p, 1.0, [1.0, 0.0]), 1000)
        >>> bool(0 < estimate.standard_error < estimate.value)
        True
    """

    value: Array
    standard_error: Array


@keyed
def kl_divergence(key: Array, p: Mixture | Fitted, q: Mixture | Fitted, n: int = 10_000) -> Estimate:
    """Kullback–Leibler divergence KL(p ‖ q) = E_p[log p(x) − log q(x)] by Monte Carlo.

    First derivatives are unbiased. In q the derivative is −E_p[∇ log q(x)] at the draws. In p it is the score-function
    form E_p[(f − b) ∇ log p(x)] with f = log p − log q and, for each draw, the mean f of the others as its baseline b
    (Kool, van Hoof & Welling 2019). The derivative is 0 where p = q.

    Args:
        key: a typed key, `jax.random.key(0)`.
        p: the mixture that rows are drawn from.
        q: the other mixture.
        n: number of draws, at least 2; static.

    Returns:
        The estimate and its standard error, in nats.

    Raises:
        TypeError: if the key is not typed or n is not an integer.
        ValueError: if p and q have different numbers of columns, or n is below 2.

    Example:
        >>> p = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> estimate = jaxgmm.kl_divergence(jax.random.key(0), p, jaxgmm.affine(p, 1.0, [1.0, 0.0]), 1000)
        >>> bool(abs(estimate.value - 0.5) < 5 * estimate.standard_error)
        True
    """
    return _kl_divergence(as_key(key), *as_pair(p, q), as_count(n, "n", least=2))


@program(static_argnums=(3,), size=lambda key, p, q, n: n * p.n_features)
def _kl_divergence(key: Array, p: Mixture, q: Mixture, n: int) -> Estimate:
    p, q = normalised(p), normalised(q)
    x, _ = sample(key, lax.stop_gradient(p), n)
    log_p = log_prob(p, x)
    held = lax.stop_gradient(log_p)
    ratio = held - log_prob(q, x)
    deviation = lax.stop_gradient(ratio - jnp.mean(ratio))
    # f less the mean of the others' f is n/(n − 1) times f less the mean of all.
    centred = jnp.where(jnp.isfinite(deviation), deviation, 0.0) * (n / (n - 1))
    value = jnp.mean(ratio + centred * (log_p - held))
    error = jnp.sqrt(jnp.sum(deviation**2) / (n * (n - 1)))
    return Estimate(value=value, standard_error=jnp.where(jnp.isinf(value), jnp.inf, error))


def kl_variational(p: Mixture | Fitted, q: Mixture | Fitted) -> Array:
    """The variational approximation of KL(p ‖ q) from divergences between components (Hershey & Olsen 2007).

    Σ_a π_a log(Σ_a' π_a' exp(−KL(p_a ‖ p_a')) / Σ_b ω_b exp(−KL(p_a ‖ q_b))). This is a difference of two bounds, so it
    is no bound itself, and can be negative. It is 0 where p = q, though not least there, and exact for two Gaussians.

    Args:
        p: the mixture of the expectation.
        q: the other mixture.

    Returns:
        (), in nats.

    Raises:
        ValueError: if p and q have different numbers of columns.

    Example:
        >>> p = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> round(float(jaxgmm.kl_variational(p, jaxgmm.affine(p, 1.0, [1.0, 0.0]))), 2)
        0.5
    """
    return _kl_variational(*as_pair(p, q))


@program()
def _kl_variational(p: Mixture, q: Mixture) -> Array:
    p, q = normalised(p), normalised(q)
    n_own = p.n_components
    kl = _components_kl(p, q, *np.indices((n_own, n_own + q.n_components)))
    own = log_sum(p.weights[None, :], -kl[:, :n_own], p.log_weights[None, :] - kl[:, :n_own], axis=1)
    other = log_sum(q.weights[None, :], -kl[:, n_own:], q.log_weights[None, :] - kl[:, n_own:], axis=1)
    return jnp.sum(p.weights * (own - other))


def kl_upper_bound(p: Mixture | Fitted, q: Mixture | Fitted) -> Array:
    """The variational upper bound of KL(p ‖ q) from divergences between components (Hershey & Olsen 2007).

    The least of Σ_ab φ_ab [log(φ_ab / ψ_ab) + KL(p_a ‖ q_b)] over φ, ψ ≥ 0 with Σ_b φ_ab = π_a and Σ_a ψ_ab = ω_b,
    found by minimising in φ and ψ in turn. Every iterate is a bound; the last has a duality gap below rounding, or is
    the 1000th, within log(1 / min ω) / 1000 of the minimum. Only first derivatives are exact: they hold φ fixed
    (envelope theorem).

    Args:
        p: the mixture of the expectation.
        q: the other mixture.

    Returns:
        (), in nats; exact between two single components.

    Raises:
        ValueError: if p and q have different numbers of columns.

    Example:
        >>> p = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> round(float(jaxgmm.kl_upper_bound(p, jaxgmm.affine(p, 1.0, [1.0, 0.0]))), 2)
        0.5
    """
    return _kl_upper_bound(*as_pair(p, q))


@program()
def _kl_upper_bound(p: Mixture, q: Mixture) -> Array:
    p, q = normalised(p), normalised(q)
    a, b = np.indices((p.n_components, q.n_components))
    there = jnp.isfinite(q.log_weights)[None, :]
    kl = jnp.where(there, _components_kl(p, q, a, b + p.n_components), 0.0)
    shares = lax.stop_gradient(_log_shares(*lax.stop_gradient((p.log_weights, q.log_weights, kl))))
    flow = p.weights[:, None] * jnp.exp(shares)
    mass = jnp.sum(flow, axis=0)
    # At the best ψ_ab = ω_b φ_ab / φ_b the first term is Σ_b φ_b log(φ_b / ω_b), φ_b = Σ_a φ_ab.
    held = (mass > 0) & jnp.isfinite(q.log_weights)
    log_ratio = jnp.log(jnp.where(held, mass, 1.0)) - jnp.where(held, q.log_weights, 0.0)
    return jnp.sum(flow * kl) + jnp.sum(jnp.where(held, mass * log_ratio, 0.0))


def _log_shares(log_p: Array, log_q: Array, kl: Array) -> Array:
    """Log of the minimising φ_ab / π_a, (K, L)."""
    held, weights, tolerance = jnp.isfinite(log_q), jnp.exp(log_p), 16 * float(jnp.finfo(kl.dtype).eps)

    def slopes(shares: Array) -> tuple[Array, Array]:
        """The bound's derivatives in φ, (K, L), and whether the bound may still fall by more than rounding."""
        log_mass = nn.logsumexp(log_p[:, None] + shares, axis=0)
        slope = kl + jnp.where(held, log_mass - log_q, 0.0)[None, :]
        value = jnp.sum(jnp.exp(shares) * slope, axis=1)
        gap = value - jnp.min(jnp.where(held[None, :], slope, jnp.inf), axis=1)
        return slope, jnp.sum(weights * gap) > tolerance * (1 + jnp.sum(weights * jnp.abs(value)))

    def step(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        shares, slope, _, count = state
        shares = nn.log_softmax(shares - slope, axis=1)
        return shares, *slopes(shares), count + 1

    shares = nn.log_softmax(log_q[None, :] - kl, axis=1)
    begun = (shares, *slopes(shares), jnp.zeros((), jnp.int32))
    return lax.while_loop(lambda state: state[2] & (state[3] < 1000), step, begun)[0]


def l2_divergence(p: Mixture | Fitted, q: Mixture | Fitted) -> Array:
    """The squared L2 distance ∫(p − q)² dx, in closed form: ∫ N(x; a, A) N(x; b, B) dx = N(a; b, A + B).

    Args:
        p: a mixture.
        q: another.

    Returns:
        (), never negative; its rounding error is about eps·∫(p² + q²). In many columns it over- or underflows.

    Raises:
        ValueError: if p and q have different numbers of columns.

    Example:
        >>> p = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> round(float(jaxgmm.l2_divergence(p, jaxgmm.affine(p, 1.0, [1.0, 0.0]))), 3)
        0.018
    """
    return _l2_divergence(*as_pair(p, q))


@program()
def _l2_divergence(p: Mixture, q: Mixture) -> Array:
    p, q = normalised(p), normalised(q)
    logs = jnp.stack(log_inner_products(p, q)) - 0.5 * p.n_features * float(np.log(2 * np.pi))
    highest, most = lax.stop_gradient(jnp.max(logs)), float(np.log(jnp.finfo(logs.dtype).max)) - 2
    pp, pq, qq = jnp.exp(logs - highest)
    value = jnp.exp(jnp.minimum(highest, most)) * _not_negative(pp + qq - 2 * pq)
    return jnp.where(highest < most, value, lax.stop_gradient(value))


def cauchy_schwarz_divergence(p: Mixture | Fitted, q: Mixture | Fitted) -> Array:
    """The Cauchy–Schwarz divergence −log(∫pq dx / √(∫p² dx ∫q² dx)), in logs (Kampa, Hasanbelliu & Príncipe 2011).

    Args:
        p: a mixture.
        q: another.

    Returns:
        (), in nats, never negative; 0 where p = q.

    Raises:
        ValueError: if p and q have different numbers of columns.

    Example:
        >>> p = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2), np.eye(2)])
        >>> round(float(jaxgmm.cauchy_schwarz_divergence(p, jaxgmm.affine(p, 1.0, [1.0, 0.0]))), 2)
        0.25
    """
    return _cauchy_schwarz_divergence(*as_pair(p, q))


@program()
def _cauchy_schwarz_divergence(p: Mixture, q: Mixture) -> Array:
    p, q = normalised(p), normalised(q)
    pp, pq, qq = log_inner_products(p, q)
    return _not_negative(0.5 * (pp + qq) - pq)


def _components_kl(p: Mixture, q: Mixture, first: np.ndarray, second: np.ndarray) -> Array:
    """KL(N_i ‖ N_j), (K, ·), for components i in `first` and j in `second`; those of q are counted from K on."""
    (mean, a), (other_mean, b) = components(p, q, first.ravel(), second.ravel())
    if a.mixes:
        # [T y] = L_j⁻¹ [L_i δ] by one inverse; the sum is that of `Dense.divergence`, free of cancellation.
        whitened = drawn_in(product("kij,kjl->kil", b.inverse(), jnp.dstack([a.cholesky, mean - other_mean])))
        squares = jnp.sum(jnp.tril(whitened, -1) ** 2, axis=(-2, -1)) + jnp.sum(whitened[..., -1] ** 2, axis=-1)
        ratio = jnp.diagonal(whitened, axis1=-2, axis2=-1)
    else:
        ratio = drawn_in(a.scale / b.scale)
        squares = jnp.sum(drawn_in((mean - other_mean) / b.scale) ** 2, axis=-1)
    kl = 0.5 * squares + jnp.sum(excess(ratio), axis=-1)
    return kl.reshape(first.shape)


def _not_negative(value: Array) -> Array:
    """The value, or 0 where rounding made it negative, with the derivative of the value in either case."""
    return value - lax.stop_gradient(jnp.where(value < 0, value, 0.0))
