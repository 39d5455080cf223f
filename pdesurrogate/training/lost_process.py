"""A process of several that dies or hangs: the others end in bounded time, with a sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lightning
from lightning.fabric.plugins import ClusterEnvironment
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch.distributed import DistError

GRACE = 5.0
"""Seconds in which a process may find out by itself, and say better, why it cannot go on without another."""
_PAUSE = 0.5


@contextmanager
def explain_lost_process(go_on: str) -> Iterator[None]:
    """Turn a failed exchange between processes into advice.

    Args:
        go_on: the command that goes on with the run.

    Raises:
        ConnectionError: if another process died or did not answer in time.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, DistError) or "gloo" in str(error)):
            raise
        cause = str(error).splitlines()[0].rsplit("] ", 1)[-1].partition(" This is typically")[0].rstrip(". ")
        raise ConnectionError(
            "another process of this training has died or did not answer within trainer.timeout_minutes "
            f"({cause}). Its own messages say why. Go on from the last checkpoint with: {go_on}"
        ) from error


class WatchingLauncher(_SubprocessScriptLauncher):
    """Starts the other processes of this machine, and ends this one with a sentence when one of them has died.

    Lightning's own observer kills this process without a word, even while it is about to say what happened.

    Args:
        environment: what tells processes of each other.
        num_processes: on this machine.
        num_nodes: machines.
        go_on: the command that goes on with the run.
    """

    def __init__(
        self, environment: ClusterEnvironment, num_processes: int, num_nodes: int, go_on: str
    ) -> None:
        super().__init__(environment, num_processes, num_nodes)
        self._go_on = go_on

    def launch(
        self,
        function: Callable[..., Any],
        *args: Any,
        trainer: lightning.Trainer | None = None,
        **kwargs: Any,
    ) -> Any:
        """Start the processes and call a function in this one; a later fit finds them started."""
        environment, over = self.cluster_environment, threading.Event()
        environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not environment.creates_processes_externally:
            self._call_children_scripts()
            watcher = threading.Thread(target=watch, args=(self.procs, self._go_on, over), daemon=True)
            watcher.start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        try:
            return function(*args, **kwargs)
        except BaseException:
            over.set()  # there is a reason to be told
            raise


def watch(processes: Sequence[subprocess.Popen[Any]], go_on: str, over: threading.Event) -> None:
    """Wait until a process has failed; then end all of them and, with exit code 1, this one.

    Args:
        processes: those of rank 1, 2 and so on.
        go_on: the command that goes on with the run.
        over: set when this process ends by itself.
    """
    while True:
        codes = [process.poll() for process in processes]
        if any(codes) or over.is_set() or all(code == 0 for code in codes):
            break
        over.wait(_PAUSE)
    if not any(codes) or over.wait(GRACE):
        return
    rank, code = next((rank, code) for rank, code in enumerate(codes, start=1) if code)
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    sys.stderr.write(
        f"\nerror: process {rank} of this training {how}, and the others cannot go on without it. "
        f"{'It may have run out of memory' if code == -signal.SIGKILL else 'Its own messages say why'}. "
        f"Go on from the last checkpoint with: {go_on}\n"
    )
    sys.stderr.flush()
    for process in processes:
        process.kill()
    os._exit(1)  # the main thread may be waiting inside a library for what never comes
