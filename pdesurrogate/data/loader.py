"""Batches of windows from trajectories: gathered from memory, or read by a thread or by worker processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pdesurrogate.fields import Batch

from .read_ahead import WayToDevice, read_ahead
from .sampling import WindowBatches
from .trajectories import Trajectories, frames_into
from .windows import WindowIndex

Places = tuple[np.ndarray, np.ndarray]
"""Trajectory and first frame of windows, on the host."""


class Windows(Dataset):
    """The windows of some trajectories, fetched a batch at a time.

    History and future of a batch are each contiguous, in one block of memory.

    Args:
        trajectories: where frames are read from.
        index: which frames form a window.
        frames: all trajectories in the memory of a device, if they are held there; windows are then gathered on it.
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
        rows = [trajectories.parameters(i) for i in range(trajectories.num_trajectories)]
        self._parameters = torch.from_numpy(np.stack(rows))
        if frames is not None:
            self._parameters = self._parameters.to(frames.device)

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

    def batch(self, windows: Sequence[int], *, pin_memory: bool = False) -> Batch:
        """Return the given windows, on the device that holds the frames.

        Args:
            windows: their numbers.
            pin_memory: whether frames that come from the host are put into page-locked memory.

        Raises:
            ValueError: if the data hold NaN or cannot be read.
        """
        trajectory, start = self.index.places(windows)
        count, rows = len(trajectory), self.index.rows(trajectory, start)
        # Numbers go to the device in one piece: a batch that is gathered on a GPU costs the host one small copy.
        numbers = torch.from_numpy(np.concatenate([trajectory, start, rows]))
        if self.frames is not None:
            numbers = numbers.to(self.frames.device, non_blocking=True)
            block = self._gathered(numbers[2 * count :], pin_memory)
        else:
            block = self._read(trajectory, start, pin_memory)
        num_history = count * self.index.history
        return Batch(
            block[:num_history].unflatten(0, (count, self.index.history)),
            block[num_history:].unflatten(0, (count, self.index.horizon)),
            self._parameters.index_select(0, numbers[:count]),
            numbers[:count],
            numbers[count : 2 * count],
        )

    def _gathered(self, rows: Tensor, pin_memory: bool) -> Float[Tensor, "row channel *space"]:
        frames: Any = self.frames
        every = frames.flatten(0, 1)
        if not pin_memory or frames.device.type != "cpu":
            return every.index_select(0, rows)
        block = torch.empty((len(rows), *every.shape[1:]), pin_memory=True)
        return torch.index_select(every, 0, rows, out=block)

    def _read(
        self, trajectory: np.ndarray, start: np.ndarray, pin_memory: bool
    ) -> Float[Tensor, "row channel *space"]:
        """Read windows in the order of the file; their frames go where the batch has them, without a detour."""
        index, source = self.index, self.trajectories
        frames_of_window = index.history + index.horizon
        shape = (len(trajectory) * frames_of_window, source.spec.num_channels, *source.grid)
        block = torch.empty(shape, pin_memory=pin_memory)
        targets = block.numpy()
        futures = len(trajectory) * index.history
        for i in np.lexsort((start, trajectory)).tolist():
            first, last = i * index.history, futures + i * index.horizon
            window = [*targets[first : first + index.history], *targets[last : last + index.horizon]]
            where, when = int(trajectory[i]), int(start[i])
            if index.stride == 1:
                frames_into(source, where, when, window)
                continue
            span = source.frames(where, when, when + index.span)
            for target, frame in zip(window, span[:: index.stride], strict=True):
                target[...] = frame
        return block


class WindowLoader:
    """Iterates over one epoch of batches; can begin inside an epoch.

    Nothing happens before the first batch is asked for. Only then is it known which epoch runs and how
    many of its batches a resumed run has behind it, and only then do a thread or worker processes begin to read ahead.
    This is a plain iterable and not a `DataLoader`, so that a trainer does not replace its sampler.

    Batches come from the memory that holds the frames, gathered when they are asked for. Where frames lie in a file, or
    on the host and the batch is for a GPU, a thread makes batches ahead; with workers, processes read them.

    Args:
        windows: the windows.
        batches: which of them form each batch of this rank.
        num_workers: processes that read ahead; 0 for a thread of this process.
        device: the GPU that batches are for: they are copied to it ahead, out of page-locked memory and beside its
            work. None, and a CPU, for batches where they are made.
        augment: from a batch and the number of the epoch to the batch that is handed out; None for the batch itself.
        position: returns (epoch, batches that are done in it), or None where nobody keeps count; then
            the position is the one of ``batches``.
        start_method: how workers start (``"fork"``, ``"spawn"``, ``"forkserver"``); None for the platform's
            default.

    Attributes:
        seconds_waited: time that those who asked for batches have waited for them so far.
    """

    def __init__(
        self,
        windows: Windows,
        batches: WindowBatches,
        *,
        num_workers: int = 0,
        device: torch.device | None = None,
        augment: Callable[[Batch, int, Places], Batch] | None = None,
        position: Callable[[], tuple[int, int] | None] | None = None,
        start_method: str | None = None,
    ) -> None:
        self.windows = windows
        self.batches = batches
        self.seconds_waited = 0.0
        self._position = position
        self._augment = augment
        self._device = None if device is None or device.type == "cpu" else device
        # Batches of this epoch that were handed out; the sampler counts those that were read ahead, too.
        self._done: int | None = None
        self._running: Generator[Batch, None, None] | None = None
        self._way: WayToDevice | None = None
        self._workers: DataLoader[Any] | None = None
        if num_workers and windows.frames is None:
            self._workers = DataLoader(
                windows,
                batch_sampler=batches,
                num_workers=num_workers,
                pin_memory=self._device is not None,
                collate_fn=_as_fetched,
                persistent_workers=True,
                multiprocessing_context=start_method,
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
        self._done = self.batches.first
        running = self._running = self._batches_of(self.batches.epoch)
        try:
            while True:
                began = time.perf_counter()
                batch = next(running, None)
                self.seconds_waited += time.perf_counter() - began
                if batch is None:
                    return
                self._done += 1
                yield batch
        finally:
            running.close()

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation of the next iteration, where no trainer keeps count."""
        self.batches.set_epoch(epoch)
        self._done = None

    def close(self) -> None:
        """End the thread or the worker processes; another iteration starts new ones.

        Workers that are left to the garbage collector are not told to stop and cost five seconds each.
        """
        if self._running is not None:
            self._running.close()
            self._running = None
        workers: Any = self._workers
        if workers is not None and workers._iterator is not None:
            workers._iterator._shutdown_workers()
            workers._iterator = None

    def state_dict(self) -> dict[str, Any]:
        """Return the position: epoch and batches done in it, plain types."""
        position = self._position() if self._position is not None else None
        if position is not None:
            return {"epoch": position[0], "next_batch": position[1]}
        state = self.batches.state_dict()
        return state if self._done is None else {**state, "next_batch": self._done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at the position that `state_dict` described."""
        self.batches.load_state_dict(state)
        self._done = None

    def _batches_of(self, epoch: int) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch, where it pays made ahead."""
        if self._workers is not None:
            yield from self._by_workers(self._workers, epoch)
            return
        frames, device = self.windows.frames, self._device
        made = (self._made(windows) for windows in self.batches)
        if frames is not None and (device is None or frames.device.type == device.type):
            for batch, places in made:
                yield self._augmented(epoch, places, batch)
        elif device is None:
            yield from read_ahead(self._augmented(epoch, places, batch) for batch, places in made)
        else:
            # One stream for all epochs: memory that was freed on another one is not used again.
            way = self._way = self._way or WayToDevice(device)
            sent = (way.send(batch, partial(self._augmented, epoch, places)) for batch, places in made)
            with closing(read_ahead(sent)) as arriving:
                for arriving_batch in arriving:
                    yield way.receive(arriving_batch)

    def _by_workers(self, workers: DataLoader[Any], epoch: int) -> Iterator[Batch]:
        for batch in workers:
            if isinstance(batch, ValueError):
                raise batch
            places = (batch.trajectory.numpy(), batch.start.numpy())
            there = batch if self._device is None else batch.to(self._device, non_blocking=True)
            yield self._augmented(epoch, places, there)

    def _made(self, windows: Sequence[int]) -> tuple[Batch, Places]:
        pin_memory = self._device is not None
        return self.windows.batch(windows, pin_memory=pin_memory), self.windows.index.places(windows)

    def _augmented(self, epoch: int, places: Places, batch: Batch) -> Batch:
        return batch if self._augment is None else self._augment(batch, epoch, places)


def _as_fetched(batch: Any) -> Any:
    """Return what `Windows.__getitems__` made, which is a whole batch already."""
    return batch
