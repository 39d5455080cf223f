"""The parts that a model repeats: what is compiled, or shared out over processes, one by one."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn


def repeated_parts(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the members of a model's outermost lists of modules, where they are functions with weights."""
    for child in model.children():
        if isinstance(child, nn.ModuleList):
            yield from (
                part
                for part in child
                if type(part).forward is not nn.Module.forward and any(True for _ in part.parameters())
            )
        else:
            yield from repeated_parts(child)
