"""Rows spread over several devices of a CPU, each of which passes over its own share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxgmm.data.compact import CompactRows
from jaxgmm.data.kernels import quadratic
from jaxgmm.data.passes import Distances, distances_from
from jaxgmm.data.protocol import Data
from jaxgmm.data.rows import ResidualRows, Rows
from jaxgmm.host.arrays import is_traced
from jaxgmm.model.columns import Columns
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import DIAGONAL, Moments, Statistic
from jaxgmm.numerics.trees import register_dataclass

_AXIS = "rows"

_LEAST_SHARE, _MOST_SHARE = 1 << 23, 1 << 36
"""The fewest and the most multiplications in a device's share of a pass. The fewest take about half a millisecond,
beside which devices wait little for each other; the most some seconds, or half a minute by residuals: XLA ends a
process in which one device has waited for another for a minute."""

_ROWS_TO_COLUMNS = 4
"""The fewest rows for each component and column in a share: covariances of fewer than D rows are singular, for which
the share would fall to a slower kernel."""


@register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class SpreadRows(Rows):
    """Rows whose passes are made by all devices of a mesh at once, each over its own share, with one sum over devices.

    Attributes:
        mesh: the devices, along the one axis "rows", which divide the number of rows; static.
    """

    mesh: Mesh = dataclasses.field(kw_only=True, metadata={"static": True})

    def moments(self, mixture: Mixture, statistic: Statistic) -> tuple[Moments, Array]:
        """The E-step: moments under the responsibilities of a mixture, and Σ wᵢ log p(xᵢ)."""

        def share(mixture: Mixture, rows: Rows) -> tuple[Moments, Array]:
            moments, log_likelihood = rows.moments(mixture, statistic)
            return _together(moments, log_likelihood, statistic, self.mesh.size)

        return self._by_shares(share, P())(mixture, self._plain())

    def log_likelihood(self, mixture: Mixture) -> Array:
        """Σ wᵢ log p(xᵢ), ()."""
        share = self._by_shares(lambda mixture, rows: lax.psum(rows.log_likelihood(mixture), _AXIS), P())
        return share(mixture, self._plain())

    def columns(self) -> Columns:
        """Mass, count, means and variances of the columns."""

        def share(_: None, rows: Rows) -> Columns:
            own = rows.columns()
            alone = Moments(own.mass[None], own.mean[None], own.mass * own.variance[None])
            whole, count = _together(alone, own.count, DIAGONAL, self.mesh.size)
            mass = whole.mass[0]
            variance = whole.scatter[0] / jnp.where(mass > 0, mass, 1.0)
            return Columns(mass=mass, count=count, mean=whole.mean[0], variance=variance)

        return self._by_shares(share, P())(None, self._plain())

    def ready(self, columns: Columns) -> SpreadRows:
        """These rows with their distances from the mean measured, once for many passes."""
        measured = self._by_shares(lambda mean, rows: distances_from(mean, rows.x, rows.weights).each, P(_AXIS))
        each = measured(columns.mean, self._plain())
        return dataclasses.replace(self, distances=Distances(columns.mean, each))

    def _plain(self) -> Rows:
        return Rows(self.x, self.weights, self.distances)

    def _by_shares(self, share: Callable[[Any, Rows], Any], out: P) -> Callable[[Any, Rows], Any]:
        """What `share(what all have, its rows)` gives on each device, from all rows."""
        distances = None if self.distances is None else Distances(P(), P(_AXIS))  # pyright: ignore[reportArgumentType]
        rows: Any = Rows(P(_AXIS), P(_AXIS), distances)  # pyright: ignore[reportArgumentType]
        return jax.shard_map(share, mesh=self.mesh, in_specs=(P(), rows), out_specs=out)


@functools.singledispatch
def spread(data: Data, n_restarts: int, n_components: int, mixes: bool, beside: Any = ()) -> Data:
    """Data whose passes the devices of the CPU share, where there are several and it pays; else the data.

    Shapes and the number of devices decide, never the clock: the same key must give the same fit. Arrays that are
    traced, or that their owner has bound to devices, stay where they are.

    Args:
        data: the data.
        n_restarts: R.
        n_components: K.
        mixes: whether covariances have entries beside the diagonal.
        beside: what the same programs are given beside the data.
    """
    return data


@spread.register
def _(data: Rows, n_restarts: int, n_components: int, mixes: bool, beside: Any = ()) -> Data:
    n_rows, n_features = data.x.shape
    features = quadratic.PAIRS if mixes else quadratic.SQUARES
    devices = _devices() if _is_free((data, beside)) else []
    # Where there are more restarts they mostly take turns, few at a time.
    work = n_rows * min(n_restarts, 4) * n_components * features.count(n_features)
    most = n_rows // (_ROWS_TO_COLUMNS * n_components * n_features)
    n_shares = min(len(devices), work // _LEAST_SHARE, most)
    if n_shares < 2 or work // n_shares > _MOST_SHARE:
        return data
    return spread_over(data, devices[:n_shares])


@spread.register(CompactRows)
@spread.register(ResidualRows)
def _(data: Any, n_restarts: int, n_components: int, mixes: bool, beside: Any = ()) -> Data:
    return data


def spread_over(data: Rows, devices: Sequence[Any]) -> SpreadRows:
    """The rows on some devices, filled up with rows of weight 0 to a number that these divide."""
    mesh = Mesh(np.array(devices), (_AXIS,))
    missing = -data.x.shape[0] % len(devices)

    def put(array: Array) -> Array:
        held = np.asarray(array)
        if missing:
            held = np.concatenate([held, np.zeros((missing, *held.shape[1:]), held.dtype)])
        # Without a copy, where each share begins at a multiple of 64 bytes.
        return jax.device_put(held, NamedSharding(mesh, P(_AXIS)))

    return SpreadRows(put(data.x), put(data.weights), mesh=mesh)


def _devices() -> Sequence[Any]:
    """The devices that passes may be shared out among: a CPU's, unless the user has chosen one, or a mesh."""
    chosen = getattr(jax.config, "jax_default_device", None) is not None
    chosen = chosen or not jax.sharding.get_abstract_mesh().empty
    return [] if chosen or jax.default_backend() != "cpu" or jax.process_count() > 1 else jax.local_devices()


def _is_free(tree: Any) -> bool:
    """Whether no array of a pytree is traced, or bound to devices."""
    leaves = jax.tree.leaves(tree)
    return not is_traced(tree) and not any(isinstance(leaf, Array) and leaf.committed for leaf in leaves)


def _together(moments: Moments, added: Array, statistic: Statistic, n_shares: int) -> tuple[Moments, Array]:
    """The moments of all shares merged, and a number () added over them, by one sum over the devices.

    Each share writes its masses and means in places of its own, so that Σ_s [S_s + N_s (m_s − m)(m_s − m)ᵀ] follows
    without a difference of large numbers.
    """
    here = jnp.arange(n_shares, dtype=jnp.int32) == lax.axis_index(_AXIS)
    placed = (
        jnp.where(here[:, None], moments.mass[None], 0.0),
        jnp.where(here[:, None, None], moments.mean[None], 0.0),
    )
    # One array, since XLA would not always join several sums.
    parts = (*placed, moments.scatter, added)
    flat = lax.psum(jnp.concatenate([part.ravel() for part in parts]), _AXIS)
    pieces = jnp.split(flat, np.cumsum([part.size for part in parts])[:-1])
    mass, mean, scatter, added = (piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True))
    total = jnp.sum(mass, axis=0)
    apart = mean - mean[:1]
    centre = mean[0] + jnp.sum((mass / jnp.where(total > 0, total, 1.0)[None])[:, :, None] * apart, axis=0)
    between = statistic.scatter(mass.T, jnp.moveaxis(mean - centre[None], 0, -1))
    return Moments(mass=total, mean=centre, scatter=scatter + between), added
