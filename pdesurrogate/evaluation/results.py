"""All numbers of one evaluation, and the plain dictionary that `metrics.json` holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import DataSpec
from ..metrics import MetricTable
from ..metrics.spectral_errors import SpectralErrors
from ..metrics.stability import correlation_time, first_divergence, growth_rate
from ..metrics.table import bootstrap_interval, mean_interval, plain
from .cases import Case
from .certificates import Certificate
from .contenders import Coarse, Contender, Native
from .cost import Cost
from .ensembles import EnsembleScore
from .reference import SolverRun, coarsest_reaching
from .resolution import Transfer
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
        transfers: what sampling alone does to the surrogates on other grids.
        certificates: properties of the surrogates on their training grid.
        ensembles: scatter of the contenders that have members, on the training grid.
        solver: runs of the data's solver on coarse grids and finer ones; empty where there is none.
        twin: by how much two solutions part that differ by the surrogate's error of one step; None where unknown.
        why_no_solver: the reason, in a sentence.
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
    transfers: Sequence[Transfer] = ()
    certificates: Sequence[Certificate] = ()
    ensembles: Sequence[EnsembleScore] = ()
    solver: Sequence[SolverRun] = ()
    twin: MetricTable | None = None
    why_no_solver: str = ""

    @property
    def lead_times(self) -> list[float]:
        """Time from the start to every forecast frame, in the units of the data."""
        return [self.spec.dt * (i + 1) for i in range(self.horizon)]

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

    def runner(self, grid: tuple[int, ...]) -> Contender:
        """Return the row that stands for the surrogate on a grid: its resampled run where it does not take it."""
        if not self.score(self.main, grid).refused:
            return self.main
        around = [c for c in self.contenders if isinstance(c, Coarse) and c.native is self.main]
        return around[0]

    def times(self, contender: Contender, kind: str) -> Float[Tensor, " sample"]:
        """Return for how long a forecast on the training grid can be used, the earliest of all fields of a trajectory.

        Args:
            contender: who.
            kind: ``"correlation"`` until the correlation falls below 0.8, ``"divergence"`` until the VRMSE exceeds 1.
        """
        score = self.score(contender, self.training_grid)
        if kind == "correlation":
            return correlation_time(score.further["decorrelation"].values, self.spec.dt).amin(1)
        return first_divergence(score.rollout[DEVIATIONS].values, self.spec.dt).amin(1)

    def growth(self, table: MetricTable) -> float:
        """Return the rate at which an error grows, median over trajectories and fields that have one, per time."""
        rates = growth_rate(table.values, self.spec.dt)
        return float(rates[rates.isfinite()].median()) if rates.isfinite().any() else math.nan

    def speed_up(self, label: str) -> tuple[float, SolverRun] | None:
        """Return how much faster a surrogate is than the solver at the coarsest grid that errs no more, and that run.

        None where the solver is unknown, or no run of it reaches the surrogate's error.
        """
        cost = next((c for c in self.costs if c.label == label), None)
        contender = next(c for c in self.contenders if c.label == label)
        if cost is None or not self.solver or self.score(contender, self.training_grid).refused:
            return None
        count = len(self.solver[0].errors)
        error = float(self.rollout(contender, self.training_grid).samples[:count].mean())
        run = coarsest_reaching(self.solver, error)
        return None if run is None else (run.ms_per_frame / cost.ms_per_frame, run)

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
            "lead_times": self.lead_times,
            "regridding": [{"grid": list(g), "method": m} for g, m in self.regridding.items()],
            "results": [_score(s) for s in self.scores],
            "cost": [
                {
                    "model": c.label,
                    "parameters": c.parameters,
                    "ms_per_frame": c.ms_per_frame,
                    "peak_mib": c.peak_mib,
                    "grid": list(c.grid),
                    "device": c.device,
                    **self._speed_up(c.label),
                }
                for c in self.costs
            ],
            "solver": [
                {
                    "grid": list(run.grid),
                    "dt": run.dt,
                    "errors": plain(run.errors),
                    "ms_per_frame": plain(run.ms_per_frame),
                }
                for run in self.solver
            ],
            "why_no_solver": self.why_no_solver,
            "twin": self.twin.to_dict() if self.twin else None,
            "stability": [self._stability(s.contender) for s in self._at_home],
            "comparisons": [
                self._comparison(s, metric)
                for s in self._at_home
                if s.contender is not self.main
                for metric in s.rollout
            ],
            "resolution": [
                {
                    "model": t.label,
                    "grid": list(t.grid),
                    "inconsistency": plain(t.inconsistency),
                    "aliasing": None if t.aliasing is None else plain(t.aliasing),
                    "why_no_aliasing": t.why_no_aliasing,
                }
                for t in self.transfers
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
                for c in self.certificates
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
                for e in self.ensembles
            ],
            "cases": [
                {"rank": c.rank, "trajectory": c.trajectory, "error": plain(c.error)} for c in self.cases
            ],
            "config": dict(self.config),
            "provenance": {k: dict(v) for k, v in self.provenance.items()},
        }

    @property
    def _at_home(self) -> list[Score]:
        return [s for s in self.scores if s.grid == self.training_grid and not s.refused]

    def _speed_up(self, label: str) -> dict[str, Any]:
        found = self.speed_up(label)
        return {} if found is None else {"speed_up": found[0], "solver_grid": list(found[1].grid)}

    def _stability(self, contender: Contender) -> dict[str, Any]:
        score = self.score(contender, self.training_grid)
        content: dict[str, Any] = {"model": contender.label}
        for kind in ("correlation", "divergence"):
            times = self.times(contender, kind)
            low, high = bootstrap_interval(times, "median")
            content[f"{kind}_time"] = {
                "values": plain(times),
                "median": plain(float(np.median(times))),
                "bootstrap_95": {"low": plain(low), "high": plain(high)},
                "never": int(times.isinf().sum()),
            }
        return {**content, "growth_rate": plain(self.growth(score.rollout[HEADLINE]))}

    def _comparison(self, other: Score, metric: str) -> dict[str, Any]:
        """Return the paired difference of a row and the main surrogate: positive where the row errs more."""
        own, theirs = (Estimate.of(score.rollout[metric]) for score in (self.headline, other))
        difference = theirs.samples - own.samples
        low, high = bootstrap_interval(difference)
        ends = mean_interval(difference)
        return {
            "model": other.contender.label,
            "metric": metric,
            "difference": plain(difference.mean()),
            "interval_95": {"low": plain(ends[0]), "high": plain(ends[1])},
            "bootstrap_95": {"low": plain(low), "high": plain(high)},
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
