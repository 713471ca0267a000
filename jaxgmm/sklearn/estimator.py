"""The estimator, with scikit-learn's names, shapes and conventions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxgmm.fitting.criteria import aic, bic
from jaxgmm.fitting.results import Status
from jaxgmm.host.checks import as_count
from jaxgmm.host.weights import as_weights
from jaxgmm.probability.density import log_prob, predict, responsibilities
from jaxgmm.probability.likelihood import score
from jaxgmm.probability.sampling import sample
from jaxgmm.sklearn.climbs import CONSTRAINTS, attributes_of, climbed, warn_of
from jaxgmm.sklearn.conversion import from_sklearn
from jaxgmm.sklearn.rows import bucket, in_bucket, readable


class GaussianMixture(DensityMixin, BaseEstimator):
    """scikit-learn's mixture of Gaussians, fitted and evaluated by this library.

    It fits by `jaxgmm.fit`. Rows in float64 are fitted and evaluated in float64, rows in float32 in float32, whether
    JAX has x64 enabled or not, and its configuration is not changed. Attributes are NumPy arrays.

    Attributes:
        weights_: π_k, (K,).
        means_: μ_k, (K, D).
        covariances_: "full" (K, D, D), "tied" (D, D), "diag" (K, D), "spherical" (K,).
        precisions_: their inverses, in the same shape.
        precisions_cholesky_: upper triangular U with Σ⁻¹ = U Uᵀ, or reciprocal standard deviations, in the same shape.
        converged_: whether the best start converged, to a mixture that has not collapsed.
        n_iter_: iterations of the best start.
        lower_bound_: its log-likelihood per unit weight, or a lower bound of that where `reg_covar` is given.
        lower_bounds_: that number after each iteration.
        n_features_in_: D.
        feature_names_in_: names of the columns, (D,), where X is a table and they are strings.

    Example:
        >>> x = np.random.default_rng(0).normal([[0.0, 0.0], [4.0, 4.0]] * 50)
        >>> jaxgmm.sklearn.GaussianMixture(2, random_state=0).fit(x).means_.shape
        (2, 2)
    """

    _parameter_constraints = CONSTRAINTS

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float | None = None,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
    ):
        """Hold the parameters; `fit` checks them.

        Args:
            n_components: K.
            covariance_type: "full", "tied", "diag" or "spherical".
            tol: estimated gain in log-likelihood that remains, per unit weight, below which to stop. (scikit-learn
                compares the gain of the last step, which may be as small far from the optimum.)
            reg_covar: a variance added to every covariance, in squared units of X, as in scikit-learn; the E-step
                takes account of it, so that the objective never falls. None is `Ridge()`; 0 is maximum likelihood.
            max_iter: most iterations from each start; 0 gives the start itself.
            n_init: number of starts.
            init_params: "kmeans", "k-means++", "random" or "random_from_data".
            weights_init: π_k to start from, (K,). Parts that are not given are drawn by `init_params`.
            means_init: μ_k to start from, (K, D); each takes the rest from the drawn component nearest to it.
            precisions_init: Σ_k⁻¹ to start from, in the shape of `precisions_`.
            random_state: an integer, a NumPy `RandomState`, or None for new draws each time.
            warm_start: whether `fit` continues from the last fitted mixture.
            verbose: above 0 shows progress.
            verbose_interval: checked but not used: progress is shown at its own pace.
        """
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> GaussianMixture:
        """Fit the mixture to rows.

        Args:
            X: rows, (N, D).
            y: not used.
            sample_weight: non-negative weights, (N,); a row of weight zero counts as left out.

        Returns:
            The estimator itself. It warns where the best start did not converge, or collapsed.

        Raises:
            TypeError: if X or the weights hold no real numbers; text, dates and masked entries are refused.
            ValueError: if a parameter, X or the weights are bad, or every start ended in NaN.
        """
        self._validate_params()
        X = validate_data(self, readable(X), dtype=(np.float64, np.float32), ensure_min_samples=2)
        weights = as_weights(sample_weight, len(X))
        with jax.enable_x64(True):
            previous = from_sklearn(self) if self.warm_start and hasattr(self, "converged_") else None
            fitted = climbed(self, self._key(), in_bucket(X), in_bucket(weights), previous)
        vars(self).update(attributes_of(fitted, float(weights.sum())))
        if fitted.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        warn_of(self, fitted, X, weights)
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> np.ndarray:
        """The components that rows are assigned to, after a fit to these rows.

        Args:
            X: rows, (N, D).
            y: not used.
            sample_weight: non-negative weights, (N,).

        Returns:
            The component with the largest responsibility for each row, (N,).
        """
        return self.fit(X, y, sample_weight).predict(X)

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
            x, labels = map(np.asarray, sample(self._key(), from_sklearn(self), bucket(n_samples)))
        order = np.argsort(labels[:n_samples], kind="stable")
        return x[order], labels[order]

    def _n_parameters(self) -> int:
        """Number of free parameters: scikit-learn's name, which scripts use although it is private."""
        return from_sklearn(self).n_parameters

    def _key(self) -> jax.Array:
        return jax.random.key(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _of_rows(self, function: Callable[..., jax.Array], X: Any) -> np.ndarray:
        """The values of a function of the mixture and rows, one for each row."""
        x, _ = self._asked(X, None)
        with jax.enable_x64(True):
            return np.asarray(function(from_sklearn(self), in_bucket(x)))[: len(x)]

    def _of_all(self, function: Callable[..., Any], X: Any, sample_weight: ArrayLike | None, **options: Any) -> float:
        """The value of a function of the mixture, rows and weights."""
        x, weights = self._asked(X, sample_weight)
        with jax.enable_x64(True):
            return float(function(from_sklearn(self), in_bucket(x), in_bucket(weights), **options))

    def _asked(self, X: Any, sample_weight: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self)
        X = validate_data(self, readable(X), dtype=(np.float64, np.float32), reset=False)
        return X, as_weights(sample_weight, len(X))
