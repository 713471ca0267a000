"""Progress of a fit: a word where it takes long, a bar on request, and reports to a callback."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np


class Report(NamedTuple):
    """A report on a fit under way, made about four times a second.

    Attributes:
        n_components: K of the fit.
        covariance_type: name of its family.
        n_iter: the most iterations of any restart.
        objective: the best objective so far, in the user's units.
        n_climbing: number of restarts that are still climbing.
        n_restarts: number of restarts.
        seconds: time since the fit, or the whole selection, began.
        seconds_left: estimated time left, from the decay of the gains that remain; NaN while there is no estimate.
        n_done: number of fits that ended before this one.
        n_fits: number of fits in all.

    Example:
        >>> x = np.random.default_rng(0).normal([[0.0, 0.0], [4.0, 4.0]] * 50)
        >>> reports = []
        >>> fitted = jaxgmm.fit(jax.random.key(1), x, 2, callback=reports.append)
        >>> reports[-1].n_components, reports[-1].n_restarts
        (2, 20)
    """

    n_components: int
    covariance_type: str
    n_iter: int
    objective: float
    n_climbing: int
    n_restarts: int
    seconds: float
    seconds_left: float
    n_done: int = 0
    n_fits: int = 1

    def __str__(self) -> str:
        """The report as a line of text."""
        fit = f"K = {self.n_components}, {self.covariance_type}: " if self.n_fits > 1 else ""
        left = "" if np.isnan(self.seconds_left) else f", {_duration(self.seconds_left)} left"
        climbing = f"{self.n_climbing} of {self.n_restarts} climbing"
        return f"{fit}iteration {self.n_iter}, objective {self.objective:.8g}, {climbing}{left}"


Callback = Callable[[Report], Any]
"""A function that receives each `Report`; where it returns True, the fit ends with the best so far."""


class Snapshot(NamedTuple):
    """The state of a fit between two compiled blocks.

    Attributes:
        n_iter: the most iterations of any restart.
        max_iter: the most iterations that a restart may take.
        objective: the best objective, in the fit's units.
        gain: the largest gain that remains to a climbing restart, relative to the gain at which it stops; NaN if
            unknown.
        n_climbing: number of restarts that are still climbing.
        n_restarts: number of restarts.
    """

    n_iter: int
    max_iter: int
    objective: float
    gain: float
    n_climbing: int
    n_restarts: int


_PATIENCE, _LONG = 3.0, 10.0
"""Seconds of climbing after which whoever waits at a terminal is told that a fit takes long, and from which it does."""


class Progress:
    """A context that shows and reports the progress of one fit or several, or does nothing.

    Attributes:
        interrupted: whether a fit was ended from the keyboard or by the callback, and no other is to begin.
    """

    def __init__(self, shown: bool | None, callback: Callback | None = None, n_fits: int = 1):
        """Begin to measure time.

        Args:
            shown: whether to show a bar: tqdm's where it is installed, else a line a second on stderr. None shows none,
                but says in one line, at a terminal, when it will take long.
            callback: a function that receives each `Report`, or None.
            n_fits: number of fits to come.
        """
        self._shown, self._callback, self._n_fits = bool(shown), callback, n_fits
        self._watched, self._climbing_since = shown is None and _is_watched(), np.inf
        self._n_done, self._fraction, self._last, self.interrupted = 0, 0.0, 0.0, False
        self._began = self._fit_began = time.monotonic()
        self._bar: Any = None

    @property
    def listened(self) -> bool:
        """Whether progress is shown, told or reported at all."""
        return self._shown or self._watched or self._callback is not None

    def begin(self, n_components: int, covariance_type: str, in_users_units: Callable[[float], float]) -> None:
        """Begin a fit, whose objective `in_users_units` converts."""
        self._fit_began = time.monotonic()
        self._about, self._in_users_units, self._first = (n_components, covariance_type), in_users_units, None
        self._most_iter, self._best = 0, -np.inf

    def end(self) -> None:
        """End a fit."""
        self._n_done += 1
        self._show(self._n_done / self._n_fits, None)

    def tell(self, sight: Snapshot) -> None:
        """Show and report the state of a fit under way.

        Raises:
            KeyboardInterrupt: where the callback returns True.
        """
        now = time.monotonic()
        left = self._left(sight, now)
        of_fit = 0.0 if np.isnan(left) else (now - self._fit_began) / max(now - self._fit_began + left, 1e-9)
        fraction = (self._n_done + of_fit) / self._n_fits
        seconds = now - self._began
        if self._n_fits > 1:
            left = seconds / fraction - seconds if fraction > 0 else float("nan")
        # Restarts that take turns begin where others have been.
        self._most_iter, self._best = max(self._most_iter, sight.n_iter), max(self._best, sight.objective)
        report = Report(
            *self._about,
            n_iter=self._most_iter,
            objective=self._in_users_units(self._best),
            n_climbing=sight.n_climbing,
            n_restarts=sight.n_restarts,
            seconds=seconds,
            seconds_left=left,
            n_done=self._n_done,
            n_fits=self._n_fits,
        )
        self._show(fraction, report)
        # Compiling is over by now, and is no part of what is foretold.
        self._climbing_since = min(now, self._climbing_since)
        climbed = now - self._climbing_since
        if self._watched and climbed > _PATIENCE and (climbed > _LONG or climbed + left > _LONG):
            self._watched, about = False, "" if np.isnan(left) else f" (about {_duration(left)} left)"
            what = "these fits take" if self._n_fits > 1 else "this fit takes"
            line = f"jaxgmm: {what} more than a few seconds{about}: progress=True shows a bar, progress=False no line"
            print(line, file=sys.stderr, flush=True)
        if self._callback is not None and _is_true(self._callback(report)):
            raise KeyboardInterrupt

    def _left(self, sight: Snapshot, now: float) -> float:
        """Seconds until the largest gain has decayed to where it stops, or the iterations have run out."""
        if not sight.n_climbing:
            return 0.0
        began_anew = self._first is not None and sight.n_iter < self._last_iter
        self._last_iter = sight.n_iter
        if self._first is None or began_anew:
            self._first = (now, sight.n_iter, sight.gain)
            return float("nan")
        then, n_iter, gain = self._first
        pace = (now - then) / max(sight.n_iter - n_iter, 1)
        at_most = pace * (sight.max_iter - sight.n_iter)
        if not (gain > sight.gain > 1):
            return at_most
        return min(at_most, (now - then) * np.log(sight.gain) / np.log(gain / sight.gain))

    def _show(self, fraction: float, report: Report | None) -> None:
        if not self._shown:
            return
        self._fraction = max(self._fraction, fraction)
        if self._bar is None and self._last == 0.0:
            self._bar = _bar()
        if self._bar is not None:
            if report is not None:
                self._bar.set_postfix_str(str(report), refresh=False)
            self._bar.n = round(self._fraction, 3)
            self._bar.refresh()
        elif report is not None and time.monotonic() - self._last > 1:
            print(report, file=sys.stderr, flush=True)
        self._last = time.monotonic()

    def __enter__(self) -> Progress:
        """Return the context itself; the bar is drawn with the first report."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


def _bar() -> Any:
    try:
        from tqdm.auto import tqdm
        from tqdm.notebook import tqdm as in_notebooks
    except ImportError:
        return None
    # A notebook's bar is drawn by the browser where this stands; a terminal's would give way to the long line after it.
    bar = "{bar}" if issubclass(tqdm, in_notebooks) else "{bar:20}"
    return tqdm(total=1, bar_format="{percentage:3.0f}%|" + bar + "| {elapsed}{postfix}")


def _is_watched() -> bool:
    """Whether somebody waits at a terminal."""
    return bool(getattr(sys.stderr, "isatty", lambda: False)())


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _is_true(answer: Any) -> bool:
    """Whether a callback's answer is True, as Python, NumPy or JAX have it; nothing else counts."""
    answer = answer.item() if getattr(answer, "shape", None) == () else answer
    return answer is True
