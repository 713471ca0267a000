"""Three families that the package does not have, written from the protocol alone: mclust's VEI, EEV and EEI.

In the first two the covariances have a part in common, so that their precisions form no linear space: the gain of an
M-step is no divergence, and no coordinate belongs to one component. The third is the one of `docs/extend/family.md`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.model.covariances.dense import Dense
from jaxgmm.model.covariances.diagonal import Diagonal
from jaxgmm.model.families.charts import factor_chart, packed_chart
from jaxgmm.model.families.dense import FULL
from jaxgmm.model.families.diagonal import DIAG
from jaxgmm.model.moments import DENSE, DIAGONAL
from jaxgmm.numerics.factors import lower_factor

_SWEEPS = 200


def sum_to_zero(n):
    """An orthonormal basis of the vectors that sum to zero, (n, n−1)."""
    return np.linalg.svd(np.eye(n) - 1 / n)[0][:, : n - 1]


@dataclasses.dataclass(frozen=True)
class SharedShape:
    """VEI: Σ_k = λ_k B with B diagonal, of determinant 1, for all components (Celeux & Govaert 1995)."""

    name = "VEI"
    statistic = DIAGONAL
    scales_columns = True
    closed = False

    def n_distinct(self, n_components):
        return n_components

    def update(self, mass, scatter, floor, previous):
        n_features, mass = floor.shape[0], jnp.where(mass > 0, mass, 1.0)

        def volumes(shape):
            return jnp.sum(scatter / shape[None, :], axis=1) / (n_features * mass)

        def sweep(held):
            shape, _, count = held
            pooled = jnp.sum(scatter / jnp.maximum(volumes(shape), tiny)[:, None], axis=0)
            log_shape = jnp.log(jnp.maximum(pooled, tiny))
            after = jnp.exp(log_shape - jnp.mean(log_shape))
            return after, jnp.max(jnp.abs(jnp.log(after / shape))), count + 1

        def moving(held):
            return (held[1] > 4 * float(jnp.finfo(scatter.dtype).eps)) & (held[2] < _SWEEPS)

        tiny = float(jnp.finfo(scatter.dtype).tiny)
        if previous is None:
            begun = jnp.ones_like(floor)
        else:
            logs = 2 * jnp.log(previous.deviations()[0])
            begun = jnp.exp(logs - jnp.mean(logs))
        shape = jax.lax.while_loop(moving, sweep, (begun, jnp.full((), jnp.inf, floor.dtype), 0))[0]
        variances = volumes(shape)[:, None] * shape[None, :]
        return Diagonal(jnp.sqrt(jnp.maximum(variances, floor[None, :])))

    def gain(self, old, new, mass, scatter, rounding=0.0):
        """½ Σ_kd N_k [q (r − 1 − log r) + (q − 1) log r], r = σ'²/σ² and q = S/(N σ'²).

        The second sum is 0 where the inner sweeps have converged, since log r lies in the family's tangent space.
        """
        log_ratio = 2 * jnp.log(new.deviations() / old.deviations())
        share = scatter / new.deviations() ** 2 / jnp.where(mass > 0, mass, 1.0)[:, None]
        terms = share * (jnp.expm1(log_ratio) - log_ratio)
        if rounding:
            terms = jnp.maximum(terms - 0.5 * rounding**2, 0.0)
        return 0.5 * jnp.sum(mass[:, None] * terms)

    def chart(self, covs, mass, scatter):
        return packed_chart(self, covs, mass, scatter())

    def pack(self, covs):
        logs = 2 * jnp.log(covs.deviations())
        volumes = jnp.mean(logs, axis=1)
        basis = jnp.asarray(sum_to_zero(logs.shape[1]), logs.dtype)
        return jnp.concatenate([volumes, (logs[0] - volumes[0]) @ basis])[None]

    def unpack(self, coordinates, n_distinct, n_features):
        volumes, shape = jnp.split(coordinates[0], [n_distinct])
        logs = volumes[:, None] + (jnp.asarray(sum_to_zero(n_features), shape.dtype) @ shape)[None, :]
        return Diagonal(jnp.exp(0.5 * logs))

    def log_det_jacobian(self, coordinates, n_distinct, n_features):
        """To the variances of the first component, and the first variance of each other."""

        def entries(flat):
            variances = self.unpack(flat[None], n_distinct, n_features).scale ** 2
            return jnp.concatenate([variances[0], variances[1:, 0]])

        return jnp.linalg.slogdet(jax.jacobian(entries)(coordinates[0]))[1]

    def n_parameters(self, n_components, n_features):
        return n_components + n_features - 1

    def shape(self, n_components, n_features):
        return DIAG.shape(n_components, n_features)

    def factors_shape(self, n_components, n_features):
        return DIAG.factors_shape(n_components, n_features)

    def from_array(self, covariances, n_features):
        return DIAG.from_array(covariances, n_features)

    def from_scale_tril(self, factors, n_features):
        return DIAG.from_scale_tril(factors, n_features)

    def from_precisions(self, precisions, n_features):
        return DIAG.from_precisions(precisions, n_features)


@dataclasses.dataclass(frozen=True)
class SharedSpectrum:
    """EEV: Σ_k = U_k A U_kᵀ with A diagonal for all components and U_k rotations of their own."""

    name = "EEV"
    statistic = DENSE
    scales_columns = False
    closed = False

    def n_distinct(self, n_components):
        return n_components

    def update(self, mass, scatter, floor, previous):
        spectrum, axes = jnp.linalg.eigh(scatter)
        common = jnp.sum(spectrum, axis=0) / jnp.where(jnp.sum(mass) > 0, jnp.sum(mass), 1.0)
        return _of_axes(axes, jnp.maximum(common, jnp.max(floor)))

    def gain(self, old, new, mass, scatter, rounding=0.0):
        """½ N Σ_i (r_i − 1 − log r_i) + ½ Σ_k Σ_{i≠j} P_ij² Ω_kj (1/a_i − 1/a_j), r = a'/a.

        P = U_oldᵀ U_new, Ω the spectrum of the scatter, a the old common spectrum; the sum over i ≠ j takes pairs.
        """
        (spectrum, axes), (common, old_axes) = jnp.linalg.eigh(scatter), jnp.linalg.eigh(old.dense())
        common = jnp.mean(common, axis=0)
        ratio = jnp.log(jnp.sum(spectrum, axis=0) / (jnp.sum(mass) * common))
        of_spectrum = jnp.sum(mass) * jnp.sum(jnp.expm1(ratio) - ratio)
        turned = jnp.einsum("kdi,kdj->kij", old_axes, axes) ** 2
        inverse = 1 / common
        pairs = turned * spectrum[:, None, :] * (inverse[None, :, None] - inverse[None, None, :])
        return 0.5 * (of_spectrum + jnp.sum(pairs))

    def chart(self, covs, mass, scatter):
        return packed_chart(self, covs, mass, scatter())

    def pack(self, covs):
        """The logs of A, and the angles of the Givens rotations whose product is U_k but for signs of its columns."""
        spectrum, axes = jnp.linalg.eigh(covs.dense())
        angles = jax.vmap(_angles_of)(axes)
        return jnp.concatenate([jnp.log(jnp.mean(spectrum, axis=0)), angles.ravel()])[None]

    def unpack(self, coordinates, n_distinct, n_features):
        logs, angles = jnp.split(coordinates[0], [n_features])
        angles = angles.reshape(n_distinct, n_features * (n_features - 1) // 2)
        return _of_axes(jax.vmap(lambda each: _rotation(each, n_features))(angles), jnp.exp(logs))

    def log_det_jacobian(self, coordinates, n_distinct, n_features):
        """To the first covariance on and below its diagonal, and to the others below theirs."""
        on, below = np.tril_indices(n_features), np.tril_indices(n_features, -1)

        def entries(flat):
            dense = self.unpack(flat[None], n_distinct, n_features).dense()
            return jnp.concatenate([dense[0][on], dense[1:, below[0], below[1]].ravel()])

        return jnp.linalg.slogdet(jax.jacobian(entries)(coordinates[0]))[1]

    def n_parameters(self, n_components, n_features):
        return n_features + n_components * n_features * (n_features - 1) // 2

    def shape(self, n_components, n_features):
        return FULL.shape(n_components, n_features)

    def factors_shape(self, n_components, n_features):
        return FULL.factors_shape(n_components, n_features)

    def from_array(self, covariances, n_features):
        return FULL.from_array(covariances, n_features)

    def from_scale_tril(self, factors, n_features):
        return FULL.from_scale_tril(factors, n_features)

    def from_precisions(self, precisions, n_features):
        return FULL.from_precisions(precisions, n_features)


def _of_axes(axes, spectrum):
    return Dense(lower_factor(axes * jnp.sqrt(spectrum)[None, None, :]))


def _planes(n_features):
    return [(i, j) for j in range(n_features) for i in range(j + 1, n_features)]


def _turned(matrix, i, j, angle):
    """The matrix after its rows i and j are turned by an angle."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    upper, lower = matrix[j], matrix[i]
    return matrix.at[j].set(cos * upper + sin * lower).at[i].set(cos * lower - sin * upper)


def _angles_of(axes):
    """Angles that turn a rotation's columns, one after another, to ± the unit vectors."""
    angles = []
    for i, j in _planes(axes.shape[0]):
        angle = jnp.arctan2(axes[i, j], axes[j, j])
        axes = _turned(axes, i, j, angle)
        angles.append(angle)
    return jnp.stack(angles) if angles else jnp.zeros((0,), axes.dtype)


def _rotation(angles, n_features):
    axes = jnp.eye(n_features, dtype=angles.dtype)
    for angle, (i, j) in reversed(list(zip(angles, _planes(n_features), strict=True))):
        axes = _turned(axes, i, j, -angle)
    return axes


@dataclasses.dataclass(frozen=True)
class SharedDiagonal:
    """EEI: one diagonal covariance for all components (Celeux & Govaert 1995)."""

    name = "EEI"
    statistic = DIAGONAL
    scales_columns = True
    closed = True

    def n_distinct(self, n_components):
        return 1

    def update(self, mass, scatter, floor, previous):
        variances = scatter / jnp.where(mass > 0, mass, 1.0)[:, None]
        return Diagonal(jnp.sqrt(jnp.maximum(variances, floor[None, :])))

    def gain(self, old, new, mass, scatter, rounding=0.0):
        return jnp.sum(mass * new.divergence(old, rounding))

    def chart(self, covs, mass, scatter):
        return factor_chart(covs, mass)

    def pack(self, covs):
        return DIAG.pack(covs)

    def unpack(self, coordinates, n_distinct, n_features):
        return DIAG.unpack(coordinates, n_distinct, n_features)

    def log_det_jacobian(self, coordinates, n_distinct, n_features):
        return DIAG.log_det_jacobian(coordinates, n_distinct, n_features)

    def n_parameters(self, n_components, n_features):
        return n_features

    def shape(self, n_components, n_features):
        return (n_features,)

    def factors_shape(self, n_components, n_features):
        return (1, n_features)

    def from_array(self, covariances, n_features):
        return DIAG.from_array(covariances[None], n_features)

    def from_scale_tril(self, factors, n_features):
        return DIAG.from_scale_tril(factors[None], n_features)

    def from_precisions(self, precisions, n_features):
        return DIAG.from_precisions(precisions[None], n_features)


VEI, EEV, EEI = SharedShape(), SharedSpectrum(), SharedDiagonal()
