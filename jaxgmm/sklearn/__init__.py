"""scikit-learn's mixture of Gaussians over the functions of this library, and the way to and from scikit-learn's own.

Needs scikit-learn 1.6 or newer: the extra `sklearn`.
"""

from jaxgmm.sklearn.conversion import from_sklearn as from_sklearn
from jaxgmm.sklearn.conversion import to_sklearn as to_sklearn
from jaxgmm.sklearn.estimator import GaussianMixture as GaussianMixture
