"""Training: unrolls, losses, optimisers and the run that joins them on Lightning."""

from ..registry import Registry

UNROLLS = Registry("unroll", "pdesurrogate.training")

__all__ = ["UNROLLS"]
