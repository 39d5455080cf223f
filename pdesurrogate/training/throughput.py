"""How fast a run trains, how long it waits for data, and how much memory it takes."""

from __future__ import annotations

import logging
import resource
import sys
import time
from pathlib import Path
from typing import Any

import lightning
import torch

from ..fields import Batch

log = logging.getLogger(__name__)


class Throughput(lightning.Callback):
    """Log ``speed/samples_per_second``, ``speed/data_wait``, ``memory/resident_mib`` and ``memory/device_peak_mib``.

    The speed counts windows over all ranks. The data wait is the share of the time that this process spent asking the
    loader for batches. On a GPU the host runs ahead of the device, so that the device waits no longer than that. Time
    between epochs, validation among it, does not count. Values are those since the last entry in the logger; at the end
    of an epoch those of the epoch. Nothing is read from the device.

    Args:
        ranks_per_window: ranks that work on the same windows.

    Attributes:
        epochs: values of every epoch of the last fit.
    """

    def __init__(self, ranks_per_window: int = 1) -> None:
        self._ranks_per_window = ranks_per_window
        self.epochs: list[dict[str, float]] = []
        self._run = self._epoch = self._interval = _Tally()
        self._now = 0.0
        self._waited = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Forget earlier fits."""
        self._run, self.epochs = _Tally(), []
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._epoch, self._interval = _Tally(), _Tally()
        self._now, self._waited = time.perf_counter(), _seconds_waited(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock again where validation came inside an epoch."""
        self._now = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count a step."""
        now, waited = time.perf_counter(), _seconds_waited(trainer)
        step = _Tally(
            len(batch) * trainer.world_size // self._ranks_per_window, now - self._now, waited - self._waited
        )
        self._now, self._waited = now, waited
        self._run, self._epoch, self._interval = (
            tally.plus(step) for tally in (self._run, self._epoch, self._interval)
        )
        every = int(getattr(trainer, "log_every_n_steps", 0))
        if every and trainer.global_step % every == 0:
            pl_module.log_dict(_metrics(self._interval, pl_module.device), on_step=True, on_epoch=False)
            self._interval = _Tally()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log the values of the epoch."""
        if self._epoch.seconds:
            self.epochs.append(_metrics(self._epoch, pl_module.device))
            pl_module.log_dict(self.epochs[-1])

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say the values of the run."""
        if not self._run.seconds or not trainer.is_global_zero:
            return
        found = _metrics(self._run, pl_module.device)
        peak = found.get("memory/device_peak_mib")
        log.info(
            "Trained on %.4g samples/s; %.2g %% of the time went by waiting for data. Memory: %.0f MiB%s",
            found["speed/samples_per_second"],
            100 * found["speed/data_wait"],
            found["memory/resident_mib"],
            "" if peak is None else f", at most {peak:.0f} MiB on {pl_module.device}",
        )


class _Tally:
    """Windows, seconds, and seconds spent waiting for data."""

    def __init__(self, windows: int = 0, seconds: float = 0.0, waited: float = 0.0) -> None:
        self.windows, self.seconds, self.waited = windows, seconds, waited

    def plus(self, other: _Tally) -> _Tally:
        """Return the sums."""
        return _Tally(self.windows + other.windows, self.seconds + other.seconds, self.waited + other.waited)


def _metrics(tally: _Tally, device: torch.device) -> dict[str, float]:
    found = {
        "speed/samples_per_second": tally.windows / tally.seconds,
        "speed/data_wait": tally.waited / tally.seconds,
        "memory/resident_mib": resident_memory() / 2**20,
    }
    if device.type == "cuda":
        found["memory/device_peak_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
    return found


def resident_memory() -> int:
    """Return the bytes of memory that this process holds; its largest so far where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _seconds_waited(trainer: lightning.Trainer) -> float:
    """Return for how long the training loader has been waited for."""
    return float(getattr(trainer.train_dataloader, "seconds_waited", 0.0))
