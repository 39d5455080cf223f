"""Shards: contiguous parts of a split, solved by separate processes or machines and joined when all are there.

Shard ``i/n`` of a split is a file of the store of its own, ``train.shard-1-of-4.h5``, with an equal share of the
trajectories. Whichever process completes the last shard copies them into ``train.h5``, which then holds the
same bytes as if one process had made it, and removes the shards.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pdesurrogate.solvers.generator import TrajectoryGenerator

from .files import shard_files
from .split_files import FIRST_TRAJECTORY, SplitFile, differences
from .store import StoredTrajectories
from .store_writer import StoreWriter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """Which of ``count`` equal parts of every split; ``index`` counts from 0."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``"1/4"``.

        Raises:
            ValueError: unless it is INDEX/COUNT with 0 <= INDEX < COUNT.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", str(text))
        if match is None or not int(match[1]) < int(match[2]):
            raise ValueError(
                f"shard is {text!r}; it must be INDEX/COUNT with INDEX from 0 to COUNT - 1: the shards of four are "
                "0/4, 1/4, 2/4 and 3/4."
            )
        return cls(int(match[1]), int(match[2]))

    def divided(self, rank: int, size: int) -> Shard:
        """Return the part of this shard that one of several processes solves, a shard among ``count * size``."""
        return Shard(self.index * size + rank, self.count * size)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def of(self, split: SplitFile) -> SplitFile | None:
        """Return the file of this shard of a split; None if there are fewer trajectories than shards."""
        start, stop = (split.num_trajectories * i // self.count for i in (self.index, self.index + 1))
        path = split.path.with_name(
            f"{split.path.stem}.shard-{self.index}-of-{self.count}{split.path.suffix}"
        )
        return SplitFile(split.split, path, stop - start, start, str(self)) if stop > start else None

    def all_of(self, split: SplitFile) -> list[SplitFile]:
        """Return the files of all shards of a split."""
        files = (Shard(i, self.count).of(split) for i in range(self.count))
        return [file for file in files if file is not None]


def copy_shards(split: SplitFile, generator: TrajectoryGenerator, writer: StoreWriter) -> list[Path]:
    """Copy trajectories that the split's file still lacks from complete shards; return the shards.

    Raises:
        ValueError: for a shard that is damaged or was made with other options.
    """
    paths = list(shard_files(split.path))
    for path in paths:
        shard = StoredTrajectories(path)
        found = differences(shard, generator)
        if found:
            raise ValueError(
                f"{path} is a shard of other options: {'; '.join(found)}. Delete it, give another "
                "data.root=FOLDER, or restore the options."
            )
        for mine, theirs in _lacking(split, shard, writer.pending):
            shard.verify(theirs)
            writer.write(mine, shard.frames(theirs, 0, shard.num_frames), shard.parameters(theirs))
    return paths


def remove_shards(split: SplitFile, paths: Sequence[Path]) -> None:
    """Remove shards that have been copied, and name unfinished ones that are not needed any more."""
    for path in paths:
        path.unlink(missing_ok=True)
    for path in sorted(split.path.parent.glob(f"{split.path.stem}.shard-*-of-*{split.path.suffix}.part")):
        log.warning("%s is left from a shard that is not needed any more; delete it.", path)


def _lacking(
    split: SplitFile, shard: StoredTrajectories, pending: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Yield the number in the split and in the shard of each trajectory that is to be copied."""
    start = int(shard.attributes["first_trajectory"]) - FIRST_TRAJECTORY[split.split]
    for mine in list(pending):
        if start <= mine < start + shard.num_trajectories:
            yield mine, mine - start
