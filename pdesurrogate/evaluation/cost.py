"""What a forecast costs: real degrees of freedom, measured time per frame and memory at its peak."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .contenders import Native


@dataclass(frozen=True)
class Cost:
    """Cost of one surrogate, or of an ensemble of them, on one grid.

    Attributes:
        label: of the contender.
        parameters: trainable real numbers; a complex weight counts twice.
        ms_per_frame: median wall-clock time of one predicted frame of one trajectory, in milliseconds.
        peak_mib: most memory that tensors of one step on one trajectory took at a time, weights included, in MiB.
        grid: where it was measured.
        device: on what: "cpu, 2 threads" or the name of the GPU.
    """

    label: str
    parameters: int
    ms_per_frame: float
    peak_mib: float
    grid: tuple[int, ...]
    device: str


@torch.no_grad()
def measure_cost(contender: Native, history: Tensor, parameters: Tensor, repeats: int = 10) -> Cost:
    """Time single steps on one trajectory, after one that warms caches up.

    Args:
        contender: the surrogate.
        history: one window, ``(1, history, channel, *space)``, on the device to be measured.
        parameters: its PDE parameters, ``(1, parameter)``.
        repeats: steps timed; the median counts.
    """
    surrogate, device = contender.surrogate, history.device
    window = history[:, -contender.history :]
    surrogate.step(window, parameters)
    peak = _peak_bytes(lambda: surrogate.step(window, parameters), device)
    seconds = []
    for _ in range(repeats):
        finish(device)
        begin = time.perf_counter()
        surrogate.step(window, parameters)
        finish(device)
        seconds.append(time.perf_counter() - begin)
    return Cost(
        contender.label,
        surrogate.num_parameters,
        1e3 * statistics.median(seconds) / surrogate.horizon,
        (peak + sum(p.numel() * p.element_size() for p in surrogate.parameters())) / 2**20,
        tuple(history.shape[3:]),
        _describe(device),
    )


def joint_cost(label: str, members: Sequence[Cost]) -> Cost:
    """Return what an ensemble costs whose members run one after the other, all weights in memory.

    Args:
        label: of the ensemble.
        members: the cost of each, on one grid and device.
    """
    weights = [4 * member.parameters / 2**20 for member in members]
    return Cost(
        label,
        sum(member.parameters for member in members),
        sum(member.ms_per_frame for member in members),
        sum(weights) + max(member.peak_mib - own for member, own in zip(members, weights, strict=True)),
        members[0].grid,
        members[0].device,
    )


class LiveTensors(TorchDispatchMode):
    """Adds up the storages that operations make while they live.

    Attributes:
        peak: most bytes at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._watch(tensor.untyped_storage())
        return result

    def _watch(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self._live:
            self._live[key] = storage.nbytes()
            weakref.finalize(storage, self._live.pop, key, None)
            self.peak = max(self.peak, sum(self._live.values()))


def _peak_bytes(step: Callable[[], Any], device: torch.device) -> int:
    """Return the most memory that a step takes at a time beyond what was there: by the allocator of a GPU, or counted.

    What a kernel library uses for itself on a CPU is not seen.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with LiveTensors() as live:
        step()
    return live.peak


def finish(device: torch.device) -> None:
    """Wait until a GPU has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' if threads > 1 else ''}"
