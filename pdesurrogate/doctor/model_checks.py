"""The model against the grid: its options, its modes, the grids that it takes, and what it says about boundaries."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..data.datamodule import TrajectoryDataModule
from ..models import MODELS
from ..models.matching import num_real_parameters
from ..models.options import require_grid
from ..trainer_options import region_parallel_size
from ..training.region_parallel import require_regions
from .findings import Finding, ok, problem, refusals, warning


def look_at_model(config: Mapping[str, Any], data: TrajectoryDataModule) -> list[Finding]:
    """Return what a model has against the data, or could have."""
    options = dict(config["model"])
    kind = options.pop("kind")
    history, horizon = config["data"].get("history", 1), config["data"].get("horizon", 1)
    with _warnings_of("pdesurrogate.models") as said:
        try:
            model: nn.Module = MODELS.build(kind, data.spec, history, horizon, **options)
        except (ValueError, TypeError) as error:
            return [problem("model", str(error))]
    findings = [warning("model", text) for text in said]
    parameters = num_real_parameters(model)
    if parameters == 0:
        findings.append(problem("model", f"{kind} has nothing to train."))
    findings += refusals(
        "model", lambda: require_regions(model, kind, region_parallel_size(config["trainer"]))
    )
    refused = refusals("grid", lambda: require_grid(model, data.grid))
    if refused:
        return [*findings, *refused]
    findings.append(
        ok(
            "model",
            f"{kind}, {parameters:,} real parameters, takes {' x '.join(map(str, data.grid))} "
            f"(grids: {getattr(model, 'grids', 'any')}){_smallest(model, data.grid)}.",
        )
    )
    return findings


def _smallest(model: nn.Module, grid: tuple[int, ...]) -> str:
    """Return the smallest grid of equal shape on which a model can be evaluated, as text."""
    taken = grid
    for size in range(grid[0] - 1, 0, -1):
        smaller = tuple(max(1, round(n * size / grid[0])) for n in grid)
        if refusals("grid", lambda smaller=smaller: require_grid(model, smaller)):  # type: ignore[misc]
            continue
        taken = smaller
    return "" if taken == grid else f"; the smallest such grid is {' x '.join(map(str, taken))}"


@contextmanager
def _warnings_of(name: str) -> Iterator[list[str]]:
    """Collect the warnings of a logger and of those below it, and keep them from the console."""
    texts: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                texts.append(record.getMessage())

    logger, collector = logging.getLogger(name), Collector()
    before = logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield texts
    finally:
        logger.propagate = before
        logger.removeHandler(collector)
