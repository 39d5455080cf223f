"""One fit: Lightning's trainer with the callbacks of the house, from the start or from the last checkpoint."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from ..data.datamodule import TrajectoryDataModule
from ..deploy.artifact import read_plain
from ..interruption import StopSignals
from ..trainer_options import region_parallel_size
from .checkpoints import LAST, DurableCheckpointIO, KeepLast
from .double import DoubleBatches
from .forecasts import ForecastFigures
from .loggers import InStages, watch
from .lost_process import explain_lost_process
from .module import SurrogateTraining
from .out_of_memory import explain_out_of_memory
from .processes import build_strategy
from .progress import ConsoleProgress
from .pruning import Pruning
from .region_parallel import RegionParallel
from .skipped_steps import StopAfterSkippedSteps
from .stages import Fitted
from .throughput import Throughput
from .weight_average import WeightAverage, validated_weights

MONITOR = "valid/relative_l2"
CHECKPOINTS = "checkpoints"
_NOT_LIGHTNINGS = {
    "capture", "compile", "region_parallel", "preemption_signal", "strategy", "timeout_minutes"
}  # fmt: skip
"""Keys of the section ``trainer`` that are not for Lightning's."""


@dataclass(frozen=True)
class Fitting:
    """How the fits of a run are made; a model of one stage has one, see `pdesurrogate.training.stages` for others.

    Attributes:
        config: of the run.
        run_dir: its folder.
        signals: what may ask for an end.
        loggers: shared by all stages.
        resumed: folder of checkpoints of the run that is resumed; None for a new run.
    """

    config: Mapping[str, Any]
    run_dir: Path
    signals: StopSignals
    loggers: Sequence[InStages]
    resumed: Path | None

    def __call__(
        self,
        module: SurrogateTraining,
        data: TrajectoryDataModule,
        stage: str = "",
        epochs: int | None = None,
    ) -> Fitted:
        """Fit a module from its start or from its last checkpoint, and load its best weights.

        Args:
            module: what is fitted.
            data: on what.
            stage: name of the stage, of its folder of checkpoints and of its metrics; empty for a model of one.
            epochs: in place of those of the trainer.

        Raises:
            Interrupted: on a signal, after the state has been saved.
        """
        for logger in self.loggers:
            logger.stage = stage
        last = None if self.resumed is None else self.resumed / stage / LAST
        decay = module.optimisation.ema
        average = None if decay is None else WeightAverage(decay)
        surrogate = module.surrogate  # whole, also where a copy with weights that are shared out is trained
        trainer = self._trainer(module, average, stage, epochs)
        watch(self.loggers, surrogate.model, self.config["trainer"]["log_every"])
        resumed = str(last) if last is not None and last.is_file() else None
        advice = explain_out_of_memory(
            surrogate.model, self.config["model"]["kind"], data.grid, data.batch_size
        )
        with advice, explain_lost_process(self.signals.go_on):
            trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)
        best: Any = trainer.checkpoint_callback
        trainer.strategy.barrier("best checkpoint written")
        weights = validated_weights(read_plain(best.best_model_path))
        prefix = "surrogate."
        surrogate.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items()})
        return Fitted(float(best.best_model_score), trainer.global_step, trainer.strategy.root_device)

    def _trainer(
        self, module: SurrogateTraining, average: WeightAverage | None, stage: str, epochs: int | None
    ) -> lightning.Trainer:
        settings = {k: v for k, v in self.config["trainer"].items() if k not in _NOT_LIGHTNINGS}
        callbacks = self._callbacks(settings, module, average, stage)
        plugins: list[Any] = [DurableCheckpointIO(), *_in_slurm()]
        if settings["precision"] == "64-true":
            settings.pop("precision")
            plugins.append(DoubleBatches())
        if epochs is not None:
            settings["max_epochs"] = epochs
        return lightning.Trainer(
            gradient_clip_val=settings.pop("gradient_clip"),
            check_val_every_n_epoch=settings.pop("validate_every"),
            log_every_n_steps=settings.pop("log_every"),
            logger=list(self.loggers) or False,
            callbacks=callbacks,
            plugins=plugins,
            default_root_dir=self.run_dir,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            strategy=build_strategy(
                self.config["trainer"],
                module.surrogate.model,
                self.config["model"]["kind"],
                self.signals.go_on,
            ),
            **settings,
        )

    def _callbacks(
        self,
        settings: dict[str, Any],
        module: SurrogateTraining,
        average: WeightAverage | None,
        stage: str,
    ) -> list[Callback]:
        """Return the callbacks, after taking their settings out of those of the trainer."""
        group_size = region_parallel_size(self.config["trainer"])
        folder = self.run_dir / CHECKPOINTS / stage
        best = ModelCheckpoint(
            folder,
            filename="best",
            monitor=MONITOR,
            mode="min",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        minutes, steps = settings.pop("checkpoint_minutes"), settings.pop("checkpoint_steps", None)
        last = KeepLast(folder, minutes, steps, self.signals)
        figures = self.run_dir / "figures" / stage
        return [
            ConsoleProgress(ranks_per_window=group_size),
            Throughput(ranks_per_window=group_size),
            *([] if average is None else [average]),
            best,
            ForecastFigures(figures, every=settings.pop("figure_every"), average=average),
            last,
            StopAfterSkippedSteps(module.skipped, module.optimisation.max_skipped, last.save),
            *([RegionParallel(group_size)] if group_size > 1 else []),
            *([Pruning(**self.config["pruning"])] if self.config.get("pruning") and not stage else []),
        ]


def _in_slurm() -> list[SLURMEnvironment]:
    """Return Lightning's view of a SLURM job, without its handler of signals, which saves in the middle of a step."""
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return []
    return [SLURMEnvironment(auto_requeue=False)]


def ignore_advice() -> None:
    """Silence Lightning's advice that does not apply here; each is dealt with elsewhere."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # what it tells of devices, `_describe` tells
    for message in (
        ".*does not have many workers.*",  # batches are one gather from memory or contiguous reads
        ".*sync_dist=True.*",  # validation sums are reduced over ranks before they are logged
        ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run writes where it wrote before
        "The .srun. command is available.*",  # SLURM is installed, and this is no job
        ".*smaller than the logging interval.*",  # small sets have short epochs
        ".*callbacks used to create the checkpoint need to be provided.*",  # resumed without the average of weights
        ".*LeafSpec.* is deprecated.*",  # inside Lightning, with torch's newer trees
        r".*module\(s\) in eval mode at the start of training.*",  # stages that are not trained
        ".*was configured so validation will run at the end of the training epoch.*",
    ):
        warnings.filterwarnings("ignore", message=message)
