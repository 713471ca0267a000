"""What an algorithm climbs on: data, what is known of their columns, and a prior prepared for them."""

from __future__ import annotations

from typing import NamedTuple

from jaxgmm.data.protocol import Data
from jaxgmm.model.columns import Columns
from jaxgmm.model.priors.penalty import Penalty, Prior
from jaxgmm.model.priors.ridge import prepare


class Problem(NamedTuple):
    """The objective Σ wᵢ log p(xᵢ; θ) + log prior(θ), as algorithms see it: a pytree where the data are one.

    Attributes:
        data: ready for many passes.
        columns: what is known of the columns as a whole.
        penalty: the prior, prepared for such columns.
    """

    data: Data
    columns: Columns
    penalty: Penalty


def posed(data: Data, prior: Prior | None) -> Problem:
    """The problem that data and a settled prior pose: one cheap pass over the columns."""
    columns = data.columns()
    return Problem(data.ready(columns), columns, prepare(prior, columns))
