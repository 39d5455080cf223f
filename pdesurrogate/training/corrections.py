"""Training of a correction: the stage of a boosted model that learns what the stages before it leave over.

The target of stage s is ``y - y_{s-1}`` and its loss that of the residual, ``loss(η σ B, y - y_{s-1})``, in physical
units and on the true history as in every other training. What the earlier stages forecast for a window is the same in
every epoch, so that it is computed once where that is valid: from the true history, without random augmentation.

Qin et al. 2024, arXiv:2404.07200; the scale σ is ours (the paper says nothing of one).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..data.loader import Windows
from ..data.memory import available_memory, ranks_here
from ..fields import Batch
from ..metrics import field_slices, relative_l2
from ..models.specboost import SpecBoost
from ..surrogate import Surrogate
from .module import Metric, SurrogateTraining
from .optimisation import Optimisation
from .unrolls import OneStep, Unroll

log = logging.getLogger(__name__)

CACHES = ("auto", "ram", "none")
SHRINKAGES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Forecasts:
    """What the earlier stages' models return for every window of a split, held on the host.

    Attributes:
        values: normalised outputs in the order of the windows.
        starts: windows of one trajectory.
    """

    values: Float[Tensor, "window horizon channel *space"]
    starts: int

    def of(self, batch: Batch) -> Float[Tensor, "batch horizon channel *space"]:
        """Return those of a batch, on its device."""
        rows = (batch.trajectory * self.starts + batch.start).cpu()
        return self.values[rows].to(batch.history.device, non_blocking=True)

    def of_trajectories(self, indices: list[int]) -> Forecasts:
        """Return those of some trajectories, renumbered from 0."""
        return Forecasts(self.values.unflatten(0, (-1, self.starts))[indices].flatten(0, 1), self.starts)


class CorrectedStep(Surrogate):
    """A boosted surrogate up to the stage in training, which keeps what the earlier stages alone would forecast.

    Unrolls use it like the surrogate, whose parts it shares.

    Attributes:
        known: output of the earlier stages for the next step, if it need not be computed.
        before: forecasts of the earlier stages for all steps since it was emptied, physical and without gradients.
    """

    def __init__(self, surrogate: Surrogate, stage: int) -> None:
        super().__init__(
            surrogate.spec,
            surrogate.normaliser,
            surrogate.model,
            history=surrogate.history,
            horizon=surrogate.horizon,
            predict=surrogate.predicts,
        )
        self.stage = stage
        self.known: Tensor | None = None
        self.before: list[Tensor] = []

    @property
    def boost(self) -> SpecBoost:
        """The model."""
        model: Any = self.model
        return model

    def step(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the next frames after the correction, and keep those before it."""
        inputs = self.normalised(history, parameters)
        known, self.known = self.known, None
        earlier = self.boost.earlier(self.stage, *inputs) if known is None else known
        self.before.append(self.in_physical_units(earlier, history).detach())
        return self.in_physical_units(self.boost.correction(self.stage)(*inputs, earlier), history)


class CorrectionTraining(SurrogateTraining):
    """Train one stage of a boosted model, not the first, on the residual of those before it.

    ``valid/relative_l2`` is the error of the sum, and the losses are those of the residual.

    Args:
        surrogate: whose model is a `SpecBoost` in which the stage was begun.
        stage: counted from 0.
        normalise: whether the scale of the correction is measured on the training residual; otherwise it stays 1.
        cache: whether earlier forecasts are held in memory, ``"auto"`` (where that is valid and they take at most a
            quarter of the free memory), ``"ram"`` or ``"none"``.
        known: earlier forecasts for the training windows that take the place of the stages' own.
        unroll, loss, optimisation, capture: as of `SurrogateTraining`.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        unroll: Unroll,
        loss: Metric,
        optimisation: Optimisation,
        *,
        stage: int,
        normalise: bool = True,
        cache: str = "auto",
        known: Forecasts | None = None,
        capture: bool = False,
    ) -> None:
        super().__init__(surrogate, unroll, loss, optimisation, capture=capture)
        self.stage, self.cache = stage, cache
        self._measures_scale = normalise
        self._known: dict[str, Forecasts] = {} if known is None else {"train": known}
        self._steps: list[CorrectedStep] = []  # not a submodule: it shares the surrogate's parts

    def on_fit_start(self) -> None:
        """Look at the training residual once: its scale, unless a checkpoint has it, and the earlier forecasts."""
        self._steps = [CorrectedStep(self.surrogate, self.stage).to(self.device)]
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        splits = {split: data.windows(split) for split in ("train", "valid")}
        for split, windows in splits.items():
            is_augmented = split == "train" and data.augmentation.changes_windows
            can_hold = cache_is_valid(self.unroll, self.capture, is_augmented)
            if can_hold and split not in self._known and fits(windows, self.surrogate, self.cache):
                self._known[split] = forecasts_of(windows, self._earlier, data.batch_size, self.device)
        if self._measures_scale:
            scale = self._residual_scale(splits["train"], data.batch_size)
            self._steps[0].boost.correction(self.stage).scale.copy_(scale)
            log.info(
                "Scale of the residual, in units of the model's output: %s",
                ", ".join(f"{s:.3g}" for s in scale.tolist()),
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the scale from the checkpoint, with the weights that were trained for it."""
        super().on_load_checkpoint(checkpoint)
        self._measures_scale = False

    def _outcome(self, batch: Batch) -> tuple[Tensor, Float[Tensor, " batch"]]:
        """Return the sum's predictions, and the loss of the residual's."""
        step = self._steps[0]
        forecasts = self._known.get("train" if self.training else "valid")
        step.before = []
        step.known = None if forecasts is None else forecasts.of(batch)
        prediction = self.unroll(step, batch)
        before = torch.cat(step.before, dim=1)
        return prediction, self._losses_of(prediction - before, batch.future - before)

    def _earlier(self, batch: Batch) -> Tensor:
        """Return the earlier stages' normalised output."""
        inputs = self.surrogate.normalised(batch.history, batch.parameters)
        with self.trainer.precision_plugin.forward_context():
            return self._steps[0].boost.earlier(self.stage, *inputs)

    @torch.no_grad()
    def _residual_scale(self, windows: Windows, batch_size: int) -> Float[Tensor, " channel"]:
        """Return the root mean square of each field's residual, in units of the model's output.

        Raises:
            ValueError: if nothing is left over in any field.
        """
        spec, horizon = self.surrogate.spec, self.surrogate.horizon
        unit = self.surrogate.output_unit.double()
        squares, count = torch.zeros_like(unit), 0
        known = self._known.get("train")
        for batch in in_batches(windows, batch_size, self.device):
            earlier = self._earlier(batch) if known is None else known.of(batch)
            before = self.surrogate.in_physical_units(earlier, batch.history)
            residual = (batch.future[:, :horizon] - before).double().transpose(1, 2).flatten(2)
            squares += residual.square().sum((0, 2)) / unit.square()
            count += residual.shape[0] * residual.shape[2]
        scale = torch.ones_like(unit)
        for part in field_slices(spec):
            scale[part] = (squares[part].mean() / count).sqrt()
        if not all(scale[part].gt(0).all() for part in field_slices(spec)):
            raise ValueError(
                f"the stages before stage {self.stage + 1} leave nothing over on the training data; there is nothing "
                f"to correct. Use model.num_stages={self.stage}."
            )
        return scale.float()


def cache_is_valid(unroll: Unroll, capture: bool, is_augmented: bool) -> bool:
    """Return whether earlier forecasts are the same in every epoch and can be looked up by window."""
    return isinstance(unroll, OneStep) and not capture and not is_augmented


def fits(windows: Windows, surrogate: Surrogate, cache: str) -> bool:
    """Return whether the earlier forecasts of some windows are to be held in memory."""
    if cache == "none":
        return False
    history, _ = windows.batch([0]).tensors()[:2]
    needed = 4 * len(windows) * surrogate.horizon * history[0, 0].numel() * ranks_here()
    free = available_memory()
    held = cache == "ram" or (free is not None and needed <= free // 4)
    log.info(
        "Forecasts of the earlier stages: %.0f MiB, %s",
        needed / 2**20,
        "computed once" if held else "more than a quarter of the free memory: computed anew in every step",
    )
    return held


def in_batches(windows: Windows, batch_size: int, device: torch.device) -> Iterator[Batch]:
    """Yield all windows in order."""
    for start in range(0, len(windows), batch_size):
        yield windows.batch(range(start, min(start + batch_size, len(windows)))).to(device)


@torch.no_grad()
def forecasts_of(
    windows: Windows, forecast: Callable[[Batch], Tensor], batch_size: int, device: torch.device
) -> Forecasts:
    """Return a model's output for all windows."""
    values = [forecast(batch).cpu() for batch in in_batches(windows, batch_size, device)]
    return Forecasts(torch.cat(values), windows.index.starts_per_trajectory)


@torch.no_grad()
def choose_shrinkage(
    surrogate: Surrogate, stage: int, windows: Windows, batch_size: int, device: torch.device
) -> tuple[float, Mapping[float, float]]:
    """Return the η among `SHRINKAGES` with the least relative L2 error of one step, and the error of each.

    The correction is linear in η, so that all are measured in one pass; of equal errors the smaller η is taken.
    """
    step = CorrectedStep(surrogate, stage).to(device)
    sums = dict.fromkeys(SHRINKAGES, 0.0)
    for batch in in_batches(windows, batch_size, device):
        step.before = []
        after = step.step(batch.history, batch.parameters)
        target = batch.future[:, : surrogate.horizon]
        for eta in SHRINKAGES:
            prediction = step.before[0] + eta * (after - step.before[0])
            sums[eta] += float(
                relative_l2(prediction, target, surrogate.spec).flatten(1).mean(1).double().sum()
            )
    errors = {eta: total / len(windows) for eta, total in sums.items()}
    return min(SHRINKAGES, key=lambda eta: (errors[eta], eta)), errors
