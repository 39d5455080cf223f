"""The tables of the report: models by grid, other measures and cost."""

from __future__ import annotations

import html

from .contenders import Contender
from .results import HEADLINE, Estimate, Evaluation
from .verdict import error_text, interval_text, on_grid


def accuracy_table(evaluation: Evaluation) -> str:
    """Return one-step and rollout errors, a row for each contender and two columns for each grid."""
    grids = evaluation.grids
    groups = "".join(
        f'<th scope="colgroup" colspan="2" class="group">{on_grid(g)}'
        f"<small>{'training grid' if g == evaluation.training_grid else 'never seen'}</small></th>"
        for g in grids
    )
    kinds = '<th scope="col">one step</th><th scope="col">rollout</th>' * len(grids)
    rows, reasons = [], []
    best = {
        (grid, i): min(e[i].mean for c in evaluation.contenders if (e := _errors(evaluation, c, grid)))
        for grid in grids
        for i in (0, 1)
    }
    for contender in evaluation.contenders:
        cells = []
        for grid in grids:
            errors = _errors(evaluation, contender, grid)
            if errors is None:
                cells.append("<td>—</td><td>—</td>")
                reason = evaluation.score(contender, grid).refused
                reasons.append(f"{contender.label} at {on_grid(grid)}: {reason}")
                continue
            cells += [
                _cell(e, is_best=error_text(e.mean) == error_text(best[grid, i]))
                for i, e in enumerate(errors)
            ]
        kind = ' class="main"' if contender.role == "main" else ""
        rows.append(f"<tr{kind}>{_row_head(evaluation, contender)}{''.join(cells)}</tr>")
    n = evaluation.rollout(evaluation.main, evaluation.training_grid).n
    caption = (
        "<b>Table 1.</b> Relative L2 error on the test set. <i>One step</i>: the first frame after every window. "
        f"<i>Rollout</i>: mean over {evaluation.horizon} frames from the start of each trajectory. Small: 95 % "
        f"bootstrap interval of the mean over {n} trajectories. Bold: lowest in its column."
    )
    head = f'<tr><td></td>{groups}</tr><tr><th scope="col">Model</th>{kinds}</tr>'
    table = _captioned("table-1", caption, head, rows)
    absent = f'<p class="note">No entry: {html.escape(" ".join(_sentences(reasons)))}</p>' if reasons else ""
    return table + absent


def details_table(evaluation: Evaluation) -> str:
    """Return what else is known on the training grid: last frame, other metrics, fields, cost."""
    grid = evaluation.training_grid
    scores = [s for s in evaluation.scores if s.grid == grid and not s.refused]
    others = [name for name in evaluation.headline.rollout if name != HEADLINE]
    heads = ["last frame", *(f"{_metric_name(name)}, rollout" for name in others)]
    fields = evaluation.spec.fields if len(evaluation.spec.fields) > 1 else ()
    heads += [f"{f.name}, rollout" for f in fields]
    heads += ["parameters", "ms per frame"]
    costs = {c.label: c for c in evaluation.costs}
    rows = []
    for s in scores:
        table = s.rollout[HEADLINE]
        cells = [f"<td>{error_text(table.mean()[-1].mean().item())}</td>"]
        cells += [_cell(Estimate.of(s.rollout[name])) for name in others]
        cells += [f"<td>{error_text(table.mean()[:, i].mean().item())}</td>" for i in range(len(fields))]
        cost = costs.get(s.contender.label)
        cells += (
            [f"<td>{cost.parameters:,}</td>", f"<td>{cost.ms_per_frame:.3g}</td>"]
            if cost
            else ["<td>—</td>", "<td>—</td>"]
        )
        kind = ' class="main"' if s.contender.role == "main" else ""
        rows.append(f"<tr{kind}>{_row_head(evaluation, s.contender)}{''.join(cells)}</tr>")
    caption = (
        f"<b>Table 2.</b> More measures on the training grid, {on_grid(grid)}. VRMSE is the error in standard "
        "deviations of the truth, H1 weighs small scales. Parameters are real degrees of freedom; time is the "
        f"median of single steps on one trajectory ({html.escape(evaluation.costs[0].device)})."
    )
    columns = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in ("Model", *heads))
    return _captioned("table-2", caption, f"<tr>{columns}</tr>", rows)


def colour_class(evaluation: Evaluation, contender: Contender) -> str:
    """Return the CSS class of a contender: the same colour in every table and chart."""
    if contender.role == "compared":
        rivals = [c for c in evaluation.contenders if c.role == "compared"]
        return f"c-rival-{rivals.index(contender) % 4 + 1}"
    return f"c-{contender.role}"


def _row_head(evaluation: Evaluation, contender: Contender) -> str:
    swatch = f'<span class="swatch {colour_class(evaluation, contender)}" aria-hidden="true"></span>'
    return f'<th scope="row">{swatch}{html.escape(contender.label)}</th>'


def _captioned(identifier: str, caption: str, head: str, rows: list[str]) -> str:
    """Return a table that scrolls sideways where it is too wide, under a caption that does not."""
    return (
        f'<p class="note" id="{identifier}">{caption}</p>'
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{identifier}">'
        f'<table class="results" aria-labelledby="{identifier}"><thead>{head}</thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _errors(
    evaluation: Evaluation, contender: Contender, grid: tuple[int, ...]
) -> tuple[Estimate, Estimate] | None:
    if evaluation.score(contender, grid).refused:
        return None
    return evaluation.one_step(contender, grid), evaluation.rollout(contender, grid)


def _cell(estimate: Estimate, *, is_best: bool = False) -> str:
    kind = ' class="best"' if is_best else ""
    interval = interval_text(estimate)
    small = f"<small>{interval}</small>" if interval else ""
    return f"<td{kind}>{error_text(estimate.mean)}{small}</td>"


def _sentences(reasons: list[str]) -> list[str]:
    return [r if r.endswith(".") else f"{r}." for r in reasons]


def _metric_name(name: str) -> str:
    """Return ``"VRMSE"`` for an acronym and words for words."""
    return name.replace("_", " ") if "_" in name else name.upper()
