"""What comes next is made in a thread while the last of it is being used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

import torch

from pdesurrogate.fields import Batch

Item = TypeVar("Item")


def read_ahead(items: Iterator[Item], depth: int = 2) -> Generator[Item, None, None]:
    """Yield the items in their order; up to ``depth`` of them are made ahead in a thread.

    An error of the thread is raised where its item was due. The thread ends when the iterator does, or is closed.

    Args:
        items: is advanced by the thread alone.
        depth: items that are ready at most, beside the one in the making.
    """
    ready: queue.Queue[tuple[Any, BaseException | None] | None] = queue.Queue(depth)
    stopped = threading.Event()

    def make() -> None:
        try:
            for item in items:
                _put(ready, (item, None), stopped.is_set)
                if stopped.is_set():
                    return
            _put(ready, None, stopped.is_set)
        except BaseException as error:  # raised again by whoever takes the item
            _put(ready, (None, error), stopped.is_set)

    thread = threading.Thread(target=make, name="read-ahead", daemon=True)
    thread.start()
    try:
        while (found := ready.get()) is not None:
            item, error = found
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        thread.join()


class WayToDevice:
    """Copies batches to a GPU on a stream of its own, beside the work of the others.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)

    def send(self, batch: Batch, then: Callable[[Batch], Batch]) -> tuple[Batch, torch.cuda.Event]:
        """Start the copy of a batch in page-locked memory, and what is done with it there; nobody waits for them."""
        with torch.cuda.stream(self._stream):
            there = then(batch.to(self.device, non_blocking=True))
            return there, self._stream.record_event()

    def receive(self, sent: tuple[Batch, torch.cuda.Event]) -> Batch:
        """Return a batch that was sent; the current stream, and not the host, waits for it."""
        batch, arrived = sent
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(arrived)
        for part in batch.tensors():
            part.record_stream(stream)
        return batch


def _put(ready: queue.Queue[Any], item: Any, is_stopped: Callable[[], bool]) -> None:
    """Wait for room, unless nobody takes items any more."""
    while not is_stopped():
        try:
            ready.put(item, timeout=0.1)
        except queue.Full:
            continue
        return
