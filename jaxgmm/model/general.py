"""Mixtures in the least restricted family that holds them: what becomes of one that leaves its own."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jaxgmm.model.covariances.dense import as_dense
from jaxgmm.model.covariances.diagonal import Diagonal
from jaxgmm.model.families.table import DIAG, FULL, TIED
from jaxgmm.model.mixture import Mixture


def unrestricted(mixture: Mixture) -> Mixture:
    """The same mixture in "diag" where no covariance mixes columns, in "tied" where all share one, else in "full"."""
    covs = mixture.covs
    if not covs.mixes:
        return dataclasses.replace(
            mixture, covs=Diagonal(jnp.broadcast_to(covs.deviations(), mixture.means.shape)), family=DIAG
        )
    family = FULL if covs.count == mixture.n_components else TIED
    return dataclasses.replace(mixture, covs=as_dense(covs), family=family)
