"""What a fit is asked to do: checked, in the fit's units, with its starts; and its result in the user's units."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from jaxgmm.data.intake import Intake, intake
from jaxgmm.data.scaling import check_representable
from jaxgmm.fitting.algorithms.em import EM
from jaxgmm.fitting.algorithms.protocol import Algorithm
from jaxgmm.fitting.halving import Stage, pass_work, plan
from jaxgmm.fitting.restarts import Outcome, choose
from jaxgmm.fitting.results import FAILED, FitResult, Restarts, Status
from jaxgmm.fitting.starts.assigned import Start, drawn_assignments, n_starts
from jaxgmm.fitting.starts.drawn import as_method
from jaxgmm.fitting.starts.given import given_start
from jaxgmm.fitting.verification import warn_of_compiler
from jaxgmm.host.arrays import Names, is_traced
from jaxgmm.host.checks import as_count, as_key, as_tolerance, check_climber, check_process
from jaxgmm.model.families.protocol import Family
from jaxgmm.model.families.table import family_of
from jaxgmm.model.priors.penalty import Prior
from jaxgmm.model.priors.ridge import Ridge, settle
from jaxgmm.model.slots import without_spares
from jaxgmm.model.units import ObjectiveUnits, Units, to_host


class Options(NamedTuple):
    """The arguments of `fit` that do not describe the data or K."""

    covariance_type: str | Family = "full"
    algorithm: Algorithm = EM()
    prior: Prior | None = Ridge()
    init: Any = "k-means++"
    n_init: int = 20
    max_iter: int = 1000
    tol: float = 1e-6


def checked(options: Options) -> Options:
    """The options with a family for its name, or an error that says which is bad; see `fit`."""
    check_climber(options.algorithm, options.prior)
    return options._replace(
        covariance_type=family_of(options.covariance_type),
        init=as_method(options.init) if isinstance(options.init, str) else options.init,
        n_init=as_count(options.n_init, "n_init"),
        max_iter=as_count(options.max_iter, "max_iter"),
        tol=as_tolerance(options.tol),
    )


class Task(NamedTuple):
    """A fit that is ready to begin.

    Attributes:
        taken: the data in the fit's units, and the way back.
        starts: stacked along a leading axis R.
        algorithm: climbs from each of them.
        family: of the covariances.
        prior: settled.
        n_components: K.
        n_slots: components that are compiled for, spare ones included.
        max_iter: most iterations of each restart.
        tol: gain per unit weight, in nats, below which it stops.
    """

    taken: Intake
    starts: Start
    algorithm: Algorithm
    family: Family
    prior: Prior
    n_components: int
    n_slots: int
    max_iter: int
    tol: float

    @property
    def n_restarts(self) -> int:
        """The number of starts R."""
        return n_starts(self.starts)

    def work(self, n_restarts: int, n_components: int) -> int:
        """Multiplications in a pass of so many restarts with so many components; see `pass_work`."""
        # Rows without weight do not count: padding must not decide which restarts go on.
        n_rows, n_features = self.taken.n_counted, self.taken.data.n_features
        return pass_work(n_restarts, n_rows, n_components, n_features, self.family.statistic.products)

    def stages(self, n_restarts: int) -> tuple[Stage, ...]:
        """The stages at which so many restarts are compared."""
        return plan(n_restarts, self.work(n_restarts, self.n_components))

    def units(self, prior_mass: Any) -> ObjectiveUnits:
        """The units of the objective, under a prior of so many pseudo-rows."""
        taken = self.taken
        return ObjectiveUnits.of(taken.units, taken.weight_unit, taken.column_weights, float(prior_mass))

    def result(self, outcome: Outcome, prior_mass: Any) -> FitResult:
        """The best fit of an outcome, in the user's units, under a prior of so many pseudo-rows."""
        best, restarts = choose(outcome)
        best = best._replace(mixture=without_spares(best.mixture, self.n_components))
        taken = self.taken
        return _in_users_units(best, restarts, taken.units, self.units(prior_mass), taken.dtype, taken.names)


def task_of(
    key: Array, x: Any, n_components: int, sample_weight: ArrayLike | None, options: Options, n_slots: int = 0
) -> Task:
    """What `fit` is asked to do with a table or with data, compiled for any K up to `n_slots`; see `fit` for errors."""
    if is_traced(key, sample_weight, options):
        raise TypeError("fit works on the host, but an argument is traced: use `jaxgmm.run` under jit, vmap or jvp")
    check_process()
    warn_of_compiler()
    key, n_components = as_key(key), as_count(n_components, "n_components")
    named, algorithm, prior, init, n_init, max_iter, tol = checked(options)
    family = cast(Family, named)
    taken = intake(x, sample_weight, n_components, family)
    prior, n_slots = settle(prior, taken.dtype), max(n_slots, n_components)
    if isinstance(init, str):
        starts = drawn_assignments(key, taken.data, n_components, init, family, n_init, n_slots, taken.dtype)
    else:
        starts = given_start(init, taken, n_components, family, prior, key)
    return Task(taken, starts, algorithm, family, prior, n_components, n_slots, max_iter, tol)


def _in_users_units(
    fitted: FitResult, restarts: Restarts, units: Units, nats: ObjectiveUnits, dtype: DTypeLike, names: Names | None
) -> FitResult:
    """A fit of scaled rows as a fit in the user's units."""
    mixture = units.restore(to_host(fitted.mixture))
    if fitted.status not in FAILED:
        check_representable(mixture, dtype, names)
    there = np.count_nonzero(np.asarray(fitted.mixture.log_weights) > -np.inf)
    n_covariances = min(fitted.mixture.covs.count, int(there))

    def objective(value: Any) -> Any:
        return np.asarray(nats.objective(value, n_covariances), dtype)

    log_likelihood = nats.log_likelihood(fitted.log_likelihood)
    if fitted.status not in FAILED and abs(log_likelihood) > float(jnp.finfo(dtype).max):
        raise ValueError(
            f"the log-likelihood is {log_likelihood:.3g}, more than {jnp.dtype(dtype).name} can hold: "
            f"divide sample_weight by its mean"
        )
    # Put there as they are: made into arrays one by one, each shape would be compiled for.
    mixture, log_likelihood, best, n_iter, n_passes, history, ends = jax.device_put((
        jax.tree.map(lambda leaf: np.asarray(leaf, dtype), mixture),
        np.asarray(log_likelihood, dtype),
        objective(fitted.objective),
        np.asarray(fitted.n_iter),
        np.asarray(fitted.n_passes),
        objective(fitted.history),
        (objective(restarts.objective), np.asarray(restarts.status, np.int32), np.asarray(restarts.n_iter)),
    ))  # fmt: skip
    return FitResult(
        mixture=mixture,
        log_likelihood=log_likelihood,
        objective=best,
        n_iter=n_iter,
        n_passes=n_passes,
        status=Status(int(fitted.status)),
        history=history,
        restarts=Restarts(*ends),
        feature_names=names,
    )
