"""The processes of a training: checked before anything heavy runs, and how they share the work."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

import torch
from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import nn

from ..trainer_options import check_trainer, num_processes
from .lost_process import WatchingLauncher
from .sharded import FullySharded, require_shardable


def check_processes(trainer: Mapping[str, Any], batch_size: int, ema: float | None = None) -> None:
    """Refuse processes that cannot run or share a batch out, as far as one process can know it.

    Args:
        trainer: the section of that name.
        batch_size: windows of a batch over all processes.
        ema: decay of averaged weights; None for none.

    Raises:
        ValueError: for what `check_trainer` refuses, devices that do not exist, or a port that another program uses.
    """
    check_trainer(trainer, batch_size, ema)
    _require_devices(trainer)
    if (num_processes(trainer) or 1) > 1:
        _require_free_port()


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
        environment = cast("ClusterEnvironment", self.cluster_environment)  # Lightning has set it
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
    are_several = strategy == "auto" and (num_processes(trainer) or 1) > 1
    return DataParallel(timeout, go_on) if strategy == "ddp" or are_several else strategy


def _require_devices(trainer: Mapping[str, Any]) -> None:
    """Refuse GPUs that this machine does not have."""
    devices, accelerator = trainer["devices"], trainer["accelerator"]
    wanted = devices if isinstance(devices, list) else []
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
