"""The protocol of data: what a fit asks of the rows."""

from __future__ import annotations

from typing import Any, Protocol

from jax import Array

from jaxgmm.model.columns import Columns
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments


class Data(Protocol):
    """Data that a mixture can be fitted to; `Rows` is the one implementation."""

    @property
    def n_features(self) -> int:
        """Number of columns D."""
        ...

    @property
    def weights(self) -> Array:
        """Weights of the rows, non-negative, (N,)."""
        ...

    def log_joint(self, mixture: Mixture) -> Array:
        """Log π_k + log N(x_i; μ_k, Σ_k), (N, K), in nats; −∞ where it is too low for the dtype."""
        ...

    def log_responsibilities(self, mixture: Mixture) -> Array:
        """Log p(k | x_i), (N, K): `log_joint` less its log-sum-exp, so that the responsibilities of a row sum to 1."""
        ...

    def moments(self, mixture: Mixture, statistic: Any) -> tuple[Moments, Array]:
        """The E-step: moments of the rows under the responsibilities, and Σ wᵢ log p(xᵢ), (), as `log_likelihood`.

        To rounding: the moments of two parts of the rows, merged, are the moments of all; the masses sum to Σ wᵢ; a row
        of weight w counts as w rows of weight 1.
        """
        ...

    def log_likelihood(self, mixture: Mixture) -> Array:
        """Σ wᵢ log p(xᵢ), (), in nats; additive over parts of the rows."""
        ...

    def slopes_of_absent(self, mixture: Mixture) -> Array:
        """Σ wᵢ N(xᵢ; μ_k, Σ_k) / p(xᵢ) of components of weight 0, (K,): derivatives of `log_likelihood`."""
        ...

    def columns(self) -> Columns:
        """Mass, count, means and variances of the columns, over all rows."""
        ...
