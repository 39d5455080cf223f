"""Published operators, one file each, found by name.

A model is an ``nn.Module`` built as ``MODELS.build(kind, spec, history, horizon, **options)`` that maps
normalised frames to normalised frames, ``forward(history, parameters) -> future`` with shapes ``(batch,
history, channel, *space), (batch, parameter) -> (batch, horizon, channel, *space)``. It declares

- ``geometries``: ``"plane"``, ``"sphere"``;
- ``symmetries``: which of ``"shift"``, ``"rotation"`` (quarter turns) and ``"reflection"`` of a periodic
  square box it commutes with;
- ``grids``: ``"any"``, ``"multiple of n"`` or ``"fixed"``;
- ``check_grid(grid)``: raises ValueError for a grid that it cannot take.

It may have a ``summary``, a line about itself for the training log.
"""

from ..registry import Registry

MODELS = Registry("model", "pdesurrogate.models")

__all__ = ["MODELS"]
