"""The tables and the page of a report as one run of Weights & Biases."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..metrics.spectral_errors import RANGES
from ..registry import did_you_mean
from .contenders import native_of
from .ensembles import MEASURES
from .media import error_curves, write_films
from .paired import WORDS, difference, measures_of, pairs_of
from .results import HEADLINE, Estimate, Evaluation
from .scoring import Score
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


Table = tuple[list[str], list[list[Any]]]


def plain_tables(evaluation: Evaluation) -> dict[str, Table]:
    """Return the tables of the report as heads and rows of plain values."""
    tables = {
        "accuracy": _accuracy(evaluation),
        "paired_differences": _pairs(evaluation),
        "other_measures": _other_measures(evaluation),
        "scales": _scales(evaluation),
        "other_samplings": _samplings(evaluation),
        "certificates": _certificates(evaluation),
        "balances": _balances(evaluation),
        "ensembles": _ensembles(evaluation),
        "cost": _cost(evaluation),
    }
    return {name: table for name, table in tables.items() if table[1]}


def _at_home(evaluation: Evaluation) -> list[Score]:
    return [s for s in evaluation.scores if s.grid == evaluation.training_grid and not s.refused]


def _accuracy(evaluation: Evaluation) -> Table:
    rows = [
        [
            s.contender.label,
            on_grid(s.grid),
            *(Estimate.of(getattr(s, p)[HEADLINE]).mean for p in ("one_step", "rollout")),
        ]
        for s in evaluation.scores
        if not s.refused
    ]
    return ["model", "grid", "one step", "rollout"], rows


def _pairs(evaluation: Evaluation) -> Table:
    rows = []
    for row, against in pairs_of(evaluation):
        for metric, protocol in measures_of(evaluation):
            d = difference(evaluation, row, against, metric, protocol)
            rows.append([row.label, against.label, metric, protocol, d.mean, *d.bootstrap, WORDS[d.standing]])
    return ["model", "less", "metric", "protocol", "difference", "low", "high", "standing"], rows


def _other_measures(evaluation: Evaluation) -> Table:
    metrics = list(evaluation.headline.rollout)
    rows = [
        [
            s.contender.label,
            *(Estimate.of(s.rollout[metric]).mean for metric in metrics),
            *(float(evaluation.times(s.contender, kind).median()) for kind in ("correlation", "divergence")),
            evaluation.growth(s.rollout[HEADLINE]),
        ]
        for s in _at_home(evaluation)
    ]
    return ["model", *metrics, "correlated until", "vrmse below 1 until", "growth rate"], rows


def _scales(evaluation: Evaluation) -> Table:
    heads, rows = ["model", "quantity", *RANGES], []
    for s in _at_home(evaluation):
        by_range = s.spectral_errors.by_range if s.spectral_errors is not None else {}
        rows += [
            [s.contender.label, kind, *(float(part[name].mean()) for name in RANGES)]
            for kind, part in by_range.items()
        ]
    return heads, rows


def _samplings(evaluation: Evaluation) -> Table:
    parts = ("within", "beyond", "truth beyond")
    further = {(s.contender.label, s.grid): s.further for s in evaluation.scores if not s.refused}
    rows: list[list[Any]] = []
    for t in evaluation.transfers:
        found = further.get((t.label, t.grid), {})
        aliasing = None if t.aliasing is None else float(t.aliasing.mean())
        shares = [float(found[part].per_sample().mean()) if part in found else None for part in parts]
        rows.append([t.label, on_grid(t.grid), float(t.inconsistency.mean()), aliasing, *shares])
    return [
        "model",
        "grid",
        "inconsistency",
        "aliasing",
        "error within",
        "error beyond",
        "truth beyond",
    ], rows


def _certificates(evaluation: Evaluation) -> Table:
    rows = [
        [c.label, c.name, c.error, c.by_model, "unknown" if c.by_equation is None else str(c.by_equation)]
        for c in evaluation.certificates
    ]
    return ["model", "property", "error", "built into the model", "property of the equation"], rows


def _balances(evaluation: Evaluation) -> Table:
    kinds = ("balance_errors", "band_energy")
    names = [name for kind in kinds for name in evaluation.headline.further[kind].fields]
    rows = [
        [s.contender.label, *(v for kind in kinds for v in s.further[kind].values[:, -1].mean(0).tolist())]
        for s in _at_home(evaluation)
    ]
    return ["model", *names], rows


def _ensembles(evaluation: Evaluation) -> Table:
    rows = [
        [e.label, e.num_members, *(float(table.values.mean()) for table in e.tables.values())]
        for e in evaluation.ensembles
    ]
    return ["ensemble", "members", *MEASURES], rows


def _cost(evaluation: Evaluation) -> Table:
    rows = []
    for c in evaluation.costs:
        found = evaluation.speed_up(c.label)
        at = [None, None] if found is None else [on_grid(found[1].grid), found[0]]
        rows.append([c.label, c.parameters, c.ms_per_frame, c.peak_mib, *at])
    return ["model", "parameters", "ms per frame", "peak MiB", "solver at equal error", "speed-up"], rows
