"""Loggers by name; every one receives the same metrics under the same names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

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
    """Metrics in one run of Weights & Biases."""


_KINDS = ("none", "csv", "wandb")
_MODES = ("offline", "online", "disabled")


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
    mode = section.get("mode", "offline")
    if mode not in _MODES:
        raise ValueError(
            f"logger.mode is {mode!r}.{did_you_mean(str(mode), _MODES)} Allowed: {', '.join(_MODES)}."
        )
    logger = StagedWandbLogger(
        name=run_id,
        id=run_id.replace("/", "-"),
        save_dir=run_dir,
        project=section.get("project", "pdesurrogate"),
        entity=section.get("entity"),
        group=section.get("group") or run_id.split("/")[0],
        mode=mode,
        resume="allow" if mode == "online" else None,
        config=dict(config),
    )
    return [logger]


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


def log_artifact(loggers: Sequence[Logger], path: Path, metrics: Mapping[str, float]) -> None:
    """Attach the artifact file to the W&B run, if there is one."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            artifact = wandb.Artifact(
                f"surrogate-{logger.experiment.id}", type="model", metadata=dict(metrics)
            )
            artifact.add_file(str(path))
            logger.experiment.log_artifact(artifact)
