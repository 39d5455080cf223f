"""The tables of the report: models by grid, other measures and cost."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np

from ..metrics.table import FEWEST_SAMPLES, bootstrap_interval
from .comparison import leaders
from .contenders import Coarse, Contender, native_of
from .results import DEVIATIONS, HEADLINE, Estimate, Evaluation
from .typography import counted, estimate_text, interval_text, number_text, on_grid
from .verdict import metric_name

# What a metric says beyond the relative L2 error; one that is not listed goes by its name alone.
_MEANINGS = {
    DEVIATIONS: "VRMSE is the error in standard deviations of the truth",
    "h1": "H1 is a relative error that weighs small scales more",
    "relative_max": "relative max is the largest error over the largest value",
    "relative_l1": "relative L1 is the mean of the error over that of the field",
    "boundary_error": "boundary error is the relative L2 error next to walls and open ends",
    "decorrelation": "decorrelation is one minus the correlation with the truth",
}
_BOLD = (
    "Bold: the lowest in its column, and what the paired differences by trajectory do not tell from it "
    "(95 % t interval)."
)


_FLOOR = (
    "<i>Floor</i>: the error of what the model can predict nearest to the truth, such as its projection on the waves "
    "that are kept; no training goes below it. "
)


def accuracy_table(evaluation: Evaluation) -> str:
    """Return one-step and rollout errors, a row for each contender and two columns for each grid."""
    grids, contenders = evaluation.grids, evaluation.contenders
    groups = "".join(
        f'<th scope="colgroup" colspan="2" class="group">{on_grid(g)}'
        f"<small>{'' if g == evaluation.training_grid else 'not the '}training grid</small></th>"
        for g in grids
    )
    kinds = '<th scope="col">one step</th><th scope="col">rollout</th>' * len(grids)
    columns: list[dict[str, str]] = []
    reasons = []
    for grid in grids:
        present = [c for c in contenders if not evaluation.score(c, grid).refused]
        for measure, protocol in ((evaluation.one_step, "one_step"), (evaluation.rollout, "rollout")):
            floors = [evaluation.floor(c, grid, protocol) for c in present]
            columns.append(_column([c.label for c in present], [measure(c, grid) for c in present], floors))
        reasons += [
            f"{c.label} at {on_grid(grid)}: {evaluation.score(c, grid).refused}{_stand_in(c, present)}"
            for c in contenders
            if c not in present and not (isinstance(c, Coarse) and grid == c.training_grid)
        ]
    caption = (
        "<b>Table 1.</b> Relative L2 error on the test set. <i>One step</i>: the first frame after every window. "
        f"<i>Rollout</i>: mean over {counted(evaluation.horizon, 'frame')} from the start of each trajectory. "
        f"{_FLOOR if any(s.floor for s in evaluation.scores) else ''}{_certainty(evaluation)}"
    )
    if any(isinstance(c, Coarse) for c in contenders):
        caption += " On its training grid a resampled run is the model itself and has no entry."
    head = f'<tr><td></td>{groups}</tr><tr><th scope="col">Model</th>{kinds}</tr>'
    table = captioned("table-1", caption, head, rows_of(evaluation, contenders, columns))
    notes = list(reasons)
    if any(t.undefined for s in evaluation.scores for t in (*s.rollout.values(), *s.one_step.values())):
        notes.append("Undefined: the truth vanishes in some frames, where no relative error exists.")
    absent = f'<p class="note">No entry: {html.escape(" ".join(_sentences(notes)))}</p>' if notes else ""
    return table + absent


def details_table(evaluation: Evaluation) -> str:
    """Return what else is known on the training grid: last frame, other metrics, fields, how long it can be used."""
    grid = evaluation.training_grid
    scores = [s for s in evaluation.scores if s.grid == grid and not s.refused]
    labels = [s.contender.label for s in scores]
    tables = [s.rollout[HEADLINE] for s in scores]
    others = [name for name in evaluation.headline.rollout if name != HEADLINE]
    measures = {"last frame": [Estimate(t.values[:, -1].mean(-1), t.undefined) for t in tables]}
    for name in others:
        measures[f"{metric_name(name)}, rollout"] = [Estimate.of(s.rollout[name]) for s in scores]
    if len(evaluation.spec.forecast_fields) > 1:
        for i, field in enumerate(evaluation.spec.forecast_fields):
            measures[f"{field.name}, rollout"] = [
                Estimate(t.values[..., i].mean(-1), t.undefined) for t in tables
            ]
    columns = [_column(labels, estimates) for estimates in measures.values()]
    unit = "" if evaluation.spec.time_units == "1" else f" ({evaluation.spec.time_units})"
    heads = ["Model", *measures]
    for kind, head in (("correlation", "correlated until"), ("divergence", "VRMSE below 1 until")):
        heads.append(f"{head}{unit}")
        columns.append({s.contender.label: _time_cell(evaluation, s.contender, kind) for s in scores})
    heads.append("growth rate")
    rates = {s.contender.label: evaluation.growth(s.rollout[HEADLINE]) for s in scores}
    columns.append({label: f"<td>{number_text(rate)}</td>" for label, rate in rates.items()})
    meanings = "; ".join(_MEANINGS[name] for name in others if name in _MEANINGS)
    twin = ""
    if evaluation.twin and math.isfinite(growth := evaluation.growth(evaluation.twin)):
        twin = f", {number_text(growth)} for two solutions of the equation"
    caption = (
        f"<b>Table 3.</b> More measures on the training grid, {on_grid(grid)}. "
        f"{meanings + '. ' if meanings else ''}{_certainty(evaluation)} Times: until the correlation with the "
        "truth falls below 0.8, or the mean of the truth would have been the better forecast; medians over "
        f"trajectories with 95 % bootstrap intervals. <i>Growth rate</i>: of the error, per unit of time, while it "
        f"is small{twin}."
    )
    top = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in heads)
    rows = rows_of(evaluation, [s.contender for s in scores], columns)
    return captioned("table-3", caption, f"<tr>{top}</tr>", rows)


def _time_cell(evaluation: Evaluation, contender: Contender, kind: str) -> str:
    times = evaluation.times(contender, kind)
    low, high = bootstrap_interval(times, "median")
    horizon = evaluation.lead_times[-1]

    def text(value: float) -> str:
        return f"{value:.3g}" if value <= horizon else f"&gt; {horizon:.3g}"

    has_interval = not math.isnan(low) and low <= horizon
    small = f"<small>{text(low)} – {text(high)}</small>" if has_interval else ""
    return f"<td>{text(float(np.median(times)))}{small}</td>"


def scales_table(evaluation: Evaluation) -> str:
    """Return squared errors by range of wavenumbers on the training grid: where they sit, and what is not learned."""
    grid = evaluation.training_grid
    scores = [s for s in evaluation.scores if s.grid == grid and s.spectral_errors is not None]
    columns: list[dict[str, str]] = []

    def add(values: Sequence[float]) -> None:
        columns.append(
            {s.contender.label: f"<td>{number_text(v)}</td>" for s, v in zip(scores, values, strict=True)}
        )

    found = [s.spectral_errors for s in scores if s.spectral_errors is not None]
    add([float(e.nmse.sum(1).mean()) for e in found])
    groups = [("NMSE", [""])]
    for kind, words in (("nmse", "share of the NMSE"), ("relative", "relative")):
        groups.append((words, list(found[0].by_range[kind])))
        for name in found[0].by_range[kind]:
            add([float(e.by_range[kind][name].mean()) for e in found])
    if found[0].split:
        groups.append(("modes", [name.replace("_", "-") for name in found[0].split]))
    for name in found[0].split:
        add([float(e.split[name].mean()) for e in found])
    caption = (
        f"<b>Table 4.</b> Squared error by scale on the training grid, {on_grid(grid)}, over all frames of the "
        "rollouts, mean over fields. Wavenumbers are low up to a quarter of the largest, high beyond three quarters. "
        "<i>Share of the NMSE</i>: the error of the range over the energy of the truth; the three add up to the NMSE. "
        "<i>Relative</i>: over the energy of the truth in that range; 1 is what predicting nothing there scores."
    )
    if found[0].dominant is not None:
        share = 100 * found[0].dominant.share
        caption += (
            f" <i>Dominant modes</i>: the fewest that hold {share:g} % of the energy of the training targets; "
            "relative, as are the others."
        )
    rows = rows_of(evaluation, [s.contender for s in scores], columns)
    return captioned("table-4", caption, grouped_head("Model", groups), rows)


def colour_class(evaluation: Evaluation, contender: Contender) -> str:
    """Return the CSS class of a contender: one colour for a surrogate in every table and chart."""
    native = native_of(contender)
    if native is None or native.role == "main":
        return f"c-{native.role if native else contender.role}"
    rivals = list(
        dict.fromkeys(n.label for c in evaluation.contenders if (n := native_of(c)) and n.role != "main")
    )
    return f"c-rival-{rivals.index(native.label) % 4 + 1}"


def rows_of(
    evaluation: Evaluation, contenders: Sequence[Contender], columns: Sequence[dict[str, str]]
) -> list[str]:
    """Return a row a contender: its swatch and label, then its cell of every column."""
    rows = []
    for contender in contenders:
        ring = " ring" if isinstance(contender, Coarse) else ""
        swatch = (
            f'<span class="swatch{ring} {colour_class(evaluation, contender)}" aria-hidden="true"></span>'
        )
        cells = "".join(column.get(contender.label, "<td>—</td>") for column in columns)
        kind = ' class="main"' if contender.role == "main" else ""
        rows.append(f'<tr{kind}><th scope="row">{swatch}{html.escape(contender.label)}</th>{cells}</tr>')
    return rows


def _column(
    labels: Sequence[str], estimates: Sequence[Estimate], floors: Sequence[Estimate | None] | None = None
) -> dict[str, str]:
    """Return the cells of one measure by contender, the leaders in bold, with the floor of those that have one."""
    cells = {}
    floors = floors or [None] * len(estimates)
    for label, estimate, leads, floor in zip(labels, estimates, leaders(estimates), floors, strict=True):
        interval = interval_text(estimate)
        if estimate.n < FEWEST_SAMPLES:
            interval = "—"
        small = f"<small>{interval}</small>" if interval else ""
        if floor is not None:
            small += f"<small>floor {estimate_text(floor)}</small>"
        kind = ' class="best"' if leads else ""
        cells[label] = f"<td{kind}>{estimate_text(estimate)}{small}</td>"
    return cells


def _certainty(evaluation: Evaluation) -> str:
    n = evaluation.rollout(evaluation.main, evaluation.training_grid).n
    over = counted(n, "trajectory", "trajectories")
    if n < FEWEST_SAMPLES:
        return (
            f"Means over {over}, too few for an interval or for a comparison (at least {FEWEST_SAMPLES}); nothing is "
            "bold."
        )
    return f"Small: Student’s 95 % t interval of the mean over {over}. {_BOLD}"


def captioned(identifier: str, caption: str, head: str, rows: list[str]) -> str:
    """Return a table that scrolls sideways where it is too wide, under a caption that does not."""
    return (
        f'<p class="note" id="{identifier}">{caption}</p>'
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{identifier}">'
        f'<table class="results" aria-labelledby="{identifier}"><thead>{head}</thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def grouped_head(first: str, groups: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return a head of two rows, a group of columns each with its name above theirs; ``[""]`` for one without parts."""
    above, below = ["<td></td>"], [first]
    for name, parts in groups:
        if list(parts) == [""]:
            above.append("<td></td>")
            below.append(name)
        else:
            above.append(
                f'<th scope="colgroup" colspan="{len(parts)}" class="group">{html.escape(name)}</th>'
            )
            below += parts
    heads = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in below)
    return f"<tr>{''.join(above)}</tr><tr>{heads}</tr>"


def figure_of(charts: Sequence[tuple[str, str]], caption: str) -> str:
    """Return charts with their titles above one caption."""
    blocks = "".join(f"<div><h3>{html.escape(title)}</h3>{chart}</div>" for title, chart in charts)
    return f'<figure><div class="charts">{blocks}</div><figcaption>{caption}</figcaption></figure>'


def _stand_in(contender: Contender, present: Sequence[Contender]) -> str:
    """Return that a model is resampled around on a grid that it does not take, where it is."""
    around = next((c for c in present if isinstance(c, Coarse) and c.native is contender), None)
    return "" if around is None else f" It is resampled around there: see {around.label}."


def _sentences(reasons: list[str]) -> list[str]:
    return [r if r.endswith(".") else f"{r}." for r in reasons]
