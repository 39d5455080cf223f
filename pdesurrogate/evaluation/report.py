"""The report: one self-contained HTML page that reads like a results section. Nothing is fetched.

Its one script moves the films and does nothing else; it holds no text of the data, and without it the page is whole but
for the films' motion.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from importlib import resources
from typing import Any

from ..metrics.table import FEWEST_SAMPLES, mean_interval
from ..version import __version__
from .charts import Series, line_chart, percent, plain_number
from .contenders import Coarse, Contender
from .cost_section import cost_content, speed_sentence
from .film import SCRIPT
from .paired import paired_table
from .pictures import fields_figure
from .results import HEADLINE, Evaluation
from .scales_section import scales_content
from .tables import accuracy_table, colour_class, details_table, figure_of
from .trust_tables import (
    balances_table,
    certificates_table,
    ensembles_table,
    transfer_table,
    violations_sentence,
)
from .typography import counted, on_grid, typeset
from .verdict import second_sentence, verdict


def render(evaluation: Evaluation) -> str:
    """Return the whole page."""
    main = html.escape(evaluation.main.label)
    data = html.escape(str(evaluation.provenance["Data"]["name"]).replace("_", " "))
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    sections = [
        _section("accuracy", "Accuracy on every grid", accuracy_table(evaluation) + paired_table(evaluation)),
        _lead_times(evaluation),
        _section("details", "Other measures", details_table(evaluation)),
        _section("scales", "Error by scale", scales_content(evaluation)),
        _section("resolution", "Other samplings, before and after the truth", transfer_table(evaluation)),
        _section("certificates", "Certificates", certificates_table(evaluation)),
        _section("balances", "Mass, energy and what else should be kept", balances_table(evaluation)),
        _pictures(evaluation),
        _section("ensembles", "Spread and skill", ensembles_table(evaluation))
        if evaluation.ensembles
        else "",
        _section("cost", "Accuracy against cost", cost_content(evaluation)),
        _provenance(evaluation),
    ]
    equation = html.escape(evaluation.spec.equation)
    sentences = [second_sentence(evaluation), speed_sentence(evaluation), violations_sentence(evaluation)]
    second = " ".join(filter(None, sentences))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{main} on {data}</title><link rel="icon" href="data:,"><style>{style}</style></head><body>'
        f'<header><h1>{main} on {data}</h1><p class="about">{equation}</p></header><main>'
        f'<p class="verdict">{typeset(verdict(evaluation))}</p><p>{typeset(second)}</p>'
        f"{''.join(sections)}</main><footer>Written by pdesurrogate {html.escape(__version__)}. The numbers behind "
        "every table and chart are in metrics.json beside this file, those of every trajectory also in "
        f"results.nc.</footer><script>{SCRIPT}</script></body></html>\n"
    )


def _lead_times(evaluation: Evaluation) -> str:
    charts = []
    home = evaluation.training_grid
    unit = "" if evaluation.spec.time_units == "1" else f" ({evaluation.spec.time_units})"
    times = evaluation.lead_times
    present = [c for c in evaluation.contenders if not evaluation.score(c, home).refused]
    for index, field in enumerate(evaluation.spec.forecast_fields):
        name = field.name if len(evaluation.spec.forecast_fields) > 1 else ""
        title = f"{name or 'Error'} on the training grid, {on_grid(home)}"
        chart = line_chart(
            [
                *(_lead_series(evaluation, c, index, times) for c in present),
                *_twin_series(evaluation, index, times),
            ],
            title=f"Relative L2 error {title}",
            x_label=f"lead time{unit}",
            y_label="relative L2 error",
            y_format=percent,
            y_limits=(1e-7, 10.0),
        )
        charts.append((title, chart))
        if len(evaluation.grids) > 1:
            title = f"{name or 'Error'} of {evaluation.main.label} on other grids"
            chart = line_chart(
                _ratio_series(evaluation, index, times),
                title=f"Relative L2 error {title}, divided by that at {on_grid(home)}",
                x_label=f"lead time{unit}",
                y_label=f"error ÷ error at {on_grid(home)}",
                y_format=plain_number,
                log_y=False,
                y_limits=(0.0, 10.0),
                y_include=(0.9, 1.1),
                level=1.0,
            )
            charts.append((title, chart))
    return _section("lead-times", "Error against lead time", figure_of(charts, _lead_caption(evaluation)))


def _lead_caption(evaluation: Evaluation) -> str:
    n = len(evaluation.headline.rollout[HEADLINE])
    band = "; shaded: Student’s 95 % t interval of the mean" if n >= FEWEST_SAMPLES else ""
    caption = (
        f"<b>Figure 1.</b> Error against lead time, mean over {counted(n, 'test trajectory', 'test trajectories')}"
        f"{band}. Errors above 1000 % are cut off."
    )
    if len(evaluation.grids) > 1:
        caption += (
            " On other grids: the error of each trajectory divided by its error at "
            f"{on_grid(evaluation.training_grid)}, then the mean; above 1 the other grid is worse."
        )
    return caption


def _lead_series(evaluation: Evaluation, contender: Contender, field: int, times: list[float]) -> Series:
    table = evaluation.score(contender, evaluation.training_grid).rollout[HEADLINE]
    low, high = table.interval()[:, :, field].tolist()
    return Series(
        contender.label,
        colour_class(evaluation, contender),
        times,
        table.mean()[:, field].tolist(),
        low=low,
        high=high,
        dash={"persistence": "6 3", "coarse": "2 3"}.get(contender.role, ""),
        markers=len(times) <= 40,
    )


def _twin_series(evaluation: Evaluation, field: int, times: list[float]) -> list[Series]:
    """Return by how much two solutions of the equation part that differ by the surrogate's error of one step."""
    if not evaluation.twin:
        return []
    label = "the equation, disturbed once by the error of one step"
    return [Series(label, "c-truth", times, evaluation.twin.mean()[:, field].tolist(), dash="1 4")]


def _ratio_series(evaluation: Evaluation, field: int, times: list[float]) -> list[Series]:
    """Return the error on every other grid over that on the training grid, and the resampled run on the finest."""
    main, home = evaluation.main, evaluation.training_grid
    others = [grid for grid in evaluation.grids if grid != home]
    rows: list[tuple[Contender, tuple[int, ...]]] = [(evaluation.runner(grid), grid) for grid in others]
    rows += [
        (c, others[-1])
        for c in evaluation.contenders
        if isinstance(c, Coarse) and c.native is main and not evaluation.score(c, others[-1]).refused
        if (c, others[-1]) not in rows
    ]
    base = evaluation.headline.rollout[HEADLINE].values[..., field]
    lines = []
    for contender, grid in rows:
        ratios = evaluation.score(contender, grid).rollout[HEADLINE].values[..., field] / base
        low, high = mean_interval(ratios).tolist()
        is_coarse = contender is not main
        lines.append(
            Series(
                f"{on_grid(grid)}, run at {on_grid(home)} and resampled" if is_coarse else on_grid(grid),
                f"c-grid-{_shade(others.index(grid), len(others))}",
                times,
                ratios.mean(0).tolist(),
                low=() if is_coarse else low,
                high=() if is_coarse else high,
                dash="5 4" if is_coarse else "",
                markers=len(times) <= 40,
            )
        )
    return lines


def _shade(place: int, count: int) -> int:
    """Return one of the four colours of grids, coarse to fine: the ends for two grids, all for four and more."""
    return 1 + (round(3 * place / (count - 1)) if count > 1 else 2)


def _pictures(evaluation: Evaluation) -> str:
    spec, blocks = evaluation.spec, []
    names = [
        name
        for name, is_static in zip(spec.channel_names, spec.static_channels, strict=True)
        if not is_static
    ]
    for name in names:
        channel = spec.channel_names.index(name)
        head = f"<h3>{html.escape(name)}</h3>" if len(names) > 1 else ""
        blocks.append(head + fields_figure(evaluation.cases, channel, spec))
    caption = (
        f"<b>Figure 3.</b> Fields ({html.escape(', '.join(names))}) on the training grid, "
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
        f"their own output for {counted(evaluation.horizon, 'frame')}, dt = {spec.dt:g}{unit}.",
        "One-step errors start from every true window of the test set, count the first frame after it and are averaged "
        "over all starts; the first lead time of Figure 1 is the step from the first window only. Errors by start are "
        "in metrics.json.",
        "A trajectory is one sample. Intervals are Student’s t intervals over test trajectories; they do not include "
        "the variation between training seeds. Intervals of medians are bootstrap percentiles; metrics.json has "
        "bootstrap intervals of all means beside them.",
        "Contenders are compared by the 95 % t interval of their difference on each trajectory. If it includes 0, or "
        "if the means agree in the digits shown, they are not distinguishable.",
    ]
    words = {
        "native": "as stored",
        "stride": "every k-th stored point",
        "cells": "means over the stored cells",
        "spectral": "the stored field without the modes that the grid cannot carry",
    }
    truths = [f"{on_grid(grid)}: {words[evaluation.regridding[grid]]}" for grid in evaluation.grids]
    sentences.append(f"Truth on each grid: {'; '.join(truths)}.")
    if any(
        c.role == "coarse" and not evaluation.score(c, g).refused
        for c in evaluation.contenders
        for g in evaluation.grids
    ):
        sentences.append(
            "“Resampled” takes the history to the model’s training grid, runs it there, and takes each frame to the "
            "grid of the truth, both by trigonometric interpolation: what a model of one grid could do by itself."
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
