"""Checks that an argument is a mixture, or moments, with leaves of the right shapes."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxgmm.host.checks import named
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.moments import Moments


def check_mixtures(mixture: Any, name: str = "mixture") -> None:
    """Raise unless a value is a mixture, or a stack of them, with leaves of the shapes that its family has.

    Raises:
        TypeError: if it is something else.
        ValueError: if a leaf has another shape.
    """
    if not isinstance(mixture, Mixture):
        parts = (part for part in ("mixture", "best") if hasattr(type(mixture), part))
        hint = next((f": pass its .{part}" for part in parts), "")
        raise TypeError(f"{name} must be a Mixture or a FitResult, not {named(mixture)}{hint}")
    _check_leaves(mixture, name)


def _check_leaves(mixture: Mixture, name: str) -> None:
    means = np.shape(mixture.means)
    if len(means) < 2:
        raise ValueError(f"{name} must have means (K, D), not of shape {means}: its leaves were changed one by one")
    *stack, n_components, n_features = means
    factors = mixture.family.factors_shape(n_components, n_features)
    wanted = {"log_weights": (*stack, n_components), "covs": (*stack, *factors)}
    for part, shape in wanted.items():
        found = [np.shape(leaf) for leaf in jax.tree.leaves(getattr(mixture, part))]
        if found != [shape]:
            raise ValueError(
                f"{name} does not fit its family: beside means {means}, {part} of {mixture.family.name!r} must have "
                f"shape {shape}, not {', '.join(map(str, found))}. Reorder components with jaxgmm.relabel, which keeps "
                "a covariance that all share"
            )
    counted = mixture.covs.n_features
    if counted != n_features:
        raise ValueError(
            f"{name} does not fit its family: beside means {means}, its covariances are of {counted} columns. Take "
            "columns with jaxgmm.marginal, which takes those of both"
        )


def check_mixture(mixture: Any, name: str = "mixture") -> None:
    """Raise unless a value is one mixture.

    Raises:
        TypeError: if it is something else.
        ValueError: if it is a stack of mixtures.
    """
    check_mixtures(mixture, name)
    if mixture.means.ndim != 2:
        stack = mixture.means.shape[:-2]
        raise ValueError(
            f"{name} is a stack {stack} of mixtures: map over it with jax.vmap, or take one of it, {name}[0]"
        )


def check_moments(moments: Any) -> None:
    """Raise unless a value is `Moments`.

    Raises:
        TypeError: if they are something else.
    """
    if not isinstance(moments, Moments):
        hint = ": e_step returns them first, and the log-likelihood second" if isinstance(moments, tuple) else ""
        raise TypeError(f"moments must be Moments, not {named(moments)}{hint}")
