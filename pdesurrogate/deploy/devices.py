"""Devices by name."""

from __future__ import annotations

import torch


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``"auto"`` is a GPU if there is one.

    Raises:
        ValueError: if the device is unknown or absent.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device is {name!r}; allowed: auto, cpu, cuda, cuda:1, ...") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {name!r} and PyTorch sees no GPU here. Use device=cpu or auto.")
    return device
