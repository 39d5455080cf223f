"""All numbers of one evaluation, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..fields import DataSpec
from ..metrics import MetricTable
from ..metrics.stability import correlation_time, first_divergence, growth_rate
from ..metrics.table import mean_interval
from .cases import Case
from .certificates import Certificate
from .contenders import Coarse, Contender
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
        regridding: how the truth came to each grid: "native", "stride", "cells" or "spectral".
        config: of this evaluation.
        provenance: facts by section, for the report's last table.
        transfers: what sampling alone does to the surrogates on other grids.
        certificates: properties of the surrogates on their training grid.
        ensembles: scatter of the contenders that have members, on the training grid.
        solver: runs of the data's solver on coarse grids and finer ones; empty where there is none.
        solver_knows_more: whether the solver started from states of which frames hold a part.
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
    solver_knows_more: bool = False
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
