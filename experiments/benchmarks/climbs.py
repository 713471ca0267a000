"""Climbs, recorded from end to end, from which any policy of restarts can be played again afterwards."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm
from experiments.benchmarks.hard import Hard
from jaxgmm.data.rows import Rows
from jaxgmm.fitting import race, restarts
from jaxgmm.fitting.loop import Climb, begin
from jaxgmm.fitting.problem import Problem
from jaxgmm.fitting.starts import drawn as starts
from jaxgmm.fitting.starts import kmeans
from jaxgmm.model.families.table import family_of
from jaxgmm.model.priors.ridge import prepare, settle

SHORT = (5, 10, 20, 30, 50, 100)
"""Iterations at which a climb can be judged."""

MAX_ITER, TOL, LANES = 1000, 1e-6, 32


class Climbs(NamedTuple):
    """Climbs on one data set from one start method.

    Attributes:
        start_passes: what the start cost, in passes over the data, (R,).
        history: objective per row after each iteration, the last one held past the end, (R, max_iter).
        n_iter: iterations, (R,).
        sound: whether it ended finite and not collapsed, (R,).
        sound_at: the same at each of `SHORT`, (R, S).
        gain_at: the algorithm's estimate of the gain that remains, per row, at each of `SHORT`, (R, S).
    """

    start_passes: np.ndarray
    history: np.ndarray
    n_iter: np.ndarray
    sound: np.ndarray
    sound_at: np.ndarray
    gain_at: np.ndarray


def recorded(data: Hard, method: str, covariance_type: str, n_climbs: int, folder: pathlib.Path) -> Climbs:
    """Climb, or read what was climbed before."""
    path = (
        folder
        / f"{data.geometry}-{data.seed}-{data.n_rows}-{method.replace(', ', '-')}-{covariance_type}-{n_climbs}.npz"
    )
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **_climb(data, method, covariance_type, n_climbs)._asdict())
    with np.load(path) as held:
        return Climbs(**held)


def _climb(data: Hard, method: str, covariance_type: str, n_climbs: int) -> Climbs:
    x = jnp.asarray(data.draw(), jnp.float32)
    rows, algorithm = Rows(x, jnp.ones(len(x), x.dtype)), jaxgmm.EM()
    prior, family = settle(jaxgmm.Ridge(), x.dtype), family_of(covariance_type)
    keys = jax.random.split(jax.random.key(data.seed), n_climbs)
    climbs, sound_at, gain_at = [], [], []
    for first in range(0, n_climbs, LANES):
        batch, problem = _start(keys[first : first + LANES], rows, prior, data.n_components, method, family)
        alive: Any = np.ones(LANES, bool)
        for i, length in enumerate(SHORT):
            n_steps = length - (SHORT[i - 1] if i else 0)
            batch, alive = race.advance.fast(algorithm, batch, alive, problem, TOL, n_steps + 1, length, False)
            ends, _ = restarts.end_all.fast(batch, problem.columns, problem.penalty, TOL, data.n_components)
            sound_at.append(np.asarray(ends.status) <= jaxgmm.Status.MAX_ITER)
            gain_at.append(np.asarray(batch.info.gain) / len(x))
        climbs.append(batch)
    whole = jax.tree.map(lambda *leaves: np.concatenate(leaves), *climbs)
    unfinished = whole.info.gain >= TOL * len(x)
    while unfinished.any():
        # Lanes are filled again as climbs end, so that none waits for the slowest.
        lanes = np.flatnonzero(unfinished)[np.arange(LANES) % unfinished.sum()]
        part: Any = jax.tree.map(lambda leaf, lanes=lanes: leaf[lanes], whole)
        alive = np.ones(LANES, bool)
        part, still = race.advance.fast(algorithm, part, alive, problem, TOL, 50, MAX_ITER, False)
        for leaf, fresh in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
            leaf[lanes] = np.asarray(fresh)
        unfinished[lanes] = np.asarray(still)
    status = np.concatenate([
        restarts.end_all.fast(jax.tree.map(lambda leaf, f=first: leaf[f : f + LANES], whole), problem.columns,
                         problem.penalty, TOL, data.n_components)[0].status
        for first in range(0, n_climbs, LANES)
    ])  # fmt: skip
    shape = (n_climbs // LANES, len(SHORT), LANES)
    by_climb = [np.reshape(at, shape).transpose(0, 2, 1).reshape(n_climbs, -1) for at in (sound_at, gain_at)]
    return Climbs(
        start_passes=_start_passes(keys, rows, method, data.n_components),
        history=_held(whole) / len(x),
        n_iter=whole.n_iter,
        sound=status <= jaxgmm.Status.MAX_ITER,
        sound_at=by_climb[0],
        gain_at=by_climb[1],
    )


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _start(
    keys: jax.Array, rows: Rows, prior: Any, n_components: int, method: str, family: Any
) -> tuple[Climb, Problem]:
    """Climbs at their starts: jaxgmm's own, or k-means++ seeds with other covariances than their rows'.

    "wide" is the covariance of all rows, as from random rows; "pooled" the one within clusters.
    """
    columns = rows.columns()
    problem = Problem(rows, columns, prepare(prior, columns))
    drawn, _, width = method.partition(", ")

    def one(key: jax.Array) -> Climb:
        at = (key, problem, n_components)
        mixture = starts.start(*at, drawn, family)
        if width:
            alike = starts.start(*at, "random-rows", family)
            seeds = kmeans.greedy_seeds(key, rows, n_components, jnp.ones_like(rows.x[0]))
            mixture = dataclasses.replace(alike, means=seeds)
        if width == "pooled":
            tied = starts.start(*at, drawn, family_of("tied"))
            spread = jax.tree.map(lambda one, all: jnp.broadcast_to(one, all.shape), tied.covs, mixture.covs)
            mixture = dataclasses.replace(mixture, covs=spread)
        return begin(jaxgmm.EM(), mixture, problem, MAX_ITER)

    return jax.vmap(one)(keys), problem


def _held(climbs: Climb) -> np.ndarray:
    """Histories with the last objective held."""
    history = np.asarray(climbs.history)
    return np.where(np.isnan(history), np.asarray(climbs.info.objective)[:, None], history)


def _start_passes(keys: jax.Array, rows: Rows, method: str, n_components: int) -> np.ndarray:
    """Passes of N·K distances: seeds look at 2 + log K candidates for each centre, Lloyd passes once an iteration."""
    cost = np.ones(len(keys))
    if method.startswith("k-means"):
        cost += 2 + int(np.log(n_components))
    if method == "k-means":
        cost += _lloyd_iterations(keys, rows, n_components)
    return cost


def _lloyd_iterations(keys: jax.Array, rows: Rows, n_components: int) -> np.ndarray:
    x, scale = rows.x, jnp.ones(rows.x.shape[1], rows.x.dtype)

    def iterate(carried, _):
        centres, count, settled = carried
        squares = jnp.sum((x[:, None] - centres[None]) ** 2, axis=2)
        nearest = jax.nn.one_hot(jnp.argmin(squares, axis=1), n_components, dtype=x.dtype)
        mass = nearest.sum(axis=0)[:, None]
        moved = jnp.where(mass > 0, nearest.T @ x / jnp.maximum(mass, 1), centres)
        count = count + jnp.where(settled, 0, 1)
        return (moved, count, settled | (jnp.max(jnp.abs(moved - centres)) <= 1e-4)), None

    @jax.jit
    def count(key):
        begun = (kmeans.greedy_seeds(key, rows, n_components, scale), 0, False)
        return jax.lax.scan(iterate, begun, None, length=kmeans.LLOYD_ITERATIONS)[0][1]

    return np.asarray(jax.lax.map(count, keys, batch_size=LANES))
