"""Where the frames of a split are held: on the GPU that trains, in the memory of the host, or in their files alone."""

from __future__ import annotations

import torch

from pdesurrogate.registry import did_you_mean

from .memory import available_memory

CACHES = ("auto", "gpu", "ram", "none")
RAM_SHARE = 0.25
"""Most of the host's free memory that a split takes unasked."""
GPU_SHARE = 0.6
"""Most of the GPU's free memory that the data take unasked; a training step needs the rest."""


def check_cache(cache: str) -> None:
    """Refuse a place that there is not.

    Raises:
        ValueError: saying what to choose.
    """
    if cache not in CACHES:
        raise ValueError(
            f"cache is {cache!r}.{did_you_mean(str(cache), CACHES)} Allowed: {', '.join(map(repr, CACHES))}."
        )
    if cache == "gpu" and not torch.cuda.is_available():
        raise ValueError(
            "cache=gpu holds the data on a CUDA device and there is none here. Use cache=auto, which takes the best "
            "place that there is, cache=ram or cache=none."
        )


def fits_on_host(cache: str, needed: int, what: str) -> bool:
    """Return whether a split is to be held in the host's memory.

    Args:
        cache: what was asked for.
        needed: bytes, for all ranks of this machine.
        what: the split and its grid, for the message.

    Raises:
        ValueError: if that was asked for and there is not as much.
    """
    free = available_memory()
    if cache == "none":
        return False
    if cache == "auto":
        return free is not None and needed <= RAM_SHARE * free
    if free is None or needed <= free:
        return True
    if cache == "gpu":  # goes there from the file
        return False
    raise ValueError(
        f"cache=ram needs {needed / 2**20:.0f} MiB for {what} and {free / 2**20:.0f} MiB are free. Use cache=none, a "
        "coarser grid or fewer trajectories."
    )


def fits_on_device(cache: str, device: torch.device, needed: int, held: int, what: str) -> bool:
    """Return whether a split is to be held on the device that computes.

    Args:
        cache: what was asked for.
        device: on which the model is.
        needed: bytes.
        held: bytes of other splits there.
        what: the split and its grid, for the message.

    Raises:
        ValueError: if that was asked for and it is a CPU, or there is not as much memory.
    """
    if cache in ("ram", "none"):
        return False
    if device.type != "cuda":
        if cache == "gpu":
            raise ValueError(
                f"cache=gpu holds the data on the GPU that trains, and this run computes on {device.type}. Use "
                "trainer=gpu, or cache=auto."
            )
        return False
    free = _free_on(device)
    if cache == "auto":
        return held + needed <= GPU_SHARE * (held + free)
    if needed > free:
        raise ValueError(
            f"cache=gpu needs {needed / 2**20:.0f} MiB for {what} and {free / 2**20:.0f} MiB are free on {device}. Use "
            "cache=auto, a coarser grid or fewer trajectories."
        )
    return True


def _free_on(device: torch.device) -> int:
    """Return the bytes that tensors can still take, those included that PyTorch keeps for them."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
