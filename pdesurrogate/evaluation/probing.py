"""What is asked of surrogates beside their errors: other samplings, certificates, and the solver of the data."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..fields.regridding import can_resample
from ..models.equivariance import Step
from .certificates import Certificate, certify
from .contenders import Joined, Native
from .plan import Plan
from .reference import MOST_TRAJECTORIES, Reference, find_reference, solver_curve, twin_errors
from .resolution import Transfer, transfer
from .results import HEADLINE
from .scoring import Score
from .typography import on_grid

log = logging.getLogger(__name__)

_PROBES = 4  # test states of a certificate


def surrogates(plan: Plan) -> list[Native]:
    """Return the surrogates under test that take the training grid: the main one and its rivals."""
    rows = [c for c in plan.contenders if isinstance(c, Native) and c.role in ("main", "compared")]
    return [c for c in rows if not c.refuses(plan.training_grid)]


def measure_transfers(plan: Plan) -> list[Transfer]:
    """Return what sampling does to every surrogate on all other grids, on twice the training grid if there is none."""
    if not can_resample(plan.data.spec):
        return []
    home = plan.truths[plan.training_grid]
    ids = home.indices[:_PROBES]
    frames, parameters = home.frames(ids, 0, home.lead_in), home.parameters(ids)
    others = sorted(
        (grid for grid in plan.truths if grid != plan.training_grid), key=lambda grid: (math.prod(grid), grid)
    )
    grids = others or [tuple(2 * n for n in plan.training_grid)]
    return [
        transfer(native, frames, parameters, grid)
        for grid in grids
        for native in surrogates(plan)
        if not native.refuses(grid)
    ]


def certificates(plan: Plan, transfers: Sequence[Transfer], reference: Reference | str) -> list[Certificate]:
    """Return the certificates of all surrogates, on the training grid."""
    home = plan.truths[plan.training_grid]
    ids = list(home.indices[:_PROBES])
    frames, parameters = home.frames(ids, 0, home.lead_in), home.parameters(ids)
    truth = home.frames(ids, home.lead_in - 1, home.lead_in + 1)
    solve: Step | None = None
    if isinstance(reference, Reference) and reference.generator.has_whole_states:
        solver = reference

        def one_frame(history: Tensor, _: Tensor) -> Tensor:
            return next(solver.forecast(history[:, -1], ids, 1, home.lead_in - 1))[:, None]

        try:
            one_frame(frames, parameters)
            solve = one_frame
        except ValueError as error:
            log.info("The data's solver does not run on %s: %s", on_grid(plan.training_grid), error)
    return [
        certificate
        for native in surrogates(plan)
        for certificate in certify(native, frames, parameters, truth, transfers, solve)
    ]


def reference_of(plan: Plan, config: Mapping[str, Any]) -> Reference | str:
    """Return the solver of the data, or why it is not run."""
    if not config["solver"]:
        return "The data’s solver was switched off (solver=false)."
    section = config.get("data") or plan.main.provenance.get("config", {}).get("data") or {}
    return find_reference(section, plan.data.dataset.splits["test"], plan.data.spec)


def against_solver(plan: Plan, reference: Reference | str, scores: Sequence[Score]) -> dict[str, Any]:
    """Return the runs of the data's solver and how its twins part, as `Evaluation` takes them."""
    if isinstance(reference, str):
        return {"why_no_solver": reference}
    home = plan.truths[plan.training_grid]
    stored = replace(home, trajectories=plan.data.trajectories("test", plan.data.dataset.splits["test"].grid))
    at_home = [
        s
        for s in scores
        if s.grid == plan.training_grid and not s.refused and isinstance(s.contender, Native | Joined)
    ]
    enough = min(float(s.rollout[HEADLINE].per_sample()[:MOST_TRAJECTORIES].mean()) for s in at_home)
    own = next(s for s in at_home if s.contender.role == "main").one_step[HEADLINE]
    size = float(own.per_sample().mean())
    twin = twin_errors(reference, home, plan.horizon, size) if 0 < size < 1 else None
    return {
        "solver": solver_curve(reference, stored, home, plan.horizon, enough),
        "solver_knows_more": not reference.generator.has_whole_states,
        "twin": twin,
    }
