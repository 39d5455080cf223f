"""The tables and the page of a report as one run of Weights & Biases."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..registry import did_you_mean
from .contenders import native_of
from .media import error_curves, write_films
from .results import HEADLINE, Estimate, Evaluation
from .typography import on_grid

MODES = ("offline", "online", "disabled")


def check_tracking(section: Mapping[str, Any] | None) -> None:
    """Refuse a section that names no project or an unknown mode.

    Raises:
        ValueError: naming what was given and what is allowed.
    """
    if not section:
        return
    unknown = sorted(set(section) - {"project", "entity", "mode"})
    if unknown or not section.get("project"):
        raise ValueError(f"wandb is {dict(section)}; give project, and entity and mode if you like.")
    mode = section.get("mode", "offline")
    if mode not in MODES:
        raise ValueError(
            f"wandb.mode is {mode!r}.{did_you_mean(str(mode), MODES)} Allowed: {', '.join(MODES)}."
        )


def track(evaluation: Evaluation, page: Path, section: Mapping[str, Any]) -> None:
    """Log the summary, the tables, the page, films of rollouts and curves of an evaluation.

    The run stands in the group of the training whose artifact was evaluated.
    """
    import wandb

    run = wandb.init(
        project=section["project"],
        entity=section.get("entity"),
        mode=section.get("mode", "offline"),
        group=_training_run(evaluation),
        job_type="evaluation",
        dir=str(page.parent),
        config=dict(evaluation.config),
    )
    tables = {
        name: wandb.Table(columns=list(heads), data=rows)
        for name, (heads, rows) in plain_tables(evaluation).items()
    }
    curves = {
        name: wandb.plot.line_series(
            xs=list(c.x), ys=[list(y) for y in c.y.values()], keys=list(c.y), title=c.title, xname=c.axis
        )
        for name, c in error_curves(evaluation).items()
    }
    with tempfile.TemporaryDirectory() as folder:
        films = {
            name: wandb.Video(str(path), format="gif")
            for name, path in write_films(evaluation, Path(folder)).items()
        }
        run.log(
            {
                **summary_numbers(evaluation),
                **tables,
                **curves,
                **films,
                "report": wandb.Html(page.read_text(encoding="utf-8"), inject=False),
            }
        )
        run.finish()


def _training_run(evaluation: Evaluation) -> str | None:
    native = native_of(evaluation.main)
    run_id = None if native is None else native.surrogate.provenance.get("config", {}).get("run_id")
    return None if run_id is None else str(run_id)


def summary_numbers(evaluation: Evaluation) -> dict[str, float]:
    """Return the mean errors of the surrogate by grid and metric, under names of their own."""
    numbers = {}
    for grid in evaluation.grids:
        score = evaluation.score(evaluation.runner(grid), grid)
        for protocol in ("rollout", "one_step"):
            for metric, table in getattr(score, protocol).items():
                numbers[f"test/{protocol}/{metric}/{'x'.join(map(str, grid))}"] = Estimate.of(table).mean
    return numbers


def plain_tables(evaluation: Evaluation) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Return the tables of the report as heads and rows of plain values."""
    accuracy = [
        [
            s.contender.label,
            on_grid(s.grid),
            *(Estimate.of(getattr(s, p)[HEADLINE]).mean for p in ("one_step", "rollout")),
        ]
        for s in evaluation.scores
        if not s.refused
    ]
    cost = [[c.label, c.parameters, c.ms_per_frame, c.peak_mib] for c in evaluation.costs]
    certificates = [
        [c.label, c.name, c.error, c.by_model, "unknown" if c.by_equation is None else str(c.by_equation)]
        for c in evaluation.certificates
    ]
    return {
        "accuracy": (["model", "grid", "one step", "rollout"], accuracy),
        "cost": (["model", "parameters", "ms per frame", "peak MiB"], cost),
        "certificates": (
            ["model", "property", "error", "built into the model", "property of the equation"],
            certificates,
        ),
    }
