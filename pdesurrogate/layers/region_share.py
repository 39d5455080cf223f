"""Who computes which regions: the seam through which several processes work on one sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class RegionShare(Protocol):
    """Which regions this process computes, and how it comes to know the others' results.

    A model with regions asks its ``share``. By default it is `AllRegions`; whoever has several processes for
    one sample gives it another one, see `pdesurrogate.training.region_parallel`.
    """

    def enter(self, u: Tensor) -> Tensor:
        """Take an input that all processes of a sample have; its gradient is that of all regions."""
        ...

    def own(self, num_regions: int) -> range:
        """Return the regions of this process."""
        ...

    def leave(self, u: Tensor) -> Tensor:
        """Return the results of all regions, in order, from those of this process."""
        ...


@dataclass(frozen=True)
class AllRegions:
    """The share of a process that is alone with its samples."""

    def enter(self, u: Tensor) -> Tensor:
        """Return the input."""
        return u

    def own(self, num_regions: int) -> range:
        """Return all regions."""
        return range(num_regions)

    def leave(self, u: Tensor) -> Tensor:
        """Return the results."""
        return u
