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
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from ..data.datamodule import TrajectoryDataModule
from ..data.opening import open_data
from ..deploy.artifact import read_plain, save_artifact
from ..durable import remove_leftovers
from ..interruption import StopSignals
from ..launch import leave_to_launcher, local_rank, rank_and_size, was_restarted
from ..metrics import METRICS
from ..models import MODELS
from ..models.matching import num_real_parameters
from ..models.options import require_grid
from ..models.staged import Staged
from ..registry import check_numbers, check_options, did_you_mean, load_plugins
from ..surrogate import Surrogate
from ..trainer_options import region_parallel_size
from ..version import __version__
from .amplitude_loss import AmplitudeLoss
from .checkpoints import LAST
from .compilation import compile_parts
from .fitting import CHECKPOINTS, MONITOR, Fitting, ignore_advice
from .floor import Floor, validation_floor
from .loggers import InStages, build_loggers, log_artifact, log_stage
from .module import Metric, SurrogateTraining
from .optimisation import Optimisation
from .out_of_memory import explain_too_large_model
from .processes import build_strategy, check_processes
from .region_parallel import require_regions
from .regional_loss import RegionalLoss
from .stages import Boosting, StagedRun, require_same_stages
from .unrolls import ChangingUnroll, Unroll, build_unroll, steps_option

log = logging.getLogger(__name__)


def train(config: dict[str, Any]) -> float:
    """Train a surrogate and write ``artifact.pt`` with the best weights into the run folder.

    A job that SLURM has queued again, or a process that torchrun has started again, goes on from its checkpoint.

    Args:
        config: plain containers with the sections of ``conf/train.yaml``.

    Returns:
        The best validation error ``valid/relative_l2``, for a sweep to minimise.

    Raises:
        ValueError: for any setting or data that cannot work, before training starts.
        Interrupted: on Ctrl-C, SIGTERM or a scheduler's warning, after the state has been saved; says how to go on.
    """
    check_processes(config["trainer"], config["data"].get("batch_size", 16), config["optim"].get("ema"))
    run_dir = _from_here(Path(config["run_dir"]))
    preemption = config["trainer"].get("preemption_signal")
    if was_restarted():
        config = {**config, "resume": str(run_dir)}
    _require_own_folder(run_dir, config.get("resume"))
    go_on = f"python train.py resume={run_dir}"
    with StopSignals(go_on, preemption, partial(leave_to_launcher, preemption)) as signals:
        return _train(config, run_dir, signals)


def _require_own_folder(run_dir: Path, resume: str | None) -> None:
    """Refuse to write over another run; other processes of this one meet the folder that the first has made.

    Raises:
        ValueError: saying how to go on with the run, or beside it.
    """
    is_first = rank_and_size()[0] == 0 and local_rank() == 0
    if is_first and not resume and (run_dir / CHECKPOINTS).is_dir():
        raise ValueError(
            f"{run_dir} already holds a run. Go on with it by resume={run_dir}, or choose another run_dir or run_id."
        )


def _train(config: dict[str, Any], run_dir: Path, signals: StopSignals) -> float:
    rank_zero_only(remove_leftovers)(run_dir)
    load_plugins(config.get("plugins", []))
    lightning.seed_everything(config["seed"], verbose=False)
    unroll = build_unroll(config["unroll"], config["data"].get("horizon", 1))
    _require_steady_steps(config["trainer"], unroll)
    loss: Metric = _loss(config["loss"])
    check_options("optim", Optimisation, config["optim"])
    check_numbers("optim", Optimisation, config["optim"])
    optimisation = Optimisation(**config["optim"])
    check_options("boosting", Boosting, config.get("boosting", {}))
    boosting = Boosting(**config.get("boosting", {}))
    _require_validation(config["trainer"], boosting)
    group_size = region_parallel_size(config["trainer"])
    data = open_data(
        config["data"],
        num_steps=unroll.num_steps,
        steps_option=steps_option(config["unroll"]["kind"]),
        seed=config["seed"],
        ranks_per_window=group_size,
        augment=config.get("augment"),
    )
    data.require_validation()
    if isinstance(loss, RegionalLoss):
        loss.check_grid(data.grid, data.spec.axis_names)
    surrogate = build_surrogate(config, data)
    require_regions(surrogate.model, config["model"]["kind"], group_size)
    build_strategy(config["trainer"], surrogate.model, config["model"]["kind"])
    if isinstance(loss, AmplitudeLoss):
        loss.check(surrogate.model, unroll)
    resumed = _resumed_folder(config, surrogate)
    capture = _captures(config["trainer"])
    boosting.check(surrogate.model, unroll, data, capture)
    if config["trainer"].get("compile", False):
        compile_parts(surrogate.model, config["model"]["kind"], capture)
    with warnings.catch_warnings():
        ignore_advice()
        loggers = build_loggers(config["logger"], run_dir, config["run_id"], config)
        fit = Fitting(config, run_dir, signals, loggers, resumed)
        floor = _describe(surrogate, data, config, run_dir)
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
    _finish(surrogate, loggers, score, steps, run_dir, floor)
    return score


def build_surrogate(config: Mapping[str, Any], data: TrajectoryDataModule) -> Surrogate:
    """Build the surrogate that a configuration asks for, with statistics of the train split.

    For a model that commutes with a point group they are those of all transformed copies of the split, so that the
    normalisation commutes with it too.

    Raises:
        ValueError: if the model cannot work on these fields or this grid, or its weights do not fit into memory.
    """
    options = dict(config["model"])
    kind = options.pop("kind")
    history, horizon = config["data"].get("history", 1), config["data"].get("horizon", 1)
    shared = (data.spec, history, horizon)
    MODELS.check(kind, len(shared), options)
    if options_for := getattr(MODELS.get(kind), "options_for", None):  # what the data decide
        options = options_for(options, data, horizon)
    with explain_too_large_model(kind, *shared, options):
        model = MODELS.build(kind, *shared, **options)
    _require_fit(model, kind, data.grid)
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
    return Surrogate(
        data.spec,
        normaliser,
        model,
        history=history,
        horizon=horizon,
        predict=config["predict"],
        provenance=provenance,
    )


def _require_fit(model: nn.Module, kind: str, grid: tuple[int, ...]) -> None:
    """Refuse a model that cannot take the grid or has nothing to train; the data are read after that.

    Raises:
        ValueError: in the words of the model, or saying where persistence has its place.
    """
    require_grid(model, grid)
    if num_real_parameters(model) == 0:
        raise ValueError(
            f"model {kind!r} has nothing to train. Evaluation puts persistence beside every model."
        )


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


def _require_validation(trainer: Mapping[str, Any], boosting: Boosting) -> None:
    """Refuse a training that ends before its first validation, which decides what weights are kept.

    Raises:
        ValueError: saying what to do.
    """
    every, epochs = trainer["validate_every"], min(boosting.epochs or [trainer["max_epochs"]])
    if type(every) is not int or every < 1:
        raise ValueError(f"trainer.validate_every is {every!r}; give a whole number of epochs, at least 1.")
    if isinstance(epochs, int) and 0 <= epochs < every:
        raise ValueError(
            f"trainer.validate_every is {every} and training ends after {epochs} epochs, before the first validation. "
            "The best weights are chosen by it: validate more often or train longer."
        )


def _require_steady_steps(trainer: Mapping[str, Any], unroll: Unroll) -> None:
    """Refuse to capture steps of an unroll that changes.

    Raises:
        ValueError: saying what to do.
    """
    if trainer.get("capture", False) and isinstance(unroll, ChangingUnroll):
        raise ValueError(
            "trainer.capture=true records one step and replays it, and the steps of this unroll change as training "
            "goes on. Set trainer.capture=false, or take unroll=one_step, or k_step without a curriculum."
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

    A run that was stopped before its first checkpoint begins again.

    Raises:
        ValueError: if they are of another model or other data.
    """
    if not config.get("resume"):
        return None
    folder = Path(config["resume"]) / CHECKPOINTS
    path = next(iter(sorted(folder.rglob(LAST))), None)
    if path is None:
        log.info("There is no checkpoint in %s yet; the run begins again.", folder)
        return None
    checkpoint = read_plain(path)
    weights, spec = checkpoint.get("state_dict", {}), surrogate.spec.to_dict()
    if (other := checkpoint.get("spec", spec)) != spec:
        key = min(k for k in spec.keys() | other.keys() if other.get(k) != spec.get(k))
        raise ValueError(
            f"{path} is of other data: {key} is {other.get(key)} there and {spec.get(key)} here. Resume with the run's "
            "own data."
        )
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


@rank_zero_only
def _describe(
    surrogate: Surrogate, data: TrajectoryDataModule, config: Mapping[str, Any], run_dir: Path
) -> Floor | None:
    """Say what is trained on what; return the floor of its validation error."""
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
    floor = validation_floor(surrogate, data)
    if floor is not None:
        log.info("No weights bring the validation relative L2 below the truncation floor, %s", floor)
    return floor


@rank_zero_only
def _finish(
    surrogate: Surrogate,
    loggers: Sequence[InStages],
    score: float,
    steps: int,
    run_dir: Path,
    floor: Floor | None,
) -> None:
    """Write the artifact."""
    surrogate.provenance["metrics"] = {MONITOR: score}
    surrogate.provenance["steps"] = steps
    path = save_artifact(surrogate, run_dir / "artifact.pt")
    log_artifact(loggers, path, surrogate.provenance)
    beside = "" if floor is None else f", truncation floor {floor}"
    log.info("Best validation relative L2 %.3g %%%s. Artifact: %s", 100 * score, beside, path)
    log.info("Next: python evaluate.py artifact=%s", path)
