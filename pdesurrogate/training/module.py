"""The Lightning module: one unroll and one loss per batch, metrics that do not depend on the ranks."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import lightning
import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import Batch, DataSpec
from ..metrics import relative_l2
from ..surrogate import Surrogate
from .amplitude_loss import AmplitudeLoss
from .captured_step import CapturedStep
from .optimisation import Optimisation
from .sharded import shard
from .skipped_steps import SkippedSteps, clip_or_leave_out
from .unrolls import ChangingUnroll, Unroll, unreached

log = logging.getLogger(__name__)

Metric = Callable[[Tensor, Tensor, DataSpec], Tensor]


class SurrogateTraining(lightning.LightningModule):
    """Minimise ``mean_b loss(unroll(S, batch)_b, future_b)`` in physical units.

    Losses are relative per sample, frame and field, so that fields of different units weigh alike.
    Logged: ``train/loss``, ``train/learning_rate``, ``valid/loss``, ``valid/relative_l2`` and
    ``valid/relative_l2/FIELD``; validation sums are added over ranks before they are divided. A step whose gradient is
    not finite changes nothing, see `pdesurrogate.training.skipped_steps`, which logs ``train/skipped_steps``.

    Args:
        surrogate: the map to be trained.
        unroll: from a batch to predictions for all of its future; in training one that changes says what is compared.
        loss: a metric; averaged over samples, frames and fields.
        optimisation: optimiser and schedule.
        capture: whether steps are recorded as CUDA graphs, see `pdesurrogate.training.captured_step`.

    Attributes:
        skipped: steps that were left out.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        unroll: Unroll,
        loss: Metric,
        optimisation: Optimisation,
        *,
        capture: bool = False,
    ) -> None:
        super().__init__()
        self.surrogate = surrogate
        self.unroll = unroll
        self.loss = loss
        self.optimisation = optimisation
        self.skipped = SkippedSteps()
        self.capture = capture
        self._captured: CapturedStep | None = None
        self._replays = False  # whether the running batch takes its step in the graph
        self._num_steps = 1
        self._sums: dict[str, Tensor] = {}

    def configure_model(self) -> None:
        """Train a copy whose weights are shares where the strategy asks for it; the surrogate itself stays whole."""
        # Before a checkpoint is loaded, whose double precision would be rounded.
        self.trainer.precision_plugin.convert_module(self)
        if self.device_mesh is not None:
            self.surrogate = copy.deepcopy(self.surrogate)
            shard(self.surrogate.model, self.device_mesh["data_parallel"])

    def on_train_start(self) -> None:
        """Count on the device."""
        self.skipped.to(self.device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Decide whether this batch takes its step in the graph; a smaller last one does not."""
        if self.capture and self._captured is None:
            max_norm = self.trainer.gradient_clip_val
            self._captured = CapturedStep(
                self._noted_losses,
                self.trainer.optimizers[0],
                max_norm=None if max_norm is None else float(max_norm),
                count=self.skipped.count,
            )
        self._replays = self._captured is not None and self._captured.takes(batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean loss of a batch; a captured step has then been taken."""
        losses = self._captured(batch) if self._captured and self._replays else self._noted_losses(batch)
        mean = losses.mean()
        world = self.trainer.world_size > 1
        self.log("train/loss", mean, on_step=True, on_epoch=False, sync_dist=world, batch_size=len(batch))
        self.log("train/learning_rate", self._learning_rate(), on_step=True, on_epoch=False)
        return mean

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient, or leave out a step for which it is not finite."""
        self.skipped.count(clip_or_leave_out(optimizer, gradient_clip_val))

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute gradients, unless the step was captured."""
        if not self._replays:
            super().backward(loss, *args, **kwargs)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take the step, unless it is part of the captured one."""
        if self._replays and optimizer_closure is not None:
            optimizer_closure()
        else:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the batch's errors to the sums of this epoch."""
        prediction, losses = self._outcome(batch)
        errors = relative_l2(prediction, batch.future, self.surrogate.spec).double()
        self._add("loss", losses.double().sum())
        self._add("error", errors.mean(dim=1).sum(dim=0))
        self._add("count", torch.tensor(float(len(batch)), dtype=torch.float64, device=errors.device))

    def on_validation_epoch_end(self) -> None:
        """Add the sums over ranks and log the means."""
        sums = {k: self.trainer.strategy.reduce(v, reduce_op="sum") for k, v in self._sums.items()}
        self._sums = {}
        count = sums["count"]
        per_field = sums["error"] / count
        names = [field.name for field in self.surrogate.spec.forecast_fields]
        values = {"valid/loss": sums["loss"] / count, "valid/relative_l2": per_field.mean()}
        values |= {f"valid/relative_l2/{n}": e for n, e in zip(names, per_field, strict=True)}
        self.log_dict({k: v.float() for k, v in values.items()}, batch_size=1)

    def configure_optimizers(self) -> Any:
        """Build the optimiser and a schedule that moves every step."""
        self._num_steps = int(self.trainer.estimated_stepping_batches)
        if self.trainer.is_global_zero:
            for sentence in unreached(self.unroll, self._num_steps):
                log.warning(sentence)
        weights = [p for p in self.surrogate.parameters() if p.requires_grad]
        optimiser, schedule = self.optimisation.build(weights, self._num_steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state of the random generator, so that resuming equals no interruption, and what is trained by whom.

        Learning rates are plain numbers there, whether steps were captured or not.
        """
        checkpoint["torch_rng_state"] = torch.get_rng_state()
        checkpoint["spec"] = self.surrogate.spec.to_dict()
        checkpoint["world_size"] = self.trainer.world_size
        for state in checkpoint.get("optimizer_states", []):
            for group in state.get("param_groups", ()):  # shares are put together in the first process only
                group |= {"lr": float(group["lr"]), "capturable": False}
        for schedule in checkpoint.get("lr_schedulers", []):
            schedule["_last_lr"] = [float(lr) for lr in schedule["_last_lr"]]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of the random generator."""
        torch.set_rng_state(checkpoint["torch_rng_state"].cpu())
        before, now = checkpoint.get("world_size", 1), self.trainer.world_size
        if before != now and self.trainer.is_global_zero:
            log.warning(
                "The processes of this run were %d and are %d: the batches stay the same, their sums are formed in "
                "another order, and the weights are those of an uninterrupted run but for rounding.",
                before,
                now,
            )

    def _noted_losses(self, batch: Batch) -> Float[Tensor, " batch"]:
        losses = self._losses(batch)
        self.skipped.note_losses(losses, batch)
        return losses

    def _losses(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Return what training minimises, sample by sample."""
        if isinstance(self.loss, AmplitudeLoss):
            return self.loss.of_batch(self.surrogate, batch).flatten(1).mean(dim=1)
        if isinstance(self.unroll, ChangingUnroll):
            return self._losses_of(*self.unroll.learn(self.surrogate, batch, self.global_step))
        return self._outcome(batch)[1]

    def _outcome(self, batch: Batch) -> tuple[Tensor, Float[Tensor, " batch"]]:
        """Return the predictions for all of the future, and the loss of each sample."""
        prediction = self.unroll(self.surrogate, batch)
        return prediction, self._losses_of(prediction, batch.future)

    def _losses_of(self, prediction: Tensor, truth: Tensor) -> Float[Tensor, " batch"]:
        return self.loss(prediction, truth, self.surrogate.spec).flatten(1).mean(dim=1)

    def _learning_rate(self) -> float:
        # Computed, not read: with captured steps the optimiser's number lives on the device.
        return self.optimisation.lr * self.optimisation.factor(self.global_step, self._num_steps)

    def _add(self, name: str, value: Tensor) -> None:
        self._sums[name] = self._sums[name] + value if name in self._sums else value
