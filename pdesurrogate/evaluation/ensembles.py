"""Ensembles in the report: artifacts that were joined, members inside one artifact, and stages of a boosted model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..metrics import MetricTable
from ..metrics.ensembles import (
    coverage,
    ensemble_skill,
    ensemble_spread,
    expected_coverage,
    fair_crps,
    spread_skill_ratio,
)
from ..models.specboost import SpecBoost
from .contenders import Contender, Joined, Native
from .truth import Truth

MEASURES = {"skill": ensemble_skill, "spread": ensemble_spread, "crps": fair_crps, "coverage": coverage}


@dataclass(frozen=True)
class EnsembleScore:
    """What the scatter of an ensemble is worth, on one grid.

    Attributes:
        label: of the contender whose members these are.
        num_members: how many.
        are_alike: whether members are draws from one distribution (seeds), not one after the other (stages).
        tables: (trajectory, lead time, field) of each of `MEASURES`.
    """

    label: str
    num_members: int
    are_alike: bool
    tables: dict[str, MetricTable]

    @property
    def ratio(self) -> Tensor:
        """Spread-skill ratio by lead time and field, of root mean squares over trajectories; 1 if calibrated."""
        spread, skill = (self.tables[name].values.square().mean(0).sqrt() for name in ("spread", "skill"))
        return spread_skill_ratio(spread, skill, self.num_members)

    @property
    def expected_coverage(self) -> float:
        """How often the truth would lie between the extremes if it were one more member."""
        return expected_coverage(self.num_members)


def members_of(contender: Contender) -> tuple[Native, ...]:
    """Return the members of a contender; none of one that is alone, and none of a stage."""
    if isinstance(contender, Joined):
        return contender.members
    if not isinstance(contender, Native) or contender.role == "stage":
        return ()
    found = contender.surrogate.members()
    members = tuple(Native(s, name, contender.path, role="member") for name, s in found.items())
    return members if len(members) > 1 else ()


@torch.no_grad()
def score_ensembles(
    contenders: Sequence[Contender], truth: Truth, horizon: int, batch_size: int
) -> list[EnsembleScore]:
    """Roll out the members of every ensemble, each on its own output, and score their scatter at every lead time."""
    found = []
    for contender in contenders:
        members = members_of(contender)
        if members and not contender.refuses(truth.grid):
            are_alike = not (
                isinstance(contender, Native) and isinstance(contender.surrogate.model, SpecBoost)
            )
            tables = _tables(members, truth, horizon, batch_size)
            found.append(EnsembleScore(contender.label, len(members), are_alike, tables))
    return found


def _tables(members: Sequence[Native], truth: Truth, horizon: int, batch_size: int) -> dict[str, MetricTable]:
    spec = members[0].surrogate.spec
    tables = {name: MetricTable([f.name for f in spec.forecast_fields]) for name in MEASURES}
    for start in range(0, len(truth.indices), batch_size):
        ids = truth.indices[start : start + batch_size]
        pairs = zip(truth.after_lead_in(ids, horizon), _rollouts(members, truth, ids, horizon), strict=True)
        for lead, (target, frames) in enumerate(pairs):
            for name, measure in MEASURES.items():
                tables[name].add(ids, measure(frames[:, :, None], target[:, None], spec), first_lead=lead)
    return tables


def _rollouts(members: Sequence[Native], truth: Truth, ids: Sequence[int], horizon: int) -> Iterator[Tensor]:
    history, parameters = truth.frames(ids, 0, truth.lead_in), truth.parameters(ids)
    rollouts = [member.forecast(history, parameters, horizon) for member in members]
    for frames in zip(*rollouts, strict=True):
        yield torch.stack(frames)
