"""The report: one self-contained HTML page that reads like a results section. No script, nothing fetched."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

from ..version import __version__
from .charts import Series, line_chart, percent
from .contenders import Contender
from .pictures import fields_figure
from .results import HEADLINE, Evaluation
from .tables import accuracy_table, colour_class, details_table
from .verdict import on_grid, second_sentence, typeset, verdict

_DASHES = ("6 3", "2 3", "9 3 2 3", "12 4", "4 2 1 2")


def render(evaluation: Evaluation) -> str:
    """Return the whole page."""
    main = html.escape(evaluation.main.label)
    data = html.escape(str(evaluation.provenance["Data"]["name"]).replace("_", " "))
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    sections = [
        _section("accuracy", "Accuracy on every grid", accuracy_table(evaluation)),
        _lead_times(evaluation),
        _scales(evaluation),
        _pictures(evaluation),
        _section("details", "Other measures and cost", details_table(evaluation)),
        _provenance(evaluation),
    ]
    equation = html.escape(evaluation.spec.equation)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{main} on {data}</title><link rel="icon" href="data:,"><style>{style}</style></head><body>'
        f'<header><h1>{main} on {data}</h1><p class="about">{equation}</p></header><main>'
        f'<p class="verdict">{typeset(verdict(evaluation))}</p><p>{typeset(second_sentence(evaluation))}</p>'
        f"{''.join(sections)}</main><footer>Written by pdesurrogate {html.escape(__version__)}. The numbers behind "
        "every table and chart are in metrics.json beside this file.</footer></body></html>\n"
    )


def _lead_times(evaluation: Evaluation) -> str:
    charts = []
    unit = "" if evaluation.spec.time_units == "1" else f" ({evaluation.spec.time_units})"
    times = [evaluation.spec.dt * (i + 1) for i in range(evaluation.horizon)]
    options: dict[str, Any] = {
        "x_label": f"lead time{unit}",
        "y_label": "relative L2 error",
        "y_format": percent,
        "y_limits": (1e-7, 10.0),
    }
    for index, field in enumerate(evaluation.spec.fields):
        name = field.name if len(evaluation.spec.fields) > 1 else ""
        models = [
            _lead_series(evaluation, c, evaluation.training_grid, index, times, c.label)
            for c in evaluation.contenders
            if not evaluation.score(c, evaluation.training_grid).refused
        ]
        title = " ".join(filter(None, [name, f"on the training grid, {on_grid(evaluation.training_grid)}"]))
        charts.append((title, line_chart(models, title=f"Relative L2 error {title}", **options)))
        if len(evaluation.grids) > 1:
            others = [g for g in evaluation.grids if g != evaluation.training_grid]
            lines = [_lead_series(evaluation, evaluation.main, evaluation.training_grid, index, times)]
            lines += [
                _lead_series(evaluation, evaluation.main, g, index, times, dash=_DASHES[i % len(_DASHES)])
                for i, g in enumerate(others)
            ]
            title = " ".join(filter(None, [name, f"of {evaluation.main.label} on each grid"]))
            charts.append((title, line_chart(lines, title=f"Relative L2 error {title}", **options)))
    caption = (
        "<b>Figure 1.</b> Error against lead time, mean over test trajectories; shaded: 95 % bootstrap interval "
        "of the mean. Errors above 1000 % are cut off."
    )
    return _section("lead-times", "Error against lead time", _figure(charts, caption))


def _lead_series(
    evaluation: Evaluation,
    contender: Contender,
    grid: tuple[int, ...],
    field: int,
    times: list[float],
    label: str = "",
    dash: str = "",
) -> Series:
    table = evaluation.score(contender, grid).rollout[HEADLINE]
    low, high = table.interval()[:, :, field].tolist()
    return Series(
        label or on_grid(grid),
        colour_class(evaluation, contender),
        times,
        table.mean()[:, field].tolist(),
        low=() if dash else low,
        high=() if dash else high,
        dash=dash or ("6 3" if contender.role == "persistence" else ""),
        markers=len(times) <= 40,
    )


def _scales(evaluation: Evaluation) -> str:
    if not evaluation.headline.spectra:
        reason = "Radial spectra need a periodic box; this domain is not one."
        return _section("scales", "Error by scale", f'<p class="note">{reason}</p>')
    shown = [evaluation.training_grid, evaluation.grids[-1]]
    charts = []
    for grid in dict.fromkeys(shown):
        for index, field in enumerate(evaluation.spec.fields):
            title = f"{field.name}, {on_grid(grid)}"
            charts.append((title, _spectrum_chart(evaluation, grid, index, title)))
    caption = (
        f"<b>Figure 2.</b> Mean square by radial wavenumber band in the last frame, number {evaluation.horizon}. "
        "Where the error reaches the truth, nothing of that scale is predicted. The bin of the spectrum's corners "
        "is in metrics.json."
    )
    return _section("scales", "Error by scale", _figure(charts, caption))


def _spectrum_chart(evaluation: Evaluation, grid: tuple[int, ...], field: int, title: str) -> str:
    lines: list[Series] = []
    for contender in evaluation.contenders:
        score = evaluation.score(contender, grid)
        if score.refused or contender.role in ("coarse", "persistence"):
            continue
        spectra = score.spectra[evaluation.horizon]
        complete = len(spectra.wavenumber)
        k = spectra.wavenumber.tolist()[1:]
        target, prediction, error = (s[field, 1:complete].tolist() for s in spectra.mean)
        style = colour_class(evaluation, contender)
        if not lines:
            lines.append(Series("truth", "c-truth", k, target))
        lines.append(Series(contender.label, style, k, prediction, dash="8 3"))
        lines.append(Series(f"error of {contender.label}", style, k, error, dash="2 3"))
    top = max((y for s in lines for y in s.y if math.isfinite(y)), default=1.0)
    nyquist = min(
        math.pi * n / length
        for n, length in zip(evaluation.training_grid, evaluation.spec.lengths, strict=True)
    )
    return line_chart(
        lines,
        title=f"Spectrum of {title}",
        x_label="wavenumber (rad per unit length)",
        y_label="mean square",
        log_x=True,
        y_limits=(top * 1e-12, top * 10),
        mark=(nyquist, "training grid ends") if grid != evaluation.training_grid else None,
    )


def _figure(charts: list[tuple[str, str]], caption: str) -> str:
    blocks = "".join(f"<div><h3>{html.escape(title)}</h3>{chart}</div>" for title, chart in charts)
    return f'<figure><div class="charts">{blocks}</div><figcaption>{caption}</figcaption></figure>'


def _pictures(evaluation: Evaluation) -> str:
    spec, blocks = evaluation.spec, []
    for channel, name in enumerate(spec.channel_names):
        head = f"<h3>{html.escape(name)}</h3>" if spec.num_channels > 1 else ""
        blocks.append(head + fields_figure(evaluation.cases, channel, spec))
    caption = (
        f"<b>Figure 3.</b> Fields ({html.escape(', '.join(spec.channel_names))}) on the training grid, "
        f"{on_grid(evaluation.training_grid)}: {html.escape(evaluation.main.label)} in its worst, median and best "
        "test trajectory by rollout error. One colour scale for all; errors are magnified where their row says so."
    )
    content = f"<figure>{''.join(blocks)}<figcaption>{caption}</figcaption></figure>"
    return _section("fields", "Worst, median and best case", content)


def _provenance(evaluation: Evaluation) -> str:
    first: list[str] = []
    rest: list[str] = []
    for name, facts in evaluation.provenance.items():
        rows = "".join(
            f'<tr><th scope="row">{html.escape(key)}</th><td>{html.escape(value)}</td></tr>'
            for key, value in flat(facts)
        )
        table = f'<table class="facts"><caption>{html.escape(name)}</caption><tbody>{rows}</tbody></table>'
        (rest if name.startswith("Configuration") else first).append(table)
    methods = "".join(f"<li>{html.escape(line)}</li>" for line in protocol(evaluation))
    content = (
        f"<h3>Protocol</h3><ul>{methods}</ul>{''.join(first)}"
        f"<details><summary>Full configuration</summary>{''.join(rest)}</details>"
    )
    return _section("provenance", "How these numbers were made", content)


def protocol(evaluation: Evaluation) -> list[str]:
    """Return what a reader must know to reproduce the numbers, one sentence each."""
    spec = evaluation.spec
    start = "true frame" if evaluation.lead_in == 1 else f"{evaluation.lead_in} true frames"
    unit = "" if spec.time_units == "1" else f" {spec.time_units}"
    sentences = [
        f"Rollouts start from the first {start} of each test trajectory and feed on "
        f"their own output for {evaluation.horizon} frames, dt = {spec.dt:g}{unit}.",
        "One-step errors start from every true window of the test set and count the first frame after it.",
        "A trajectory is one sample; the intervals resample trajectories, not frames.",
    ]
    words = {
        "native": "as stored",
        "stride": "every k-th stored point",
        "spectral": "the stored field, low-passed",
    }
    truths = [f"{on_grid(grid)}: {words[evaluation.regridding[grid]]}" for grid in evaluation.grids]
    sentences.append(f"Truth on each grid: {'; '.join(truths)}.")
    if any(
        c.role == "coarse" and not evaluation.score(c, g).refused
        for c in evaluation.contenders
        for g in evaluation.grids
    ):
        sentences.append(
            "“Resampled” runs the model on its training grid from the low-passed history and takes each frame to the "
            "grid of the truth by its trigonometric interpolant: what a model of one grid could do by itself."
        )
    return sentences


def flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested facts as ``("optim.lr", "0.001")`` pairs."""
    rows: list[tuple[str, str]] = []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", "" if value is None else str(value)))
    return rows


def _section(identifier: str, title: str, content: str) -> str:
    return f'<section aria-labelledby="{identifier}"><h2 id="{identifier}">{title}</h2>{content}</section>'
