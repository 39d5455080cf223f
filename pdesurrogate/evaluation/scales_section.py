"""Errors by scale in the report: spectra over waves of a box, cosines between its ends, or harmonics of a sphere."""

from __future__ import annotations

import math

from ..fields.spherical.grid import spherical_grid
from .charts import Series, line_chart
from .results import Evaluation
from .tables import colour_class, figure_of, scales_table
from .typography import on_grid

_KINDS = {
    "waves": "radial wavenumber band",
    "cosines": "radial wavenumber band",
    "sphere": "degree of the spherical harmonics",
}
_REMARKS = {
    "waves": "",
    "cosines": (
        " Along axes with ends cosines take the place of waves (DCT-II), half a wave apart; a slope of the field at an "
        "end leaves a tail that falls as the inverse fourth power of the wavenumber."
    ),
    "sphere": " A wind is split into its vorticity and divergence; energies are means over the area.",
}
"""What a reader of the charts has to know about the modes of a domain."""


def scales_content(evaluation: Evaluation) -> str:
    """Return spectra of truth, prediction and error, errors by scale, and their table."""
    shown = [evaluation.training_grid, evaluation.grids[-1]]
    charts = []
    for grid in dict.fromkeys(shown):
        for index, field in enumerate(evaluation.spec.forecast_fields):
            title = f"{field.name}, {on_grid(grid)}"
            charts.append((title, _spectrum_chart(evaluation, grid, index, title)))
    for index, field in enumerate(evaluation.spec.forecast_fields):
        for kind, title in (("nmse", "squared error by scale"), ("relative", "what is not learned")):
            name = f"{field.name}, {title}"
            charts.append((name, _errors_chart(evaluation, kind, index, name)))
    caption = (
        f"<b>Figure 2.</b> Mean square by {_KINDS[_kind(evaluation)]} in the last frame, number {evaluation.horizon}. "
        "Where the error is as large as the truth, the prediction is no better than one that leaves that scale out; "
        "at twice the truth it has nothing to do with it. <i>Squared error by scale</i>: its share of the energy of "
        "the truth, over all frames of the rollouts; the bands add up to the NMSE. <i>What is not learned</i>: the "
        "same over the energy of the truth in that band alone, where it has any. What lies beyond the last band is in "
        f"metrics.json.{_REMARKS[_kind(evaluation)]}"
    )
    return figure_of(charts, caption) + scales_table(evaluation)


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
    return line_chart(
        lines,
        title=f"Spectrum of {title}",
        x_label=scale_label(evaluation),
        y_label="mean square",
        log_x=True,
        y_limits=(top * 1e-12, top * 10),
        mark=(_last_wave(evaluation), "training grid ends") if grid != evaluation.training_grid else None,
    )


def _errors_chart(evaluation: Evaluation, kind: str, field: int, title: str) -> str:
    lines = []
    for contender in evaluation.contenders:
        errors = evaluation.score(contender, evaluation.training_grid).spectral_errors
        if errors is None or contender.role in ("coarse", "persistence"):
            continue
        values = errors.nmse if kind == "nmse" else errors.relative.where(errors.has_energy, math.nan)
        k = errors.wavenumber.tolist()
        style, dash = colour_class(evaluation, contender), "5 3" if contender.role == "stage" else ""
        lines.append(Series(contender.label, style, k, values[field, : len(k)].tolist(), dash=dash))
    top = max((y for s in lines for y in s.y if math.isfinite(y)), default=1.0)
    return line_chart(
        lines,
        title=f"{title[0].upper()}{title[1:]}, {on_grid(evaluation.training_grid)}",
        x_label=scale_label(evaluation),
        y_label="share of the energy" if kind == "nmse" else "error ÷ energy of the band",
        log_x=True,
        y_limits=(top * 1e-12, max(top, 1e-300)),
        level=1.0 if kind == "relative" else None,
        y_include=(1.0,) if kind == "relative" else (),
    )


def _last_wave(evaluation: Evaluation) -> float:
    """Return the largest wavenumber, or degree, that the training grid carries along every axis."""
    spec, grid = evaluation.spec, evaluation.training_grid
    if spec.geometry == "sphere":
        return float(spherical_grid(spec, grid).largest_truncation())
    return min(math.pi * n / length for n, length in zip(grid, spec.lengths, strict=True))


def _kind(evaluation: Evaluation) -> str:
    if evaluation.spec.geometry == "sphere":
        return "sphere"
    return "waves" if evaluation.spec.is_periodic else "cosines"


def scale_label(evaluation: Evaluation) -> str:
    """Return what numbers the scales of a domain, with its unit."""
    is_sphere = evaluation.spec.geometry == "sphere"
    return "degree of the harmonics" if is_sphere else "wavenumber (rad per unit length)"
