"""Batches of windows from trajectories: gathered from memory, or read by worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pdesurrogate.fields import Batch

from .sampling import WindowBatches
from .trajectories import Trajectories
from .windows import WindowIndex


class Windows(Dataset):
    """The windows of some trajectories, fetched a batch at a time.

    Args:
        trajectories: where frames are read from.
        index: which frames form a window.
        frames: all trajectories in memory, if they are held there; windows are then gathered from it.
    """

    def __init__(
        self,
        trajectories: Trajectories,
        index: WindowIndex,
        frames: Float[Tensor, "trajectory time channel *space"] | None = None,
    ) -> None:
        self.trajectories = trajectories
        self.index = index
        self.frames = frames

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, window: int) -> Batch:
        return self.batch([window])

    def __getitems__(self, windows: Sequence[int]) -> Batch | ValueError:
        """Return a batch, or the refusal of the data as a value.

        An exception that a worker process raises reaches the user wrapped in the worker's traceback; the
        returned one is raised by the loader as the single sentence that it is.
        """
        try:
            return self.batch(windows)
        except ValueError as error:
            return error

    def batch(self, windows: Sequence[int]) -> Batch:
        """Return the given windows.

        Raises:
            ValueError: if the data hold NaN or cannot be read.
        """
        places = [self.index[window] for window in windows]
        if self.frames is None:
            pairs = [self._read(trajectory, start) for trajectory, start in places]
            history, future = (torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))
        else:
            rows = torch.tensor([trajectory for trajectory, _ in places])[:, None]
            inputs = np.stack([self.index.history_frames(start) for _, start in places])
            targets = np.stack([self.index.future_frames(start) for _, start in places])
            history = self.frames[rows, torch.from_numpy(inputs)]
            future = self.frames[rows, torch.from_numpy(targets)]
        parameters = np.stack([self.trajectories.parameters(trajectory) for trajectory, _ in places])
        trajectory, start = torch.tensor(places).unbind(1)
        return Batch(history, future, torch.from_numpy(parameters), trajectory, start)

    def _read(self, trajectory: int, start: int) -> tuple[np.ndarray, np.ndarray]:
        span = self.trajectories.frames(trajectory, start, start + self.index.span)
        return span[self.index.history_frames(0)], span[self.index.future_frames(0)]


class WindowLoader:
    """Iterates over one epoch of batches; can begin inside an epoch.

    Nothing happens before the first batch is asked for. Only then is it known which epoch runs and how
    many of its batches a resumed run has behind it, and only then do worker processes begin to read ahead.
    This is a plain iterable and not a `DataLoader`, so that a trainer does not replace its sampler.

    Args:
        windows: the windows.
        batches: which of them form each batch of this rank.
        num_workers: processes that read ahead; 0 reads in this process.
        pin_memory: whether to copy batches to page-locked memory.
        augment: from a batch and the number of the epoch to the batch that is handed out; None for the batch itself.
        position: returns (epoch, batches that are done in it), or None where nobody keeps count; then
            the position is the one of ``batches``.
        start_method: how workers start (``"fork"``, ``"spawn"``, ``"forkserver"``); None for the platform's
            default.
    """

    def __init__(
        self,
        windows: Windows,
        batches: WindowBatches,
        *,
        num_workers: int = 0,
        pin_memory: bool = False,
        augment: Callable[[Batch, int], Batch] | None = None,
        position: Callable[[], tuple[int, int] | None] | None = None,
        start_method: str | None = None,
    ) -> None:
        self.windows = windows
        self.batches = batches
        self._position = position
        self._augment = augment
        self._loader: DataLoader[Any] = DataLoader(
            windows,
            batch_sampler=batches,
            num_workers=num_workers,
            pin_memory=pin_memory,
            collate_fn=_as_fetched,
            persistent_workers=num_workers > 0,
            multiprocessing_context=start_method if num_workers else None,
            # Worker seeds come from a generator of its own: iterating must not advance the global one,
            # or a resumed run, which begins one more iteration, would draw other numbers.
            generator=torch.Generator().manual_seed(batches.seed),
        )

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        position = self._position() if self._position is not None else None
        if position is not None:
            epoch, done = position
            self.batches.set_epoch(epoch)
            self.batches.skip(done)
        epoch = self.batches.epoch
        for batch in self._loader:
            if isinstance(batch, ValueError):
                raise batch
            yield batch if self._augment is None else self._augment(batch, epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation of the next iteration, where no trainer keeps count."""
        self.batches.set_epoch(epoch)

    def close(self) -> None:
        """End the worker processes; another iteration starts new ones.

        Workers that are left to the garbage collector are not told to stop and cost five seconds each.
        """
        running: Any = self._loader._iterator
        if running is not None:
            running._shutdown_workers()
            self._loader._iterator = None

    def state_dict(self) -> dict[str, Any]:
        """Return the position: epoch and batches done in it, plain types."""
        position = self._position() if self._position is not None else None
        if position is None:
            return self.batches.state_dict()
        return {"epoch": position[0], "next_batch": position[1]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at the position that `state_dict` described."""
        self.batches.load_state_dict(state)


def _as_fetched(batch: Any) -> Any:
    """Return what `Windows.__getitems__` made, which is a whole batch already."""
    return batch
