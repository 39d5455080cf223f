"""Steps that are left out because their gradient is not finite: counted, named, and borne up to a number.

Whether a step is taken is decided on the device, from the gradient that the update would use. With several processes
that is the mean over all of them, so all take the same decision, and none of them waits for another or for the host.
Weights, moments and step counts stay as they were; the schedule goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from ..fields import Batch
from .sharded import whole

log = logging.getLogger(__name__)

CHECK_EVERY = 50
_STARTS = 2**32
"""Of windows in a trajectory: a sample is kept as one number, trajectory times this plus start."""


def looks_every(device: torch.device) -> int:
    """Return the steps between looks: on a CPU every step is looked at, elsewhere looking means waiting."""
    return 1 if device.type == "cpu" else CHECK_EVERY


def clip_or_leave_out(optimiser: torch.optim.Optimizer, max_norm: float | None) -> Tensor:
    """Clip the gradient, or have the optimiser leave out this step if it is not finite; return 1 then, otherwise 0.

    A fused optimiser reads that number on the device. Another one finds no gradients, for which the host has to look.

    Args:
        optimiser: of weights whose gradients were computed.
        max_norm: largest norm of the gradient; None for no clipping.
    """
    weights = [w for group in optimiser.param_groups for w in group["params"]]
    norm = whole(torch.nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None]))
    if max_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(weights, max_norm, norm)
    left_out = (~torch.isfinite(norm)).float()
    if all(group.get("fused") for group in optimiser.param_groups):
        optimiser.found_inf = left_out  # type: ignore[attr-defined]
    elif left_out.item():
        optimiser.zero_grad(set_to_none=True)
    return left_out


class SkippedSteps:
    """The count of steps that were left out, and a sample since the last look whose loss is not finite.

    Both are numbers on the device, changed in place, so that a recorded step can count.
    """

    def __init__(self) -> None:
        self._count = torch.zeros(())
        self._sample = torch.full((), -1, dtype=torch.int64)

    def to(self, device: torch.device) -> None:
        """Move both numbers to the device of the weights, before the first step."""
        self._count, self._sample = self._count.to(device), self._sample.to(device)

    def note_losses(self, losses: Tensor, batch: Batch) -> None:
        """Remember a sample of the batch whose loss is not finite, if there is one and none is remembered."""
        bad = ~torch.isfinite(losses.detach())
        samples = batch.trajectory.long() * _STARTS + batch.start.long()
        self._sample.copy_(torch.where(self._sample < 0, torch.where(bad, samples, -1).max(), self._sample))

    def count(self, left_out: Tensor) -> None:
        """Count a step for which ``left_out`` is 1."""
        self._count += left_out

    def look(self, trainer: lightning.Trainer) -> tuple[int, tuple[int, int] | None]:
        """Return the count, and trajectory and window start of the sample, on all ranks; then forget the sample."""
        sample = self._sample
        if trainer.world_size > 1:
            sample = trainer.strategy.reduce(sample.clone(), reduce_op="max")
        count, number = int(self._count), int(sample)
        self._sample.fill_(-1)
        return count, None if number < 0 else divmod(number, _STARTS)


class StopAfterSkippedSteps(Checkpoint):
    """Report steps that were left out, and end the training after too many, once the state is saved.

    As a checkpoint callback it takes its turn after the one that keeps the last state.

    Args:
        skipped: what was left out.
        max_skipped: steps that may be left out since the training began or was resumed.
        save: saves the state.
    """

    def __init__(
        self,
        skipped: SkippedSteps,
        max_skipped: int,
        save: Callable[[lightning.Trainer], None],
    ) -> None:
        self._skipped, self._max_skipped = skipped, max_skipped
        self._save = save
        self._reported, self._last = 0, ""

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        """Look where looking is due; the last step of an epoch leaves that to the epoch's end.

        Raises:
            ValueError: after too many steps that were left out.
        """
        is_due = trainer.global_step % looks_every(pl_module.device) == 0
        if is_due and not trainer.is_last_batch and self._is_enough(trainer):
            self._save(trainer)
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Look, and log the count.

        Raises:
            ValueError: after too many steps that were left out.
        """
        is_enough = self._is_enough(trainer)
        pl_module.log("train/skipped_steps", float(self._reported))
        if is_enough:
            self._stop(trainer)

    def _is_enough(self, trainer: lightning.Trainer) -> bool:
        """Look, report what is new, and return whether that is too much."""
        count, sample = self._skipped.look(trainer)
        if count > self._reported:
            self._reported, self._last = count, _described(sample)
            if trainer.is_global_zero:
                log.warning(
                    "A step up to step %d was left out: its gradient is not finite%s. That makes %d since the start.",
                    trainer.global_step,
                    self._last,
                    count,
                )
        return count > self._max_skipped

    def _stop(self, trainer: lightning.Trainer) -> None:
        steps = "1 step was" if self._reported == 1 else f"{self._reported} steps were"
        raise ValueError(
            f"{steps} left out up to step {trainer.global_step}, because the gradient was not finite{self._last}; "
            f"optim.max_skipped={self._max_skipped} allows no more. The weights are those before and are saved. If the "
            "data are sound, lower optim.lr or trainer.gradient_clip."
        )


def _described(sample: tuple[int, int] | None) -> str:
    if sample is None:
        return ", and the loss of every sample is"
    return ", nor the loss of trajectory {}, window start {}".format(*sample)
