"""Fits of many data sets at once, in a few compiled programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import jax
import numpy as np
from jax import Array

from jaxgmm.fitting.algorithms.em import EM
from jaxgmm.fitting.algorithms.protocol import Algorithm
from jaxgmm.fitting.entries import Entry
from jaxgmm.fitting.fit import fit_task
from jaxgmm.fitting.group_fits import GroupFits
from jaxgmm.fitting.restarts import Outcome
from jaxgmm.fitting.results import FitResult, Status
from jaxgmm.fitting.tasks import Options, Task, checked, task_of
from jaxgmm.fitting.turns import climb_in_turns, is_pooled
from jaxgmm.fitting.verification import fault_of
from jaxgmm.host.cautions import caution
from jaxgmm.host.checks import as_callback, as_count, as_key, keyed
from jaxgmm.host.progress import Callback, Progress, Snapshot
from jaxgmm.host.split import Group, groups_of, named_errors
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.fitted import Fitted, as_start
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.priors.penalty import Prior
from jaxgmm.model.priors.ridge import Ridge

_MOST = 12
"""The most groups that a warning lists."""


@keyed
def fit_groups(
    key: Array,
    groups: Any,
    n_components: int,
    sample_weight: Any = None,
    *,
    by: Any = None,
    covariance_type: str | Family = "full",
    algorithm: Algorithm = EM(),
    prior: Prior | None = Ridge(),
    init: str | Mixture | Fitted = "k-means++",
    n_init: int = 20,
    max_iter: int = 1000,
    tol: float = 1e-6,
    progress: bool | None = None,
    callback: Callback | None = None,
) -> GroupFits:
    """The fits of many data sets, a mixture of K Gaussians to each: what `fit` returns for each of them, to rounding.

    Group i is fitted with the key `jax.random.fold_in(key, i)`, from starts of its own. Data sets of all sizes climb
    side by side in one compiled program, whose lanes pass from a restart that has ended to the next one: as a loop of
    `fit`, each size would be compiled for. Data sets too large for that (N·K or N·D²/2 above 2^16), and algorithms that
    do not climb by moments alone, are fitted one after another. Ctrl-C returns the groups whose fits had ended; the
    others are `INTERRUPTED`, and their numbers NaN.

    Args:
        key: a typed key, `jax.random.key(0)`.
        groups: a list of arrays or tables, a mapping of them, or one array or table of all rows, split by `by`.
        n_components: K.
        sample_weight: non-negative weights in the form of the rows: a list or a mapping of arrays, or one, (N,).
        by: the name of the column that labels the groups, which is left out of the rows; or labels of the rows, (N,).
        covariance_type: as for `fit`.
        algorithm: as for `fit`.
        prior: as for `fit`; the columns of each group have their own scale.
        init: the name of a method, or one mixture or fit from which all groups start.
        n_init: number of starts of each group.
        max_iter: most iterations of each.
        tol: estimated gain per unit weight, in nats, below which to stop; see `run`.
        progress: whether to show a bar over all groups; see `fit`.
        callback: is given a `Report` when a group has ended, and of those that are fitted alone as by `fit`; where it
            returns True, the fits end as by Ctrl-C.

    Returns:
        The fits, in the order of the list, of the mapping, or of the sorted labels; all in float64 where JAX allows it
        and one of the groups is. Groups that collapsed are named in one warning. A fit that cannot be represented in
        its dtype is `NONFINITE`, with a warning of what `fit` raises.

    Raises:
        TypeError: as by `fit`, or if the groups come in another form.
        ValueError: as by `fit`, in which the group is named; or if the groups' columns differ.
        RuntimeError: as by `fit`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x, species = rng.normal(size=(150, 2)), np.repeat(["a", "b", "c"], 50)
        >>> fitted = jaxgmm.fit_groups(jax.random.key(0), x, 1, by=species)
        >>> fitted.labels, fitted["b"].status.name
        (('a', 'b', 'c'), 'CONVERGED')
    """
    key, n_components = as_key(key), as_count(n_components, "n_components")
    parts = groups_of(groups, by, sample_weight)
    start = as_start(init, parts[0].table)
    if not isinstance(start, str | Mixture):
        raise TypeError(f"init must be a name, a Mixture or a fit, from which all start, not {type(init).__name__}")
    options = checked(Options(covariance_type, algorithm, prior, start, n_init, max_iter, tol))
    tasks, results = _tasks(key, parts, n_components, options), cast(list[FitResult | None], [None] * len(parts))
    status = np.full(len(parts), Status.INTERRUPTED)
    with Progress(progress, as_callback(callback), len(parts)) as shown:
        try:
            for place, result in _fitted(tasks, [part.label for part in parts], shown):
                results[place], status[place] = result, Status.NONFINITE if result is None else result.status
                if result is not None and is_pooled(tasks[place]):
                    _tell(shown, tasks[place], result)
                shown.end()
                if shown.interrupted or status[place] == Status.INTERRUPTED:
                    break
        except KeyboardInterrupt:
            if all(result is None for result in results):
                raise
    labels, n_rows = tuple(part.label for part in parts), np.asarray([len(part.table.rows) for part in parts])
    fits = GroupFits(labels, n_rows, _stacked(results, status))
    _warn_of_collapses(fits)
    return fits


def _tasks(key: Array, parts: list[Group], n_components: int, options: Options) -> list[Task]:
    """The task of each group, with a key of its own."""
    tasks = []
    for place, (label, table, weights) in enumerate(parts):
        with named_errors(label):
            tasks.append(task_of(jax.random.fold_in(key, place), table, n_components, weights, options))
    return tasks


def _fitted(tasks: list[Task], labels: list[Any], progress: Progress) -> Iterator[tuple[int, FitResult | None]]:
    """The fits of all tasks with their places, as they end: of those that a pool takes first; None for a failure."""
    pooled = [place for place, task in enumerate(tasks) if is_pooled(task)]
    alone = [place for place, task in enumerate(tasks) if not is_pooled(task)]
    entries = [Entry(tasks[place]) for place in pooled]
    for number in climb_in_turns(entries) if entries else ():
        place, entry, outcome = pooled[number], entries[number], entries[number].outcome()
        if _is_sound(entry, outcome):
            task, prior_mass = entry.task, entry.penalty.mass
            yield place, _unless_refused(labels[place], lambda task=task, o=outcome, m=prior_mass: task.result(o, m))
        else:
            alone.append(place)
        entry.forget()
    for place in alone:
        yield place, _unless_refused(labels[place], lambda task=tasks[place]: fit_task(task, progress))


def _unless_refused(label: Any, fitted: Callable[[], FitResult]) -> FitResult | None:
    """The fit; None, with a warning, where it is refused: the others' are not to be lost."""
    try:
        with named_errors(label):
            return fitted()
    except ValueError as error:
        caution(str(error))
        return None


def _is_sound(entry: Entry, outcome: Outcome) -> bool:
    """Whether features told all restarts apart exactly enough, and NumPy finds nothing wrong with the best."""
    if np.any(np.asarray(outcome.fits.status) == Status.NONFINITE):
        return False
    return fault_of(entry.task.algorithm, outcome, entry.rows, entry.task.tol, entry.penalty) is None


def _tell(progress: Progress, task: Task, result: FitResult) -> None:
    progress.begin(task.n_components, task.family.name, float)
    n_iter, objective, n_restarts = int(result.n_iter), float(result.objective), task.n_restarts
    progress.tell(Snapshot(n_iter, task.max_iter, objective, float("nan"), 0, n_restarts))


def _stacked(results: list[FitResult | None], status: np.ndarray) -> FitResult:
    """The fits as a stack; of those that are missing numbers are NaN, and the status that is given."""
    there = [result for result in results if result is not None]
    if not there:
        raise ValueError("no group could be fitted: see the warnings")
    longest = max((result.restarts for result in there if result.restarts), key=lambda held: len(held.objective))

    def missing(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        return np.full_like(leaf, np.nan if leaf.dtype.kind == "f" else 0)

    def whole(result: FitResult | None, status: Any) -> FitResult:
        blank = jax.tree.map(missing, longest)
        blank = blank._replace(status=np.full_like(blank.status, status))
        if result is None or result.restarts is None:
            gone = jax.tree.map(missing, there[0])
            return gone._replace(status=np.int32(status), restarts=blank)
        # Of climbs one after another those to come are missing where the keyboard ended one.
        n = len(result.restarts.objective)
        filled = jax.tree.map(lambda held, rest: np.concatenate([held, rest[n:]]), result.restarts, blank)
        return result._replace(status=np.int32(status), restarts=filled)

    leaves = [whole(result, each) for result, each in zip(results, status, strict=True)]
    return jax.device_put(jax.tree.map(lambda *each: np.stack([np.asarray(leaf) for leaf in each]), *leaves))


def _warn_of_collapses(fits: GroupFits) -> None:
    collapsed = [repr(fits.labels[place]) for place in np.flatnonzero(fits.status == Status.COLLAPSED)]
    if collapsed:
        listed = ", ".join(collapsed[:_MOST]) + (", …" if len(collapsed) > _MOST else "")
        caution(
            f"{len(collapsed)} of {len(fits)} fits collapsed, and are not to be relied on: {listed}. "
            f"`fit` one of these groups alone to be told why"
        )
