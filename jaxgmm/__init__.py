"""Gaussian mixture models as pure functions in JAX.

Examples in docstrings assume `import jax`, `import jax.numpy as jnp`, `import numpy as np` and `import jaxgmm`.
"""

from typing import TYPE_CHECKING

from jaxgmm._version import __version__ as __version__
from jaxgmm.data.incomplete import Incomplete as Incomplete
from jaxgmm.data.noisy import Noisy as Noisy
from jaxgmm.data.rows import Rows as Rows
from jaxgmm.fitting.algorithms.accelerated import Accelerated as Accelerated
from jaxgmm.fitting.algorithms.em import EM as EM
from jaxgmm.fitting.algorithms.gradient import Gradient as Gradient
from jaxgmm.fitting.candidates import Candidate as Candidate
from jaxgmm.fitting.candidates import Selection as Selection
from jaxgmm.fitting.criteria import aic as aic
from jaxgmm.fitting.criteria import bic as bic
from jaxgmm.fitting.criteria import icl as icl
from jaxgmm.fitting.criteria import n_parameters as n_parameters
from jaxgmm.fitting.fit import fit as fit
from jaxgmm.fitting.group_fits import GroupFits as GroupFits
from jaxgmm.fitting.groups import fit_groups as fit_groups
from jaxgmm.fitting.loop import run as run
from jaxgmm.fitting.projection import project as project
from jaxgmm.fitting.results import FitResult as FitResult
from jaxgmm.fitting.results import Restarts as Restarts
from jaxgmm.fitting.results import Status as Status
from jaxgmm.fitting.select import select as select
from jaxgmm.fitting.starts.drawn import initialize as initialize
from jaxgmm.fitting.steps import from_responsibilities as from_responsibilities
from jaxgmm.fitting.steps import m_step as m_step
from jaxgmm.host.progress import Report as Report
from jaxgmm.inference.bootstrap import Bootstrap as Bootstrap
from jaxgmm.inference.bootstrap import bootstrap as bootstrap
from jaxgmm.inference.influence import influence as influence
from jaxgmm.inference.information import Parameters as Parameters
from jaxgmm.inference.relabelling import component_order as component_order
from jaxgmm.inference.relabelling import relabel as relabel
from jaxgmm.inference.solution import solution as solution
from jaxgmm.inference.standard_errors import standard_errors as standard_errors
from jaxgmm.model.build import make_mixture as make_mixture
from jaxgmm.model.coordinates import Params as Params
from jaxgmm.model.coordinates import constrain as constrain
from jaxgmm.model.coordinates import log_det_jacobian as log_det_jacobian
from jaxgmm.model.coordinates import unconstrain as unconstrain
from jaxgmm.model.families.table import FAMILIES as FAMILIES
from jaxgmm.model.mixture import Mixture as Mixture
from jaxgmm.model.moments import Moments as Moments
from jaxgmm.model.moments import merge as merge
from jaxgmm.model.moments import pool as pool
from jaxgmm.model.priors.ridge import Ridge as Ridge
from jaxgmm.model.stacking import stack as stack
from jaxgmm.model.stacking import unstack as unstack
from jaxgmm.persistence import load as load
from jaxgmm.persistence import save as save
from jaxgmm.probability.algebra import affine as affine
from jaxgmm.probability.algebra import total_moments as total_moments
from jaxgmm.probability.density import log_components as log_components
from jaxgmm.probability.density import log_joint as log_joint
from jaxgmm.probability.density import log_prob as log_prob
from jaxgmm.probability.density import log_responsibilities as log_responsibilities
from jaxgmm.probability.density import predict as predict
from jaxgmm.probability.density import responsibilities as responsibilities
from jaxgmm.probability.density import uncertainty as uncertainty
from jaxgmm.probability.divergences import Estimate as Estimate
from jaxgmm.probability.divergences import cauchy_schwarz_divergence as cauchy_schwarz_divergence
from jaxgmm.probability.divergences import kl_divergence as kl_divergence
from jaxgmm.probability.divergences import kl_upper_bound as kl_upper_bound
from jaxgmm.probability.divergences import kl_variational as kl_variational
from jaxgmm.probability.divergences import l2_divergence as l2_divergence
from jaxgmm.probability.imputation import ConditionalMoments as ConditionalMoments
from jaxgmm.probability.imputation import conditional_moments as conditional_moments
from jaxgmm.probability.imputation import denoise as denoise
from jaxgmm.probability.imputation import impute as impute
from jaxgmm.probability.likelihood import e_step as e_step
from jaxgmm.probability.likelihood import log_likelihood as log_likelihood
from jaxgmm.probability.likelihood import score as score
from jaxgmm.probability.marginals import condition as condition
from jaxgmm.probability.marginals import marginal as marginal
from jaxgmm.probability.reparameterised import reparameterise as reparameterise
from jaxgmm.probability.reparameterised import sample_reparameterised as sample_reparameterised
from jaxgmm.probability.sampling import sample as sample
from jaxgmm.probability.transport import Transport as Transport
from jaxgmm.probability.transport import wasserstein as wasserstein

if TYPE_CHECKING:
    from jaxgmm import distrax as distrax
    from jaxgmm import numpyro as numpyro
    from jaxgmm import plotting as plotting
    from jaxgmm import sklearn as sklearn
    from jaxgmm import tfp as tfp
else:
    from jaxgmm._face import __dir__ as __dir__
    from jaxgmm._face import __getattr__ as __getattr__

__all__ = [
    "Accelerated",
    "Bootstrap",
    "Candidate",
    "ConditionalMoments",
    "EM",
    "Estimate",
    "FAMILIES",
    "FitResult",
    "Gradient",
    "GroupFits",
    "Incomplete",
    "Mixture",
    "Moments",
    "Noisy",
    "Parameters",
    "Params",
    "Report",
    "Restarts",
    "Ridge",
    "Rows",
    "Selection",
    "Status",
    "Transport",
    "affine",
    "aic",
    "bic",
    "bootstrap",
    "cauchy_schwarz_divergence",
    "component_order",
    "condition",
    "conditional_moments",
    "constrain",
    "denoise",
    "e_step",
    "fit",
    "fit_groups",
    "from_responsibilities",
    "icl",
    "impute",
    "influence",
    "initialize",
    "kl_divergence",
    "kl_upper_bound",
    "kl_variational",
    "l2_divergence",
    "load",
    "log_components",
    "log_det_jacobian",
    "log_joint",
    "log_likelihood",
    "log_prob",
    "log_responsibilities",
    "m_step",
    "make_mixture",
    "marginal",
    "merge",
    "n_parameters",
    "pool",
    "predict",
    "project",
    "relabel",
    "reparameterise",
    "responsibilities",
    "run",
    "sample",
    "sample_reparameterised",
    "save",
    "score",
    "select",
    "solution",
    "stack",
    "standard_errors",
    "total_moments",
    "uncertainty",
    "unconstrain",
    "unstack",
    "wasserstein",
]
