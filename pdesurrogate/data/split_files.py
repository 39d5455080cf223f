"""The file of a split, or of a shard of it: whether it is there, and whether it was made with the options at hand."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from pdesurrogate.solvers.generator import TrajectoryGenerator

from .store import StoredTrajectories

log = logging.getLogger(__name__)

FIRST_TRAJECTORY = {"train": 0, "valid": 2**30, "test": 2**31}
"""Number of each split's first trajectory in the ensemble. Splits share none, and a split that grows keeps its
trajectories and leaves the others alone."""


@dataclass(frozen=True)
class SplitFile:
    """One file to be made.

    Attributes:
        split: the split that its trajectories belong to.
        path: the file's final name.
        num_trajectories: how many trajectories it holds.
        start: which of the split's trajectories is its first.
        shard: ``"1/4"`` for a shard, empty for the file of a whole split.
    """

    split: str
    path: Path
    num_trajectories: int
    start: int = 0
    shard: str = ""

    @property
    def first_trajectory(self) -> int:
        """Number of the file's first trajectory in the ensemble."""
        return FIRST_TRAJECTORY[self.split] + self.start

    @property
    def part(self) -> Path:
        """What the file is called until it is complete."""
        return self.path.with_name(self.path.name + ".part")

    @property
    def title(self) -> str:
        """What progress and messages call it."""
        return f"{self.split}, shard {self.shard}" if self.shard else self.split

    def attributes(self, generator: TrajectoryGenerator) -> dict[str, Any]:
        """Return the attributes of the file."""
        own: dict[str, Any] = {"split": self.split, "first_trajectory": self.first_trajectory}
        return {**generator.attributes, **own, **({"shard": self.shard} if self.shard else {})}


def is_there(file: SplitFile, generator: TrajectoryGenerator, overwrite: bool) -> bool:
    """Return whether the finished file is there, made with the same options; refuse or remove another.

    Raises:
        ValueError: for a finished file of other options, unless ``overwrite``.
    """
    if file.path.exists():
        found = differences(StoredTrajectories(file.path), generator, file)
        if not found:
            log.info("%s is already there, made with the same options: kept.", file.path)
            return True
        if not overwrite:
            raise ValueError(
                f"{file.path} is there already and was made with other options: {'; '.join(found)}. Give "
                "overwrite=true to replace it, another data.root=FOLDER to keep both, or restore the options."
            )
        log.info("%s is replaced: %s.", file.path, "; ".join(found))
        file.path.unlink(missing_ok=True)
    if overwrite and file.part.exists() and _unfinished_differs(file, generator):
        log.info("%s, left by an interruption, was made with other options: removed.", file.part)
        file.part.unlink(missing_ok=True)
    return False


def differences(
    stored: StoredTrajectories, generator: TrajectoryGenerator, file: SplitFile | None = None
) -> list[str]:
    """Return what distinguishes a finished file from what is asked for, apart from the version.

    Args:
        stored: the finished file.
        generator: the options that are asked for.
        file: which trajectories are asked for; None if any will do.
    """
    wanted = generator.attributes if file is None else file.attributes(generator)
    count = stored.num_trajectories
    pairs: list[tuple[str, Any, Any]] = [
        ("grid", stored.grid, generator.grid),
        ("num_trajectories", count, count if file is None else file.num_trajectories),
        ("num_frames", stored.num_frames, len(generator.times)),
        ("first frame at t", float(stored.times[0]), float(generator.times[0])),
    ]
    pairs += [
        (name, stored.attributes.get(name), wanted[name]) for name in wanted if name != "pdesurrogate_version"
    ]
    return stored.spec.mismatches(generator.spec) + [
        f"{name} is {there} there and {here} here" for name, there, here in pairs if there != here
    ]


def _unfinished_differs(file: SplitFile, generator: TrajectoryGenerator) -> bool:
    try:
        with h5py.File(file.part, "r") as unfinished:
            attributes = dict(unfinished.attrs)
            shape = unfinished[generator.spec.channel_names[0]].shape
    except BlockingIOError as error:
        raise ValueError(
            f"{file.part} is being written by another process; wait until it has finished."
        ) from error
    except (OSError, KeyError):
        return True
    wanted = file.attributes(generator)
    return any(attributes.get(name) != value for name, value in wanted.items()) or shape != (
        file.num_trajectories,
        len(generator.times),
        *generator.grid,
    )
