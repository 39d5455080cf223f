"""Which windows form which batch: the same global batches whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler


class WindowBatches(Sampler[list[int]]):
    """Global batches of windows, each shared out over the ranks.

    Shuffled (training): epoch e is the permutation drawn from ``(seed, e)``, cut into batches of exactly
    ``batch_size``; the incomplete rest is left out and has its chance in the next epoch. Rank r of W takes
    the r-th equal slice of every batch, so that the mean gradient over ranks is the gradient of the
    global batch. If there are fewer windows than one batch, one batch holds them all.

    In order (evaluation): every window appears exactly once over all ranks. The batches have at most
    ``batch_size`` windows, their sizes and those of the ranks' slices differ by one at most, and every rank
    has the same number of batches, none of them empty (where batches of ``batch_size`` would leave a rank
    without windows, there are fewer, larger ones).

    Args:
        num_windows: how many windows there are.
        batch_size: windows of one batch over all ranks together.
        shuffle: whether to draw a permutation (training) or to keep the order (evaluation).
        seed: seed of the permutations.
        rank: this process, from 0 to ``world_size - 1``.
        world_size: number of processes W.

    Raises:
        ValueError: if the batch cannot be shared equally or there are fewer windows than ranks.
    """

    def __init__(
        self,
        num_windows: int,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank is {rank}; with {world_size} ranks it is 0 to {world_size - 1}.")
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"batch_size is {batch_size}, counted over all ranks; it must be a positive multiple of the "
                f"number of ranks, {world_size}."
            )
        if seed < 0:
            raise ValueError(f"seed is {seed}; it must not be negative.")
        if num_windows < world_size:
            raise ValueError(f"{num_windows} windows cannot be shared out over {world_size} ranks.")
        if shuffle and num_windows < batch_size and num_windows % world_size:
            raise ValueError(
                f"the {num_windows} training windows are less than one batch of {batch_size} and not a "
                f"multiple of the {world_size} ranks; choose batch_size="
                f"{num_windows - num_windows % world_size} or generate more trajectories."
            )
        self.num_windows = num_windows
        self.batch_size = min(batch_size, num_windows)
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self._first = 0
        self._next = 0

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        if self.shuffle:
            return self.num_windows // self.batch_size
        return max(1, min(-(-self.num_windows // self.batch_size), self.num_windows // self.world_size))

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order()
        first, self._first = self._first, 0
        for batch in range(first, len(self)):
            self._next = batch + 1
            begin, end = self._bounds(batch)
            size = end - begin
            lower = begin + size * self.rank // self.world_size
            upper = begin + size * (self.rank + 1) // self.world_size
            yield order[lower:upper].tolist()

    @property
    def first(self) -> int:
        """Number of the batch that the next iteration begins with."""
        return self._first

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation; the next iteration starts at its first batch."""
        self.epoch = epoch
        self._first = self._next = 0

    def skip(self, num_batches: int) -> None:
        """Let the next iteration, and only that one, leave out its first ``num_batches`` batches."""
        if not 0 <= num_batches <= len(self):
            raise ValueError(f"cannot skip {num_batches} batches; an epoch has {len(self)}.")
        self._first = self._next = num_batches

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch and the number of its batches that were handed out so far."""
        return {"epoch": self.epoch, "next_batch": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at the batch that `state_dict` was taken before."""
        self.set_epoch(state["epoch"])
        self.skip(state["next_batch"])

    def _bounds(self, batch: int) -> tuple[int, int]:
        if self.shuffle:
            return batch * self.batch_size, (batch + 1) * self.batch_size
        return batch * self.num_windows // len(self), (batch + 1) * self.num_windows // len(self)

    def _order(self) -> torch.Tensor:
        if not self.shuffle:
            return torch.arange(self.num_windows)
        entropy = np.random.SeedSequence([self.seed, self.epoch])  # unlike seed + epoch, never repeats
        generator = torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint32)[0]))
        return torch.randperm(self.num_windows, generator=generator)
