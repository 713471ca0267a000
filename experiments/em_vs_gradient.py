"""EM and Optax on one objective: `python -m experiments.em_vs_gradient`.

Real data fitted by expectation-maximisation, by Adam and by L-BFGS from the same starts, compared in a
table and in pictures; and the textbook's story of mixtures on the way.
"""

from __future__ import annotations

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

import jaxgmm
from experiments import datasets, figures
from experiments.datasets import Dataset

N_STARTS = 6
MAX_ITER = 3000
TOL = 1e-10
ALGORITHMS: dict[str, Any] = {
    "EM": jaxgmm.EM(),
    "L-BFGS": jaxgmm.Gradient(optax.lbfgs()),
    "Adam": jaxgmm.Gradient(optax.adam(0.02)),
}


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    began = time.perf_counter()
    key = jax.random.key(0)
    penguins, n_missing = datasets.penguins()
    iris, blobs = datasets.iris(), datasets.blobs()
    for data in (penguins, iris, blobs):
        print(f"{data.name}: {data.x.shape[0]} rows, {data.x.shape[1]} columns, {len(data.groups)} groups")
    print(f"penguins: {n_missing} rows with missing measurements dropped")

    textbook(key, blobs)
    hard_against_soft(key)
    choose_k(key, penguins)
    compare([(blobs, 4), (iris, 3), (penguins, 3)])
    print(f"\npictures are in {figures.FOLDER.relative_to(figures.FOLDER.parent.parent)}")
    print(f"done in {time.perf_counter() - began:.0f} s, compilation included")


def heading(title: str) -> None:
    print(f"\n{title}\n{'=' * len(title)}", flush=True)


def textbook(key: jax.Array, data: Dataset) -> None:
    heading("The textbook's steps: four blobs, K = 4")
    result = jaxgmm.fit(key, data.x, 4)
    labels = np.asarray(jaxgmm.predict(result.mixture, data.x))
    print(f"{result.mixture!r}: {jaxgmm.Status(result.status).name.lower()} after {result.n_iter} iterations")
    print("labels of the first ten rows:", labels[:10])
    print("soft assignments of the first five rows:")
    print(np.asarray(jaxgmm.responsibilities(result.mixture, data.x[:5])).round(3))
    peer = GaussianMixture(n_components=4, random_state=42).fit(data.x)
    agreement = adjusted_rand_score(labels, peer.predict(data.x))
    print(f"scikit-learn's GaussianMixture beside it: adjusted Rand index {agreement:.3f} between the two")
    print(f"log-likelihood per row: {jaxgmm.score(result.mixture, data.x):.6f} here, {peer.score(data.x):.6f} there")
    print("wrote", figures.by_label("blobs", data, labels, peer.predict(data.x)).name)


def hard_against_soft(key: jax.Array) -> None:
    heading("Hard against soft: k-means beside a mixture")
    rows = []
    for data in (datasets.elongated(), datasets.unequal()):
        k = len(data.groups)
        hard = KMeans(k, n_init=10, random_state=0).fit_predict(data.x)
        result = jaxgmm.fit(key, data.x, k)
        soft = np.asarray(jaxgmm.predict(result.mixture, data.x))
        scores = [float(adjusted_rand_score(data.labels, labels)) for labels in (hard, soft)]
        doubtful = float(np.mean(np.asarray(jaxgmm.responsibilities(result.mixture, data.x)).max(axis=1) < 0.9))
        print(
            f"{data.name:<10} adjusted Rand index against the truth: k-means {scores[0]:.3f}, mixture {scores[1]:.3f}; "
            f"{doubtful:.0%} of the rows are less than 90% sure"
        )
        rows.append((data, hard, scores[0], result.mixture, scores[1]))
    print("wrote", figures.hard_and_soft("hard_and_soft", rows).name)


def choose_k(key: jax.Array, data: Dataset) -> None:
    heading(f"How many components? AIC and BIC on {data.name}")
    selection = jaxgmm.select(key, data.x, range(1, 9))
    print(selection)
    for criterion in ("aic", "bic"):
        best = jaxgmm.Selection(selection.candidates, criterion).best
        labels = np.asarray(jaxgmm.predict(best.mixture, data.x))
        score = adjusted_rand_score(data.labels, labels)
        print(
            f"{criterion.upper()} chooses K = {best.n_components}, {best.covariance_type} covariances; "
            f"adjusted Rand index against the {len(data.groups)} species {score:.3f}"
        )
    best = jaxgmm.Selection(selection.candidates, "bic").best
    print("wrote", figures.criteria("criteria", selection, data).name)
    print("wrote", figures.clusters(data.name, best.mixture, data, [(0, 1), (2, 1), (2, 3)]).name)


class Run(NamedTuple):
    """R climbs by one algorithm, from the same starts."""

    result: jaxgmm.FitResult
    seconds: float


def compare(problems: list[tuple[Dataset, int]]) -> None:
    heading(f"One objective, three algorithms, the same {N_STARTS} starts")
    print("Best of the restarts; iterations and passes are medians over them; seconds for all of them after")
    print("compilation. 'gap' is the largest |objective − EM's| per row over the restarts that reached EM's optimum")
    print("('same' of them); 'difference' the largest difference of the best mixture from EM's in weights, and in")
    print("means and covariances in standard deviations of the columns; 'gradient' the largest |∂| per row there.")
    header = (
        f"{'data':<9} {'prior':<13} {'algorithm':<9} {'objective':>13} {'iter.':>6} {'passes':>6} {'seconds':>8} "
        f"{'same':>5} {'gap':>8} {'difference':>10} {'gradient':>9}"
    )
    print(f"\n{header}\n{'-' * len(header)}")
    for data, k in problems:
        keys = jax.random.split(jax.random.key(1), N_STARTS)
        starts = jax.vmap(lambda key, x=data.x, k=k: jaxgmm.initialize(key, x, k, prior=jaxgmm.Ridge()))(keys)
        for prior in (None, jaxgmm.Ridge(1e-4)):
            runs = {name: timed(algorithm, starts, data.x, prior) for name, algorithm in ALGORITHMS.items()}
            for name in ALGORITHMS:
                print(row(name, runs, data, prior), flush=True)
    # The last of the data sets, step by step, from the start that took EM to its best.
    best = int(np.argmax(runs["EM"].result.objective))
    start = jax.tree.map(lambda leaf: leaf[best], starts)
    title = f"{data.name}, K = {k}, no prior"
    print("wrote", figures.gaps("gaps", {title: trace(start, data.x)}, floor=1e-12).name)


def timed(algorithm: Any, starts: jaxgmm.Mixture, x: np.ndarray, prior: Any) -> Run:
    def climb() -> jaxgmm.FitResult:
        return jax.block_until_ready(climb_all(algorithm, starts, x, jaxgmm.Ridge(0.0) if prior is None else prior))

    climb()
    began = time.perf_counter()
    result = climb()
    return Run(result, time.perf_counter() - began)


@jax.jit
def climb_all(algorithm: Any, starts: jaxgmm.Mixture, x: jax.Array, prior: Any) -> jaxgmm.FitResult:
    def climb(start: jaxgmm.Mixture) -> jaxgmm.FitResult:
        return jaxgmm.run(algorithm, start, x, prior=prior, max_iter=MAX_ITER, tol=TOL)

    return jax.vmap(climb)(starts)


def row(name: str, runs: dict[str, Run], data: Dataset, prior: Any) -> str:
    em, own = runs["EM"].result, runs[name].result
    per_row = np.abs(np.asarray(own.objective - em.objective)) / len(data.x)
    same = per_row < 1e-5
    best = int(np.argmax(np.where(same, own.objective, -np.inf)))
    mixtures = [jax.tree.map(lambda leaf: leaf[best], result.mixture) for result in (own, em)]
    described = "none" if prior is None else f"Ridge({prior.strength:g})"
    return (
        f"{data.name:<9} {described:<13} {name:<9} {float(own.objective[best]):>13.6f} {np.median(own.n_iter):>6.0f} "
        f"{np.median(own.n_passes):>6.0f} {runs[name].seconds:>8.3f} {int(same.sum()):>3}/{N_STARTS} "
        f"{per_row[same].max():>8.0e} {difference(*mixtures, data.x):>10.0e} "
        f"{float(gradient(mixtures[0], data.x, jaxgmm.Ridge(0.0) if prior is None else prior)):>9.0e}"
    )


def difference(a: jaxgmm.Mixture, b: jaxgmm.Mixture, x: np.ndarray) -> float:
    """Largest difference in weights, and in means and covariances in the columns' standard deviations."""
    scale = x.std(axis=0)
    means = np.abs(np.asarray(a.means - b.means)) / scale
    covariances = np.abs(np.asarray(a.covariances - b.covariances)) / np.outer(scale, scale)
    return float(max(np.abs(np.asarray(a.weights - b.weights)).max(), means.max(), covariances.max()))


@jax.jit
def gradient(mixture: jaxgmm.Mixture, x: jax.Array, prior: jaxgmm.Ridge) -> jax.Array:
    """Largest entry of the objective's gradient per row, in unconstrained coordinates of scaled columns."""
    mean, scale = jnp.mean(x, axis=0), jnp.std(x, axis=0)
    rows = (x - mean[None, :]) / scale[None, :]

    def per_row(params: jaxgmm.Params) -> jax.Array:
        mixture = jaxgmm.constrain(params)
        spread = jnp.trace(mixture.precisions, axis1=1, axis2=2) + jnp.linalg.slogdet(mixture.covariances)[1]
        return jaxgmm.score(mixture, rows) - 0.5 * prior.strength * jnp.sum(spread)

    slopes = jax.grad(per_row)(jaxgmm.unconstrain(jaxgmm.affine(mixture, 1 / scale, -mean / scale)))
    return jnp.max(jnp.array([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(slopes)]))


def trace(start: jaxgmm.Mixture, x: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Gap to the best objective, and passes and seconds up to it, by algorithm; no prior, one start.

    Passes and seconds are the averages of an iteration times the iterations.
    """
    found = {}
    for name, algorithm in ALGORITHMS.items():
        n_steps = {"EM": 400, "L-BFGS": 100, "Adam": 400}[name]
        climb = jax.jit(functools.partial(jaxgmm.run, algorithm, max_iter=n_steps, tol=0.0))
        jax.block_until_ready(climb(start, x))
        began = time.perf_counter()
        result = jax.block_until_ready(climb(start, x))
        share = np.arange(1, n_steps + 1) / n_steps
        seconds = share * (time.perf_counter() - began)
        found[name] = (np.asarray(result.history), share * float(result.n_passes), seconds)
    best = max(np.nanmax(objectives) for objectives, _, _ in found.values())
    return {name: ((best - o) / len(x), p, s) for name, (o, p, s) in found.items()}


if __name__ == "__main__":
    main()
