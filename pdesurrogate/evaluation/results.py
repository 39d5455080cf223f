"""All numbers of one evaluation, and the plain dictionary that `metrics.json` holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import DataSpec
from ..metrics import MetricTable
from ..metrics.spectral_errors import SpectralErrors
from ..metrics.table import mean_interval, plain
from .cases import Case
from .contenders import Coarse, Contender, Native
from .cost import Cost
from .scoring import Score

HEADLINE = "relative_l2"
DEVIATIONS = "vrmse"  # always measured too: it shows where a large mean flatters the headline


@dataclass(frozen=True)
class Estimate:
    """The mean of one error per trajectory, with Student's 95 % t interval over trajectories.

    Attributes:
        samples: one number a trajectory.
        undefined: whether an infinite mean comes from a truth that vanishes, not from the forecast.
    """

    samples: Float[Tensor, " sample"]
    undefined: bool = False

    @classmethod
    def of(cls, table: MetricTable) -> Estimate:
        """Condense a table: leads and fields are averaged for each trajectory."""
        return cls(table.per_sample(), table.undefined)

    @property
    def n(self) -> int:
        """Number of trajectories."""
        return len(self.samples)

    @property
    def mean(self) -> float:
        """Mean over trajectories."""
        return float(self.samples.mean())

    @property
    def low(self) -> float:
        """Lower end of the interval; no error is below 0. NaN with too few trajectories."""
        return float(mean_interval(self.samples)[0].clamp(min=0))

    @property
    def high(self) -> float:
        """Upper end of the interval; NaN with too few trajectories."""
        return float(mean_interval(self.samples)[1])


@dataclass(frozen=True)
class Evaluation:
    """Scores of all contenders on all grids, with what the report says about them.

    Attributes:
        spec: of the data, with the dt of the surrogate.
        training_grid: of the main surrogate.
        horizon: frames of a rollout.
        lead_in: true frames before the first forecast.
        scores: one per grid and contender, grids in ascending order, contenders in table order.
        costs: of the surrogates.
        cases: worst, median and best trajectory of the main surrogate on its training grid.
        regridding: how the truth came to each grid: "native", "stride" or "spectral".
        config: of this evaluation.
        provenance: facts by section, for the report's last table.
    """

    spec: DataSpec
    training_grid: tuple[int, ...]
    horizon: int
    lead_in: int
    scores: Sequence[Score]
    costs: Sequence[Cost]
    cases: Sequence[Case]
    regridding: Mapping[tuple[int, ...], str]
    config: Mapping[str, Any]
    provenance: Mapping[str, Mapping[str, Any]]

    @property
    def grids(self) -> list[tuple[int, ...]]:
        """All grids, coarse to fine."""
        return sorted({s.grid for s in self.scores}, key=lambda grid: (math.prod(grid), grid))

    @property
    def contenders(self) -> list[Contender]:
        """All contenders in table order."""
        return [s.contender for s in self.scores if s.grid == self.scores[0].grid]

    @property
    def main(self) -> Contender:
        """The surrogate under test."""
        return next(c for c in self.contenders if c.role == "main")

    def score(self, contender: Contender, grid: tuple[int, ...]) -> Score:
        """Return what one contender did on one grid."""
        return next(s for s in self.scores if s.contender is contender and s.grid == grid)

    @property
    def headline(self) -> Score:
        """The main surrogate on its training grid."""
        return self.score(self.main, self.training_grid)

    def rollout(self, contender: Contender, grid: tuple[int, ...]) -> Estimate:
        """Return the relative L2 error averaged over all lead times of the rollout."""
        return Estimate.of(self.score(contender, grid).rollout[HEADLINE])

    def one_step(self, contender: Contender, grid: tuple[int, ...]) -> Estimate:
        """Return the relative L2 error of the first frame after every window of the test set."""
        return Estimate.of(self.score(contender, grid).one_step[HEADLINE])

    def floor(self, contender: Contender, grid: tuple[int, ...], protocol: str) -> Estimate | None:
        """Return the error below which no weights can bring a contender, on some waves its truncation floor.

        Args:
            contender: whose.
            grid: where.
            protocol: ``"one_step"`` or ``"rollout"``.
        """
        table = self.score(contender, grid).floor.get(protocol)
        return None if table is None else Estimate.of(table)

    def error(self, contender: Contender, metric: str) -> Estimate:
        """Return an error of the rollout on the training grid, by the name of its metric."""
        return Estimate.of(self.score(contender, self.training_grid).rollout[metric])

    @property
    def mean_dominates(self) -> bool:
        """Whether in some field the mean of the truth is larger than its fluctuations.

        The target's ``‖t‖² = mean² + fluctuation²``, so the ratio of VRMSE to relative L2 error is
        ``√(1 + mean² / fluctuation²)``, whatever the forecast; its median over trajectories and lead times counts.
        """
        for score in (s for s in self.scores if s.grid == self.training_grid and not s.refused):
            relative, vrmse = (score.rollout[m].values.flatten(0, 1) for m in (HEADLINE, DEVIATIONS))
            for own, other in zip(relative.unbind(-1), vrmse.unbind(-1), strict=True):
                usable = own.isfinite() & (own > 0)
                if usable.any() and (other[usable] / own[usable]).median() > math.sqrt(2):
                    return True
        return False

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain types; infinite and undefined numbers are ``None``."""
        return {
            "headline": {
                "metric": HEADLINE,
                "model": self.main.label,
                "grid": list(self.training_grid),
                "horizon": self.horizon,
                "one_step": _estimate(self.one_step(self.main, self.training_grid)),
                "rollout": _estimate(self.rollout(self.main, self.training_grid)),
            },
            "fields": [f.name for f in self.spec.forecast_fields],
            "dt": self.spec.dt,
            "lead_in": self.lead_in,
            "lead_times": [self.spec.dt * (i + 1) for i in range(self.horizon)],
            "regridding": [{"grid": list(g), "method": m} for g, m in self.regridding.items()],
            "results": [_score(s) for s in self.scores],
            "cost": [
                {
                    "model": c.label,
                    "parameters": c.parameters,
                    "ms_per_frame": c.ms_per_frame,
                    "grid": list(c.grid),
                    "device": c.device,
                }
                for c in self.costs
            ],
            "cases": [
                {"rank": c.rank, "trajectory": c.trajectory, "error": plain(c.error)} for c in self.cases
            ],
            "config": dict(self.config),
            "provenance": {k: dict(v) for k, v in self.provenance.items()},
        }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "mean": plain(estimate.mean),
        "interval_95": {"low": plain(estimate.low), "high": plain(estimate.high)},
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
    content["one_step_lead_axis"] = "start of the window, in frames"
    content["spectra"] = [
        {
            "lead": lead,
            "wavenumber": plain(s.wavenumber),
            "dims": ["field", "band"],
            "last_band": "corners of the spectral box",
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
        "last_band": "corners of the spectral box",
        "nmse": plain(errors.nmse),
        "relative": plain(errors.relative),
        "by_range": {
            kind: {name: plain(values) for name, values in ranges.items()}
            for kind, ranges in errors.by_range.items()
        },
        "modes": {name: plain(values) for name, values in errors.split.items()},
    }
