"""Training in double precision: for comparisons in which rounding must not be seen."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.plugins import DoublePrecision

from ..fields import Batch


class DoubleBatches(DoublePrecision):
    """Lightning's plugin for ``precision=64-true``, which takes our batches: they are frozen, and made anew."""

    def convert_input(self, data: Any) -> Any:
        """Return a batch whose fields and parameters are in double precision."""
        if not isinstance(data, Batch):
            return super().convert_input(data)
        return Batch(*(t.double() if t.is_floating_point() else t for t in data.tensors()))
