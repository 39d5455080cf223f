"""``metrics.json``: all numbers of one evaluation as plain types; infinite and undefined numbers are ``None``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..metrics.spectral_errors import SpectralErrors
from ..metrics.table import bootstrap_interval, plain
from .contenders import Coarse, Contender, Native
from .paired import Difference, difference, measures_of, pairs_of
from .results import HEADLINE, Estimate, Evaluation
from .scoring import Score


def to_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Return everything as plain types; infinite and undefined numbers are ``None``."""
    return {
        "headline": {
            "metric": HEADLINE,
            "model": evaluation.main.label,
            "grid": list(evaluation.training_grid),
            "horizon": evaluation.horizon,
            "one_step": _estimate(evaluation.one_step(evaluation.main, evaluation.training_grid)),
            "rollout": _estimate(evaluation.rollout(evaluation.main, evaluation.training_grid)),
        },
        "fields": [f.name for f in evaluation.spec.forecast_fields],
        "dt": evaluation.spec.dt,
        "lead_in": evaluation.lead_in,
        "lead_times": evaluation.lead_times,
        "regridding": [{"grid": list(g), "method": m} for g, m in evaluation.regridding.items()],
        "results": [_score(s) for s in evaluation.scores],
        "cost": [
            {
                "model": c.label,
                "parameters": c.parameters,
                "ms_per_frame": c.ms_per_frame,
                "peak_mib": c.peak_mib,
                "grid": list(c.grid),
                "device": c.device,
                **_speed_up(evaluation, c.label),
            }
            for c in evaluation.costs
        ],
        "solver": [
            {
                "grid": list(run.grid),
                "dt": run.dt,
                "errors": plain(run.errors),
                "ms_per_frame": plain(run.ms_per_frame),
            }
            for run in evaluation.solver
        ],
        "solver_knows_more": evaluation.solver_knows_more,
        "why_no_solver": evaluation.why_no_solver,
        "twin": evaluation.twin.to_dict() if evaluation.twin else None,
        "stability": [_stability(evaluation, s.contender) for s in _at_home(evaluation)],
        "comparisons": [
            _comparison(difference(evaluation, row, against, metric, protocol), metric, protocol)
            for row, against in pairs_of(evaluation)
            for metric, protocol in measures_of(evaluation)
        ],
        "resolution": [
            {
                "model": t.label,
                "grid": list(t.grid),
                "inconsistency": plain(t.inconsistency),
                "aliasing": None if t.aliasing is None else plain(t.aliasing),
                "why_no_aliasing": t.why_no_aliasing,
            }
            for t in evaluation.transfers
        ],
        "certificates": [
            {
                "model": c.label,
                "property": c.name,
                "error": None if c.error is None else plain(c.error),
                "by_model": c.by_model,
                "is_exact": c.is_exact,
                "by_equation": c.by_equation,
                "equation_error": None if c.equation_error is None else plain(c.equation_error),
                "violated": c.is_violated,
                "note": c.note,
            }
            for c in evaluation.certificates
        ],
        "ensembles": [
            {
                "model": e.label,
                "members": e.num_members,
                "are_alike": e.are_alike,
                "spread_skill_ratio": plain(e.ratio),
                "expected_coverage": e.expected_coverage,
                **{name: table.to_dict() for name, table in e.tables.items()},
            }
            for e in evaluation.ensembles
        ],
        "cases": [
            {"rank": c.rank, "trajectory": c.trajectory, "error": plain(c.error)} for c in evaluation.cases
        ],
        "config": dict(evaluation.config),
        "provenance": {k: dict(v) for k, v in evaluation.provenance.items()},
    }


def _at_home(evaluation: Evaluation) -> list[Score]:
    return [s for s in evaluation.scores if s.grid == evaluation.training_grid and not s.refused]


def _speed_up(evaluation: Evaluation, label: str) -> dict[str, Any]:
    found = evaluation.speed_up(label)
    return {} if found is None else {"speed_up": found[0], "solver_grid": list(found[1].grid)}


def _stability(evaluation: Evaluation, contender: Contender) -> dict[str, Any]:
    score = evaluation.score(contender, evaluation.training_grid)
    content: dict[str, Any] = {"model": contender.label}
    for kind in ("correlation", "divergence"):
        times = evaluation.times(contender, kind)
        low, high = bootstrap_interval(times, "median")
        content[f"{kind}_time"] = {
            "values": plain(times),
            "median": plain(float(np.median(times))),
            "bootstrap_95": {"low": plain(low), "high": plain(high)},
            "never": int(times.isinf().sum()),
        }
    return {**content, "growth_rate": plain(evaluation.growth(score.rollout[HEADLINE]))}


def _comparison(d: Difference, metric: str, protocol: str) -> dict[str, Any]:
    low, high = d.interval
    return {
        "model": d.row.label,
        "against": d.against.label,
        "metric": metric,
        "protocol": protocol,
        "difference": plain(d.mean),
        "interval_95": {"low": plain(low), "high": plain(high)},
        "bootstrap_95": dict(zip(("low", "high"), map(plain, d.bootstrap), strict=True)),
        "standing": d.standing.value,
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "mean": plain(estimate.mean),
        "interval_95": {"low": plain(estimate.low), "high": plain(estimate.high)},
        "bootstrap_95": dict(
            zip(("low", "high"), map(plain, bootstrap_interval(estimate.samples)), strict=True)
        ),
        "n": estimate.n,
    }


def _score(score: Score) -> dict[str, Any]:
    content: dict[str, Any] = {
        "model": score.contender.label,
        "role": score.contender.role,
        "grid": list(score.grid),
    }
    if isinstance(score.contender, Native):
        content["artifact"] = str(score.contender.path)
    if isinstance(score.contender, Coarse):
        content["coarse_run_of"] = score.contender.native.label
    if score.refused:
        return {**content, "refused": score.refused}
    for protocol, tables in (("rollout", score.rollout), ("one_step", score.one_step)):
        content[protocol] = {
            name: {"summary": _estimate(Estimate.of(table)), **table.to_dict()}
            for name, table in tables.items()
        }
    if score.floor:
        content["floor"] = {
            protocol: {"summary": _estimate(Estimate.of(table)), **table.to_dict()}
            for protocol, table in score.floor.items()
        }
    content["further"] = {name: table.to_dict() for name, table in score.further.items()}
    content["one_step_lead_axis"] = "start of the window, in frames"
    content["spectra"] = [
        {
            "lead": lead,
            "wavenumber": plain(s.wavenumber),
            "dims": ["field", "band"],
            "last_band": "corners of the spectral box; on a sphere what lies beyond the degrees",
            **{
                name: plain(values)
                for name, values in zip(("target", "prediction", "error"), torch.unbind(s.mean), strict=True)
            },
        }
        for lead, s in sorted(score.spectra.items())
    ]
    if score.spectral_errors is not None:
        content["spectral_errors"] = _spectral_errors(score.spectral_errors)
    return content


def _spectral_errors(errors: SpectralErrors) -> dict[str, Any]:
    return {
        "over": "all frames of the rollouts",
        "wavenumber": plain(errors.wavenumber),
        "dims": ["field", "band"],
        "last_band": "corners of the spectral box; on a sphere what lies beyond the degrees",
        "nmse": plain(errors.nmse),
        "relative": plain(errors.relative),
        "by_range": {
            kind: {name: plain(values) for name, values in ranges.items()}
            for kind, ranges in errors.by_range.items()
        },
        "modes": {name: plain(values) for name, values in errors.split.items()},
    }
