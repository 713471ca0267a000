"""The estimator, with scikit-learn's names, shapes and conventions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import Tags

from jaxgmm.sklearn.climbs import CONSTRAINTS, fit_rows
from jaxgmm.sklearn.evaluation import Evaluated
from jaxgmm.sklearn.rows import as_rows


class GaussianMixture(Evaluated, DensityMixin, BaseEstimator):
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
        >>> x[::5, 1] = np.nan
        >>> jaxgmm.sklearn.GaussianMixture(2, random_state=0, missing="marginalize").fit_predict(x).shape
        (100,)
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
        missing: str = "error",
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
            missing: what NaN in X is: an "error", or with "marginalize" a value missing at random, which the likelihood
                integrates out, here and in all methods, as `jaxgmm.Incomplete` does.
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
        self.missing = missing

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> GaussianMixture:
        """Fit the mixture to rows.

        Args:
            X: rows, (N, D), with NaN where a value is missing if `missing` is "marginalize".
            y: not used.
            sample_weight: non-negative weights, (N,); a row of weight zero counts as left out.

        Returns:
            The estimator itself. It warns where the best start did not converge, or collapsed.

        Raises:
            TypeError: if X or the weights hold no real numbers; text, dates and masked entries are refused. With
                "marginalize" masked entries of an array are missing values.
            ValueError: if a parameter, X or the weights are bad, a column was never observed, or every start ended in
                NaN.
        """
        self._validate_params()
        fit_rows(self, self, as_rows(self, X, self.missing, ensure_min_samples=2), sample_weight)
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

    def __sklearn_tags__(self) -> Tags:
        """The tags of scikit-learn's estimator; NaN is allowed where it is marginalised."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "marginalize"
        return tags
