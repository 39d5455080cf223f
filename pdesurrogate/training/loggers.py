"""Loggers by name; every one receives the same metrics under the same names."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from ..durable import durable_write
from ..registry import did_you_mean


class InStages(Logger):
    """A logger of a run whose stages are fitted one after the other: the stage stands before a metric's name.

    Attributes:
        stage: name of the stage; nothing is added where it is empty.
    """

    stage: str = ""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics of the stage."""
        named = {f"{self.stage}/{name}": value for name, value in metrics.items()} if self.stage else metrics
        super().log_metrics(dict(named), step)  # type: ignore[safe-super]  # that of the logger beside it


class StagedCSVLogger(InStages, CSVLogger):
    """Metrics as a table in a file."""


class StagedWandbLogger(InStages, WandbLogger):
    """Metrics in one run of Weights & Biases.

    Attributes:
        watched: what is logged as histograms besides, ``"gradients"``, ``"parameters"`` or ``"all"``; None for nothing.
    """

    watched: str | None = None


_KINDS = ("none", "csv", "wandb")
_MODES = ("offline", "online", "disabled")
_WATCHED = ("gradients", "parameters", "all")
_RUN_FILE = "wandb_run"


def build_loggers(
    section: Mapping[str, Any], run_dir: Path, run_id: str, config: Mapping[str, Any]
) -> list[InStages]:
    """Return the loggers that the ``logger`` section asks for.

    A resumed run adds a new part to its CSV files and goes on with the same W&B run.

    Raises:
        ValueError: for an unknown kind or W&B mode.
    """
    kind = section.get("kind")
    if kind not in _KINDS:
        raise ValueError(
            f"unknown logger {kind!r}.{did_you_mean(str(kind), _KINDS)} Available: {', '.join(_KINDS)}."
        )
    if kind == "none":
        return []
    if kind == "csv":
        return [StagedCSVLogger(save_dir=run_dir, name="csv", flush_logs_every_n_steps=50)]
    return [_wandb_logger(section, run_dir, run_id, config)]


def _wandb_logger(
    section: Mapping[str, Any], run_dir: Path, run_id: str, config: Mapping[str, Any]
) -> StagedWandbLogger:
    mode, watched = section.get("mode", "offline"), section.get("watch")
    if mode not in _MODES:
        raise ValueError(
            f"logger.mode is {mode!r}.{did_you_mean(str(mode), _MODES)} Allowed: {', '.join(_MODES)}."
        )
    if watched is not None and watched not in _WATCHED:
        raise ValueError(
            f"logger.watch is {watched!r}.{did_you_mean(str(watched), _WATCHED)} Allowed: null, {', '.join(_WATCHED)}."
        )
    trainer = config.get("trainer", {})
    if watched is not None and (trainer.get("strategy") == "fsdp" or trainer.get("capture")):
        option = "trainer.capture=true" if trainer.get("capture") else "trainer.strategy=fsdp"
        raise ValueError(
            f"logger.watch={watched} looks at whole gradients as they are computed, which {option} does not show. Set "
            "logger.watch=null."
        )
    logger = StagedWandbLogger(
        name=run_id if run_dir.name == run_id else f"{run_id}/{run_dir.name}",
        id=wandb_id(run_dir),
        save_dir=run_dir,
        project=section.get("project", "pdesurrogate"),
        entity=section.get("entity"),
        group=section.get("group") or _group(run_id),
        mode=mode,
        resume="allow" if mode == "online" else None,
        config=dict(config),
        settings={"x_disable_stats": not section.get("system", False)},
    )
    logger.watched = watched
    return logger


def wandb_id(run_dir: Path) -> str:
    """Return the identifier of a run in W&B, new for a new folder; a resumed run finds it there and goes on with it."""
    path = run_dir / _RUN_FILE
    if path.is_file():
        return path.read_text(encoding="utf-8").strip()
    identifier = secrets.token_hex(4)
    if _is_first():
        run_dir.mkdir(parents=True, exist_ok=True)
        with durable_write(path) as temporary:
            temporary.write_text(f"{identifier}\n", encoding="utf-8")
    return identifier


def _is_first() -> bool:
    """Return whether this is the process of rank 0, as far as is known before the processes meet."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def _group(run_id: str) -> str:
    """Return what the runs of a sweep, or of a job array of SLURM, have in common."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"slurm-{array}" if array and run_id.startswith("slurm-") else run_id


def watch(loggers: Sequence[InStages], model: nn.Module, every: int) -> None:
    """Log histograms of gradients or parameters of a model from now on, where they were asked for.

    Args:
        loggers: of the run.
        model: what is trained; all stages of a staged model.
        every: steps between entries.
    """
    for logger in loggers:
        if isinstance(logger, StagedWandbLogger) and logger.watched and _is_first():
            logger.experiment.unwatch(model)  # of the stage before
            logger.watch(model, log=logger.watched, log_freq=every, log_graph=False)


def log_stage(
    loggers: Sequence[InStages],
    stage: str,
    metrics: Mapping[str, float],
    spectra: Mapping[str, Any],
    step: int,
) -> None:
    """Log what is known of a stage after its end; its spectra go to W&B as curves over the wavenumber.

    Args:
        loggers: of the run.
        stage: its name.
        metrics: numbers by name.
        spectra: ``wavenumber``, and for each field a row of values by band under the name of a spectrum; the last
            band, of the corners, has no wavenumber and is not drawn.
        step: optimiser steps of the stage.
    """
    for logger in loggers:
        logger.stage = stage
        logger.log_metrics(dict(metrics), step)
        logger.save()
        if isinstance(logger, StagedWandbLogger) and spectra:
            _log_curves(logger, spectra)


@rank_zero_only
def _log_curves(logger: StagedWandbLogger, spectra: Mapping[str, Any]) -> None:
    import wandb

    for name in (key for key in spectra if key != "wavenumber"):
        curves = wandb.plot.line_series(
            xs=spectra["wavenumber"],
            ys=[row[: len(spectra["wavenumber"])] for row in spectra[name]],
            keys=[f"field {i + 1}" for i in range(len(spectra[name]))],
            title=f"{logger.stage}: {name} by wavenumber",
            xname="wavenumber",
        )
        logger.experiment.log({f"{logger.stage}/valid/spectrum/{name}": curves})


def log_artifact(loggers: Sequence[Logger], path: Path, provenance: Mapping[str, Any]) -> None:
    """Attach the artifact file to the W&B run, if there is one, as the next version of its model on its data.

    An alias such as ``data-1f3a9c0b2d4e`` and the metadata say which data it was trained on.

    Args:
        loggers: of the run.
        path: of the artifact.
        provenance: of the surrogate.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            config, data = provenance["config"], provenance["data"]
            name = re.sub(r"[^\w.-]+", "-", f"{config['model']['kind']}-{data['name']}")
            kept = {key: provenance[key] for key in ("metrics", "data", "versions", "training_grid", "steps")}
            artifact = wandb.Artifact(name, type="surrogate", metadata={**kept, "run": str(path.parent)})
            artifact.add_file(str(path))
            logger.experiment.log_artifact(artifact, aliases=["latest", f"data-{data['checksum'][:12]}"])
