"""Keep freed memory in the process: large tensors then cost no page faults on every operation."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
_NEVER = -1


def keep_freed_memory() -> bool:
    """Tell glibc to serve blocks of up to 1 GiB from its heap and not to hand freed memory back.

    By default every block above 128 KiB to 32 MiB is mapped afresh, and each operation on a large tensor
    faults in its whole output. A training step on a CPU gains about a quarter. With any threshold for handing back,
    a step that needs more than that would fault in all of it again and again. The price: a process keeps the most
    memory that it ever had until it ends. Elsewhere than on Linux with glibc nothing happens.

    Returns:
        Whether the setting was taken.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(ctypes.util.find_library("c")), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, 2**30) and mallopt(_TRIM_THRESHOLD, _NEVER))
