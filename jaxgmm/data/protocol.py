"""The protocol of data: how rows reach a fit."""

from __future__ import annotations

from typing import Any, Protocol

from jax import Array

from jaxgmm.model.columns import Columns
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments


class Data(Protocol):
    """Anything a mixture can be fitted to: `Rows` today."""

    @property
    def n_features(self) -> int:
        """Number of columns D."""
        ...

    @property
    def weights(self) -> Array:
        """Weights of the rows, non-negative, (N,)."""
        ...

    def log_joint(self, mixture: Mixture) -> Array:
        """Log π_k + log N(x_i; μ_k, Σ_k), (N, K), in nats; −∞ where a row is too far to be represented."""
        ...

    def log_responsibilities(self, mixture: Mixture) -> Array:
        """Log p(k | x_i), (N, K): `log_joint` less its log-sum, so that a row's exponentials sum to 1."""
        ...

    def moments(self, mixture: Mixture, statistic: Any) -> tuple[Moments, Array]:
        """The E-step: moments of the rows under the responsibilities, and Σ wᵢ log p(xᵢ), ().

        The moments of two parts of the rows, merged, are those of the whole, to rounding, and their masses sum to
        Σ wᵢ; a row of weight w counts as w rows of weight 1; the sum is that of `log_likelihood`.
        """
        ...

    def log_likelihood(self, mixture: Mixture) -> Array:
        """Σ wᵢ log p(xᵢ), (), in nats; additive over parts of the rows."""
        ...

    def slopes_of_absent(self, mixture: Mixture) -> Array:
        """Σ wᵢ N(xᵢ; μ_k, Σ_k) / p(xᵢ) of components of weight 0, (K,): slopes of `log_likelihood`."""
        ...

    def columns(self) -> Columns:
        """Mass, count, means and variances of the columns: those of the moments of all rows as one component."""
        ...
