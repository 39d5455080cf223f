"""Regional compilation: the repeated parts of a model by torch.compile, one by one.

Parts that are alike share one compilation, so that it takes as long as one of them and not as the model. The modules
stay what they are: weights keep their names in checkpoints and artifacts, which know nothing of it.
"""

from __future__ import annotations

from torch import nn

from ..models.staged import Staged
from .model_parts import repeated_parts


def compile_parts(model: nn.Module, name: str, capture: bool) -> None:
    """Have the parts of a model compiled when they are first called.

    Args:
        model: changed in place.
        name: under which it is registered, for the message.
        capture: whether steps are recorded as CUDA graphs.

    Raises:
        ValueError: if the model has no repeated parts that are called as functions, or is trained in stages, or steps
            are recorded.
    """
    if capture:
        raise ValueError(
            "trainer.compile=true and trainer.capture=true are two ways of starting fewer kernels; choose one of them."
        )
    parts = [] if isinstance(model, Staged) else list(repeated_parts(model))
    if not parts:
        raise ValueError(
            f"trainer.compile=true compiles the repeated parts of a model that is trained as a whole, and model={name} "
            f"{'has stages' if isinstance(model, Staged) else 'has none'}. Set trainer.compile=false."
        )
    for part in parts:
        part.compile()
