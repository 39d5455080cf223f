"""Containers of arrays: HDF5, netCDF, MATLAB, NumPy, PyTorch and zarr files behind one small interface.

A container names its arrays, tells their shapes and attributes and reads slices of them; it never reads a whole
file for a slice where the format allows it, and never unpickles. What a file is follows from its first bytes and
not from its name.
"""

from .interface import UNREADABLE, Container, UnreadableError, refuses_damage, unreadable
from .opening import CONTAINERS, container_kind, open_container
from .pool import ContainerPool

__all__ = [
    "CONTAINERS",
    "UNREADABLE",
    "Container",
    "ContainerPool",
    "UnreadableError",
    "container_kind",
    "open_container",
    "refuses_damage",
    "unreadable",
]
