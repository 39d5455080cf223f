"""The machine against the configuration: devices, processes, SLURM, W&B, threads and disk."""

from __future__ import annotations

import importlib.util
import netrc
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..version import __version__
from .findings import Finding, ok, problem, warning

WANDB_HOST = "api.wandb.ai"


def look_at_environment(config: Mapping[str, Any], environ: Mapping[str, str]) -> list[Finding]:
    """Return what the machine offers of what a configuration asks for.

    Args:
        config: a training's sections, of which ``trainer``, ``data`` and ``logger`` are read.
        environ: environment variables.
    """
    trainer = config["trainer"]
    return [
        ok(
            "software",
            f"pdesurrogate {__version__}, torch {torch.__version__}, Python {platform.python_version()}.",
        ),
        *_devices(trainer),
        *_processes(trainer, environ),
        *_threads(trainer, config["data"]),
        *_wandb(config.get("logger") or {}, environ),
        *_disk(Path(config.get("run_dir") or ".")),
    ]


def num_ranks(trainer: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    """Return the number of processes of a training; devices that are chosen when it starts are counted now."""
    return devices_per_node(trainer) * int(trainer["num_nodes"])


def devices_per_node(trainer: Mapping[str, Any]) -> int:
    """Return the number of processes on each machine."""
    devices = trainer["devices"]
    if isinstance(devices, list):
        return len(devices)
    if isinstance(devices, int) and devices > 0:
        return devices
    return max(1, torch.cuda.device_count()) if uses_gpu(trainer) else 1


def uses_gpu(trainer: Mapping[str, Any]) -> bool:
    """Return whether a training runs on GPUs."""
    accelerator = trainer["accelerator"]
    return accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())


def _devices(trainer: Mapping[str, Any]) -> list[Finding]:
    wanted, found = devices_per_node(trainer), torch.cuda.device_count()
    if not uses_gpu(trainer):
        idle = (
            f" {found} GPU{'s' if found > 1 else ''} here would be idle; say trainer=gpu to use them."
            if found
            else ""
        )
        return [(warning if found else ok)("devices", f"{wanted} process(es) on the CPU.{idle}")]
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = f"built for CUDA {built}, but no driver or device answers" if built else "a build without CUDA"
        return [
            problem(
                "CUDA",
                f"trainer.accelerator={trainer['accelerator']} and PyTorch sees no GPU: torch {torch.__version__} is "
                f"{why}. Say trainer=cpu, or install a build of torch for your driver (nvidia-smi names it).",
            )
        ]
    findings = []
    if wanted > found:
        findings.append(
            problem(
                "CUDA",
                f"trainer.devices asks for {wanted} GPUs a machine and there are {found}. Set trainer.devices={found}.",
            )
        )
    else:
        names = ", ".join(sorted({torch.cuda.get_device_name(i) for i in range(found)}))
        findings.append(ok("CUDA", f"{found} GPU(s): {names}; CUDA {torch.version.cuda}; {wanted} used."))
    if wanted * int(trainer["num_nodes"]) > 1:
        available = torch.distributed.is_available() and torch.distributed.is_nccl_available()
        if not available:
            findings.append(
                problem(
                    "NCCL", "several GPUs need NCCL and this torch is built without; install another build."
                )
            )
        else:
            version = ".".join(map(str, torch.cuda.nccl.version()))
            findings.append(ok("NCCL", f"version {version}."))
    return findings


def _processes(trainer: Mapping[str, Any], environ: Mapping[str, str]) -> list[Finding]:
    """Compare the processes of a launcher with those of the trainer."""
    per_node, nodes = devices_per_node(trainer), int(trainer["num_nodes"])
    total = per_node * nodes
    if "SLURM_JOB_ID" in environ:
        counts = {
            "SLURM_NTASKS": (total, "--ntasks"),
            "SLURM_NNODES": (nodes, "--nodes"),
            "SLURM_NTASKS_PER_NODE": (per_node, "--ntasks-per-node"),
        }
        differing = [
            f"{name} is {environ[name]} and the trainer starts {wanted} (sbatch {flag}={wanted})"
            for name, (wanted, flag) in counts.items()
            if name in environ and environ[name] != str(wanted)
        ]
        if differing:
            return [
                problem(
                    "SLURM",
                    f"job {environ['SLURM_JOB_ID']}: {'; '.join(differing)}. Let the job have one task a process, "
                    "started by srun, or set trainer.devices and trainer.num_nodes to what the job has.",
                )
            ]
        return [
            ok("SLURM", f"job {environ['SLURM_JOB_ID']} has the {total} task(s) that the trainer starts.")
        ]
    if "WORLD_SIZE" in environ and environ["WORLD_SIZE"] != str(total):
        return [
            problem(
                "processes",
                f"torchrun started {environ['WORLD_SIZE']} process(es) and trainer.devices x trainer.num_nodes is "
                f"{per_node} x {nodes}. Make them equal.",
            )
        ]
    if nodes > 1 and "WORLD_SIZE" not in environ:
        return [
            problem(
                "processes",
                f"trainer.num_nodes is {nodes} and nothing starts processes on other machines here. Run inside a SLURM "
                "job by srun, or with torchrun on every machine.",
            )
        ]
    return []


def _threads(trainer: Mapping[str, Any], data: Mapping[str, Any]) -> list[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes, threads = devices_per_node(trainer), torch.get_num_threads()
    workers = int(data.get("num_workers") or 0)
    findings = []
    if not uses_gpu(trainer) and processes > 1 and processes * threads > cores:
        findings.append(
            warning(
                "threads",
                f"{processes} processes of {threads} threads share {cores} cores and will wait for each other. Set "
                f"OMP_NUM_THREADS={max(1, cores // processes)}.",
            )
        )
    if processes * workers > cores:
        findings.append(
            warning(
                "workers",
                f"{processes} process(es) with data.num_workers={workers} read ahead on {cores} cores. Set "
                f"data.num_workers={cores // processes}.",
            )
        )
    return findings or [ok("threads", f"{threads} thread(s) a process, {cores} core(s).")]


def _wandb(logger: Mapping[str, Any], environ: Mapping[str, str]) -> list[Finding]:
    if logger.get("kind") != "wandb":
        return []
    if importlib.util.find_spec("wandb") is None:
        return [problem("W&B", "logger=wandb and the package wandb is not installed: pip install wandb.")]
    mode = environ.get("WANDB_MODE") or logger.get("mode", "offline")
    if mode != "online":
        return [ok("W&B", f"mode {mode}: nothing leaves this machine; wandb sync sends it later.")]
    if environ.get("WANDB_API_KEY") or _has_login(environ):
        return [ok("W&B", "mode online, and this account is logged in.")]
    return [
        problem(
            "W&B",
            "logger.mode=online and nobody is logged in. Run wandb login, set WANDB_API_KEY, or say "
            "logger.mode=offline.",
        )
    ]


def _has_login(environ: Mapping[str, str]) -> bool:
    """Return whether there is an entry for the server; its content is not looked at."""
    file = Path(environ.get("NETRC") or Path(environ.get("HOME", "~")).expanduser() / ".netrc")
    try:
        host = environ.get("WANDB_BASE_URL", WANDB_HOST).removeprefix("https://").rstrip("/")
        return host in netrc.netrc(file).hosts
    except (OSError, netrc.NetrcParseError):
        return False


def _disk(folder: Path) -> list[Finding]:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return [
            problem("disk", f"{folder} cannot be written to. Choose another folder by hydra.run.dir=FOLDER.")
        ]
    if free < 2**30:
        return [
            warning("disk", f"{free / 2**20:.0f} MiB are free in {folder}; checkpoints may not find room.")
        ]
    return [ok("disk", f"{free / 2**30:.0f} GiB free in {folder}.")]
