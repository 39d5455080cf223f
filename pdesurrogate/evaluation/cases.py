"""The worst, the median and the best trajectory: their frames, for people to look at."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..metrics import MetricTable
from .contenders import Contender
from .truth import Truth


@dataclass(frozen=True)
class Case:
    """One trajectory at some lead times.

    Attributes:
        rank: "worst", "median" or "best".
        trajectory: its index in the test split.
        error: its rollout error.
        leads: which frames after the start, counted from 1.
        truth, prediction: those frames.
        undefined: whether an infinite error comes from a truth that vanishes.
    """

    rank: str
    trajectory: int
    error: float
    leads: tuple[int, ...]
    truth: Float[Tensor, "lead channel *space"]
    prediction: Float[Tensor, "lead channel *space"]
    undefined: bool = False


def shown_leads(horizon: int) -> tuple[int, ...]:
    """Return at most four lead times: the first, two between, the last."""
    return tuple(sorted({1, max(1, horizon // 4), max(1, horizon // 2), horizon}))


@torch.no_grad()
def show_cases(contender: Contender, truth: Truth, table: MetricTable, horizon: int) -> list[Case]:
    """Roll the extreme and the median trajectories of a table out again and keep the shown frames.

    Doing three rollouts twice is cheaper than keeping all frames of all rollouts until the ranks are known.
    """
    order = table.per_sample().argsort(descending=True, stable=True)
    places = {"worst": 0, "median": len(order) // 2, "best": len(order) - 1}
    chosen: dict[int, str] = {}
    for rank, place in places.items():  # with one or two trajectories some ranks coincide
        chosen.setdefault(int(order[place]), rank)
    cases = []
    for row, rank in chosen.items():
        trajectory = table.samples[row]
        target, prediction = _replay(contender, truth, trajectory, horizon)
        error = float(table.per_sample()[row])
        leads = shown_leads(horizon)
        cases.append(Case(rank, trajectory, error, leads, target, prediction, table.undefined))
    return cases


def _replay(contender: Contender, truth: Truth, trajectory: int, horizon: int) -> tuple[Tensor, Tensor]:
    ids = [trajectory]
    forecast = contender.forecast(truth.frames(ids, 0, truth.lead_in), truth.parameters(ids), horizon)
    wanted = shown_leads(horizon)
    true_frames, predicted = [], []
    pairs = zip(truth.after_lead_in(ids, horizon), forecast, strict=True)
    for lead, (target, prediction) in enumerate(pairs, start=1):
        if lead in wanted:
            true_frames.append(target[0].cpu())
            predicted.append(prediction[0].cpu())
    return torch.stack(true_frames), torch.stack(predicted)
