"""Loggers by name; every one receives the same metrics under the same names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

from ..registry import did_you_mean

_KINDS = ("none", "csv", "wandb")
_MODES = ("offline", "online", "disabled")


def build_loggers(
    section: Mapping[str, Any], run_dir: Path, run_id: str, config: Mapping[str, Any]
) -> list[Logger]:
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
        return [CSVLogger(save_dir=run_dir, name="csv", flush_logs_every_n_steps=50)]
    mode = section.get("mode", "offline")
    if mode not in _MODES:
        raise ValueError(
            f"logger.mode is {mode!r}.{did_you_mean(str(mode), _MODES)} Allowed: {', '.join(_MODES)}."
        )
    logger = WandbLogger(
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


def log_artifact(loggers: list[Logger], path: Path, metrics: Mapping[str, float]) -> None:
    """Attach the artifact file to the W&B run, if there is one."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            artifact = wandb.Artifact(
                f"surrogate-{logger.experiment.id}", type="model", metadata=dict(metrics)
            )
            artifact.add_file(str(path))
            logger.experiment.log_artifact(artifact)
