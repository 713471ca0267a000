"""The slow, obvious twin: loops over rows and components, in float64."""

import numpy as np


def dense_covariances(covariance_type, covariances, n_components, n_features):
    covariances = np.asarray(covariances, np.float64)
    eye = np.eye(n_features)
    if covariance_type == "full":
        return covariances
    if covariance_type == "tied":
        return np.stack([covariances] * n_components)
    if covariance_type == "diag":
        return np.stack([np.diag(row) for row in covariances])
    return np.stack([variance * eye for variance in covariances])


def log_normal(x, mean, covariance):
    shift = x - mean
    sign, log_det = np.linalg.slogdet(covariance)
    assert sign > 0
    return -0.5 * (len(x) * np.log(2 * np.pi) + log_det + shift @ np.linalg.inv(covariance) @ shift)


def log_joint(weights, means, covariances, x):
    out = np.empty((len(x), len(weights)))
    for i, row in enumerate(np.asarray(x, np.float64)):
        for k, weight in enumerate(weights):
            out[i, k] = np.log(weight) + log_normal(row, means[k], covariances[k])
    return out


def log_prob(joint):
    highest = joint.max(axis=1, keepdims=True)
    return np.log(np.exp(joint - highest).sum(axis=1)) + highest[:, 0]


def responsibilities(joint):
    return np.exp(joint - log_prob(joint)[:, None])


def moments(x, weights, resp):
    """Mass (K,), mean (K, D) and dense scatter (K, D, D)."""
    x = np.asarray(x, np.float64)
    n_components, n_features = resp.shape[1], x.shape[1]
    mass = np.zeros(n_components)
    mean = np.zeros((n_components, n_features))
    scatter = np.zeros((n_components, n_features, n_features))
    for k in range(n_components):
        for i in range(len(x)):
            mass[k] += weights[i] * resp[i, k]
            mean[k] += weights[i] * resp[i, k] * x[i]
        mean[k] /= mass[k]
        for i in range(len(x)):
            shift = x[i] - mean[k]
            scatter[k] += weights[i] * resp[i, k] * np.outer(shift, shift)
    return mass, mean, scatter


def blurred(means, covariances, x, noise=None):
    """What each component makes of rows with gaps and errors, one row after another.

    Args:
        means: (K, D).
        covariances: dense, (K, D, D).
        x: rows, NaN where a value is missing, (N, D).
        noise: variances of the errors, (N, D), infinite where a value counts as missing, or covariances (N, D, D).

    Returns:
        Log-densities of what was observed (N, K); means (N, K, D) and covariances (N, K, D, D) of the true rows.
    """
    x = np.asarray(x, np.float64)
    (n_rows, n_features), n_components = x.shape, len(means)
    log_components = np.zeros((n_rows, n_components))
    true = np.tile(np.asarray(means, np.float64), (n_rows, 1, 1))
    spread = np.tile(np.asarray(covariances, np.float64), (n_rows, 1, 1, 1))
    for i in range(n_rows):
        errors = np.zeros((n_features, n_features)) if noise is None else np.asarray(noise[i], np.float64)
        errors = np.diag(errors) if errors.ndim == 1 else errors
        seen = np.flatnonzero(~np.isnan(x[i]) & np.isfinite(np.diag(errors)))
        for k in range(n_components):
            covariance = np.asarray(covariances[k], np.float64)
            total = covariance[np.ix_(seen, seen)] + errors[np.ix_(seen, seen)]
            shift = x[i, seen] - means[k][seen]
            log_det = np.linalg.slogdet(total)[1]
            square = shift @ np.linalg.solve(total, shift)
            log_components[i, k] = -0.5 * (len(seen) * np.log(2 * np.pi) + log_det + square)
            true[i, k] = means[k] + covariance[:, seen] @ np.linalg.solve(total, shift)
            spread[i, k] = covariance - covariance[:, seen] @ np.linalg.solve(total, covariance[seen])
    return log_components, true, spread


def blurred_moments(row_weights, resp, true, spread):
    """Mass (K,), mean (K, D) and dense scatter (K, D, D) of true rows, of which the moments are known."""
    taken = resp * np.asarray(row_weights, np.float64)[:, None]
    mass = taken.sum(axis=0)
    mean = np.einsum("nk,nkd->kd", taken, true) / mass[:, None]
    shift = true - mean
    return mass, mean, np.einsum("nk,nkij->kij", taken, spread + shift[..., :, None] * shift[..., None, :])


def reduced(covariance_type, scatter):
    """The part of a dense scatter (K, D, D) that a family keeps."""
    if covariance_type == "full":
        return scatter
    if covariance_type == "tied":
        return scatter.sum(axis=0, keepdims=True)
    return np.einsum("kii->ki" if covariance_type == "diag" else "kii->k", scatter)


def column_variances(x, weights):
    mean = np.average(x, axis=0, weights=weights)
    return np.average((x - mean) ** 2, axis=0, weights=weights)


def m_step(covariance_type, mass, scatter, strength=0.0, variances=None):
    """Weights and dense covariances (K, D, D) of the M-step under a ridge of that strength."""
    n_components, n_features = scatter.shape[:2]
    pseudo = strength * mass.sum()
    prior = pseudo * np.diag(np.ones(n_features) if variances is None else variances)
    out = np.empty_like(scatter)
    for k in range(n_components):
        if covariance_type == "full":
            out[k] = (scatter[k] + prior) / (mass[k] + pseudo)
        elif covariance_type == "tied":
            out[k] = (scatter.sum(axis=0) + prior) / (mass.sum() + pseudo)
        elif covariance_type == "diag":
            out[k] = np.diag(np.diag(scatter[k] + prior)) / (mass[k] + pseudo)
        else:
            out[k] = np.eye(n_features) * np.trace(scatter[k] + prior) / n_features / (mass[k] + pseudo)
    return mass / mass.sum(), out


def log_ridge(covariance_type, covariances, strength, total_mass, variances):
    """log prior over the distinct covariances."""
    distinct = covariances[:1] if covariance_type == "tied" else covariances
    pseudo = strength * total_mass
    return (
        -0.5 * pseudo * sum(np.trace(np.diag(variances) @ np.linalg.inv(c)) + np.linalg.slogdet(c)[1] for c in distinct)
    )


def total_moments(weights, means, covariances):
    mean = sum(w * m for w, m in zip(weights, means, strict=True))
    covariance = sum(
        w * (c + np.outer(m - mean, m - mean)) for w, m, c in zip(weights, means, covariances, strict=True)
    )
    return mean, covariance


def finite_difference(function, x, step=1e-6):
    """Central differences of a scalar function of an array."""
    x = np.asarray(x, np.float64)
    out = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        out[index] = (float(function(up)) - float(function(down))) / (2 * step)
    return out
