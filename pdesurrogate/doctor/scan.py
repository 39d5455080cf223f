"""One pass over the frames of a split: statistics, fingerprints, and what the reader refuses."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field

import numpy as np
import torch

from ..data.trajectories import Trajectories
from ..fields import ChannelStatistics

Place = tuple[int, int]
"""Trajectory and frame."""


@dataclass
class Scan:
    """What was seen in a split.

    Attributes:
        num_trajectories: how many there are.
        num_frames: of each.
        num_read: how many were read in full; of the others, the first frame.
        statistics: of every channel, over what was read in full.
        moves: whether each channel changes along some trajectory.
        fingerprints: digest of each frame that is not constant, and where it stands.
        refusals: what the reader said against trajectories.
        seconds: spent on reading.
        num_bytes: that were read.
    """

    num_trajectories: int
    num_frames: int
    num_read: int = 0
    statistics: ChannelStatistics | None = None
    moves: np.ndarray | None = None
    fingerprints: dict[bytes, list[Place]] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    seconds: float = 0.0
    num_bytes: int = 0

    @property
    def megabytes_per_second(self) -> float:
        """Speed of reading; 0 if there was too little to tell."""
        return self.num_bytes / self.seconds / 1e6 if self.num_bytes > 1e6 and self.seconds > 0 else 0.0


def scan(split: Trajectories, num_trajectories: int | None) -> Scan:
    """Read a split once, one trajectory at a time.

    Args:
        split: the trajectories.
        num_trajectories: how many are read in full, evenly spread; None for all.
    """
    total = split.num_trajectories
    count = total if num_trajectories is None else min(num_trajectories, total)
    chosen = {i * total // count for i in range(count)} if count else set()
    found = Scan(total, split.num_frames)
    moving = [i for i, is_static in enumerate(split.spec.static_channels) if not is_static]
    for trajectory in range(total):
        begin = time.perf_counter()
        try:
            frames = split.frames(trajectory, 0, split.num_frames if trajectory in chosen else 1)
        except ValueError as error:
            found.refusals.append(str(error))
            continue
        found.seconds += time.perf_counter() - begin
        found.num_bytes += frames.nbytes
        if not np.isfinite(frames).all():
            found.refusals.append(f"trajectory {trajectory} holds NaN or infinite values.")
            continue
        for i, frame in enumerate(frames[:, moving]):
            if frame.min() < frame.max():  # states of rest are alike without being copies
                digest = hashlib.blake2b(np.ascontiguousarray(frame).data, digest_size=16).digest()
                found.fingerprints.setdefault(digest, []).append((trajectory, i))
        if trajectory in chosen:
            _count(found, frames)
    return found


def shared_frames(one: Scan, other: Scan) -> list[tuple[Place, Place]]:
    """Return a pair of equal frames for each two trajectories that have any, of two splits or within one."""
    pairs: dict[tuple[int, int], tuple[Place, Place]] = {}
    for digest, places in other.fingerprints.items():
        for mine in one.fingerprints.get(digest, ()):
            for theirs in places:
                if one is not other or mine[0] < theirs[0]:
                    pairs.setdefault((mine[0], theirs[0]), (mine, theirs))
    return list(pairs.values())


def _count(found: Scan, frames: np.ndarray) -> None:
    block = ChannelStatistics.of(torch.from_numpy(frames).flatten(2))
    found.statistics = block if found.statistics is None else found.statistics.merge(block)
    moves = (frames != frames[:1]).any(axis=(0, *range(2, frames.ndim)))
    found.moves = moves if found.moves is None else found.moves | moves
    found.num_read += 1
