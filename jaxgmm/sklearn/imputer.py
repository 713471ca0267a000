"""The imputer, with scikit-learn's names, shapes and conventions."""

from __future__ import annotations

from typing import Any, Self

import jax
import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.impute import MissingIndicator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from jaxgmm.probability.imputation import impute
from jaxgmm.sklearn.climbs import CONSTRAINTS, fit_rows
from jaxgmm.sklearn.conversion import from_sklearn
from jaxgmm.sklearn.estimator import GaussianMixture
from jaxgmm.sklearn.rows import as_rows, in_bucket, key_of

_OF_THE_FIT = "n_components covariance_type tol reg_covar max_iter n_init init_params random_state".split()
"""The parameters that say how the mixture is fitted: those of `GaussianMixture`."""


class GaussianMixtureImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Missing values, filled by a mixture of Gaussians that is fitted to the observed ones.

    A value is NaN where it is missing, and may be missing at random: whether it is missing may depend on what was
    observed of its row. `fit` maximises the likelihood of the observed values, as
    `GaussianMixture(missing="marginalize")` does; `transform` fills gaps by their conditional means given the row's
    observed values under the whole mixture, or by draws, and leaves observed values as they are. It stands in pipelines
    where `SimpleImputer` stands. The fitted mixture is `from_sklearn(imputer)`.

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
        indicator_: the fitted `MissingIndicator`, or None.
        n_features_in_: D.
        feature_names_in_: names of the columns, (D,), where X is a table and they are strings.

    Example:
        >>> x = np.random.default_rng(0).normal([[0.0, 0.0], [4.0, 4.0]] * 50)
        >>> x[::5, 1] = np.nan
        >>> whole = jaxgmm.sklearn.GaussianMixtureImputer(2, random_state=0).fit_transform(x)
        >>> whole.shape, bool(np.isnan(whole).any())
        ((100, 2), False)
    """

    _parameter_constraints = {name: CONSTRAINTS[name] for name in _OF_THE_FIT} | {
        "sample_posterior": ["boolean"],
        "add_indicator": ["boolean"],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        sample_posterior: bool = False,
        add_indicator: bool = False,
        tol: float = 1e-3,
        reg_covar: float | None = None,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        random_state: Any = None,
    ):
        """Hold the parameters; `fit` checks them.

        Args:
            n_components: K; 1 is one Gaussian, under which values depend linearly on each other.
            covariance_type: "full", "tied", "diag" or "spherical".
            sample_posterior: whether gaps are filled by draws from their conditional distribution given the row's
                observed values, rather than by its mean. Estimates from rows that were filled by means understate how
                much values vary; for multiple imputation draw several times and pool what comes of it.
            add_indicator: whether columns are added that tell, by 1, which values were missing: one for each column
                with a missing value in `fit`, as in `SimpleImputer`.
            tol: as in `GaussianMixture`, as are all that follow.
            reg_covar: a variance added to every covariance; None is `Ridge()`.
            max_iter: most iterations from each start.
            n_init: number of starts.
            init_params: "kmeans", "k-means++", "random" or "random_from_data".
            random_state: an integer, with which every call of `transform` draws the same; a NumPy `RandomState`, or
                None, for new draws each time.
        """
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.sample_posterior = sample_posterior
        self.add_indicator = add_indicator
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the mixture to the observed values of rows.

        Args:
            X: rows, NaN where a value is missing, (N, D).
            y: not used.
            sample_weight: non-negative weights, (N,); a row of weight zero counts as left out.

        Returns:
            The imputer itself. It warns where the best start did not converge, or collapsed.

        Raises:
            TypeError: if X or the weights hold no real numbers.
            ValueError: if a parameter, X or the weights are bad, or every start ended in NaN. A column that was never
                observed is named: nothing is known of its values, and `SimpleImputer` would drop it.
        """
        self._validate_params()
        x = as_rows(self, X, "marginalize", ensure_min_samples=2)
        fit_rows(self, GaussianMixture(**{name: getattr(self, name) for name in _OF_THE_FIT}), x, sample_weight)
        self.indicator_ = MissingIndicator(error_on_new=False).fit(x) if self.add_indicator else None
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Rows with their gaps filled.

        Args:
            X: rows, NaN where a value is missing, (N, D). A row with nothing observed is filled by the mixture's mean,
                or drawn from it.

        Returns:
            The rows, (N, D), and behind them the columns of the indicator; a table, where `set_output` says so.

        Raises:
            NotFittedError: if the imputer is not fitted.
            TypeError: if X holds no real numbers.
            ValueError: if X has other columns than the rows that were fitted, or infinite values.
        """
        check_is_fitted(self)
        x = as_rows(self, X, "marginalize", reset=False)
        whole, rows = x.copy(), np.flatnonzero(np.isnan(x).any(axis=1))
        if rows.size:
            with jax.enable_x64(True):
                key = key_of(self.random_state) if self.sample_posterior else None
                whole[rows] = impute(from_sklearn(self), in_bucket(x[rows]), key=key)[: rows.size]
        return whole if self.indicator_ is None else np.hstack([whole, np.asarray(self.indicator_.transform(x))])

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> np.ndarray:
        """Names of the columns that `transform` returns.

        Args:
            input_features: names of the columns, (D,), where X had none; None for x0, x1 and so on.

        Returns:
            The names of the columns as they came, and behind them those of the indicator, as objects.
        """
        names = np.asarray(super().get_feature_names_out(input_features), object)
        if self.indicator_ is None:
            return names
        return np.concatenate([names, np.asarray(self.indicator_.get_feature_names_out(names), object)])

    def __sklearn_tags__(self) -> Tags:
        """The tags: NaN is allowed, and float32 is kept."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
