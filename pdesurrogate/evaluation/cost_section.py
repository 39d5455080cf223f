"""Accuracy against cost: a table, a Pareto plot, and the solver of the data at equal error."""

from __future__ import annotations

import html
import math

from .charts import Series, line_chart, percent
from .results import Evaluation
from .tables import captioned, colour_class, rows_of
from .typography import error_text, number_text, on_grid, three_digits


def cost_content(evaluation: Evaluation) -> str:
    """Return the cost table and the Pareto plot."""
    return _table(evaluation) + _pareto(evaluation) + _solver_note(evaluation)


def speed_sentence(evaluation: Evaluation) -> str:
    """Return how much faster than the solver the surrogate is at its own error; empty where that is not known."""
    if not evaluation.solver:
        return ""
    found = evaluation.speed_up(evaluation.main.label)
    if found is None:
        finest = on_grid(evaluation.solver[-1].grid)
        return f"The data’s own solver does not reach its error on grids up to {finest}."
    factor, run = found
    word = (
        f"{three_digits(factor)} times as fast as"
        if factor >= 1
        else f"{three_digits(1 / factor)} times slower than"
    )
    return (
        f"A frame is {word} the data’s own solver on {on_grid(run.grid)} points, the coarsest grid on which that "
        f"errs no more ({error_text(run.error)})."
    )


def _table(evaluation: Evaluation) -> str:
    costs = {c.label: c for c in evaluation.costs}
    rows = [c for c in evaluation.contenders if c.label in costs]
    columns = [
        {label: f"<td>{c.parameters:,}</td>" for label, c in costs.items()},
        {label: f"<td>{number_text(c.ms_per_frame)}</td>" for label, c in costs.items()},
        {label: f"<td>{number_text(c.peak_mib)}</td>" for label, c in costs.items()},
    ]
    heads = ["Model", "parameters", "ms per frame", "peak MiB"]
    if evaluation.solver:
        heads += ["solver at equal error", "speed-up"]
        found = {label: evaluation.speed_up(label) for label in costs}
        columns.append(
            {
                label: f"<td>{on_grid(f[1].grid)}<small>{number_text(f[1].ms_per_frame)} ms per frame</small></td>"
                if f
                else "<td>none</td>"
                for label, f in found.items()
            }
        )
        columns.append({label: f"<td>{number_text(f[0]) if f else '—'}</td>" for label, f in found.items()})
    device = html.escape(evaluation.costs[0].device) if evaluation.costs else ""
    caption = (
        f"<b>Table 9.</b> Cost on the training grid ({device}). Parameters are real degrees of freedom; time is "
        "the median of single steps on one trajectory; memory is that of tensors at the peak of such a step, "
        "weights included."
    )
    if any(row.role == "ensemble" for row in rows):
        caption += " Members of an ensemble run one after the other."
    if evaluation.solver:
        caption += (
            " <i>Solver at equal error</i>: the coarsest grid on which the solver that made the data errs no more "
            "than the model over the same rollouts, from the same first frames, on the same device; its time step "
            "grows with the spacing. Not the grid of the data, which flatters every surrogate."
        )
        if evaluation.solver_knows_more:
            caption += (
                " The solver has an advantage: frames hold a part of its state, and it starts from the whole of it, "
                "which the surrogates have to infer."
            )
    head = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in heads)
    return captioned("table-9", caption, f"<tr>{head}</tr>", rows_of(evaluation, rows, columns))


def _pareto(evaluation: Evaluation) -> str:
    home = evaluation.training_grid
    points = []
    for cost in evaluation.costs:
        contender = next(c for c in evaluation.contenders if c.label == cost.label)
        points.append((contender, cost.ms_per_frame, evaluation.rollout(contender, home).mean))
    lines = [
        Series(c.label, colour_class(evaluation, c), [ms], [error], markers=True) for c, ms, error in points
    ]
    runs = [r for r in evaluation.solver if math.isfinite(r.error) and math.isfinite(r.ms_per_frame)]
    everything = [(ms, error) for _, ms, error in points] + [(r.ms_per_frame, r.error) for r in runs]
    if runs:
        times, errors = [r.ms_per_frame for r in runs], [r.error for r in runs]
        label = f"solver on {', '.join(on_grid(r.grid) for r in runs)}"
        lines.append(Series(label, "c-truth", times, errors, dash="6 3", markers=True))
    front = pareto_front(everything)
    if len(front) > 1:
        lines.append(
            Series(
                "not beaten in both",
                "c-persistence",
                [x for x, _ in front],
                [y for _, y in front],
                dash="2 3",
            )
        )
    if len(everything) < 2:
        return ""
    chart = line_chart(
        lines,
        title="Error against cost",
        x_label="ms per frame",
        y_label="relative L2 error of the rollout",
        log_x=True,
        y_format=percent,
        y_limits=(1e-7, 10.0),
    )
    caption = (
        "<b>Figure 4.</b> Accuracy against cost on the training grid: the rollout’s relative L2 error and the "
        "time of a frame; lower left is better."
    )
    if len(front) > 1:
        caption += " The dotted line joins what nothing else beats in both."
    inside = f'<div class="charts"><div><h3>Error against cost</h3>{chart}</div></div>'
    return f"<figure>{inside}<figcaption>{caption}</figcaption></figure>"


def pareto_front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the finite points ``(cost, error)`` that no other beats in both, from cheap to dear."""
    front: list[tuple[float, float]] = []
    for cost, error in sorted(p for p in points if all(map(math.isfinite, p))):
        if not front or error < front[-1][1]:
            front.append((cost, error))
    return front


def _solver_note(evaluation: Evaluation) -> str:
    if evaluation.solver or not evaluation.why_no_solver:
        return ""
    return f'<p class="note">No speed-up: {html.escape(evaluation.why_no_solver)}</p>'
