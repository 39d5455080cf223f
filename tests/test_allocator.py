"""Freed memory stays with the process, however much it is."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes
from pdesurrogate.allocator import keep_freed_memory

kept = keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes, libc.sbrk.argtypes = [ctypes.c_size_t], [ctypes.c_void_p], [ctypes.c_ssize_t]
before = libc.sbrk(0)
blocks = [libc.malloc(512 * 2**20) for _ in range(6)]  # never touched, hence no real memory
grown = libc.sbrk(0) - before
for block in reversed(blocks):
    libc.free(block)
assert not kept or grown > 2.5 * 2**30, f"the heap grew by {grown} bytes only"
assert not kept or libc.sbrk(0) - before == grown, "memory was handed back"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is one of glibc")
def test_gibibytes_are_taken_from_the_heap_and_not_handed_back():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
