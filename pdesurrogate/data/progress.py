"""Progress of a long job: a bar with the time left on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import threading
import time
from types import TracebackType

from tqdm import tqdm  # type: ignore[import-untyped]

log = logging.getLogger(__name__)


class Progress:
    """Counts finished units of work from any thread.

    Args:
        task: what is being done, such as ``"train"``.
        total: units of work in all.
        units_per_item: how many units make one item that people count in.
        item: what they call it.
        interval: seconds between lines where standard error is not a terminal.
    """

    def __init__(
        self, task: str, total: int, *, units_per_item: int, item: str = "trajectories", interval: float = 5.0
    ) -> None:
        self._task, self._total, self._item = task, total, item
        self._units_per_item = units_per_item
        self._interval = interval
        self._done = 0
        self._started = self._reported = time.monotonic()
        self._lock = threading.Lock()
        self._bar = None
        if sys.stderr.isatty():
            layout = "{desc}: {percentage:3.0f}% |{bar}| {elapsed} elapsed, {remaining} left"
            self._bar = tqdm(
                total=total, desc=f"{task} ({total // units_per_item} {item})", bar_format=layout
            )

    def advance(self, units: int = 1) -> None:
        """Count some more units as done."""
        with self._lock:
            self._done += units
            if self._bar is not None:
                self._bar.update(units)
                return
            now = time.monotonic()
            if now - self._reported >= self._interval or self._done >= self._total:
                self._reported = now
                self._report(now - self._started)

    def _report(self, elapsed: float) -> None:
        left = elapsed * (self._total - self._done) / self._done
        log.info(
            "%s: %.0f of %d %s (%.0f %%), %.0f s elapsed, about %.0f s left",
            self._task,
            self._done / self._units_per_item,
            self._total // self._units_per_item,
            self._item,
            100 * self._done / self._total,
            elapsed,
            left,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
