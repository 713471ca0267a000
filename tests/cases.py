"""Mixtures and rows that the batteries run over; a new family is one row in FAMILIES."""

import warnings

import numpy as np

import jaxgmm

FAMILIES = ["full", "tied", "diag", "spherical"]
CODES = {"full": "VVV", "tied": "EEE", "diag": "VVI", "spherical": "VII"}


def covariances(covariance_type, n_components, n_features, rng):
    """Random covariances in scikit-learn's shape."""
    factor = rng.normal(size=(n_components, n_features, n_features)) / np.sqrt(n_features)
    dense = factor @ np.swapaxes(factor, 1, 2) + 0.5 * np.eye(n_features)
    return {
        "full": dense,
        "tied": dense[0],
        "diag": rng.uniform(0.5, 2.0, size=(n_components, n_features)),
        "spherical": rng.uniform(0.5, 2.0, size=n_components),
    }[covariance_type]


def identities(covariance_type):
    """Covariances of one, of two components in two columns, as the family holds them."""
    forms = {"full": np.stack([np.eye(2)] * 2), "tied": np.eye(2), "diag": np.ones((2, 2)), "spherical": np.ones(2)}
    return forms[covariance_type]


def mixture(covariance_type, n_components=3, n_features=3, dtype=np.float64, seed=0):
    """A random mixture and the plain arrays that it was made of."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(n_components, 5.0))
    means = 2 * rng.normal(size=(n_components, n_features))
    covs = covariances(covariance_type, n_components, n_features, rng)
    arrays = [np.asarray(a, dtype) for a in (weights / weights.sum(), means, covs)]
    return jaxgmm.make_mixture(*arrays, covariance_type=covariance_type), arrays


def rows(n_rows=40, n_features=3, dtype=np.float64, seed=1):
    """Random rows and positive weights."""
    rng = np.random.default_rng(seed)
    x = 2 * rng.normal(size=(n_rows, n_features))
    return x.astype(dtype), rng.uniform(0.5, 2.0, size=n_rows).astype(dtype)


def drawn_rows(covariance_type, n_rows=200, dtype=np.float64, seed=1, **kwargs):
    """A mixture and rows drawn from it, with positive weights: no component of a fit collapses."""
    fitted, (weights, means, covs) = mixture(covariance_type, dtype=dtype, **kwargs)
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(weights), size=n_rows, p=weights.astype(np.float64) / weights.sum(dtype=np.float64))
    factors = np.linalg.cholesky(np.asarray(fitted.covariances, np.float64))
    x = means[labels] + np.einsum("nij,nj->ni", factors[labels], rng.normal(size=(n_rows, means.shape[1])))
    return fitted, x.astype(dtype), rng.uniform(0.5, 2.0, size=n_rows).astype(dtype)


def tolerance(dtype, digits=11):
    """Relative tolerance: `digits` in float64, 5 in float32."""
    return 10.0**-digits if np.dtype(dtype) == np.float64 else 1e-5


def told_fit(*args, **options):
    """A fit, and the one warning that comes with a collapse and with nothing else."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fitted = jaxgmm.fit(*args, **options)
    assert len(told) == (fitted.status == jaxgmm.Status.COLLAPSED)
    assert all(warning.category is UserWarning and warning.filename == __file__ for warning in told)
    return fitted, "".join(str(warning.message) for warning in told)
