"""Peak memory of one call above the level before it, in a process of its own: resident, or of a GPU.

glibc is told to give freed blocks back at once (small mmap threshold), so that the resident set follows what
is allocated; the high-water mark of the kernel is reset before the call. Linux only.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from .machine import ROOT

CPU = torch.device("cpu")

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_PROMPT_RETURN = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def peak_of(call: Callable[[], object], model: nn.Module, device: torch.device = CPU) -> int | None:
    """Return the bytes that a pass forward and backward adds at its peak to weights alone, or None where it is unknown.

    On a CPU they are those of the resident set, on a GPU those that torch has given out. The call runs once before, so
    that tables and workspaces of the second call are like any later one's; the gradients that it left are dropped, and
    those that it makes count.

    Args:
        call: the pass.
        model: whose weights it trains.
        device: where.
    """
    if device.type == "cuda":
        return _peak_on_gpu(call, model, device)
    if not _RESET.exists():
        return None
    _once_before(call, model)
    try:
        _RESET.write_text("5")
    except OSError:
        return None
    before = _read("VmRSS")
    call()
    return max(0, _read("VmHWM") - before)


def peaks_in_new_process(module: str, words: Sequence[str]) -> dict[str, int | None]:
    """Run ``python -m module peak_only=... words`` and return the JSON object of its last line."""
    environment = {**os.environ, **_PROMPT_RETURN}
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[1:])} failed: {done.stderr.strip()[-400:]}")
    peaks: dict[str, int | None] = json.loads(done.stdout.splitlines()[-1])
    return peaks


def _once_before(call: Callable[[], object], model: nn.Module) -> None:
    call()
    model.zero_grad(set_to_none=True)
    gc.collect()


def _peak_on_gpu(call: Callable[[], object], model: nn.Module, device: torch.device) -> int:
    _once_before(call, model)
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _read(key: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(key + ":"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"{_STATUS} has no {key}.")
