"""Checkpoints that appear whole or not at all, and interruptions that lose nothing."""

from __future__ import annotations

import logging
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import lightning
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from ..deploy.artifact import read_plain
from ..durable import durable_write

log = logging.getLogger(__name__)

LAST = "last.ckpt"
_STEPS_BETWEEN_AGREEMENTS = 20


class DurableCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its final name and rename it; read plain types only."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write the file; an older one of that name survives a kill or a full disk."""
        with durable_write(path) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read the file without executing anything in it."""
        return read_plain(path, map_location or "cpu")


class TrainingInterrupted(Exception):
    """Training was stopped by Ctrl-C between two steps, after the state had been saved.

    An exception of its own, because Lightning answers a KeyboardInterrupt by leaving the interpreter.
    """


class KeepLast(Checkpoint):
    """Save ``last.ckpt`` after every epoch, every few minutes, and on Ctrl-C.

    The first Ctrl-C lets the running step finish, saves and stops; a second one stops at once, and then
    the checkpoint before it is what remains. After the last step of an epoch, the epoch's validation is part of what
    is saved: it comes first. As a checkpoint callback it takes its turn after the one that keeps the best weights, if
    that stands before it, and so saves what the other has just found.

    Args:
        folder: where ``last.ckpt`` goes.
        minutes: longest time between checkpoints inside an epoch.
        resume_command: told to the user on interruption.
    """

    def __init__(self, folder: Path, minutes: float, resume_command: str) -> None:
        self.path = folder / LAST
        self._interval = 60.0 * minutes
        self._resume_command = resume_command
        self._saved_at = time.monotonic()
        self._interrupted = False
        self._stops_after_epoch = False
        self._previous: Any = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take over Ctrl-C."""
        self._saved_at = time.monotonic()
        self._previous = signal.signal(signal.SIGINT, self._on_interrupt)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        """Save when the interval is over or Ctrl-C was pressed."""
        due = time.monotonic() - self._saved_at > self._interval
        interrupted = self._interrupted
        if trainer.world_size > 1:
            # All ranks must save together: the clock of rank 0 and any rank's Ctrl-C decide. Asking costs a
            # wait for the slowest rank, so it is done every few steps.
            if trainer.global_step % _STEPS_BETWEEN_AGREEMENTS:
                return
            due = trainer.strategy.broadcast(due)
            interrupted = trainer.strategy.reduce_boolean_decision(interrupted, all=False)
        if trainer.is_last_batch:
            self._stops_after_epoch = interrupted
            return
        if due or interrupted:
            self._save(trainer)
        if interrupted:
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save the state after the epoch, and stop if Ctrl-C was pressed in its last step."""
        self._save(trainer)
        if self._stops_after_epoch:
            self._stop(trainer)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Give Ctrl-C back."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _save(self, trainer: lightning.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_at = time.monotonic()

    def _stop(self, trainer: lightning.Trainer) -> NoReturn:
        raise TrainingInterrupted(
            f"Stopped after step {trainer.global_step}; nothing is lost. Go on with: {self._resume_command}"
        )

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self._interrupted:
            raise KeyboardInterrupt(
                f"Stopped at once. Go on from the last checkpoint: {self._resume_command}"
            )
        self._interrupted = True
        log.info("Stopping after this step (press Ctrl-C again to stop at once) ...")
