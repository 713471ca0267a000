"""Row weights learned through a fit: `python -m experiments.composition.reweighting`.

A bilevel problem. Inside, a mixture is fitted to weighted rows, a fifth of which are contaminated. Outside, the weights
climb the likelihood that the fit gives to some clean rows, along the derivative of `jaxgmm.solution`. Rows that neither
level has seen tell how well it went: with more weights than clean rows, too many steps fit the clean rows' chance.

References:
    Ren, Zeng, Yang & Urtasun (2018), Learning to reweight examples for robust deep learning.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, nn
from sklearn.metrics import roc_auc_score

import jaxgmm
from experiments import datasets
from experiments.composition import lenient

N_COMPONENTS = 3
N_VALIDATION = 100
N_TEST = 60
SHIFT = (0.0, 0.0, 0.0, 3.0)
"""What a contaminated row is off by, in standard deviations: its body mass."""
N_STEPS = 40
PRIOR = jaxgmm.Ridge(0.01)


class Problem(NamedTuple):
    """Penguins in standard deviations, split at random.

    Attributes:
        train: rows to fit, (N, D), a fifth of them contaminated.
        contaminated: which, (N,).
        validation: clean rows that guide the weights.
        test: clean rows that tell how well it went.
    """

    train: np.ndarray
    contaminated: np.ndarray
    validation: np.ndarray
    test: np.ndarray


class Figures(NamedTuple):
    """By split: log-likelihoods per row on validation and test rows, (splits, 2); what the weights found, (splits,).

    Attributes:
        before: of the fit with equal weights.
        after: of the fit with learned weights.
        overlong: of the fit with weights learned four times as long.
        oracle: of the fit to the clean training rows alone.
        validation_only: of the fit to the validation rows alone.
        auc: area under the curve of small learned weights as a detector of contaminated rows.
        auc_overlong: of those learned four times as long.
        auc_density: of a small density under the first fit.
        weight_clean: mean learned weight of the clean rows.
        weight_contaminated: of the contaminated rows.
    """

    before: np.ndarray
    after: np.ndarray
    overlong: np.ndarray
    oracle: np.ndarray
    validation_only: np.ndarray
    auc: np.ndarray
    auc_overlong: np.ndarray
    auc_density: np.ndarray
    weight_clean: np.ndarray
    weight_contaminated: np.ndarray


def main(quick: bool = False) -> Figures:
    splits = [compare(contaminate(np.random.default_rng(seed))) for seed in range(2 if quick else 10)]
    figures = Figures(*(np.stack(values) for values in zip(*splits, strict=True)))
    report(figures)
    return figures


def contaminate(rng: np.random.Generator) -> Problem:
    """A split of the penguins with a fifth of the training rows shifted."""
    x = datasets.penguins()[0].x
    x = rng.permutation((x - x.mean(axis=0)) / x.std(axis=0))
    validation, test, train = np.split(x, [N_VALIDATION, N_VALIDATION + N_TEST])
    contaminated = np.arange(len(train)) < len(train) // 5
    return Problem(train + contaminated[:, None] * np.array(SHIFT), contaminated, validation, test)


def compare(problem: Problem) -> Figures:
    """The figures of one split."""
    train, contaminated = problem.train, problem.contaminated
    rows = np.concatenate([train, problem.validation])

    def fitted(of_train: Any, of_validation: float) -> jaxgmm.Mixture:
        """The fit to the rows of weight 1; those of weight 0 stay so that all fits share one program."""
        weights = np.concatenate([np.broadcast_to(of_train, len(train)), np.full(N_VALIDATION, of_validation)])
        return jaxgmm.fit(jax.random.key(0), rows, N_COMPONENTS, weights, covariance_type="tied", prior=PRIOR).mixture

    def scores(mixture: jaxgmm.Mixture) -> np.ndarray:
        return np.array([float(jaxgmm.score(mixture, x)) for x in (problem.validation, problem.test)])

    def auc(goodness: Array) -> np.ndarray:
        return np.asarray(roc_auc_score(contaminated, -np.asarray(goodness)))

    first = fitted(1.0, 0.0)
    with lenient():
        weights, last = learn(first, train, problem.validation, N_STEPS)
        weights_overlong, last_overlong = learn(first, train, problem.validation, 4 * N_STEPS)
    return Figures(
        before=scores(first),
        after=scores(last),
        overlong=scores(last_overlong),
        oracle=scores(fitted(1.0 - contaminated, 0.0)),
        validation_only=scores(fitted(0.0, 1.0)),
        auc=auc(weights),
        auc_overlong=auc(weights_overlong),
        auc_density=auc(jaxgmm.log_prob(first, train)),
        weight_clean=np.asarray(weights)[~contaminated].mean(),
        weight_contaminated=np.asarray(weights)[contaminated].mean(),
    )


@jax.jit
def learn(start: jaxgmm.Mixture, train: Array, validation: Array, n_steps: int) -> tuple[Array, jaxgmm.Mixture]:
    """Weights (N,) in (0, 1) that climb the validation likelihood by Adam, and the fit with them.

    Each fit starts from the last one; the solution has no derivative in its start.
    """
    optimizer = optax.adam(0.1)

    def loss(logits: Array, start: jaxgmm.Mixture) -> tuple[Array, jaxgmm.Mixture]:
        mixture = jaxgmm.solution(jaxgmm.EM(), start, train, nn.sigmoid(logits), prior=PRIOR, max_iter=500, tol=1e-9)
        return -jaxgmm.score(mixture, validation), mixture

    def step(_: Array, carry: tuple) -> tuple:
        logits, state, mixture = carry
        slope, mixture = jax.grad(loss, has_aux=True)(logits, mixture)
        updates, state = optimizer.update(slope, state)
        return optax.apply_updates(logits, updates), state, mixture

    logits = jnp.zeros(len(train), train.dtype)
    logits, _, mixture = jax.lax.fori_loop(0, n_steps, step, (logits, optimizer.init(logits), start))
    return nn.sigmoid(logits), loss(logits, mixture)[1]


def report(figures: Figures) -> None:
    print(
        f"Log-likelihood per row of mixtures fitted to penguins, a fifth of the rows contaminated; "
        f"means over {len(figures.auc)} splits"
    )
    header = f"{'fitted to':<38} {'validation':>10} {'test':>8} {'AUC':>6} {'worst':>6}"
    print(f"\n{header}\n{'-' * len(header)}")
    for name, scores, auc in (
        ("all rows, equal weights (AUC: density)", figures.before, figures.auc_density),
        (f"all rows, weights after {N_STEPS} steps", figures.after, figures.auc),
        (f"all rows, weights after {4 * N_STEPS} steps", figures.overlong, figures.auc_overlong),
        ("the clean rows alone (oracle)", figures.oracle, None),
        ("the validation rows alone", figures.validation_only, None),
    ):
        validation, test = scores.mean(axis=0)
        found = "" if auc is None else f" {auc.mean():>6.3f} {auc.min():>6.3f}"
        print(f"{name:<38} {validation:>10.3f} {test:>8.3f}{found}")
    print(
        f"\nmean weight after {N_STEPS} steps: {figures.weight_clean.mean():.2f} of clean rows, "
        f"{figures.weight_contaminated.mean():.2f} of contaminated rows"
    )


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
