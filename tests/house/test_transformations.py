"""Every differentiable public function under every transformation, against finite differences.

What is found is the table of docs/transformations.md: each test holds its row against the page, and
`JAXGMM_WRITE_DOCS=1 pytest -n 0 -m exhaustive tests/house/test_transformations.py` writes the rows anew.
"""

import functools
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import EM, Ridge
from tests import cases
from tests.cases import FAMILIES

pytestmark = [pytest.mark.needs_x64, pytest.mark.exhaustive]

PAGE = pathlib.Path(__file__).parent.parent.parent / "docs" / "transformations.md"
COLUMNS = ("jit and vmap", "jvp", "grad", "vmap of grad", "hessian")
STEP = 1e-5
KEY = jax.random.key(0)
FIXED = jaxgmm.make_mixture([0.4, 0.6], [[0.0, 1.0], [2.0, -1.0]], [1.0, 0.5], covariance_type="spherical")
fast = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""A program that runs once is worth no optimisation."""


def arrays(m, matrices=None):
    """A mixture's parameters in scikit-learn's shapes; with other matrices, (K, D, D), in place of its covariances."""
    matrices = m.covariances if matrices is None else matrices
    diagonal = jnp.diagonal(matrices, axis1=1, axis2=2)
    shapes = {"full": matrices, "tied": matrices[0], "diag": diagonal, "spherical": diagonal[:, 0]}
    return m.weights, m.means, shapes[m.covariance_type]


def roots_of(m):
    """Lower triangular factors, (K, D, D), that the covariances' entries make in closed form for D = 2."""
    (a, _), (b, c) = jnp.moveaxis(m.covariances, 0, -1)
    first = jnp.sqrt(a)
    rows = [[first, 0 * a], [b / first, jnp.sqrt(c - b**2 / a)]]
    return jnp.moveaxis(jnp.array(rows), -1, 0)


def solved(m, x, w):
    still = jax.lax.stop_gradient(m)
    return jaxgmm.solution(EM(), still, x, w, prior=Ridge(0.1), max_iter=300, tol=0)


FUNCTIONS = {
    "log_prob": lambda m, x, w: jaxgmm.log_prob(m, x),
    "log_joint": lambda m, x, w: jaxgmm.log_joint(m, x),
    "log_components": lambda m, x, w: jaxgmm.log_components(m, x),
    "responsibilities": lambda m, x, w: jaxgmm.responsibilities(m, x),
    "log_responsibilities": lambda m, x, w: jaxgmm.log_responsibilities(m, x),
    "uncertainty": lambda m, x, w: jaxgmm.uncertainty(m, x),
    "log_likelihood": jaxgmm.log_likelihood,
    "score": jaxgmm.score,
    "aic": jaxgmm.aic,
    "bic": jaxgmm.bic,
    "icl": jaxgmm.icl,
    "e_step": jaxgmm.e_step,
    "m_step": lambda m, x, w: jaxgmm.m_step(jaxgmm.e_step(m, x, w)[0], m.family, prior=Ridge(0.1)),
    "from_responsibilities": lambda m, x, w: jaxgmm.from_responsibilities(
        x, jaxgmm.responsibilities(m, x), w, covariance_type=m.family, prior=Ridge(0.1)
    ),
    "pool": lambda m, x, w: jaxgmm.pool(
        jax.vmap(lambda unit: jaxgmm.e_step(m, unit * x, w)[0])(jnp.asarray([1.0, 2.0]))
    ),
    "merge": lambda m, x, w: jaxgmm.merge(jaxgmm.e_step(m, x, w)[0], jaxgmm.e_step(m, 2 * x)[0]),
    "make_mixture": lambda m, x, w: [
        jaxgmm.make_mixture(*arrays(m), covariance_type=m.family),
        jaxgmm.make_mixture(
            means=m.means, logits=3 * m.log_weights, scale_tril=arrays(m, roots_of(m))[2], covariance_type=m.family
        ),
        jaxgmm.make_mixture(
            means=m.means, log_weights=m.log_weights, precisions=arrays(m)[2], covariance_type=m.family
        ),
    ],
    "relabel": lambda m, x, w: jaxgmm.relabel(m, jnp.array([1, 0])),
    "project": lambda m, x, w: [jaxgmm.project(m, name) for name in ("tied", "spherical")],
    "marginal": lambda m, x, w: jaxgmm.marginal(m, [1]),
    "condition": lambda m, x, w: jaxgmm.condition(m, [1], x[0, :1]),
    "affine": lambda m, x, w: jaxgmm.affine(m, x[:2] / 4 + 2 * jnp.eye(2), x[2]),
    "total_moments": lambda m, x, w: jaxgmm.total_moments(m),
    "unconstrain": lambda m, x, w: jaxgmm.unconstrain(m),
    "constrain": lambda m, x, w: jaxgmm.constrain(jaxgmm.unconstrain(m)),
    "log_det_jacobian": lambda m, x, w: jaxgmm.log_det_jacobian(jaxgmm.unconstrain(m)),
    "sample": lambda m, x, w: jaxgmm.sample(KEY, m, 5)[0],
    "kl_variational": lambda m, x, w: jaxgmm.kl_variational(m, jaxgmm.affine(m, 1.3, x[0])),
    "kl_upper_bound": lambda m, x, w: jaxgmm.kl_upper_bound(m, jaxgmm.affine(m, 1.3, x[0])),
    "l2_divergence": lambda m, x, w: jaxgmm.l2_divergence(m, jaxgmm.affine(m, 1.3, x[0])),
    "cauchy_schwarz_divergence": lambda m, x, w: jaxgmm.cauchy_schwarz_divergence(m, jaxgmm.affine(m, 1.3, x[0])),
    "wasserstein": lambda m, x, w: jaxgmm.wasserstein(m, jaxgmm.affine(m, 1.3, x[0])).distance,
    "run": lambda m, x, w: jaxgmm.run(EM(), m, x, w, prior=Ridge(0.1), max_iter=2, tol=0).mixture,
    "solution": solved,
    "standard_errors": lambda m, x, w: jaxgmm.standard_errors(solved(m, x, w), x, w, prior=Ridge(0.1)),
    "kl_divergence": lambda m, x, w: jaxgmm.kl_divergence(KEY, FIXED, m, 50).value,
}
"""What each makes of a mixture, rows and weights."""

FORWARD_ONLY = {"run"}
"""A loop of unknown length has no reverse mode: `solution` stands in for it."""

FIRST_ORDER = {"kl_upper_bound", "wasserstein"}
"""Derivatives by the envelope theorem: second ones would hold the optimum inside, and are not asked for."""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_row(name):
    by_family = {family: found(FUNCTIONS[name], family, name in FORWARD_ONLY) for family in FAMILIES}
    cells = []
    for column in COLUMNS:
        asked = column != "hessian" or name not in FIRST_ORDER
        agreeing = [family for family in FAMILIES if asked and by_family[family][column]]
        cells.append("yes" if agreeing == FAMILIES else ", ".join(agreeing) or "no")
    row = f"| `{name}` | {' | '.join(cells)} |"
    if os.environ.get("JAXGMM_WRITE_DOCS"):
        write(name, row)
    assert row in PAGE.read_text().splitlines()


def write(name, row):
    lines = PAGE.read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith(f"| `{name}` |"))
    lines[place] = row
    PAGE.write_text("\n".join(lines) + "\n")


def found(function, family, forward_only):
    """Which transformations agree with finite differences, by column."""
    mixture, x, weights = cases.drawn_rows(family, n_rows=12, n_components=2, n_features=2)
    tree = (jaxgmm.unconstrain(mixture), jnp.asarray(x), jnp.asarray(weights))
    at, unravel = jax.flatten_util.ravel_pytree(tree)
    direction = jnp.asarray(np.random.default_rng(7).normal(size=at.shape))
    points = at[None, :] + STEP * jnp.asarray([[0.0], [1.0], [-1.0]]) * direction[None, :]

    def value(vector):
        params, x, weights = unravel(vector)
        leaves = jax.tree.leaves(function(jaxgmm.constrain(params), x, weights))
        return sum(jnp.sum(leaf.ravel() * jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype))) for leaf in leaves)

    def agree(one, other, digits):
        size = 1 + np.abs(other).max()
        return bool(np.isfinite(one).all() and np.abs(np.asarray(one) - np.asarray(other)).max() < 10.0**-digits * size)

    if forward_only:
        values = fast(jax.vmap(value))(points)
        single, slope = fast(lambda at: jax.jvp(value, (at,), (direction,)))(at)
        with pytest.raises(ValueError, match="[Rr]everse-mode"):
            jax.grad(value)(at)
        none = dict.fromkeys(COLUMNS, False)
        expected = (values[1] - values[2]) / (2 * STEP)
        return none | {"jit and vmap": agree(values[0], single, 9), "jvp": agree(slope, expected, 6)}
    values, gradients = fast(jax.vmap(jax.value_and_grad(value)))(points)
    (single, gradient), (slope, bend) = fast(lambda at: jax.jvp(jax.value_and_grad(value), (at,), (direction,)))(at)
    expected = (values[1] - values[2]) / (2 * STEP)
    return {
        "jit and vmap": agree(values[0], single, 9),
        "jvp": agree(slope, expected, 6),
        "grad": agree(gradient @ direction, expected, 6),
        "vmap of grad": agree(gradients[0], gradient, 9),
        "hessian": agree(bend, (gradients[1] - gradients[2]) / (2 * STEP), 5),
    }
