"""Progress of a long fit, shown only when asked: a tqdm bar where it is installed, else plain lines."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any


class Progress:
    """A context in which progress is shown; silent unless `shown`."""

    def __init__(self, shown: bool, total: int, unit: str):
        """Begin to show.

        Args:
            shown: whether to show anything.
            total: how many units there are at most.
            unit: what is counted.
        """
        self._shown, self._total, self._unit = shown, total, unit
        self._bar: Any = None
        self._last = 0.0

    def __enter__(self) -> Progress:
        """Draw the bar."""
        if self._shown:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return self
            self._bar = tqdm(total=self._total, unit=self._unit, leave=True)
        return self

    def update(self, done: int, note: str) -> None:
        """Show how many units are done, and a note."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)
        elif self._shown and time.monotonic() - self._last > 1:
            self._last = time.monotonic()
            print(f"{done}/{self._total} {self._unit}: {note}", file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
