"""The protocols of data, in tiers: what a fit asks of rows, what a density asks row by row, what inference asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self

import jax
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jaxgmm.data.rows import Rows
from jaxgmm.model.columns import Columns
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments, Statistic


class Data(Protocol):
    """Anything a mixture can be fitted to.

    A registered pytree of arrays is passed over by compiled programs, and restarts over it are one program. Any other
    object is driven from the host: `run` calls its members eagerly, one pass after another.
    """

    @property
    def n_features(self) -> int:
        """Number of columns D."""
        ...

    def columns(self) -> Columns:
        """Mass, count, means and variances of the columns: those of the moments of all rows as one component."""
        ...

    def ready(self, columns: Columns) -> Self:
        """The same data, with what is measured once for many passes; the data themselves where nothing is."""
        ...

    def moments(self, mixture: Mixture, statistic: Statistic) -> tuple[Moments, Array]:
        """The E-step: moments of the rows under the responsibilities, and Σ wᵢ log p(xᵢ), ().

        The moments of two parts of the rows, merged, are those of the whole, to rounding, and their masses sum to
        Σ wᵢ; a row of weight w counts as w rows of weight 1; the sum is that of `log_likelihood`. The weights of the
        mixture need not sum to 1.
        """
        ...

    def log_likelihood(self, mixture: Mixture) -> Array:
        """Σ wᵢ log p(xᵢ), (), in nats; additive over parts of the rows."""
        ...

    def draw_rows(self, key: Array, most: int) -> Rows:
        """Plain, complete rows for starts: all of them, or `most` that stand for them, drawn by weight."""
        ...


class RowWise(Data, Protocol):
    """Data that tell each row's numbers: densities, responsibilities and criteria need them."""

    @property
    def weights(self) -> Array:
        """Weights of the rows, non-negative, (N,)."""
        ...

    def log_prob(self, mixture: Mixture) -> Array:
        """Log p(x_i), (N,)."""
        ...

    def log_components(self, mixture: Mixture) -> Array:
        """Log N(x_i; μ_k, Σ_k), (N, K), in nats; −∞ where a row is too far to be represented."""
        ...

    def log_joint(self, mixture: Mixture) -> Array:
        """Log π_k + log N(x_i; μ_k, Σ_k), (N, K), in nats; −∞ where a row is too far to be represented."""
        ...

    def log_responsibilities(self, mixture: Mixture) -> Array:
        """Log p(k | x_i), (N, K): `log_joint` less its log-sum, so that a row's exponentials sum to 1."""
        ...

    def slopes_of_absent(self, mixture: Mixture) -> Array:
        """Σ wᵢ N(xᵢ; μ_k, Σ_k) / p(xᵢ) of components of weight 0, (K,): slopes of `log_likelihood`."""
        ...


class Scored(RowWise, Protocol):
    """Data whose rows, though not plain, can be weighted anew, simulated and taken one by one, as inference asks.

    Moments are differentiable in the mixture and in the data.
    """

    def weighted_by(self, weights: Array) -> Self:
        """The same rows with other weights, (N,)."""
        ...

    def seeing(self, key: Array, true: Array) -> Self:
        """What would be seen of other true rows, (N, D), through the gaps and errors of these; weights as they are."""
        ...

    def of_each(self, function: Callable[[Self], Array]) -> Array:
        """The values of a function for each row as data of its own, of weight 1, (N, ...)."""
        ...


FIT = ("n_features", "columns", "ready", "moments", "log_likelihood", "draw_rows")
"""Members of `Data`."""

PLAIN = ("x", "weights", "fold")
"""Members by which inference and draws with labels go through rows one by one, those of `Rows`."""


SCORED = ("weights", "weighted_by", "seeing", "of_each")
"""Members of `Scored`."""


def is_data(x: Any) -> bool:
    """Whether an argument is a `Data`, and not an array or a table."""
    return hasattr(x, "moments")


def has(data: Any, *members: str) -> bool:
    """Whether data have the members."""
    return all(hasattr(data, member) for member in members)


def require(data: Any, *members: str) -> None:
    """Raise unless data have the members that are needed of them.

    Raises:
        TypeError: naming what is missing.
    """
    missing = [member for member in members if not has(data, member)]
    if missing:
        raise TypeError(
            f"x must be data that have {', '.join(missing)}, as rows have, but {type(data).__name__} does not: see the "
            f"protocols of jaxgmm.data.protocol"
        )


def check_no_weights(sample_weight: ArrayLike | None) -> None:
    """Raise unless no weights are given beside a `Data`.

    Raises:
        ValueError: if they are.
    """
    if sample_weight is not None:
        raise ValueError("sample_weight must be None where x is a Data, which holds its own weights")


def check_compiled(data: Any) -> None:
    """Raise unless compiled programs can pass over the data.

    Raises:
        TypeError: for data that are driven from the host.
    """
    if host_driven(data):
        raise TypeError(
            f"x is driven from the host, and a derivative of a fit needs data that compiled programs pass over: a "
            f"registered pytree of arrays, which {type(data).__name__} is not"
        )


def host_driven(data: Any) -> bool:
    """Whether passes over the data are called from the host: the data are no pytree of arrays."""
    return not all(isinstance(leaf, jax.Array | np.ndarray | np.generic) for leaf in jax.tree.leaves(data))


def over(data: Any, program: Callable[..., Any]) -> Callable[..., Any]:
    """A compiled program, or for data that are driven from the host the function that it was compiled from."""
    return program.__wrapped__ if host_driven(data) else program  # pyright: ignore[reportFunctionMemberAccess]
