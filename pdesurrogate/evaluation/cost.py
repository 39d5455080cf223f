"""What a forecast costs: real degrees of freedom, and measured time per frame."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from .contenders import Native


@dataclass(frozen=True)
class Cost:
    """Cost of one surrogate on one grid.

    Attributes:
        label: of the contender.
        parameters: trainable real numbers; a complex weight counts twice.
        ms_per_frame: median wall-clock time of one predicted frame of one trajectory, in milliseconds.
        grid: where it was measured.
        device: on what: "cpu, 2 threads" or the name of the GPU.
    """

    label: str
    parameters: int
    ms_per_frame: float
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
    seconds = []
    for _ in range(repeats):
        _finish(device)
        begin = time.perf_counter()
        surrogate.step(window, parameters)
        _finish(device)
        seconds.append(time.perf_counter() - begin)
    return Cost(
        contender.label,
        surrogate.num_parameters,
        1e3 * statistics.median(seconds) / surrogate.horizon,
        tuple(history.shape[3:]),
        _describe(device),
    )


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' if threads > 1 else ''}"
