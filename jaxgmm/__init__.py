"""Gaussian mixture models as pure functions in JAX."""

from typing import TYPE_CHECKING

from jaxgmm._types import FitResult as FitResult
from jaxgmm._types import Mixture as Mixture
from jaxgmm._types import Moments as Moments
from jaxgmm._types import Params as Params
from jaxgmm._types import Restarts as Restarts
from jaxgmm._types import Status as Status
from jaxgmm._version import __version__ as __version__
from jaxgmm.accelerated import Accelerated as Accelerated
from jaxgmm.algebra import affine as affine
from jaxgmm.algebra import condition as condition
from jaxgmm.algebra import marginal as marginal
from jaxgmm.algebra import total_moments as total_moments
from jaxgmm.bootstrap import Bootstrap as Bootstrap
from jaxgmm.bootstrap import bootstrap as bootstrap
from jaxgmm.candidates import Candidate as Candidate
from jaxgmm.candidates import Selection as Selection
from jaxgmm.criteria import aic as aic
from jaxgmm.criteria import bic as bic
from jaxgmm.criteria import icl as icl
from jaxgmm.criteria import n_parameters as n_parameters
from jaxgmm.data import Rows as Rows
from jaxgmm.density import log_components as log_components
from jaxgmm.density import log_joint as log_joint
from jaxgmm.density import log_prob as log_prob
from jaxgmm.density import log_responsibilities as log_responsibilities
from jaxgmm.density import predict as predict
from jaxgmm.density import responsibilities as responsibilities
from jaxgmm.density import uncertainty as uncertainty
from jaxgmm.divergences import Estimate as Estimate
from jaxgmm.divergences import cauchy_schwarz_divergence as cauchy_schwarz_divergence
from jaxgmm.divergences import kl_divergence as kl_divergence
from jaxgmm.divergences import kl_upper_bound as kl_upper_bound
from jaxgmm.divergences import kl_variational as kl_variational
from jaxgmm.divergences import l2_divergence as l2_divergence
from jaxgmm.em import EM as EM
from jaxgmm.families import FAMILIES as FAMILIES
from jaxgmm.fitting import fit as fit
from jaxgmm.gradient import Gradient as Gradient
from jaxgmm.implicit import solution as solution
from jaxgmm.influence import influence as influence
from jaxgmm.initialise import initialize as initialize
from jaxgmm.likelihood import e_step as e_step
from jaxgmm.likelihood import log_likelihood as log_likelihood
from jaxgmm.likelihood import score as score
from jaxgmm.loop import run as run
from jaxgmm.maximisation import from_responsibilities as from_responsibilities
from jaxgmm.maximisation import m_step as m_step
from jaxgmm.mixtures import make_mixture as make_mixture
from jaxgmm.mixtures import project as project
from jaxgmm.moments import merge as merge
from jaxgmm.moments import pool as pool
from jaxgmm.observed import Parameters as Parameters
from jaxgmm.parameters import constrain as constrain
from jaxgmm.parameters import log_det_jacobian as log_det_jacobian
from jaxgmm.parameters import unconstrain as unconstrain
from jaxgmm.persistence import load as load
from jaxgmm.persistence import save as save
from jaxgmm.priors import Ridge as Ridge
from jaxgmm.progress import Report as Report
from jaxgmm.relabelling import component_order as component_order
from jaxgmm.relabelling import relabel as relabel
from jaxgmm.reparameterised import reparameterise as reparameterise
from jaxgmm.reparameterised import sample_reparameterised as sample_reparameterised
from jaxgmm.sampling import sample as sample
from jaxgmm.selection import select as select
from jaxgmm.standard_errors import standard_errors as standard_errors
from jaxgmm.transport import Transport as Transport
from jaxgmm.transport import wasserstein as wasserstein

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
    "EM",
    "Estimate",
    "FAMILIES",
    "FitResult",
    "Gradient",
    "Mixture",
    "Moments",
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
    "constrain",
    "e_step",
    "fit",
    "from_responsibilities",
    "icl",
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
    "standard_errors",
    "total_moments",
    "uncertainty",
    "unconstrain",
    "wasserstein",
]
