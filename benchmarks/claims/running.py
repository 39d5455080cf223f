"""Training of a plan's runs by the public command, several at a time; what is finished stays finished."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from pdesurrogate.durable import durable_write

from ..machine import ROOT
from .planning import Run

COSTS = "costs.json"
MONITOR = "valid/relative_l2"
_TAIL = 15  # lines of a failed run's log that are shown


class RunFailedError(RuntimeError):
    """A run ended with an error; the others keep what they have."""


class Trainer:
    """Runs ``train.py`` once for each run, at most ``jobs`` at a time.

    A run whose artifact is there is left alone, one with a checkpoint goes on from it. Ctrl-C reaches every process
    once: each finishes its step and saves.

    Args:
        jobs: processes at a time. Small models gain nothing from a second thread, so on two cores two runs of one
            thread each take half the time of one after the other.
        threads: of each process.
        tell: called with a line after each run.
    """

    def __init__(self, jobs: int, threads: int, tell: Callable[[str], object] = print) -> None:
        self._jobs, self._threads, self._tell = jobs, threads, tell
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._stopping = False
        self._done = 0

    def train(self, runs: Sequence[Run]) -> None:
        """Train all that is not finished.

        Raises:
            RunFailedError: with the end of the log, when the first run fails; those under way save and stop.
            KeyboardInterrupt: on Ctrl-C, after all have saved.
        """
        self._done = sum(is_finished(run) for run in runs)
        pending = [run for run in runs if not is_finished(run)]
        if self._done:
            self._tell(f"{self._done} of {len(runs)} runs are finished already.")
        pool = ThreadPoolExecutor(self._jobs)
        futures = [pool.submit(self._train_one, run, len(runs)) for run in pending]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = next((f.exception() for f in futures if f.done() and f.exception()), None)
            if failed is not None:
                self._stop()
                raise failed
        except KeyboardInterrupt:
            self._stop()
            raise KeyboardInterrupt("Stopped; the same command goes on from here.") from None
        finally:
            pool.shutdown(cancel_futures=True)

    def _train_one(self, run: Run, total: int) -> None:
        run.folder.mkdir(parents=True, exist_ok=True)
        log = run.folder / "console.log"
        start = time.monotonic()
        code, cpu_seconds, peak = self._launch(command_of(run), log)
        note_costs(run, time.monotonic() - start, cpu_seconds, peak)
        if self._stopping and not is_finished(run):
            return
        if code or not is_finished(run):
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL:])
            raise RunFailedError(f"{run.title} failed; the end of {log}:\n{tail}")
        with self._lock:
            self._done += 1
            seconds = time.monotonic() - start
            self._tell(f"[{self._done}/{total}] {run.title}: {run.steps} steps in {seconds:.0f} s")

    def _launch(self, arguments: Sequence[str], log: Path) -> tuple[int, float | None, float | None]:
        """Run ``train.py`` and return its exit code, CPU seconds and peak memory in MiB, where the system tells."""
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self._threads))
        environment = {k: v for k, v in os.environ.items() if k != "PDESURROGATE_RUN_ID"} | counts
        with log.open("ab") as output, self._lock:
            if self._stopping:
                return 1, None, None
            # In a session of its own: Ctrl-C in the terminal would reach it twice, and the second stops at once.
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            self._processes.add(process)
        try:
            if not hasattr(os, "wait4"):
                return process.wait(), None, None
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            kilobytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
            return process.returncode, usage.ru_utime + usage.ru_stime, kilobytes / 1024
        finally:
            with self._lock:
                self._processes.discard(process)

    def _stop(self) -> None:
        with self._lock:
            self._stopping = True
            for process in self._processes:
                process.send_signal(signal.SIGINT)


def is_finished(run: Run) -> bool:
    """Return whether a run's artifact, which training writes last, is there."""
    return (run.folder / "artifact.pt").is_file()


def command_of(run: Run) -> list[str]:
    """Return what is typed after ``train.py`` to start a run, or to go on with it."""
    if any((run.folder / "checkpoints").rglob("last.ckpt")):
        return [f"resume={run.folder}"]
    return [*run.overrides, f"run_id={run.folder.name}", f"hydra.run.dir={run.folder}"]


def note_costs(run: Run, seconds: float, cpu_seconds: float | None, peak_mib: float | None) -> None:
    """Add what an attempt took to those before it."""
    attempts = [*_attempts(run), {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": peak_mib}]
    with durable_write(run.folder / COSTS) as temporary:
        temporary.write_text(json.dumps(attempts))


def costs(run: Run) -> dict[str, float | None]:
    """Return wall and CPU seconds over all attempts, start-up included, and the largest peak memory."""
    attempts = _attempts(run)

    def over(key: str, join: Callable[[list[float]], float]) -> float | None:
        values = [attempt[key] for attempt in attempts]
        return None if not values or None in values else float(f"{join(values):.4g}")

    return {
        "seconds": over("seconds", sum),
        "cpu_seconds": over("cpu_seconds", sum),
        "peak_mib": over("peak_mib", max),
    }


def validated(run: Run) -> list[list[float]]:
    """Return ``[steps, validation error]`` of every validation of a finished run, in order; empty if none is logged."""
    found: dict[int, float] = {}
    for path in sorted((run.folder / "csv").glob("version_*/metrics.csv"), key=lambda p: p.stat().st_mtime):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if row.get(MONITOR):
                    found[int(row["step"]) + 1] = float(f"{float(row[MONITOR]):.4g}")
    return [[steps, error] for steps, error in sorted(found.items())]


def _attempts(run: Run) -> list[dict[str, Any]]:
    path = run.folder / COSTS
    return json.loads(path.read_text()) if path.is_file() else []
