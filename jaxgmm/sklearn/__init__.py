"""Estimators with scikit-learn's interface, and conversions from and to scikit-learn's own.

Needs scikit-learn 1.6 or newer: the extra `sklearn`.
"""

from jaxgmm.sklearn.conversion import from_sklearn as from_sklearn
from jaxgmm.sklearn.conversion import to_sklearn as to_sklearn
from jaxgmm.sklearn.estimator import GaussianMixture as GaussianMixture
from jaxgmm.sklearn.imputer import GaussianMixtureImputer as GaussianMixtureImputer
