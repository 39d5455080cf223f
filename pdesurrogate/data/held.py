"""The windows of each split, and the frames of those that are held in memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from .loader import Windows
from .memory import ranks_here
from .placement import fits_on_device, fits_on_host
from .trajectories import Trajectories
from .windows import WindowIndex

log = logging.getLogger(__name__)

HOST = torch.device("cpu")


class HeldSplits:
    """Opens splits, and holds their frames where the cache setting and the free memory allow.

    Frames are loaded when a split is first opened. Which device computes is known later, when a fit begins; they then
    go there, and leave the host, if they fit.

    Args:
        sources: the trajectories of each split on the loading grid.
        indices: the windows of each split.
        cache: one of `placement.CACHES`.
    """

    def __init__(
        self, sources: Mapping[str, Trajectories], indices: Mapping[str, WindowIndex], cache: str
    ) -> None:
        self.cache = cache
        self._sources, self._indices = sources, indices
        self._windows: dict[str, Windows] = {}
        self._told: set[str] = set()  # splits of which was said where they are held

    def open(self, split: str) -> Windows:
        """Return the windows of a split, held by the host or by nobody if it was not opened before.

        Raises:
            ValueError: if the host is to hold them and cannot.
        """
        if split not in self._windows:
            needed = self._bytes(split) * ranks_here()  # each has its own copy
            frames = self._load(split, HOST) if fits_on_host(self.cache, needed, self._what(split)) else None
            self._windows[split] = Windows(self._sources[split], self._indices[split], frames)
        return self._windows[split]

    def place(self, split: str, device: torch.device) -> Windows:
        """Return the windows of a split for training on a device, which holds them if it is to; says where they are.

        Raises:
            ValueError: if the device is to hold them and cannot.
        """
        windows = self.open(split)
        frames = windows.frames
        if frames is None or frames.device.type != device.type:
            others = [w.frames for w in self._windows.values() if w.frames is not None]
            held = sum(other.nbytes for other in others if other.device.type == device.type)
            if fits_on_device(self.cache, device, self._bytes(split), held, self._what(split)):
                frames = self._load(split, device) if frames is None else frames.to(device)
                windows = Windows(windows.trajectories, windows.index, frames)
                self._windows[split] = windows
        if split not in self._told:
            self._told.add(split)
            place = "read from file" if frames is None else f"held in the memory of {_name(frames.device)}"
            log.info("%s, %.0f MiB: %s", self._what(split), self._bytes(split) / 2**20, place)
        return windows

    def reads_once(self, split: str) -> bool:
        """Return whether a split is to be held, by the host or a GPU; what was asked for is believed."""
        if self.cache in ("ram", "gpu"):
            return True
        return fits_on_host(self.cache, self._bytes(split) * ranks_here(), self._what(split))

    def planned_on(self, device: torch.device, splits: Iterable[str]) -> int:
        """Return the bytes that splits will take on a device that computes and holds nothing yet.

        Raises:
            ValueError: if the device is to hold them and cannot.
        """
        total = 0
        for split in splits:
            needed = total + self._bytes(split)
            if fits_on_device(self.cache, device, needed, 0, self._what(split)):
                total = needed
        return total

    def trajectories(self, split: str) -> Iterator[Float[Tensor, "time channel *space"]]:
        """Yield all frames of one trajectory of a split after the other, on the host."""
        frames = self.open(split).frames
        if frames is None:
            yield from self._blocks(split)
        else:
            yield from (block.to(HOST) for block in frames)

    def _load(self, split: str, device: torch.device) -> Tensor:
        source = self._sources[split]
        shape = (source.num_trajectories, source.num_frames, source.spec.num_channels, *source.grid)
        frames = torch.empty(shape, device=device)
        for trajectory, block in enumerate(self._blocks(split)):
            frames[trajectory] = block
        return frames

    def _blocks(self, split: str) -> Iterator[Tensor]:
        source = self._sources[split]
        for i in range(source.num_trajectories):
            yield torch.from_numpy(source.frames(i, 0, source.num_frames))

    def _bytes(self, split: str) -> int:
        source = self._sources[split]
        points = math.prod(source.grid) * source.spec.num_channels
        return 4 * source.num_trajectories * source.num_frames * points

    def _what(self, split: str) -> str:
        return f"the {split} split on {' x '.join(map(str, self._sources[split].grid))}"


def _name(device: torch.device) -> str:
    return "the host" if device.type == "cpu" else str(device)
