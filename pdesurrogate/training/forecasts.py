"""Pictures of a validation forecast while training goes on."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import WandbLogger

from ..data.datamodule import TrajectoryDataModule
from ..durable import durable_write
from ..fields import DataSpec
from ..metrics.magnification import error_magnification
from .module import SurrogateTraining
from .sharded import is_sharded
from .weight_average import WeightAverage

log = logging.getLogger(__name__)


class ForecastFigures(lightning.Callback):
    """Roll out the first validation trajectory and draw truth, prediction and error.

    The picture goes to ``folder/epoch_N.png`` and, as ``valid/forecast``, to W&B.

    Args:
        folder: where the pictures go.
        every: epochs between pictures; 0 draws only at the end.
        lead_times: at most this many frames side by side.
        average: of the weights, which forecasts in their place if there is one.
    """

    def __init__(
        self, folder: Path, every: int, lead_times: int = 4, average: WeightAverage | None = None
    ) -> None:
        self._folder = folder
        self._every = every
        self._lead_times = lead_times
        self._average = average

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Draw every few epochs and after the last one."""
        epoch = trainer.current_epoch + 1
        is_due = self._every and epoch % self._every == 0
        if not (is_due or epoch == trainer.max_epochs):
            return
        if not isinstance(pl_module, SurrogateTraining) or pl_module.surrogate.spec.ndim != 2:
            return
        if not trainer.is_global_zero and not is_sharded(pl_module.surrogate.model):
            return
        with nullcontext() if self._average is None else self._average.in_place(pl_module):
            truth, prediction, leads = self._forecast(trainer, pl_module)
        if not trainer.is_global_zero:  # it has lent its share of the weights
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"epoch_{epoch:04d}.png"
        spec = pl_module.surrogate.spec
        name = spec.channel_names[_first_forecast(spec)]
        draw_forecast(truth, prediction, [f"t + {k * spec.dt:g}" for k in leads], name, path)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("valid/forecast", [str(path)], caption=[f"epoch {epoch}"])

    def _forecast(
        self, trainer: lightning.Trainer, module: SurrogateTraining
    ) -> tuple[np.ndarray, np.ndarray, list[int]]:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        source = data.trajectories("valid") if isinstance(data, TrajectoryDataModule) else data
        surrogate = module.surrogate
        history, channel = surrogate.history, _first_forecast(surrogate.spec)
        steps = source.num_frames - history
        dtype = next(surrogate.parameters()).dtype
        frames = torch.from_numpy(source.frames(0, 0, source.num_frames)).to(module.device, dtype)
        parameters = torch.from_numpy(source.parameters(0)).to(module.device, dtype)[None]
        leads = sorted({1 + round(i * (steps - 1) / (self._lead_times - 1)) for i in range(self._lead_times)})
        was_training = surrogate.training
        surrogate.eval()
        rolled = surrogate.rollout(frames[None, :history], parameters, steps)
        kept = [f[0, channel].float().cpu().numpy() for k, f in enumerate(rolled, start=1) if k in leads]
        surrogate.train(was_training)
        truth = np.stack([frames[history + k - 1, channel].cpu().numpy() for k in leads])
        return truth, np.stack(kept), leads


def _first_forecast(spec: DataSpec) -> int:
    """Return the first channel that is forecast."""
    return spec.static_channels.index(False)


def draw_forecast(
    truth: np.ndarray, prediction: np.ndarray, titles: list[str], name: str, path: Path
) -> None:
    """Draw rows truth, prediction and error over lead times ``(lead, y, x)`` and save a PNG.

    All rows share one colour scale; the error is magnified by a round factor that stands beside it.
    """
    from matplotlib.figure import Figure

    limit = float(np.abs(truth).max()) or 1.0
    error = prediction - truth
    factor = error_magnification(float(np.abs(error).max()), limit)
    rows = (("truth", truth), ("prediction", prediction), (f"error × {factor}", factor * error))
    figure = Figure(figsize=(2.0 * len(titles) + 1.2, 6.2), layout="constrained")
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for row, (label, images) in zip(axes, rows, strict=True):
        for axis, image, title in zip(row, images, titles, strict=True):
            drawn = axis.imshow(image, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit)
            axis.set_xticks([])
            axis.set_yticks([])
            if label == "truth":
                axis.set_title(title, fontsize=9)
        row[0].set_ylabel(label)
    figure.colorbar(drawn, ax=axes, shrink=0.6, label=name)
    with durable_write(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
