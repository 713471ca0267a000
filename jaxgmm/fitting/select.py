"""Choice of K and of the covariances: a grid of fits, compared by an information criterion."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jaxgmm.data.conversion import Weighed, as_data, plain, weighed
from jaxgmm.fitting.candidates import Candidate, Selection
from jaxgmm.fitting.counts import Count, count_of
from jaxgmm.fitting.criteria import check_criterion, classification_entropy, n_parameters
from jaxgmm.fitting.fit import fit_task
from jaxgmm.fitting.results import FAILED, FitResult, Status
from jaxgmm.fitting.tasks import Options, task_of
from jaxgmm.host.cautions import caution
from jaxgmm.host.checks import as_callback, as_count, as_key, check_climber, keyed
from jaxgmm.host.progress import Callback, Progress
from jaxgmm.model.families.dense import FULL, TIED
from jaxgmm.model.families.diagonal import DIAG, SPHERICAL
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.families.table import FAMILIES, family_of
from jaxgmm.model.fitted import as_start
from jaxgmm.model.slots import with_spares
from jaxgmm.numerics.programs import HostProgram


@keyed
def select(
    key: Array,
    x: Any,
    n_components: Iterable[int] = range(1, 10),
    covariance_types: Iterable[Any] = tuple(FAMILIES),
    sample_weight: ArrayLike | None = None,
    *,
    criterion: str = "bic",
    n: float | None = None,
    progress: bool | None = None,
    callback: Callback | None = None,
    **fit_options: Any,
) -> Selection:
    """Fits of every K with every covariance type, compared by an information criterion.

    Each candidate is what `fit` returns for the same key and options, to rounding. Column "agree" of the table counts
    the starts that reached the best objective, among those that climbed to an end.

    Args:
        key: a typed key, `jax.random.key(0)`.
        x: rows, (N, D).
        n_components: the K to try.
        covariance_types: names or families to try.
        sample_weight: non-negative weights, (N,).
        criterion: "bic", "aic" or "icl", which `.best` minimises.
        n: how many rows the data count as; None as for `bic`, which warns once where weights are no frequencies.
        progress: whether to show a bar over all fits; see `fit`.
        callback: is given a `Report` about four times a second; where it returns True, the selection ends as by
            Ctrl-C, and candidates not fitted yet are skipped.
        **fit_options: handed to `fit`.

    Returns:
        The table. Candidates with more components than rows of positive weight are listed as skipped, and so are those
        that are one model with another: "full" and "tied" where K is 1, "full", "diag" and "spherical" in one column.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if an argument has a bad value.

    Example:
        >>> x = np.random.default_rng(0).normal([[0.0, 0.0], [4.0, 4.0]] * 50)
        >>> selection = jaxgmm.select(jax.random.key(1), x, [1, 2], ["full"])
        >>> selection.best.n_components
        2
    """
    key = as_key(key)
    unknown = sorted(set(fit_options) - set(Options._fields[1:]))
    if unknown:
        raise TypeError(f"select got an unknown option {unknown[0]!r}; fit takes {', '.join(Options._fields[1:])}")
    check_criterion(criterion)
    asked = Options(**fit_options)
    check_climber(asked.algorithm, asked.prior)
    given = weighed(x, sample_weight)
    asked = asked._replace(init=as_start(asked.init, plain(x)))
    counts = [as_count(k, "n_components") for k in _listed(n_components)]
    families = [family_of(name, "each of covariance_types") for name in _listed(covariance_types)]
    for name, listed in (("n_components", counts), ("covariance_types", families)):
        if not listed:
            raise ValueError(f"{name} is empty: it must name at least one candidate")
    count = count_of(given.weights, n)
    candidates: list[Candidate] = []
    with Progress(progress, as_callback(callback), len(counts) * len(families)) as shown:
        for family in families:
            options = asked._replace(covariance_type=family)
            # The K that share a program share its compilation.
            n_slots = _slots(counts, given, options)
            for k in counts:

                def fit_one(k: int = k, options: Options = options, n_slots: int = n_slots) -> FitResult:
                    if shown.interrupted:
                        raise KeyboardInterrupt
                    return fit_task(task_of(key, given.x, k, given.sample_weight, options, n_slots), shown)

                candidates.append(_candidate(fit_one, given, k, count, candidates, options, n_slots))
                shown.end()
    chosen = Selection(tuple(candidates), criterion)
    if any(c.result is not None for c in chosen) and not any(c.sound for c in chosen):
        collapsed = (
            "every candidate that was fitted collapsed, and none is to be relied on: `fit` one of them to be told why"
        )
        caution(collapsed)
    return chosen


_entropy = HostProgram(classification_entropy.__wrapped__)  # pyright: ignore[reportAttributeAccessIssue]

_SLOTS_WORK = 1 << 24
"""Multiplications in a pass, N·K·D², up to which spare components cost less than compiling for each K."""


def _slots(counts: list[int], given: Weighed, options: Options) -> int:
    """The number of components to compile for: the largest K of the grid, or 0 to compile for each K."""
    possible = [count for count in counts if count <= np.count_nonzero(given.weights)]
    most = max(possible, default=0)
    work = len(given.weights) * most * given.n_features**2
    return most if options.algorithm.takes_spares and work <= _SLOTS_WORK else 0


def _candidate(
    fit_one: Callable[[], FitResult],
    given: Weighed,
    n_components: int,
    count: Count,
    before: list[Candidate],
    options: Options,
    n_slots: int,
) -> Candidate:
    family = family_of(options.covariance_type)
    size = n_parameters(family, n_components, given.n_features)
    n_rows = int(np.count_nonzero(given.weights))
    empty = functools.partial(Candidate, n_components, family.name, size)
    if n_components > n_rows:
        return empty(skipped=f"only {n_rows} rows")
    if any(c.skipped == "interrupted" or c.result and c.result.status == Status.INTERRUPTED for c in before):
        return empty(skipped="interrupted")
    model = _model(family, n_components, given.n_features)
    for c in before:
        if c.result is not None and c.n_components == n_components:
            if _model(c.result.mixture.family, n_components, given.n_features) == model:
                return empty(skipped=f"the same model as {c.covariance_type!r}")
    try:
        result = fit_one()
    except KeyboardInterrupt:  # before this one had anything to return
        if all(c.result is None for c in before):
            raise
        return empty(skipped="interrupted")
    value = float(result.log_likelihood)
    deviance = -2 * count.unit * value
    bic = deviance + size * float(np.log(count.n))
    icl = bic + count.unit * float(_entropy(*as_data(with_spares(result.mixture, n_slots), *given[:2])))
    n_ended, n_agreeing = _agreement(result, float(options.tol) * float(given.weights.sum()))
    return empty(value, deviance + 2 * size, bic, icl, result, n_ended=n_ended, n_agreeing=n_agreeing)


def _model(family: Family, n_components: int, n_features: int) -> Family:
    """The family itself, or "full" where both are one model for such K and D."""
    if n_features == 1 and family in (DIAG, SPHERICAL) or n_components == 1 and family == TIED:
        return FULL
    return family


def _agreement(result: FitResult, least_gain: float) -> tuple[int, int]:
    """The number of starts that climbed to an end, and of those that reached the best objective.

    A climb ends where it expects less than `least_gain`. The estimate may be wrong, so objectives within ten times that
    count as equal.
    """
    assert result.restarts is not None
    objective, status = np.asarray(result.restarts.objective), np.asarray(result.restarts.status)
    ended = ~np.isin(status, (Status.STOPPED, Status.INTERRUPTED))
    best, eps = float(result.objective), float(jnp.finfo(objective.dtype).eps)
    alike = np.isin(status, FAILED) == (result.status in FAILED)
    near = np.abs(objective.astype(np.float64) - best) <= 10 * least_gain + 100 * eps * abs(best)
    return int(ended.sum()), int((ended & alike & near).sum())


def _listed(asked: Any) -> list[Any]:
    return list(asked) if isinstance(asked, Iterable) and not isinstance(asked, str) else [asked]
