"""The processes of a training: checked before anything heavy runs, and how they share the work."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import nn

from ..registry import did_you_mean
from .lost_process import WatchingLauncher
from .region_parallel import region_parallel_size
from .sharded import FullySharded, require_shardable

STRATEGIES = ("auto", "ddp", "fsdp")
ACCELERATORS = ("auto", "cpu", "gpu")


def check_processes(trainer: Mapping[str, Any], batch_size: int, ema: float | None = None) -> None:
    """Refuse processes that cannot run or share a batch out, as far as one process can know it.

    Args:
        trainer: the section of that name.
        batch_size: windows of a batch over all processes.
        ema: decay of averaged weights; None for none.

    Raises:
        ValueError: for an unknown strategy or accelerator, devices that do not exist, a single process, shared regions
            or averaged weights with ``strategy=fsdp``, a batch that cannot be shared out equally, or a port that
            another program uses.
    """
    for key, allowed in (("strategy", STRATEGIES), ("accelerator", ACCELERATORS)):
        if trainer[key] not in allowed:
            raise ValueError(
                f"trainer.{key} is {trainer[key]!r}.{did_you_mean(str(trainer[key]), allowed)} Allowed: "
                f"{', '.join(allowed)}."
            )
    _require_devices(trainer)
    if trainer["strategy"] == "fsdp" and ema is not None:
        raise ValueError(
            f"optim.ema={ema} averages whole weights and trainer.strategy=fsdp shares them out; they do not go "
            "together. Use trainer.strategy=ddp, or optim.ema=null."
        )
    if trainer["strategy"] == "fsdp" and trainer.get("compile", False):
        raise ValueError(
            "trainer.compile=true compiles parts whose weights are whole and trainer.strategy=fsdp shares them out; "
            "they do not go together. Use trainer.strategy=ddp, or trainer.compile=false."
        )
    size, processes = region_parallel_size(trainer), num_processes(trainer)
    if processes is None:  # known once they run
        return
    if trainer["strategy"] == "fsdp" and processes == 1:
        raise ValueError(
            "trainer.strategy=fsdp shares the weights out over processes, and trainer.devices times trainer.num_nodes "
            "is 1. Use more devices, or trainer.strategy=auto."
        )
    if trainer["strategy"] == "fsdp" and size > 1:
        raise ValueError(
            f"trainer.strategy=fsdp shares the weights out and trainer.region_parallel={size} the regions of a sample; "
            "they do not go together. Use trainer.strategy=ddp, or trainer.region_parallel=1."
        )
    groups = processes // size
    if batch_size % groups:
        raise ValueError(
            f"data.batch_size is {batch_size}, counted over all processes, and {groups} share a batch out "
            f"(trainer.devices times trainer.num_nodes{' over trainer.region_parallel' if size > 1 else ''}). Give a "
            f"multiple of {groups}, such as data.batch_size={max(1, round(batch_size / groups)) * groups}."
        )
    if processes > 1:
        _require_free_port()


def num_processes(trainer: Mapping[str, Any]) -> int | None:
    """Return the number of processes that are asked for; None where it depends on the machine."""
    devices = trainer["devices"]
    if isinstance(devices, list):
        return len(devices) * int(trainer["num_nodes"])
    return devices * int(trainer["num_nodes"]) if isinstance(devices, int) and devices > 0 else None


class DataParallel(DDPStrategy):
    """Lightning's data parallelism with a launcher that says when a process has died.

    Args:
        timeout: how long a process waits for the others.
        go_on: the command that goes on with the run.
    """

    def __init__(self, timeout: timedelta, go_on: str) -> None:
        super().__init__(timeout=timeout)
        self._go_on = go_on

    def _configure_launcher(self) -> None:
        environment = self.cluster_environment
        assert environment is not None  # Lightning has set it
        self._launcher = WatchingLauncher(environment, self.num_processes, self.num_nodes, self._go_on)


def build_strategy(
    trainer: Mapping[str, Any], model: nn.Module, name: str, go_on: str = "python train.py resume=RUN_DIR"
) -> str | Strategy:
    """Return what Lightning is given for ``trainer.strategy``; no process waits longer than ``timeout_minutes``.

    Args:
        trainer: the section of that name.
        model: what is trained.
        name: of the model, for messages.
        go_on: the command that goes on with the run, for messages.

    Raises:
        ValueError: if the strategy cannot train this model, or for a time that is not positive.
    """
    minutes, strategy = trainer.get("timeout_minutes", 10), trainer["strategy"]
    if not isinstance(minutes, int | float) or not minutes > 0:
        raise ValueError(f"trainer.timeout_minutes is {minutes!r}; give a positive time.")
    timeout = timedelta(minutes=minutes)
    if strategy == "fsdp":
        require_shardable(model, name)
        return FullySharded(timeout, go_on)
    return DataParallel(timeout, go_on) if strategy == "ddp" else strategy


def _require_devices(trainer: Mapping[str, Any]) -> None:
    devices, nodes, accelerator = trainer["devices"], trainer["num_nodes"], trainer["accelerator"]
    if type(nodes) is not int or nodes < 1:
        raise ValueError(f"trainer.num_nodes is {nodes!r}; give the number of machines.")
    wanted = devices if isinstance(devices, list) else []
    is_count = isinstance(devices, int) and not isinstance(devices, bool) and (devices > 0 or devices == -1)
    if not (is_count or devices == "auto" or (wanted and all(isinstance(d, int) and d >= 0 for d in wanted))):
        raise ValueError(
            f"trainer.devices is {devices!r}; give their number, a list of their indices such as [0,2], or auto."
        )
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if accelerator == "gpu" and not available and not torch.backends.mps.is_available():
        raise ValueError(
            f"trainer.accelerator=gpu and PyTorch {torch.__version__} sees no GPU here. Use trainer=cpu, or install a "
            "build of PyTorch for your GPU; pdesurrogate doctor says more."
        )
    if accelerator == "cpu" or not available:
        return
    if (isinstance(devices, int) and devices > available) or any(d >= available for d in wanted):
        raise ValueError(
            f"trainer.devices is {devices} and this machine has {available} GPU{'s' if available > 1 else ''}, number 0"
            f"{f' to {available - 1}' if available > 1 else ''}. Ask for at most that, or set trainer.accelerator=cpu."
        )


def _require_free_port() -> None:
    """Refuse a port that was chosen by MASTER_PORT and is in use, where this process is the one to open it."""
    port, address = os.environ.get("MASTER_PORT"), os.environ.get("MASTER_ADDR", "127.0.0.1")
    meets_already = torch.distributed.is_initialized() or "TORCHELASTIC_RUN_ID" in os.environ
    is_first = all(os.environ.get(v, "0") == "0" for v in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"))
    if not port or meets_already or not is_first:
        return
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise ValueError(
            f"MASTER_PORT is {port!r}; give a number from 1 to 65535, or unset it to have one chosen."
        )
    try:
        with socket.create_server((address, int(port))):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ValueError(
                f"the processes are to meet at port {port} (MASTER_PORT), which another program uses. Set MASTER_PORT "
                "to a free port, or unset it to have one chosen."
            ) from error
