"""What a number was measured on, and the state that both sides share."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pdesurrogate.allocator import keep_freed_memory

ROOT = Path(__file__).resolve().parents[1]
ALLOCATORS = ("tuned", "default")


def tune_allocator(kind: str) -> str:
    """Set glibc's allocator for the whole process, hence for every contestant; returns what is in force.

    ``tuned`` is what the application does at start-up, see `pdesurrogate.allocator`.
    """
    if kind == "default":
        return "default"
    return (
        "tuned: mmap threshold 1 GiB, nothing handed back"
        if keep_freed_memory()
        else "default (no glibc here)"
    )


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory, system and GPU."""
    import torch

    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def describe_versions() -> dict[str, str]:
    """Return the versions that numbers depend on."""
    packages = ("torch", "neuraloperator", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def describe_call(module: str, arguments: list[str]) -> dict[str, Any]:
    """Return the command line and the git revision, with ``+`` where tracked files differ from it."""
    revision = _git("rev-parse", "--short=12", "HEAD") or "unknown"
    changed = _git(
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        "pdesurrogate",
        "benchmarks/*.py",
        "benchmarks/*.yaml",
        "conf",
    )
    switches = [f"{name}={os.environ[name]}" for name in ("PDESURROGATE_NATIVE",) if name in os.environ]
    return {
        "command": " ".join([*switches, "python -m", module, *arguments]),
        "revision": revision + ("+" if changed else ""),
    }


def load_average() -> float | None:
    """Return the load average of the last minute, where the system has one."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        fields = dict(
            line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line
        )
        named = {key.strip(): value.strip() for key, value in fields.items()}
        name = named.get("model name", platform.processor())
        if {"cpu family", "model"} <= named.keys():
            name += f" (family {named['cpu family']}, model {named['model']})"
        return name
    return platform.processor() or sys.platform


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
