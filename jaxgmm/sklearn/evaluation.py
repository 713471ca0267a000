"""What a fitted estimator tells of rows, by this library's functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from jaxgmm.fitting.criteria import aic, bic
from jaxgmm.host.checks import as_count
from jaxgmm.host.weights import as_weights
from jaxgmm.probability.density import log_prob, predict, responsibilities
from jaxgmm.probability.likelihood import score
from jaxgmm.probability.sampling import sample
from jaxgmm.sklearn.conversion import from_sklearn
from jaxgmm.sklearn.rows import as_rows, bucket, given_as, in_bucket, key_of, without_empty


class Evaluated:
    """Methods of a fitted estimator.

    Attributes:
        missing: "error" or "marginalize".
        random_state: an integer, a NumPy `RandomState`, or None.
    """

    missing: Any
    random_state: Any

    def predict(self, X: Any) -> np.ndarray:
        """The component with the largest responsibility for each row.

        Args:
            X: rows, (N, D).

        Returns:
            Indices, (N,).
        """
        return self._of_rows(predict, X)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Responsibilities p(k | x_i).

        Args:
            X: rows, (N, D).

        Returns:
            (N, K); rows sum to 1.
        """
        return self._of_rows(responsibilities, X)

    def score_samples(self, X: Any) -> np.ndarray:
        """Log-density log p(x_i) of each row.

        Args:
            X: rows, (N, D).

        Returns:
            (N,), in nats.
        """
        return self._of_rows(log_prob, X)

    def score(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """Mean log-likelihood Σ wᵢ log p(xᵢ) / Σ wᵢ.

        Args:
            X: rows, (N, D).
            y: not used.
            sample_weight: non-negative weights, (N,).

        Returns:
            Nats per unit weight.
        """
        return self._of_all(score, X, sample_weight)

    def aic(self, X: Any, sample_weight: ArrayLike | None = None, *, n: float | None = None) -> float:
        """Akaike's information criterion; lower is better.

        Args:
            X: rows, (N, D).
            sample_weight: non-negative weights, (N,); `jaxgmm.bic` says what those that are no counts count as.
            n: how many rows the data count as.

        Returns:
            −2ℓ + 2p.
        """
        return self._of_all(aic, X, sample_weight, n=n)

    def bic(self, X: Any, sample_weight: ArrayLike | None = None, *, n: float | None = None) -> float:
        """Bayesian information criterion; lower is better.

        Args:
            X: rows, (N, D).
            sample_weight: non-negative weights, (N,); `jaxgmm.bic` says what those that are no counts count as.
            n: how many rows the data count as.

        Returns:
            −2ℓ + p log n.
        """
        return self._of_all(bic, X, sample_weight, n=n)

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Rows drawn from the mixture, and their components.

        Args:
            n_samples: number of rows.

        Returns:
            Rows, (n, D), sorted by component, and the component of each, (n,).

        Raises:
            ValueError: if `n_samples` is below 1.
        """
        check_is_fitted(self)
        n_samples = as_count(n_samples, "n_samples")
        with jax.enable_x64(True):
            x, labels = map(np.asarray, sample(key_of(self.random_state), from_sklearn(self), bucket(n_samples)))
        order = np.argsort(labels[:n_samples], kind="stable")
        return x[order], labels[order]

    def _n_parameters(self) -> int:
        """Number of free parameters: scikit-learn's name, which scripts use although it is private."""
        return from_sklearn(self).n_parameters

    def _of_rows(self, function: Callable[..., jax.Array], X: Any) -> np.ndarray:
        """The values of a function of the mixture and rows, one for each row."""
        check_is_fitted(self)
        x = as_rows(self, X, self.missing, reset=False)
        with jax.enable_x64(True):
            rows, _ = given_as(in_bucket(x), None)
            return np.asarray(function(from_sklearn(self), rows))[: len(x)]

    def _of_all(self, function: Callable[..., Any], X: Any, sample_weight: ArrayLike | None, **options: Any) -> float:
        """The value of a function of the mixture, rows and weights."""
        check_is_fitted(self)
        x = as_rows(self, X, self.missing, reset=False)
        weights = without_empty(x, as_weights(sample_weight, len(x)))
        with jax.enable_x64(True):
            return float(function(from_sklearn(self), *given_as(in_bucket(x), in_bucket(weights)), **options))
