"""The tables that say how far a surrogate can be trusted: other samplings, certificates, balances, ensembles."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import torch

from ..metrics.spectral_errors import RANGES
from ..metrics.table import mean_interval
from .certificates import ROUNDING, Certificate
from .contenders import Contender
from .results import Evaluation
from .tables import captioned, grouped_head, rows_of
from .typography import error_text, listed, number_text, on_grid, property_text, range_text


def transfer_table(evaluation: Evaluation) -> str:
    """Return what becomes of every surrogate on other grids: by sampling alone, and where its error lies."""
    if not evaluation.transfers:
        return (
            '<p class="note">Sampling alone is not measured here: fields on a domain that is neither periodic nor a '
            "sphere cannot be taken to other grids without error.</p>"
        )
    rows, notes = [], []
    further = {
        t: evaluation.score(_row(evaluation, t.label), t.grid).further if t.grid in evaluation.grids else {}
        for t in evaluation.transfers
    }
    parts = [
        part for part in ("within", "beyond", "truth beyond") if any(part in f for f in further.values())
    ]
    for t, found in further.items():
        cells = [_percent(t.inconsistency), "<td>—</td>" if t.aliasing is None else _percent(t.aliasing)]
        if t.why_no_aliasing:
            notes.append(f"Aliasing of {t.label} at {on_grid(t.grid)}: {t.why_no_aliasing}")
        cells += [_percent(found[part].per_sample()) if part in found else "<td>—</td>" for part in parts]
        head = html.escape(f"{t.label}, {on_grid(t.grid)}")
        kind = ' class="main"' if t.label == evaluation.main.label else ""
        rows.append(f'<tr{kind}><th scope="row">{head}</th>{"".join(cells)}</tr>')
    names = {"within": "error within", "beyond": "error beyond", "truth beyond": "truth beyond"}
    heads = ["Model, grid", "inconsistency", "aliasing", *(names[part] for part in parts)]
    caption = (
        f"<b>Table 5.</b> What another sampling does. <i>Inconsistency</i>: the same band-limited states, sampled "
        f"on the grid and on {on_grid(evaluation.training_grid)}, one step, no truth consulted: how far the output "
        "moves. <i>Aliasing</i>: against a grid twice as fine. "
    )
    if parts:
        caption += (
            "Then the rollout’s error in waves that the training grid carries (<i>within</i>) and in those "
            "it never had (<i>beyond</i>); their squares add up to that of the relative L2 error at every lead time. "
            "<i>Truth beyond</i> is what a forecast without those waves misses. "
        )
    caption += "Small: 95 % t interval of the mean."
    table = captioned("table-5", caption, _head(heads), rows)
    if notes:
        table += f'<p class="note">{html.escape(" ".join(dict.fromkeys(notes)))}</p>'
    return table


def certificates_table(evaluation: Evaluation) -> str:
    """Return the certificates, a row a property: measured for every surrogate, and had by the equation."""
    names = list(dict.fromkeys(c.name for c in evaluation.certificates))
    labels = list(dict.fromkeys(c.label for c in evaluation.certificates))
    rows = []
    for name in names:
        row = {c.label: c for c in evaluation.certificates if c.name == name}
        words = {label: text for label, c in row.items() if (text := _outcome(c))}
        alike, is_of_all = set(words.values()), len(words) == len(row)
        told = (
            alike if len(alike) == 1 and is_of_all else {f"{label}: {text}" for label, text in words.items()}
        )
        cells = "".join(_measured(row[label]) if label in row else "<td>—</td>" for label in labels)
        equation = _of_equation(next(iter(row.values())))
        rows.append(
            f'<tr><th scope="row">{html.escape(name)}</th>{cells}<td>{equation}</td>'
            f'<td class="words">{html.escape(" ".join(sorted(told)))}</td></tr>'
        )
    caption = (
        "<b>Table 6.</b> Certificates: relative error of a property, over test states and one step. Small: whether the "
        "model is built to have it, so that 0 is expected, to the rounding of single precision or up to aliasing. "
        "<i>Equation</i>: whether the equation with its forcing has the property: symmetries by its own solver, "
        "conservation by the truth; small: the error there."
    )
    heads = ["Property", *labels, "equation", ""]
    return captioned("table-6", caption, _head(heads), rows)


def violations_sentence(evaluation: Evaluation) -> str:
    """Return which properties the surrogate was built to have and has not; empty if there is none."""
    broken = [c for c in evaluation.certificates if c.label == evaluation.main.label and c.is_violated]
    if not broken:
        return ""
    names = listed([f"{c.name} ({error_text(c.error or 0.0)})" for c in broken])
    return f"It does not have what it was built to have: {names}."


def certificate_lines(evaluation: Evaluation) -> list[str]:
    """Return the certificates of the main surrogate as lines of text."""
    own = [c for c in evaluation.certificates if c.label == evaluation.main.label]
    if not own:
        return []
    width = max(len(c.name) for c in own) + 2
    lines = ["certificate".ljust(width) + f"{'measured':>10}  {'built in':<9}{'equation':<9}"]
    for c in own:
        measured = "-" if c.error is None else f"{c.error:.1e}"
        equation = "unknown" if c.by_equation is None else "yes" if c.by_equation else "no"
        lines.append(
            c.name.ljust(width)
            + f"{measured:>10}  {'yes' if c.by_model else 'no':<9}{equation:<9}{_outcome(c)}".rstrip()
        )
    return lines


def balances_table(evaluation: Evaluation) -> str:
    """Return errors of mass, energy, enstrophy and divergence, and the energy by scale, at the last lead time."""
    home = evaluation.training_grid
    scores = [s for s in evaluation.scores if s.grid == home and not s.refused]
    columns: list[dict[str, str]] = []
    groups: list[tuple[str, list[str]]] = []
    first = scores[0].further
    for i, name in enumerate(first["balance_errors"].fields):
        groups.append((name, [""]))
        columns.append(
            {s.contender.label: _last(s.further["balance_errors"].values[:, -1, i]) for s in scores}
        )
    for i, name in enumerate(first["band_energy"].fields):
        if i % len(RANGES) == 0:
            groups.append((f"energy at wavenumbers{_of_field(evaluation, name)}", list(RANGES)))
        columns.append({s.contender.label: _ratio(s.further["band_energy"].values[:, -1, i]) for s in scores})
    caption = (
        f"<b>Table 7.</b> Balances in the last frame on the training grid, {on_grid(home)}, mean over "
        "trajectories: how far they are off, in relation to the truth (of means: to the root mean square of the "
        "field; of the divergence: to that of the gradient). <i>Energy at wavenumbers</i>: of the prediction over "
        "that of the truth; below 1 those scales are damped, above 1 fed."
    )
    rows = rows_of(evaluation, [s.contender for s in scores], columns)
    return captioned("table-7", caption, grouped_head("Model", groups), rows)


def ensembles_table(evaluation: Evaluation) -> str:
    """Return skill, spread, score and coverage of every ensemble, over all lead times and in the last frame."""
    rows = []
    for e in evaluation.ensembles:
        mean = {name: table.values.mean() for name, table in e.tables.items()}
        ratio, last = number_text(float(e.ratio.mean())), number_text(float(e.ratio[-1].mean()))
        cells = [
            f"<td>{e.num_members}</td>",
            *(f"<td>{error_text(float(mean[name]))}</td>" for name in ("skill", "spread", "crps")),
            f"<td>{ratio}<small>last frame {last}</small></td>",
            f"<td>{error_text(float(mean['coverage']))}<small>expected {error_text(e.expected_coverage)}</small></td>",
        ]
        rows.append(f'<tr><th scope="row">{html.escape(e.label)}</th>{"".join(cells)}</tr>')
    caption = (
        "<b>Table 8.</b> Ensembles on the training grid, each member feeding on its own output, mean over "
        "trajectories, lead times and fields. <i>Skill</i>: VRMSE of the mean; <i>spread</i>: standard deviation "
        "over members, and <i>CRPS</i>, the fair one, in the same unit. <i>Spread ÷ skill</i>: 1 for an ensemble "
        "that knows how wrong it is, below 1 for one that is too sure. <i>Coverage</i>: how often the truth lies "
        "between the smallest and the largest member."
    )
    if not all(e.are_alike for e in evaluation.ensembles):
        caption += (
            " Stages of a boosted model are no draws from one distribution; their spread is an indication."
        )
    heads = ["Ensemble", "members", "skill", "spread", "CRPS", "spread ÷ skill", "coverage"]
    return captioned("table-8", caption, _head(heads), rows)


def _outcome(c: Certificate) -> str:
    if c.error is None:
        return c.note
    if c.is_violated:
        return f"Violated: built in, and above {ROUNDING:g}."
    if c.by_model and c.by_equation is False:
        return "The model has what the equation has not."
    return c.note


def _measured(c: Certificate) -> str:
    text = "—" if c.error is None else property_text(c.error)
    built = ("built in" if c.is_exact else "built in up to aliasing") if c.by_model else "not built in"
    state = ' class="broken"' if c.is_violated else ""
    return f"<td{state}>{text}<small>{built}</small></td>"


def _of_equation(c: Certificate) -> str:
    if c.by_equation is None:
        return "unknown"
    small = "" if c.equation_error is None else f"<small>{property_text(c.equation_error)}</small>"
    return f"{'yes' if c.by_equation else 'no'}{small}"


def _row(evaluation: Evaluation, label: str) -> Contender:
    return next(c for c in evaluation.contenders if c.label == label)


def _percent(samples: torch.Tensor) -> str:
    low, high = mean_interval(samples).tolist()
    small = f"<small>{range_text(max(low, 0.0), high)}</small>" if math.isfinite(high) else ""
    return f"<td>{error_text(float(samples.mean()))}{small}</td>"


def _last(values: torch.Tensor) -> str:
    return f"<td>{property_text(float(values.mean()))}</td>"


def _ratio(values: torch.Tensor) -> str:
    return f"<td>{number_text(float(values.mean()))}</td>"


def _of_field(evaluation: Evaluation, name: str) -> str:
    return f" of {name.split(', ')[0]}" if len(evaluation.spec.forecast_fields) > 1 else ""


def _head(heads: Sequence[str]) -> str:
    cells = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in heads)
    return f"<tr>{cells}</tr>"
