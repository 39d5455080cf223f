"""How much memory a process may still take: of the machine, and of the container or job it runs in."""

from __future__ import annotations

import os
from pathlib import Path

import torch


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that can be allocated without swapping, None where it cannot be told.

    The smallest of the machine's available memory and what the limits of the control groups leave (which
    is how containers and SLURM jobs are limited).

    Args:
        root: folder that holds ``proc`` and ``sys``.
    """
    bounds = [_machine(root), *_control_groups(root)]
    known = [bound for bound in bounds if bound is not None]
    return max(0, min(known)) if known else None


def ranks_here() -> int:
    """Return how many ranks run on this machine, each of which has its own copy of what it holds."""
    if (count := os.environ.get("LOCAL_WORLD_SIZE")) is not None:
        return int(count)
    is_group = torch.distributed.is_available() and torch.distributed.is_initialized()
    size = torch.distributed.get_world_size() if is_group else 1
    nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", 1)) if "SLURM_STEP_ID" in os.environ else 1
    return -(-size // nodes)


def _machine(root: Path) -> int | None:
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _control_groups(root: Path) -> list[int]:
    """Return what each enclosing control group leaves, versions 2 and 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        folder = base / group.lstrip("/")
        for level in (folder, *folder.parents):
            if level == base or base in level.parents:
                left += _headroom(level, *names)
    return left


def _headroom(folder: Path, limit_name: str, usage_name: str) -> list[int]:
    try:
        limit = (folder / limit_name).read_text().strip()
        usage = int((folder / usage_name).read_text())
    except (OSError, ValueError):
        return []
    return [] if limit == "max" else [int(limit) - usage + _reclaimable(folder)]


def _reclaimable(folder: Path) -> int:
    """Return the bytes of page cache that the kernel frees before it refuses memory to the group."""
    try:
        for line in (folder / "memory.stat").read_text().splitlines():
            if line.startswith(("inactive_file ", "total_inactive_file ")):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0
