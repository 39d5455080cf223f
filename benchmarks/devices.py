"""Where a benchmark runs: the device, what reads its clock, and torch's own arithmetic there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .options import OptionError


def choose_device(name: str, otherwise: str) -> torch.device:
    """Return a device.

    Args:
        name: cpu, cuda, or cuda with a number.
        otherwise: what else can be done where there is no GPU; the end of the message.

    Raises:
        OptionError: if there is no such device here.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise OptionError(f"device is {name!r}; give cpu or cuda.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise OptionError(f"there is no CUDA device here (nvidia-smi lists them). {otherwise}")
    return device


def choose_clock(clock: str, device: torch.device, threads: int) -> str:
    """Return the clock that ``auto`` stands for: the thread's own where one thread does all the work."""
    if device.type != "cpu" and clock == "thread":
        raise OptionError("clock=thread counts a thread of the CPU, not what a GPU does; give clock=wall.")
    if clock != "auto":
        return clock
    return "thread" if device.type == "cpu" and threads == 1 else "wall"


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def tf32_flags(precision: str) -> Iterator[None]:
    """Let torch's own products and convolutions use TF32 where the policy of our layers does."""
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [flag.fp32_precision for flag in flags]
    try:
        for flag in flags:
            flag.fp32_precision = "ieee" if precision == "full" else "tf32"
        yield
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.fp32_precision = value
