"""The worst, the median and the best trajectory: their frames, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..metrics import MetricTable
from .contenders import Contender
from .truth import Truth

_LONGEST_FILM = 16  # frames; more only makes the page heavy


@dataclass(frozen=True)
class Case:
    """One trajectory at some lead times.

    Attributes:
        rank: "worst", "median" or "best".
        trajectory: its index in the test split.
        error: its rollout error.
        leads: which frames after the start, counted from 1.
        truth, prediction: those frames.
        film_leads: which frames the film shows.
        film_truth, film_prediction: those frames.
        undefined: whether an infinite error comes from a truth that vanishes.
    """

    rank: str
    trajectory: int
    error: float
    leads: tuple[int, ...]
    truth: Float[Tensor, "lead channel *space"]
    prediction: Float[Tensor, "lead channel *space"]
    film_leads: tuple[int, ...]
    film_truth: Float[Tensor, "film channel *space"]
    film_prediction: Float[Tensor, "film channel *space"]
    undefined: bool = False


def shown_leads(horizon: int) -> tuple[int, ...]:
    """Return at most four lead times: the first, two between, the last."""
    return tuple(sorted({1, max(1, horizon // 4), max(1, horizon // 2), horizon}))


def film_leads(horizon: int) -> tuple[int, ...]:
    """Return at most 16 lead times for a film, as even as whole frames allow, with the first and the last."""
    count = min(horizon, _LONGEST_FILM)
    return tuple(dict.fromkeys(round(1 + i * (horizon - 1) / max(count - 1, 1)) for i in range(count)))


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
        frames = _replay(contender, truth, trajectory, horizon)
        error = float(table.per_sample()[row])
        stills, film = shown_leads(horizon), film_leads(horizon)
        cases.append(
            Case(
                rank,
                trajectory,
                error,
                stills,
                *_stacked(frames, stills),
                film,
                *_stacked(frames, film),
                undefined=table.undefined,
            )
        )
    return cases


def _stacked(frames: dict[int, tuple[Tensor, Tensor]], leads: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return truth and prediction at some lead times."""
    truths, predictions = zip(*(pair for lead, pair in frames.items() if lead in leads), strict=True)
    return torch.stack(truths), torch.stack(predictions)


def _replay(
    contender: Contender, truth: Truth, trajectory: int, horizon: int
) -> dict[int, tuple[Tensor, Tensor]]:
    """Return truth and prediction at every lead time that is shown."""
    ids = [trajectory]
    forecast = contender.forecast(truth.frames(ids, 0, truth.lead_in), truth.parameters(ids), horizon)
    wanted = {*shown_leads(horizon), *film_leads(horizon)}
    pairs = enumerate(zip(truth.after_lead_in(ids, horizon), forecast, strict=True), start=1)
    return {lead: (target[0].cpu(), frame[0].cpu()) for lead, (target, frame) in pairs if lead in wanted}
