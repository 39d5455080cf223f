"""One training run: from a plain configuration to an artifact."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from ..data.datamodule import TrajectoryDataModule
from ..data.opening import open_data
from ..deploy.artifact import read_plain, save_artifact
from ..metrics import METRICS
from ..models import MODELS
from ..registry import check_options, did_you_mean, load_plugins
from ..surrogate import Surrogate
from ..version import __version__
from . import UNROLLS
from .checkpoints import DurableCheckpointIO, KeepLast, TrainingInterrupted
from .forecasts import ForecastFigures
from .loggers import build_loggers, log_artifact
from .module import Metric, SurrogateTraining
from .optimisation import Optimisation
from .out_of_memory import explain_out_of_memory
from .progress import ConsoleProgress
from .region_parallel import RegionParallel, region_parallel_size, require_regions
from .regional_loss import RegionalLoss
from .unrolls import ChangingUnroll, Unroll

log = logging.getLogger(__name__)

MONITOR = "valid/relative_l2"


def train(config: dict[str, Any]) -> float:
    """Train a surrogate and write ``artifact.pt`` with the best weights into the run folder.

    Args:
        config: plain containers with the sections of ``conf/train.yaml``.

    Returns:
        The best validation error ``valid/relative_l2``, for a sweep to minimise.

    Raises:
        ValueError: for any setting or data that cannot work, before training starts.
        KeyboardInterrupt: on Ctrl-C, after the state has been saved; says how to go on.
    """
    load_plugins(config.get("plugins", []))
    run_dir = _from_here(Path(config["run_dir"]))
    lightning.seed_everything(config["seed"], verbose=False)
    unroll: Unroll = UNROLLS.build(config["unroll"]["kind"], **_options(config["unroll"]))
    _require_steady_steps(config["trainer"], unroll)
    loss: Metric = _loss(config["loss"])
    check_options("optim", Optimisation, config["optim"])
    optimisation = Optimisation(**config["optim"])
    group_size = region_parallel_size(config["trainer"])
    data = open_data(
        config["data"], num_steps=unroll.num_steps, seed=config["seed"], ranks_per_window=group_size
    )
    if isinstance(loss, RegionalLoss):
        loss.check_grid(data.grid, data.spec.axis_names)
    surrogate = build_surrogate(config, data)
    require_regions(surrogate.model, config["model"]["kind"], group_size)
    checkpoint = _resume_checkpoint(config, surrogate)
    module = SurrogateTraining(surrogate, unroll, loss, optimisation, capture=_captures(config["trainer"]))
    with warnings.catch_warnings():
        _ignore_advice()
        trainer = _build_trainer(config, run_dir)
        if trainer.is_global_zero:
            _describe(surrogate, data, config, run_dir)
        batch_size = config["data"].get("batch_size", 1)
        try:
            with explain_out_of_memory(surrogate.model, config["model"]["kind"], data.grid, batch_size):
                trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except TrainingInterrupted as stop:
            raise KeyboardInterrupt(str(stop)) from None
    return _finish(trainer, surrogate, run_dir)


def build_surrogate(config: Mapping[str, Any], data: TrajectoryDataModule) -> Surrogate:
    """Build the surrogate that a configuration asks for, with statistics of the train split.

    Raises:
        ValueError: if the model cannot work on these fields or this grid.
    """
    options = dict(config["model"])
    history, horizon = config["data"].get("history", 1), config["data"].get("horizon", 1)
    model = MODELS.build(options.pop("kind"), data.spec, history, horizon, **options)
    provenance = {
        "config": {k: v for k, v in config.items() if k not in {"run_dir", "resume"}},
        "data": {"name": data.dataset.name, "checksum": data.dataset.splits["train"].checksum()},
        "training_grid": list(data.grid),
        "versions": {"pdesurrogate": __version__, "torch": str(torch.__version__)},
    }
    surrogate = Surrogate(
        data.spec,
        data.fit_normaliser(),
        model,
        history=history,
        horizon=horizon,
        predict=config["predict"],
        provenance=provenance,
    )
    surrogate.check_grid(data.grid)
    if surrogate.num_parameters == 0:
        raise ValueError(
            f"model {config['model']['kind']!r} has nothing to train. Evaluation puts persistence beside every model."
        )
    return surrogate


def _from_here(path: Path) -> Path:
    """Return a path below the working directory as the user would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _options(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a section says apart from the name of the thing it picks."""
    return {k: v for k, v in section.items() if k != "kind"}


def _loss(section: Mapping[str, Any]) -> Metric:
    options = _options(section)
    regions = options.pop("regions", 1)
    for option in options:
        raise ValueError(
            f"loss {section['kind']!r} has no option {option!r}.{did_you_mean(option, ['regions'])} "
            "Its options: regions."
        )
    metric: Metric = METRICS.get(section["kind"])
    return metric if regions == 1 else RegionalLoss(metric, regions)


def _require_steady_steps(trainer: Mapping[str, Any], unroll: Unroll) -> None:
    """Refuse to capture steps of an unroll that changes.

    Raises:
        ValueError: saying what to do.
    """
    if trainer.get("capture", False) and isinstance(unroll, ChangingUnroll):
        raise ValueError(
            "trainer.capture=true records one step and replays it, and the steps of this unroll change as training "
            "goes on. Set trainer.capture=false, or take unroll=one_step or k_step."
        )


def _captures(trainer: Mapping[str, Any]) -> bool:
    """Return whether steps are to be captured, after checking that they can be."""
    if not trainer.get("capture", False):
        return False
    devices = trainer["devices"]
    alone = trainer["num_nodes"] == 1 and (devices == 1 or (isinstance(devices, list) and len(devices) == 1))
    has_gpu = torch.cuda.is_available()
    if not has_gpu or trainer["accelerator"] == "cpu" or not alone:
        raise ValueError(
            "trainer.capture=true records steps as CUDA graphs, for one process on one NVIDIA GPU; there "
            f"{'is one' if has_gpu else 'is none'} here, trainer.accelerator is {trainer['accelerator']}, "
            f"trainer.devices {devices} and trainer.num_nodes {trainer['num_nodes']}. Set trainer.capture=false."
        )
    return True


def _resume_checkpoint(config: Mapping[str, Any], surrogate: Surrogate) -> str | None:
    """Return the checkpoint to resume from, after checking that it belongs to this surrogate.

    Raises:
        ValueError: if the checkpoint is of another model; FileNotFoundError if there is none.
    """
    if not config.get("resume"):
        return None
    path = Path(config["resume"]) / "checkpoints" / "last.ckpt"
    weights = read_plain(path).get("state_dict", {})
    mine = {f"surrogate.{k}": tuple(v.shape) for k, v in surrogate.state_dict().items()}
    theirs = {k: tuple(v.shape) for k, v in weights.items()}
    if mine != theirs:
        differing = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
        raise ValueError(
            f"{path} is of another model: {differing[0]} has shape {theirs.get(differing[0])} there and "
            f"{mine.get(differing[0])} here ({len(differing)} tensors differ). Resume with the run's own settings."
        )
    return str(path)


def _build_trainer(config: Mapping[str, Any], run_dir: Path) -> lightning.Trainer:
    settings = {k: v for k, v in config["trainer"].items() if k not in {"capture", "region_parallel"}}
    group_size = region_parallel_size(config["trainer"])
    folder = run_dir / "checkpoints"
    callbacks: list[Callback] = [
        ConsoleProgress(ranks_per_window=group_size),
        ModelCheckpoint(
            folder,
            filename="best",
            monitor=MONITOR,
            mode="min",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
        ForecastFigures(run_dir / "figures", every=settings.pop("figure_every")),
        KeepLast(folder, settings.pop("checkpoint_minutes"), f"python train.py resume={run_dir}"),
        *([RegionParallel(group_size)] if group_size > 1 else []),
    ]
    return lightning.Trainer(
        gradient_clip_val=settings.pop("gradient_clip"),
        check_val_every_n_epoch=settings.pop("validate_every"),
        log_every_n_steps=settings.pop("log_every"),
        logger=build_loggers(config["logger"], run_dir, config["run_id"], config) or False,
        callbacks=callbacks,
        plugins=[DurableCheckpointIO()],
        default_root_dir=run_dir,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


def _describe(
    surrogate: Surrogate, data: TrajectoryDataModule, config: Mapping[str, Any], run_dir: Path
) -> None:
    spec = surrogate.spec
    grid = " x ".join(map(str, data.grid))
    log.info(
        "Training %s (%s real parameters) on %s: %s at %s, frames in %d, out %d, dt %g%s. Run folder: %s",
        config["model"]["kind"],
        f"{surrogate.num_parameters:,}",
        data.dataset.name,
        ", ".join(spec.channel_names),
        grid,
        surrogate.history,
        surrogate.horizon,
        spec.dt,
        "" if spec.time_units == "1" else f" {spec.time_units}",
        run_dir,
    )
    if summary := getattr(surrogate.model, "summary", ""):
        log.info("%s: %s", config["model"]["kind"], summary)


def _ignore_advice() -> None:
    """Silence Lightning's advice that does not apply here; each is dealt with elsewhere."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # what it tells of devices, `_describe` tells
    for message in (
        ".*does not have many workers.*",  # batches are one gather from memory or contiguous reads
        ".*sync_dist=True.*",  # validation sums are reduced over ranks before they are logged
        ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run writes where it wrote before
        ".*smaller than the logging interval.*",  # small sets have short epochs
        ".*LeafSpec.* is deprecated.*",  # inside Lightning, with torch's newer trees
        ".*was configured so validation will run at the end of the training epoch.*",
    ):
        warnings.filterwarnings("ignore", message=message)


def _finish(trainer: lightning.Trainer, surrogate: Surrogate, run_dir: Path) -> float:
    """Write the artifact with the best weights and return their validation error."""
    best: Any = trainer.checkpoint_callback
    score = float(best.best_model_score)
    trainer.strategy.barrier("best checkpoint written")
    if trainer.is_global_zero:
        prefix = "surrogate."
        weights = read_plain(best.best_model_path)["state_dict"]
        surrogate.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items()})
        surrogate.provenance["metrics"] = {MONITOR: score}
        surrogate.provenance["steps"] = trainer.global_step
        path = save_artifact(surrogate, run_dir / "artifact.pt")
        log_artifact(trainer.loggers, path, {MONITOR: score})
        log.info("Best validation relative L2 %.3g %%. Artifact: %s", 100 * score, path)
        log.info("Next: python evaluate.py artifact=%s", path)
    return score
