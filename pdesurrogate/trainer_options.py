"""What the section ``trainer`` may say, checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .registry import did_you_mean

STRATEGIES = ("auto", "ddp", "fsdp")
ACCELERATORS = ("auto", "cpu", "gpu")
PRECISIONS = ("32-true", "bf16-mixed", "64-true")


def check_trainer(trainer: Mapping[str, Any], batch_size: int, ema: float | None = None) -> None:
    """Refuse what no machine could run: values that there are not, and those that do not go together.

    Args:
        trainer: the section of that name.
        batch_size: windows of a batch over all processes.
        ema: decay of averaged weights; None for none.

    Raises:
        ValueError: for an unknown strategy, accelerator or precision; for numbers of devices or machines that are
            none; for shared regions, averaged weights, compilation or a single process with ``strategy=fsdp``; for
            a batch that cannot be shared out equally.
    """
    for key, allowed in (("strategy", STRATEGIES), ("accelerator", ACCELERATORS), ("precision", PRECISIONS)):
        if trainer.get(key, allowed[0]) not in allowed:
            why = "; Fourier transforms have no half precision on every grid" if key == "precision" else ""
            raise ValueError(
                f"trainer.{key} is {trainer[key]!r}.{did_you_mean(str(trainer[key]), allowed)} Allowed: "
                f"{', '.join(allowed)}{why}."
            )
    _require_numbers(trainer)
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


def num_processes(trainer: Mapping[str, Any]) -> int | None:
    """Return the number of processes that are asked for; None where it depends on the machine."""
    devices = trainer["devices"]
    if isinstance(devices, list):
        return len(devices) * int(trainer["num_nodes"])
    return devices * int(trainer["num_nodes"]) if isinstance(devices, int) and devices > 0 else None


def region_parallel_size(trainer: Mapping[str, Any]) -> int:
    """Return ``trainer.region_parallel``, after checking it against the processes that are asked for.

    Raises:
        ValueError: if it is below 1 or does not divide their number.
    """
    size = int(trainer.get("region_parallel", 1))
    if size < 1:
        raise ValueError(
            f"trainer.region_parallel is {size}; it is the number of processes for a sample, 1 or more."
        )
    devices = trainer["devices"]
    per_node = len(devices) if isinstance(devices, list) else devices
    if isinstance(per_node, int) and per_node > 0:  # otherwise known once the processes run
        require_whole_groups(per_node * trainer["num_nodes"], size)
    return size


def require_whole_groups(num_processes: int, size: int) -> None:
    """Refuse groups that do not use up the processes.

    Raises:
        ValueError: naming both numbers.
    """
    if num_processes % size:
        raise ValueError(
            f"trainer.region_parallel is {size} and training runs in {num_processes} process"
            f"{'' if num_processes == 1 else 'es'} (trainer.devices times trainer.num_nodes); give a multiple of "
            f"{size}."
        )


def _require_numbers(trainer: Mapping[str, Any]) -> None:
    """Refuse numbers of machines and devices that are none."""
    devices, nodes = trainer["devices"], trainer["num_nodes"]
    if type(nodes) is not int or nodes < 1:
        raise ValueError(f"trainer.num_nodes is {nodes!r}; give the number of machines.")
    wanted = devices if isinstance(devices, list) else []
    is_count = isinstance(devices, int) and not isinstance(devices, bool) and (devices > 0 or devices == -1)
    if not (is_count or devices == "auto" or (wanted and all(isinstance(d, int) and d >= 0 for d in wanted))):
        raise ValueError(
            f"trainer.devices is {devices!r}; give their number, a list of their indices such as [0,2], or auto."
        )
