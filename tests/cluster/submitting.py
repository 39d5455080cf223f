"""A SLURM cluster and trainings that are submitted to it, as the tests handle them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "data.grid=12", "data.batch_size=4", "model.width=6", "model.num_modes=6", "model.depth=2",
    "trainer.max_epochs=8", "trainer.accelerator=cpu", "trainer.figure_every=0", "logger=none",
)  # fmt: skip
PATIENCE = 600


def until(true: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.5)


class Training:
    """One command ``python train.py ...`` in a folder of its own.

    Attributes:
        folder: the run folder.
    """

    def __init__(self, place: Path, environment: dict[str, str], *overrides: str) -> None:
        place.mkdir()
        self.folder = place / "runs" / "run"
        command = [sys.executable, str(ROOT / "train.py"), "run_id=run", *SMALL, *overrides]
        self._said = place / "output.txt"
        with self._said.open("w") as output:
            self._process = subprocess.Popen(
                command, cwd=place, env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    def end(self, code: int = 0) -> str:
        """Wait for the command's end and return what it said."""
        found = self._process.wait(PATIENCE)
        said = self._said.read_text()
        logs = "\n".join(path.read_text()[-3000:] for path in sorted(self.folder.glob("slurm/*/*.out")))
        assert found == code, f"{said}\n{logs}"
        return said

    @property
    def has_ended(self) -> bool:
        """Whether the command is done."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """End the command if it still waits."""
        self._process.kill()
        self._process.wait()

    @property
    def jobs(self) -> list[str]:
        """Numbers of the jobs that were submitted, ``ARRAY_TASK`` for those of an array."""
        names = {path.name.rsplit("_", 2)[0] for path in self.folder.glob("slurm/*/*_0_log.out")}
        return sorted(names)

    @property
    def log(self) -> str:
        """What the run has told in all its attempts."""
        return (self.folder / "pdesurrogate.log").read_text()

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The last weights."""
        state: dict[str, torch.Tensor] = torch.load(
            self.folder / "checkpoints" / "last.ckpt", weights_only=True
        )["state_dict"]
        return state


class Cluster:
    """The cluster, and how one speaks to it."""

    def __init__(self, tool: str, folder: Path) -> None:
        self._tool, self._folder = tool, folder
        self._environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def tool(self, verb: str, *words: str) -> None:
        """Call local-slurm."""
        log = self._folder.with_suffix(".log")
        with log.open("a") as output:  # a file, because daemons keep it open
            done = subprocess.run(
                [self._tool, verb, *words, str(self._folder)],
                env=self._environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                timeout=120, check=False,
            )  # fmt: skip
        assert done.returncode == 0, log.read_text()

    def stop(self) -> None:
        """End the daemons."""
        try:
            self.tool("stop")
        except AssertionError:  # one that was still writing has kept the folder from being removed
            time.sleep(2)
            shutil.rmtree(self._folder)

    def ask(self, *command: str) -> str:
        """Return what a command of SLURM prints."""
        answer = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=60, check=True
        )
        return answer.stdout.strip()

    def node_of(self, job: str) -> str:
        """Return the node that a job runs on."""
        return self.ask("squeue", "--noheader", "--jobs", job, "--format", "%N")

    def end(self, training: Training) -> None:
        """Wait for a training's end; jobs that queue again start without the two minutes' pause that SLURM makes."""

        def ended() -> bool:
            self._hurry()
            return training.has_ended

        until(ended, "the end of a training")
        training.end()

    def _hurry(self) -> None:
        for line in self.ask("squeue", "--noheader", "--format", "%A %r").splitlines():
            job, _, reason = line.partition(" ")
            if reason == "BeginTime":
                self.ask("scontrol", "update", f"JobId={job}", "StartTime=now")

    def train(self, place: Path, *overrides: str, **variables: str) -> Training:
        """Submit a training."""
        environment = {
            **self._environment,
            "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}",
            "MASTER_ADDR": "127.0.0.1",  # the nodes' names mean nothing to this machine's resolver
            **variables,
        }
        return Training(place, environment, *overrides)
