"""Progress of a training run: a line soon after the start, then every few seconds and every epoch."""

from __future__ import annotations

import logging
import time
from typing import Any

import lightning

from ..fields import Batch

log = logging.getLogger(__name__)


class ConsoleProgress(lightning.Callback):
    """Log loss, error, windows a second over all ranks and the time that is left; the same lines reach a log file.

    The loss is read from the device only when a line is written.

    Args:
        seconds: time between lines inside an epoch.
        ranks_per_window: ranks that work on the same windows.
    """

    def __init__(self, seconds: float = 10.0, ranks_per_window: int = 1) -> None:
        self._seconds = seconds
        self._ranks_per_window = ranks_per_window
        self._told_at = 0.0
        self._epoch_started = 0.0
        self._samples = 0
        self._run_started = 0.0
        self._steps_at_start = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clocks."""
        self._run_started = self._told_at = time.monotonic()
        self._steps_at_start = trainer.global_step

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock of the epoch."""
        self._epoch_started, self._samples = time.monotonic(), 0

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count samples; write a line when it is time."""
        self._samples += len(batch) * trainer.world_size // self._ranks_per_window
        is_first = trainer.global_step == self._steps_at_start + 1
        if trainer.is_global_zero and (is_first or time.monotonic() - self._told_at > self._seconds):
            loss = outputs["loss"] if isinstance(outputs, dict) else outputs
            self._tell(trainer, f"loss {loss.item():.4g}")

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the epoch's errors."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
        self._tell(trainer, f"validation relative L2 {100 * metrics['valid/relative_l2']:.3g} %")

    def _tell(self, trainer: lightning.Trainer, what: str) -> None:
        now = time.monotonic()
        total = int(trainer.estimated_stepping_batches)
        done = trainer.global_step - self._steps_at_start
        left = (now - self._run_started) / max(done, 1) * (total - trainer.global_step)
        rate = self._samples / max(now - self._epoch_started, 1e-9)
        log.info(
            "epoch %d/%s  step %d/%d  %s  %.0f samples/s  %d:%02d left",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            trainer.global_step,
            total,
            what,
            rate,
            *divmod(round(left), 60),
        )
        self._told_at = now
