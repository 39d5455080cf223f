"""Everything that can go wrong is found here, before anything heavy runs and before any file is written."""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..data.datamodule import TrajectoryDataModule
from ..data.opening import open_data
from ..data.store import DEFAULT_SPLITS
from ..deploy.devices import choose_device
from ..fields.regridding import can_resample
from ..metrics import METRICS
from ..registry import did_you_mean, load_plugins
from ..surrogate import Surrogate
from .contenders import PROTOCOLS, Contender, line_up, native_of, runs_elsewhere
from .results import DEVIATIONS, HEADLINE
from .tracking import check_tracking
from .truth import Truth

log = logging.getLogger(__name__)

Grid = tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """A checked evaluation, ready to run.

    Attributes:
        artifact: file of the main surrogate.
        main: the main surrogate.
        training_grid: where it was trained.
        contenders: all rows, in table order.
        data: the data module that opened the test set.
        truths: the test trajectories by grid, the training grid first.
        metrics: names, the headline first.
        horizon: frames of a rollout.
        batch_size: trajectories or windows at a time.
        device: where models run.
        output: folder of the report.
    """

    artifact: Path
    main: Surrogate
    training_grid: Grid
    contenders: Sequence[Contender]
    data: TrajectoryDataModule
    truths: Mapping[Grid, Truth]
    metrics: Sequence[str]
    horizon: int
    batch_size: int
    device: torch.device
    output: Path


def prepare(config: Mapping[str, Any]) -> Plan:
    """Check a configuration of ``conf/evaluate.yaml`` against the artifacts and the data.

    Raises:
        ValueError: for a file that is no artifact or carries code, data that differ from what a surrogate was
            trained on, a grid that the data or the main model cannot reach, a metric or protocol that does not exist or
            that the data do not have, a horizon beyond the data, an empty test set.
        FileNotFoundError: if an artifact is missing.
        OSError: if the report cannot be written where it should go.
    """
    load_plugins(config.get("plugins") or [])
    for name in ("horizon", "batch_size"):
        if config[name] < 1:
            raise ValueError(f"{name} is {config[name]}; it must be at least 1.")
    metrics = list(dict.fromkeys([HEADLINE, *config["metrics"], DEVIATIONS]))
    for name in metrics:
        METRICS.get(name)
    if not config.get("artifact"):
        raise ValueError("no artifact given. Name one: python evaluate.py artifact=runs/RUN_ID/artifact.pt")
    artifact = Path(config["artifact"])
    device = choose_device(config["device"])
    check_tracking(config["wandb"])
    protocol = wanted_protocols(config["protocol"])
    main = Surrogate.load(artifact, device)
    compared, joined = (
        [(Path(path), Surrogate.load(path, device)) for path in config[key]]
        for key in ("compare", "ensemble")
    )
    output = Path(config["output"]) if config.get("output") else artifact.parent / "evaluation"
    _check_writable(output)
    if "training_grid" not in main.provenance:
        raise ValueError(
            f"{artifact} does not say on which grid it was trained (provenance['training_grid'] is missing)."
        )
    training_grid = tuple(main.provenance["training_grid"])
    data = open_test_data(config, main)
    for path, surrogate in [(artifact, main), *compared, *joined]:
        _check_spec(path, surrogate, data)
    contenders = line_up((artifact, main), compared, joined, protocol)
    lead_in = max(c.history for c in contenders)
    truths: dict[Grid, Truth] = {}
    for grid in wanted_grids(config["resolutions"], training_grid):
        trajectories = data.trajectories("test", grid)
        _check_grid(artifact, main, grid)
        available = trajectories.num_trajectories
        count = min(config["num_trajectories"] or available, available)
        truths[grid] = Truth(trajectories, tuple(range(count)), lead_in, device)
    _check_length(truths[training_grid], config["horizon"])
    _check_metrics(metrics, data, training_grid)
    return Plan(
        artifact,
        main,
        training_grid,
        _with_rows(contenders, list(truths)),
        data,
        truths,
        metrics,
        config["horizon"],
        config["batch_size"],
        device,
        output,
    )


def wanted_grids(resolutions: Sequence[Any] | None, training_grid: Grid) -> list[Grid]:
    """Return the training grid and the requested ones; a number stands for a size on every axis.

    Raises:
        ValueError: for an entry that is neither a positive number nor one per axis.
    """
    grids = [training_grid]
    for entry in resolutions or []:
        grid = (entry,) * len(training_grid) if isinstance(entry, int) else entry
        is_grid = isinstance(grid, list | tuple) and all(isinstance(n, int) and n > 0 for n in grid)
        if not is_grid or len(grid) != len(training_grid):
            raise ValueError(
                f"resolutions has the entry {entry!r}; each is a number of points for all axes or a list of "
                f"{len(training_grid)} numbers, such as {list(training_grid)}."
            )
        if tuple(grid) not in grids:
            grids.append(tuple(grid))
    return grids


def wanted_protocols(given: str | Sequence[str]) -> list[str]:
    """Return the protocols of a configuration: one name or several.

    Raises:
        ValueError: for an unknown one, or none.
    """
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        if name not in PROTOCOLS:
            raise ValueError(
                f"protocol is {name!r}.{did_you_mean(str(name), PROTOCOLS)} Allowed: {', '.join(PROTOCOLS)}, or both."
            )
    if not names:
        raise ValueError(f"protocol is empty; give one or both of {', '.join(PROTOCOLS)}.")
    return names


def open_test_data(config: Mapping[str, Any], main: Surrogate) -> TrajectoryDataModule:
    """Open the data set of the configuration, or else the one that the surrogate was trained on.

    Raises:
        ValueError: if neither names a data set, or the test split is missing or empty.
    """
    section = config.get("data") or main.provenance.get("config", {}).get("data")
    if not section:
        raise ValueError("the artifact does not say what it was trained on; name a data set by data=NAME.")
    section = dict(section)
    if config.get("data_root"):
        if "root" not in section:
            raise ValueError(
                f"data_root was given and the data set {section.get('kind')!r} has no root; set its own option, "
                "such as data.path."
            )
        section["root"] = config["data_root"]
        if "made_by" in section:  # of what is given twice, the last counts
            section["made_by"] += " " + shlex.quote(f"data.root={section['root']}")
    # How windows were cut and loaded in training is of no concern here; the time step and regridding are.
    section |= {"history": 1, "horizon": 1, "grid": None, "cache": "none", "num_workers": 0}
    # Their splits are files of their own, and only this one is needed here.
    if section.get("kind") in ("store", "camera"):
        files = section.get("splits") or DEFAULT_SPLITS
        section["splits"] = {"test": files["test"]} if "test" in files else files
    data = open_data(section)
    if data.trajectories("test").num_trajectories == 0:
        raise ValueError(
            f"the test split of {data.dataset.name!r} is empty; there is nothing to evaluate on."
        )
    if config["num_trajectories"] is not None and config["num_trajectories"] < 1:
        raise ValueError(f"num_trajectories is {config['num_trajectories']}; it must be at least 1, or null.")
    return data


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_spec(path: Path, surrogate: Surrogate, data: TrajectoryDataModule) -> None:
    differences = surrogate.spec.mismatches(data.spec)
    if differences:
        raise ValueError(
            f"{path} and the data set {data.dataset.name!r} do not fit: {'; '.join(differences)} (artifact first). "
            "Evaluate on data with the fields, box and time step that the surrogate was trained on; data.stride "
            "changes the time step of the data."
        )


def _with_rows(contenders: Sequence[Contender], grids: Sequence[Grid]) -> list[Contender]:
    """Return the contenders that take at least one grid.

    Raises:
        ValueError: for an artifact that takes none, neither itself nor from its training grid.
    """
    kept = [c for c in contenders if not all(c.refuses(grid) for grid in grids)]
    present = {native.path for c in kept if (native := native_of(c))}
    for contender in contenders:
        native = native_of(contender)
        if native and native.path not in present:
            sizes = ", ".join(" x ".join(map(str, grid)) for grid in grids)
            raise ValueError(
                f"{native.path} cannot be evaluated on any of the grids {sizes}: {native.refuses(grids[0])} "
                "Leave it out of compare, or add a grid that it takes to resolutions."
            )
    return kept


def _check_grid(path: Path, surrogate: Surrogate, grid: Grid) -> None:
    """Refuse a grid that the main model cannot take, unless it is one of a model of some grids on fields of any."""
    try:
        surrogate.check_grid(grid)
    except ValueError as error:
        if runs_elsewhere(surrogate) and can_resample(surrogate.spec):
            return
        sizes = " x ".join(map(str, grid))
        raise ValueError(f"{path} cannot be evaluated at {sizes}: {error}") from error


def _check_length(truth: Truth, horizon: int) -> None:
    room = truth.num_frames - truth.lead_in
    if horizon > room:
        raise ValueError(
            f"horizon is {horizon} and the test trajectories have {truth.num_frames} frames, of which "
            f"{truth.lead_in} go{'es' if truth.lead_in == 1 else ''} before the rollout. "
            f"Use horizon={max(room, 0)} or less, or longer trajectories."
        )


def _check_metrics(metrics: Sequence[str], data: TrajectoryDataModule, grid: Grid) -> None:
    """Refuse metrics that these data do not have, such as an error at the boundary of a periodic box."""
    still = torch.ones(1, 1, data.spec.num_channels, *grid)
    for name in metrics:
        try:
            METRICS.get(name)(still, still, data.spec)
        except ValueError as error:
            raise ValueError(f"metrics has {name!r}, which these data do not have: {error}") from error


def _check_writable(output: Path) -> None:
    existing = next(p for p in [output, *output.absolute().parents] if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise OSError(
            f"the report cannot be written to {output}: {existing} is not a folder one can write to."
        )
