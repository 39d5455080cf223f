"""Test errors of a finished run's best weights, every trajectory kept, on the training grid and refinements of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pdesurrogate.durable import durable_write
from pdesurrogate.metrics import MetricTable
from pdesurrogate.metrics.stability import correlation_time

from .planning import Run
from .schema import CORRELATION_TIME

BATCH = 16
_DIGITS = 4


def errors_on_test(
    run: Run, grids: Sequence[int], horizon: int, metric: str, device: str
) -> dict[str, dict[str, Any]]:
    """Return a run's errors and, under ``persistence``, those of the last frame repeated.

    Each is a mapping from the refinement of the grid to ``{"refused": sentence}`` or, for ``one_step`` (first frame
    after every window, averaged over the windows of a trajectory), ``rollout`` (from the first frame, averaged over
    lead times) and ``correlation_time``, a list of one number a test trajectory for each field. The correlation time
    is when the rollout's correlation with the truth first falls below 0.8, in units of time, or the length of the
    rollout where it does not: its mean is restricted to that length, as that of censored survival times.

    A model that cannot predict every field has the relative L2 errors of what it can predict nearest to the truth
    under ``floor``, in the same form. All are kept beside the artifact, and read from there the next time.
    """
    wanted = json.dumps([list(grids), horizon, metric, CORRELATION_TIME], sort_keys=True)
    path = run.folder / f"errors-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}.json"
    if path.is_file():
        kept: dict[str, dict[str, Any]] = json.loads(path.read_text())
        return kept
    found = _measure(run.folder / "artifact.pt", grids, horizon, metric, device)
    with durable_write(path) as temporary:
        temporary.write_text(json.dumps(found))
    return found


def _measure(
    artifact: Path, grids: Sequence[int], horizon: int, metric: str, device: str
) -> dict[str, dict[str, Any]]:
    from pdesurrogate.deploy.devices import choose_device
    from pdesurrogate.evaluation.contenders import Contender, Native, Persistence
    from pdesurrogate.evaluation.plan import open_test_data
    from pdesurrogate.evaluation.scoring import score
    from pdesurrogate.evaluation.truth import Truth
    from pdesurrogate.surrogate import Surrogate

    where = choose_device(device)
    surrogate = Surrogate.load(artifact, where)
    data = open_test_data({"data": None, "data_root": None, "num_trajectories": None}, surrogate)
    contenders: list[Contender] = [Native(surrogate, "model", artifact), Persistence()]
    errors: dict[str, dict[str, Any]] = {"model": {}, "persistence": {}}
    for factor in grids:
        grid = tuple(factor * n for n in surrogate.provenance["training_grid"])
        trajectories = data.trajectories("test", grid)
        truth = Truth(trajectories, tuple(range(trajectories.num_trajectories)), surrogate.history, where)
        scores = score(contenders, truth, data.spec, horizon=horizon, metrics=[metric], batch_size=BATCH)
        for name, scored in zip(errors, scores, strict=True):
            errors[name][str(factor)] = (
                {"refused": scored.refused}
                if scored.refused
                else {
                    "one_step": _rows(scored.one_step[metric]),
                    "rollout": _rows(scored.rollout[metric]),
                    CORRELATION_TIME: _correlation_times(scored.further["decorrelation"], data.spec.dt),
                }
            )
            if scored.floor:
                floors = {protocol: _rows(table) for protocol, table in scored.floor.items()}
                errors[name][str(factor)]["floor"] = floors
    return errors


def _correlation_times(lost: MetricTable, dt: float) -> dict[str, list[float | None]]:
    longest = lost.values.shape[1] * dt
    return _by_field(lost.fields, correlation_time(lost.values, dt).clamp(max=longest))


def _rows(table: MetricTable) -> dict[str, list[float | None]]:
    """Return one error a trajectory for each field."""
    return _by_field(table.fields, table.values.mean(1))


def _by_field(fields: Sequence[str], values: Tensor) -> dict[str, list[float | None]]:
    """Return numbers (trajectory, field) of a few digits; None for an infinite one."""
    return {
        name: [float(f"{v:.{_DIGITS}g}") if v < float("inf") else None for v in values[:, i].tolist()]
        for i, name in enumerate(fields)
    }
