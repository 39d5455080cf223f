"""One training run: from a plain configuration to an artifact."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities import rank_zero_only

from ..data.datamodule import TrajectoryDataModule
from ..data.opening import open_data
from ..deploy.artifact import read_plain, save_artifact
from ..metrics import METRICS
from ..models import MODELS
from ..models.staged import Staged
from ..registry import check_options, did_you_mean, load_plugins
from ..surrogate import Surrogate
from ..version import __version__
from . import UNROLLS
from .amplitude_loss import AmplitudeLoss
from .checkpoints import LAST, DurableCheckpointIO, KeepLast, TrainingInterrupted
from .double import DoubleBatches
from .forecasts import ForecastFigures
from .loggers import InStages, build_loggers, log_artifact, log_stage, watch
from .module import Metric, SurrogateTraining
from .optimisation import Optimisation
from .out_of_memory import explain_out_of_memory
from .processes import build_strategy, check_processes
from .progress import ConsoleProgress
from .pruning import Pruning
from .region_parallel import RegionParallel, region_parallel_size, require_regions
from .regional_loss import RegionalLoss
from .stages import Boosting, Fitted, StagedRun, require_same_stages
from .throughput import Throughput
from .unrolls import ChangingUnroll, Unroll

log = logging.getLogger(__name__)

MONITOR = "valid/relative_l2"
CHECKPOINTS = "checkpoints"


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
    check_processes(config["trainer"], config["data"].get("batch_size", 16), config["optim"].get("ema"))
    run_dir = _from_here(Path(config["run_dir"]))
    lightning.seed_everything(config["seed"], verbose=False)
    unroll: Unroll = UNROLLS.build(config["unroll"]["kind"], **_options(config["unroll"]))
    _require_steady_steps(config["trainer"], unroll)
    loss: Metric = _loss(config["loss"])
    check_options("optim", Optimisation, config["optim"])
    optimisation = Optimisation(**config["optim"])
    group_size = region_parallel_size(config["trainer"])
    data = open_data(
        config["data"],
        num_steps=unroll.num_steps,
        seed=config["seed"],
        ranks_per_window=group_size,
        augment=config.get("augment"),
    )
    if isinstance(loss, RegionalLoss):
        loss.check_grid(data.grid, data.spec.axis_names)
    surrogate = build_surrogate(config, data)
    require_regions(surrogate.model, config["model"]["kind"], group_size)
    build_strategy(config["trainer"], surrogate.model, config["model"]["kind"])
    if isinstance(loss, AmplitudeLoss):
        loss.check(surrogate.model, unroll)
    resumed = _resumed_folder(config, surrogate)
    check_options("boosting", Boosting, config.get("boosting", {}))
    boosting = Boosting(**config.get("boosting", {}))
    capture = _captures(config["trainer"])
    boosting.check(surrogate.model, unroll, data, capture)
    with warnings.catch_warnings():
        _ignore_advice()
        loggers = build_loggers(config["logger"], run_dir, config["run_id"], config)
        fit = partial(_fit, config, run_dir, loggers, resumed)
        _describe(surrogate, data, config, run_dir)
        if isinstance(surrogate.model, Staged):
            stages = StagedRun(
                surrogate, data, unroll, loss, optimisation, capture, boosting, config["seed"], fit,
                partial(log_stage, loggers), resumed, run_dir / CHECKPOINTS,
            )  # fmt: skip
            score, steps = stages.train()
        else:
            module = SurrogateTraining(surrogate, unroll, loss, optimisation, capture=capture)
            fitted = fit(module, data)
            score, steps = fitted.score, fitted.steps
    _finish(surrogate, loggers, score, steps, run_dir)
    return score


def build_surrogate(config: Mapping[str, Any], data: TrajectoryDataModule) -> Surrogate:
    """Build the surrogate that a configuration asks for, with statistics of the train split.

    For a model that commutes with a point group they are those of all transformed copies of the split, so that the
    normalisation commutes with it too.

    Raises:
        ValueError: if the model cannot work on these fields or this grid.
    """
    options = dict(config["model"])
    kind = options.pop("kind")
    history, horizon = config["data"].get("history", 1), config["data"].get("horizon", 1)
    if options_for := getattr(MODELS.get(kind), "options_for", None):  # what the data decide
        options = options_for(options, data)
    model = MODELS.build(kind, data.spec, history, horizon, **options)
    settings = {**config, "model": {"kind": kind, **options}}
    provenance = {
        "config": {k: v for k, v in settings.items() if k not in {"run_dir", "resume", "pruning"}},
        "data": {"name": data.dataset.name, "checksum": data.dataset.splits["train"].checksum()},
        "training_grid": list(data.grid),
        "versions": {"pdesurrogate": __version__, "torch": str(torch.__version__)},
    }
    normaliser = data.fit_normaliser()
    if (action := getattr(model, "channel_action", None)) is not None:
        normaliser = normaliser.symmetrised(action)
    surrogate = Surrogate(
        data.spec,
        normaliser,
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
    regions, space = options.pop("regions", 1), options.pop("space", "field")
    for option in options:
        raise ValueError(
            f"loss {section['kind']!r} has no option {option!r}.{did_you_mean(option, ['regions', 'space'])} "
            "Its options: regions, space."
        )
    metric: Metric = METRICS.get(section["kind"])
    if space == "amplitudes":
        if section["kind"] != "relative_l2" or regions != 1:
            raise ValueError(
                f"loss.space=amplitudes has no number for loss.kind={section['kind']} and loss.regions={regions}: "
                "Parseval's sum is the relative_l2 error of the whole box. Use loss=relative_l2 and loss.regions=1."
            )
        return AmplitudeLoss()
    if space != "field":
        raise ValueError(
            f"loss.space is {space!r}.{did_you_mean(str(space), ['field', 'amplitudes'])} Allowed: field, amplitudes."
        )
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


def _resumed_folder(config: Mapping[str, Any], surrogate: Surrogate) -> Path | None:
    """Return the folder of checkpoints to resume from, after checking that they belong to this surrogate.

    Raises:
        ValueError: if they are of another model; FileNotFoundError if there is none.
    """
    if not config.get("resume"):
        return None
    folder = Path(config["resume"]) / CHECKPOINTS
    path = next(iter(sorted(folder.rglob(LAST))), folder / LAST)
    weights = read_plain(path).get("state_dict", {})
    require_same_stages(path, weights, surrogate.model)
    mine = {f"surrogate.{k}": tuple(v.shape) for k, v in surrogate.state_dict().items()}
    theirs = {k: tuple(v.shape) for k, v in weights.items()}
    if mine != theirs:
        differing = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
        raise ValueError(
            f"{path} is of another model: {differing[0]} has shape {theirs.get(differing[0])} there and "
            f"{mine.get(differing[0])} here ({len(differing)} tensors differ). Resume with the run's own settings."
        )
    return folder


def _fit(
    config: Mapping[str, Any],
    run_dir: Path,
    loggers: Sequence[InStages],
    resumed: Path | None,
    module: SurrogateTraining,
    data: TrajectoryDataModule,
    stage: str = "",
    epochs: int | None = None,
) -> Fitted:
    """Fit a module from its start or from its last checkpoint, and load its best weights.

    Args:
        config: of the run.
        run_dir: its folder.
        loggers: shared by all stages.
        resumed: folder of checkpoints of the run that is resumed.
        module: what is fitted.
        data: on what.
        stage: name of the stage, of its folder of checkpoints and of its metrics; empty for a model of one.
        epochs: in place of those of the trainer.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after the state has been saved.
    """
    for logger in loggers:
        logger.stage = stage
    last = None if resumed is None else resumed / stage / LAST
    surrogate, kind = module.surrogate, config["model"]["kind"]
    strategy = build_strategy(config["trainer"], surrogate.model, kind)
    trainer = _build_trainer(config, run_dir, loggers, strategy, stage, epochs)
    watch(loggers, surrogate.model, config["trainer"]["log_every"])
    try:
        checkpoint = str(last) if last is not None and last.is_file() else None
        batch_size = config["data"].get("batch_size", 1)
        with explain_out_of_memory(surrogate.model, kind, data.grid, batch_size):
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except TrainingInterrupted as stop:
        raise KeyboardInterrupt(str(stop)) from None
    best: Any = trainer.checkpoint_callback
    trainer.strategy.barrier("best checkpoint written")
    weights = read_plain(best.best_model_path)["state_dict"]
    prefix = "surrogate."
    surrogate.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items()})
    return Fitted(float(best.best_model_score), trainer.global_step, trainer.strategy.root_device)


def _build_trainer(
    config: Mapping[str, Any],
    run_dir: Path,
    loggers: Sequence[InStages],
    strategy: str | Strategy,
    stage: str,
    epochs: int | None,
) -> lightning.Trainer:
    settings = {
        k: v for k, v in config["trainer"].items() if k not in {"capture", "region_parallel", "strategy"}
    }
    if is_double := settings["precision"] == "64-true":
        settings.pop("precision")
    group_size = region_parallel_size(config["trainer"])
    folder = run_dir / CHECKPOINTS / stage
    if epochs is not None:
        settings["max_epochs"] = epochs
    callbacks: list[Callback] = [
        ConsoleProgress(ranks_per_window=group_size),
        Throughput(ranks_per_window=group_size),
        ModelCheckpoint(
            folder,
            filename="best",
            monitor=MONITOR,
            mode="min",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
        ForecastFigures(run_dir / "figures" / stage, every=settings.pop("figure_every")),
        KeepLast(folder, settings.pop("checkpoint_minutes"), f"python train.py resume={run_dir}"),
        *([RegionParallel(group_size)] if group_size > 1 else []),
        *([Pruning(**config["pruning"])] if config.get("pruning") and not stage else []),
    ]
    return lightning.Trainer(
        gradient_clip_val=settings.pop("gradient_clip"),
        check_val_every_n_epoch=settings.pop("validate_every"),
        log_every_n_steps=settings.pop("log_every"),
        strategy=strategy,
        logger=list(loggers) or False,
        callbacks=callbacks,
        plugins=[DurableCheckpointIO(), *([DoubleBatches()] if is_double else [])],
        default_root_dir=run_dir,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


@rank_zero_only
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
        r".*module\(s\) in eval mode at the start of training.*",  # stages that are not trained
        ".*was configured so validation will run at the end of the training epoch.*",
    ):
        warnings.filterwarnings("ignore", message=message)


@rank_zero_only
def _finish(
    surrogate: Surrogate, loggers: Sequence[InStages], score: float, steps: int, run_dir: Path
) -> None:
    """Write the artifact."""
    surrogate.provenance["metrics"] = {MONITOR: score}
    surrogate.provenance["steps"] = steps
    path = save_artifact(surrogate, run_dir / "artifact.pt")
    log_artifact(loggers, path, surrogate.provenance)
    log.info("Best validation relative L2 %.3g %%. Artifact: %s", 100 * score, path)
    log.info("Next: python evaluate.py artifact=%s", path)
