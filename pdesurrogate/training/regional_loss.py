"""A loss over regions of the box instead of over the box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from ..fields import DataSpec
from ..layers import split_regions

Metric = Callable[[Tensor, Tensor, DataSpec], Tensor]


class RegionalLoss:
    """The mean over equal regions ``Ω_r`` of a metric taken on each, ``1/R Σ_r m(p|Ω_r, t|Ω_r)``.

    A relative error then weighs quiet regions like lively ones. It is the loss on unstitched regions of
    Kossaifi et al. (2024, arXiv:2310.00120), for any model, whether or not it works by regions itself.

    Args:
        metric: what is measured on each region; a cut axis is an open one there.
        regions: regions along each axis, one number or one per axis.

    Raises:
        ValueError: if a number is below 1.
    """

    def __init__(self, metric: Metric, regions: int | Sequence[int]) -> None:
        self.metric = metric
        self.regions = (regions,) if isinstance(regions, int) else tuple(regions)
        self._is_per_axis = not isinstance(regions, int)
        if min(self.regions, default=0) < 1:
            raise ValueError(f"loss.regions is {regions}; give one positive number, or one per axis.")

    def check_grid(self, grid: Sequence[int], axis_names: Sequence[str]) -> None:
        """Refuse a grid that the regions do not divide.

        Raises:
            ValueError: naming the axis.
        """
        for name, n, count in zip(axis_names, grid, self._counts(axis_names), strict=True):
            if n % count:
                raise ValueError(
                    f"loss.regions cuts axis {name!r} into {count} and the grid has {n} points there. Choose a number "
                    f"that divides {n}."
                )

    def __call__(
        self,
        prediction: Float[Tensor, "batch time channel *space"],
        target: Float[Tensor, "batch time channel *space"],
        spec: DataSpec,
    ) -> Float[Tensor, "batch time field"]:
        """Return the metric's mean over regions.

        Raises:
            ValueError: if the regions do not divide the grid.
        """
        counts = self._counts(spec.axis_names)
        self.check_grid(prediction.shape[3:], spec.axis_names)
        axes = [
            replace(axis, length=axis.length / count, boundary="open") if count > 1 else axis
            for axis, count in zip(spec.axes, counts, strict=True)
        ]
        parts = split_regions(prediction, counts), split_regions(target, counts)
        values = self.metric(*parts, spec.replace(axes=tuple(axes)))
        return values.unflatten(0, (prediction.shape[0], -1)).mean(dim=1)

    def _counts(self, axis_names: Sequence[str]) -> tuple[int, ...]:
        counts = self.regions if self._is_per_axis else self.regions * len(axis_names)
        if len(counts) != len(axis_names):
            raise ValueError(
                f"loss.regions is {list(counts)}; give one positive number, or {len(axis_names)} of them for the axes "
                f"{', '.join(axis_names)}."
            )
        return counts
