"""The Lightning module: one unroll and one loss per batch, metrics that do not depend on the ranks."""

from __future__ import annotations

import copy
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
from .sharded import shard, whole
from .unrolls import ChangingUnroll, Unroll

Metric = Callable[[Tensor, Tensor, DataSpec], Tensor]


CHECK_EVERY = 50


class SurrogateTraining(lightning.LightningModule):
    """Minimise ``mean_b loss(unroll(S, batch)_b, future_b)`` in physical units.

    Losses are relative per sample, frame and field, so that fields of different units weigh alike.
    Logged: ``train/loss``, ``train/learning_rate``, ``valid/loss``, ``valid/relative_l2`` and
    ``valid/relative_l2/FIELD``; validation sums are added over ranks before they are divided.

    Args:
        surrogate: the map to be trained.
        unroll: from a batch to predictions for all of its future; in training one that changes says what is compared.
        loss: a metric; averaged over samples, frames and fields.
        optimisation: optimiser and schedule.
        check_every: steps between looks at the loss on a device where looking means waiting, `CHECK_EVERY` if not
            given; on a CPU every loss is looked at.
        capture: whether steps are recorded as CUDA graphs, see `pdesurrogate.training.captured_step`.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        unroll: Unroll,
        loss: Metric,
        optimisation: Optimisation,
        *,
        check_every: int | None = None,
        capture: bool = False,
    ) -> None:
        super().__init__()
        self.surrogate = surrogate
        self.unroll = unroll
        self.loss = loss
        self.optimisation = optimisation
        self.check_every = CHECK_EVERY if check_every is None else check_every
        self.capture = capture
        self._captured: CapturedStep | None = None
        self._replays = False  # whether the running batch takes its step in the graph
        self._num_steps = 1
        self._skipped: Tensor | None = None  # steps that the device did not take, since the last look
        self._sums: dict[str, Tensor] = {}

    def configure_model(self) -> None:
        """Train a copy whose weights are shares where the strategy asks for it; the surrogate itself stays whole."""
        # Before a checkpoint is loaded, whose double precision would be rounded.
        self.trainer.precision_plugin.convert_module(self)
        if self.device_mesh is not None:
            self.surrogate = copy.deepcopy(self.surrogate)
            shard(self.surrogate.model, self.device_mesh["data_parallel"])

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Decide whether this batch takes its step in the graph; a smaller last one does not."""
        if self.capture and self._captured is None:
            optimiser = self.trainer.optimizers[0]
            max_norm = self.trainer.gradient_clip_val
            self._captured = CapturedStep(
                self._losses, optimiser, max_norm=None if max_norm is None else float(max_norm)
            )
        self._replays = self._captured is not None and self._captured.takes(batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean loss of a batch; a captured step has then been taken.

        Raises:
            ValueError: if it is not finite, naming the sample.
        """
        losses = self._captured(batch) if self._captured and self._replays else self._losses(batch)
        if self._looks_at_every_loss or self.global_step % self.check_every == 0:
            self._require_finite(losses, batch)
            self._require_all_steps_taken()
        mean = losses.mean()
        world = self.trainer.world_size > 1
        self.log("train/loss", mean, on_step=True, on_epoch=False, sync_dist=world, batch_size=len(batch))
        self.log("train/learning_rate", self._learning_rate(), on_step=True, on_epoch=False)
        return mean

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the device leave out a step whose gradient is not finite, where the host does not look at every loss."""
        if self._looks_at_every_loss or not optimizer.param_groups[0].get("fused"):
            return
        gradients = [p.grad for p in self.surrogate.parameters() if p.grad is not None]
        unusable = (~torch.isfinite(whole(torch.nn.utils.get_total_norm(gradients)))).float()
        optimizer.found_inf = unusable  # type: ignore[attr-defined]  # read by the fused update
        self._skipped = unusable if self._skipped is None else self._skipped + unusable

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
        weights = [p for p in self.surrogate.parameters() if p.requires_grad]
        optimiser, schedule = self.optimisation.build(weights, self._num_steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state of the random generator, so that resuming equals no interruption.

        Learning rates are plain numbers there, whether steps were captured or not.
        """
        checkpoint["torch_rng_state"] = torch.get_rng_state()
        for state in checkpoint.get("optimizer_states", []):
            for group in state.get("param_groups", ()):  # shares are put together in the first process only
                group |= {"lr": float(group["lr"]), "capturable": False}
        for schedule in checkpoint.get("lr_schedulers", []):
            schedule["_last_lr"] = [float(lr) for lr in schedule["_last_lr"]]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of the random generator."""
        torch.set_rng_state(checkpoint["torch_rng_state"].cpu())

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

    def _require_finite(self, losses: Tensor, batch: Batch) -> None:
        finite = torch.isfinite(losses)
        if not finite.all():
            bad = int(torch.nonzero(~finite)[0])
            raise ValueError(
                f"the loss of trajectory {int(batch.trajectory[bad])}, window start {int(batch.start[bad])}, is "
                f"{losses[bad].item()} at step {self.global_step}; this step was not taken. If the data are "
                "sound, lower optim.lr or trainer.gradient_clip."
            )

    def _require_all_steps_taken(self) -> None:
        """Refuse to go on after steps that the device left out; weights and moments are as they were before them."""
        counts = [self._skipped, None if self._captured is None else self._captured.skipped]
        skipped = sum(int(count) for count in counts if count is not None)
        if skipped:
            raise ValueError(
                f"the gradient of {skipped} of the last {self.check_every} steps before step {self.global_step} was "
                "not finite; those steps were not taken, and nothing else is lost. If the data are sound, lower "
                "optim.lr or trainer.gradient_clip."
            )

    @property
    def _looks_at_every_loss(self) -> bool:
        return self.device.type == "cpu"  # where looking does not mean waiting

    def _learning_rate(self) -> float:
        # Computed, not read: with captured steps the optimiser's number lives on the device.
        return self.optimisation.lr * self.optimisation.factor(self.global_step, self._num_steps)

    def _add(self, name: str, value: Tensor) -> None:
        self._sums[name] = self._sums[name] + value if name in self._sums else value
