"""Published operators, one file each, found by name.

A model is an ``nn.Module`` built as ``MODELS.build(kind, spec, history, horizon, **options)`` that maps
normalised frames to normalised frames, ``forward(history, parameters) -> future`` with shapes ``(batch,
history, channel, *space), (batch, parameter) -> (batch, horizon, channel, *space)``. It declares

- ``geometries``: ``"plane"``, ``"sphere"``;
- ``symmetries``: which of ``"shift"``, ``"rotation"`` (quarter turns) and ``"reflection"`` of a periodic
  square box it commutes with; on a sphere ``"shift"`` is a turn about the axis by whole points (of the
  coarsest grid inside), ``"reflection"`` are the mirror images at the equator and at a meridian, and ``"rotation"`` is
  any rotation, up to the aliasing of activations;
- ``grids``: ``"any"``, ``"multiple of n"`` or ``"fixed"``;
- ``convergence``, where it takes more than one grid: the order in the spacing with which its future settles as the
  grid is refined, None (as if it said nothing) if only aliasing tells one grid from another, 0 if its stencils count in
  points, so that it is another function on every grid;
- ``check_grid(grid)``: raises ValueError for a grid that it cannot take.

It may have a ``summary``, a line about itself for the training log, and ``training_memory(grid, batch_size)``, about
how many bytes a training step takes, with ``memory_options``, those of its options that lower it, for the message when
memory runs out: names, of which each lowers the weights as well, and settings ``name=value``. ``options_for(options,
data, horizon)`` returns its options with what the training data decide, and refuses before it reads them.
"""

from ..registry import Registry

MODELS = Registry("model", "pdesurrogate.models", checks_numbers=True)

__all__ = ["MODELS"]
