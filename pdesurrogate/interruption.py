"""Signals that end a run: kept until its state is saved, then reported as shells report them."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from .registry import did_you_mean

log = logging.getLogger(__name__)

SIGNALS = [
    s.name
    for s in signal.valid_signals()
    if isinstance(s, signal.Signals) and s.name not in ("SIGKILL", "SIGSTOP")
]
"""Those that a process can answer."""


class Interrupted(SystemExit):
    """A run was stopped by a signal, and what it had done is kept.

    The exit code is that of shells, 128 and the signal's number: 130 for Ctrl-C (SIGINT), 143 for SIGTERM, 138 for
    SIGUSR1 on Linux.

    Args:
        message: how to go on.
        signum: the signal's number.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum
        self.code = 128 + signum


class StopSignals:
    """Ctrl-C, SIGTERM and the signal by which a scheduler announces that it will take the machine away.

    Between `defer` and `stop_deferring` a signal is only noted in ``received``, and who trains looks there after every
    step; a second Ctrl-C stops at once. Otherwise there is nothing to save, and the first signal stops at once.

    Args:
        go_on: the command that goes on with the run.
        preemption: name of the scheduler's signal; None for none.
        on_preemption: called after a run was stopped by that signal, when its files are closed and the handlers that
            stood before are back: to have the job queued again.

    Attributes:
        go_on: as given.
        received: number of the signal that asks for an end; 0 for none.

    Raises:
        ValueError: if there is no such signal, or no process can answer it.
    """

    def __init__(
        self, go_on: str, preemption: str | None = None, on_preemption: Callable[[], None] | None = None
    ) -> None:
        if preemption is not None and preemption not in SIGNALS:
            raise ValueError(
                f"trainer.preemption_signal is {preemption!r}, which is no signal that a process can answer here."
                f"{did_you_mean(str(preemption), SIGNALS)} Give a name such as SIGUSR1, or null for none."
            )
        self.go_on = go_on
        self._preemption = 0 if preemption is None else signal.Signals[preemption].value
        self._on_preemption = on_preemption
        self._watched = sorted({signal.SIGINT, signal.SIGTERM, self._preemption} - {0})
        self._previous: dict[int, Any] = {}
        self._defers = False
        self.received = 0

    def __enter__(self) -> StopSignals:
        self.received = 0
        self._previous = {signum: signal.getsignal(signum) for signum in self._watched}
        self._take_over()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _has_handlers():
            for signum, handler in self._previous.items():
                signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        if isinstance(error, Interrupted) and error.signum == self._preemption and self._on_preemption:
            self._on_preemption()

    def defer(self) -> None:
        """Only note signals from now on, also where a library has put handlers of its own meanwhile."""
        self._take_over()
        self._defers = True

    def stop_deferring(self) -> None:
        """Stop at once from now on."""
        self._defers = False

    def interrupted(self, signum: int, step: int) -> Interrupted:
        """Return what to raise once the state after a step is saved."""
        return Interrupted(
            f"Stopped by {_name(signum)} after step {step}; nothing is lost. Go on with: {self.go_on}",
            signum,
        )

    def _take_over(self) -> None:
        if _has_handlers():
            for signum in self._watched:
                signal.signal(signum, self._on_signal)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        again = signum == signal.SIGINT and bool(self.received)
        if self.received and not again:
            return
        self.received = signum
        if again or not self._defers:
            raise Interrupted(f"Stopped at once by {_name(signum)}. Go on with: {self.go_on}", signum)
        more = " (press Ctrl-C again to stop at once)" if signum == signal.SIGINT else ""
        log.info("%s: stopping after this step%s ...", _name(signum), more)


def _name(signum: int) -> str:
    return "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name


def _has_handlers() -> bool:
    return threading.current_thread() is threading.main_thread()
