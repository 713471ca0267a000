"""Contenders timed in turn: one process, rounds, and medians of the ratios within a round.

A machine's speed drifts by two to three times over minutes, so that absolute times of separate runs mean
nothing; within a round everybody meets the same machine.
"""

from __future__ import annotations

from experiments.benchmarks import threads as threads  # Before NumPy.

# isort: split
import gc
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

TURN_SECONDS = 0.05
"""A turn repeats a step until about this much time has passed."""
PAUSE_SECONDS = 0.01
"""Between turns, for the last contender's threads to go to sleep."""


class Contender(NamedTuple):
    """One way to do the work.

    Attributes:
        step: does it once and waits for the result; what is timed.
        restart: puts everything back to the start, before each turn, untimed.
    """

    step: Callable[[], Any]
    restart: Callable[[], Any] = lambda: None


class Race(NamedTuple):
    """What a race came to.

    Attributes:
        seconds: of one step, by contender, (rounds,); NaN from where it failed.
        errors: of those that failed, in one line.
    """

    seconds: dict[str, np.ndarray]
    errors: dict[str, str]

    def median(self, name: str) -> float:
        """Median seconds of a step."""
        return float(np.median(self.seconds[name]))

    def ratio(self, name: str, to: str) -> float:
        """Median over rounds of how many times longer `name` takes than `to`."""
        return float(np.median(self.seconds[name] / self.seconds[to]))


def race(contenders: Mapping[str, Contender], rounds: int, turn_seconds: float = TURN_SECONDS) -> Race:
    """Time contenders in turn, after a warm-up; the order reverses every other round.

    Args:
        contenders: by name.
        rounds: how often each takes its turn.
        turn_seconds: a turn repeats a quick step until about this much time has passed; 0 never repeats.

    Returns:
        Seconds of one step in each round. A contender that raises is out from there on, with its error kept.
    """
    seconds = {name: np.full(rounds, np.nan) for name in contenders}
    errors: dict[str, str] = {}
    repeats: dict[str, int] = {}
    for name, contender in contenders.items():
        try:
            took = min(_turn(contender, 1) for _ in range(2))
            repeats[name] = max(1, min(100, math.ceil(turn_seconds / took)))
        except Exception as error:
            errors[name] = one_line(error)
    for index in range(rounds):
        for name in list(contenders)[:: -1 if index % 2 else 1]:
            if name in errors:
                continue
            time.sleep(PAUSE_SECONDS)
            try:
                seconds[name][index] = _turn(contenders[name], repeats[name])
            except Exception as error:
                errors[name] = one_line(error)
    return Race(seconds, errors)


def _turn(contender: Contender, repeats: int) -> float:
    contender.restart()
    if repeats > 1:
        contender.step()
    gc.collect()
    began = time.perf_counter()
    for _ in range(repeats):
        contender.step()
    return (time.perf_counter() - began) / repeats


def one_line(error: Exception) -> str:
    """An error's kind and first line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:160]
