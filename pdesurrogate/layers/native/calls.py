"""Calls of the compiled library, which sees addresses and no types: what enters is checked before."""

from __future__ import annotations

import ctypes
import sys

import torch
from torch import Tensor

from .loader import native_library, reason_without_native


def native_applies(*tensors: Tensor | None) -> bool:
    """Return whether the library is there and takes these tensors: float32 on the CPU, not being traced."""
    if torch.compiler.is_compiling() or _is_recorded() or native_library() is None:
        return False
    return all(
        t is None
        or (
            t.device.type == "cpu"
            and t.dtype in (torch.float32, torch.complex64)
            and type(t).__name__ != "FakeTensor"
        )
        for t in tensors
    )


def _is_recorded() -> bool:
    """Whether ``make_fx`` records operations, of which it would miss those of the library."""
    proxies = sys.modules.get("torch.fx.experimental.proxy_tensor")  # slow to import, and no mode without it
    return proxies is not None and proxies.get_proxy_mode() is not None


def call(name: str, *numbers: int | float, arrays: tuple[Tensor | None, ...]) -> None:
    """Call a function of the library with whole numbers, floats and addresses, in this order.

    Raises:
        RuntimeError: if there is no library here.
    """
    library = native_library()
    if library is None:
        raise RuntimeError(f"the native kernels are not available: {reason_without_native()}")
    library.set_threads(torch.get_num_threads())
    addresses = [ctypes.c_void_p(None if t is None else t.data_ptr()) for t in arrays]
    values = [ctypes.c_float(n) if isinstance(n, float) else ctypes.c_long(n) for n in numbers]
    getattr(library, name)(*values, *addresses)


def check_arrays(
    arrays: dict[str, tuple[Tensor, tuple[int, ...]]], dtype: torch.dtype = torch.float32
) -> None:
    """Refuse what the library would read wrongly.

    Raises:
        ValueError: if a tensor has another shape or dtype, is not contiguous, or is not on the CPU.
    """
    for name, (array, shape) in arrays.items():
        if tuple(array.shape) != tuple(shape):
            raise ValueError(
                f"{name} is of shape {tuple(array.shape)}; it must have the shape {tuple(shape)}."
            )
        if array.device.type != "cpu" or array.dtype != dtype or not array.is_contiguous():
            raise ValueError(
                f"{name} is {array.dtype} on {array.device}{'' if array.is_contiguous() else ', not contiguous'}; "
                f"the native kernel takes contiguous {str(dtype).removeprefix('torch.')} tensors on the CPU."
            )
