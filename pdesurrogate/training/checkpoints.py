"""Checkpoints that appear whole or not at all, and interruptions that lose nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from ..deploy.artifact import read_plain, write_plain
from ..interruption import StopSignals

LAST = "last.ckpt"
_SECONDS_BETWEEN_QUESTIONS = 2.0


class DurableCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its final name and rename it; read plain types only."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write the file; an older one of that name survives a kill or a full disk."""
        write_plain(checkpoint, path)

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read the file without executing anything in it."""
        return read_plain(path, map_location or "cpu")


class KeepLast(Checkpoint):
    """Save ``last.ckpt`` after every epoch, every few minutes or steps, and before a signal ends the run.

    A signal lets the running step finish, see `pdesurrogate.interruption`. After the last step of an epoch, the
    epoch's validation is part of what is saved: it comes first. As a checkpoint callback it takes its turn after the
    one that keeps the best weights, if that stands before it, and so saves what the other has just found.

    Args:
        folder: where ``last.ckpt`` goes.
        minutes: longest time between checkpoints inside an epoch.
        steps: most optimiser steps between them; None for any number.
        signals: what may ask for an end.
    """

    def __init__(self, folder: Path, minutes: float, steps: int | None, signals: StopSignals) -> None:
        if steps is not None and (type(steps) is not int or steps < 1):
            raise ValueError(
                f"trainer.checkpoint_steps is {steps!r}; give a positive number, or null for none."
            )
        if not isinstance(minutes, int | float) or not minutes >= 0:
            raise ValueError(
                f"trainer.checkpoint_minutes is {minutes!r}; give a number from 0, after every step, upwards."
            )
        self.path = folder / LAST
        self._interval = 60.0 * minutes
        self._steps = steps
        self._signals = signals
        self._saved_at, self._saved_step = time.monotonic(), 0
        self._asked_at, self._asked_step, self._ask_at_step = time.monotonic(), 0, 1

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clocks, and note signals from here on."""
        now, step = time.monotonic(), trainer.global_step
        self._saved_at, self._saved_step = now, step
        self._asked_at, self._asked_step, self._ask_at_step = now, step, step + 1
        self._signals.defer()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        """Save when an interval is over or a signal came; the last step of an epoch leaves that to the epoch's end."""
        if trainer.is_last_batch:
            return
        step = trainer.global_step
        due = self._steps is not None and step - self._saved_step >= self._steps
        signum = 0
        if trainer.world_size == 1 or step >= self._ask_at_step:
            overdue, signum = self._agreed(trainer)
            due = due or overdue
        if due or signum:
            self.save(trainer)
        if signum:
            raise self._signals.interrupted(signum, step)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save the state after the epoch, and stop if a signal came."""
        _, signum = self._agreed(trainer)
        self.save(trainer)
        if signum:
            raise self._signals.interrupted(signum, trainer.global_step)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Let signals stop at once again."""
        self._signals.stop_deferring()

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Let signals stop at once again."""
        self._signals.stop_deferring()

    def _agreed(self, trainer: lightning.Trainer) -> tuple[bool, int]:
        """Return whether the interval is over and which signal came, on any rank; all must save together.

        Asking costs a wait for the slowest rank, so it is done every few seconds; after how many steps, all agree, too.
        """
        now, step = time.monotonic(), trainer.global_step
        overdue, signum = now - self._saved_at > self._interval, self._signals.received
        if trainer.world_size > 1:
            steps_per_second = (step - self._asked_step) / max(now - self._asked_at, 1e-6)
            pause = max(1, int(_SECONDS_BETWEEN_QUESTIONS * steps_per_second))
            mine = torch.tensor([int(overdue), signum, pause], device=trainer.strategy.root_device)
            overdue, signum, pause = trainer.strategy.reduce(mine, reduce_op="max").tolist()
            self._asked_at, self._asked_step, self._ask_at_step = now, step, step + pause
        return bool(overdue), signum

    def save(self, trainer: lightning.Trainer) -> None:
        """Save the state between two steps."""
        trainer.save_checkpoint(self.path)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
