"""Models of several stages that are trained one after the other: what training needs to know of them.

Between `Staged.begin_stage` and `Staged.end_stages` one stage is trained: the others have no gradients and stay in
evaluation mode, so that nothing of them changes, neither weights nor statistics. Before and after, all stages are one
model like any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ..fields import DataSpec
from . import MODELS
from .matching import num_real_parameters
from .options import require_at_least


class Staged(nn.Module):
    """A model of stages; which forecast they make together is up to the class that inherits.

    Args:
        name: the model's own, with which messages begin.
        spec: the data.
        stages: in the order of training; each maps the data's fields to its fields.

    Attributes:
        active: the stage in training, counted from 0; None if none is.
        geometries, grids, symmetries, convergence: what all stages have in common.

    Raises:
        ValueError: if there is no stage, or one has nothing to train.
    """

    geometries: frozenset[str] = frozenset({"plane"})
    convergence: float | None

    def __init__(self, name: str, spec: DataSpec, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        require_at_least(name, 1, num_stages=len(stages))
        self.name = name
        self.stages = nn.ModuleList(stages)
        self.active: int | None = None
        for number, stage in enumerate(stages, start=1):
            if num_real_parameters(stage) == 0:
                raise ValueError(
                    f"{name}: stage {number} has nothing to train. Choose a base with parameters."
                )
        self.geometries = frozenset.intersection(*(_declared(s, "geometries", {"plane"}) for s in stages))
        self.symmetries = frozenset.intersection(*(_declared(s, "symmetries", ()) for s in stages))
        self.grids = _common_grids(str(_declaration(s, "grids", "any")) for s in stages)
        orders = [_declaration(s, "convergence", None) for s in stages]
        self.convergence = min((order for order in orders if order is not None), default=None)

    @property
    def num_stages(self) -> int:
        """Number of stages."""
        return len(self.stages)

    @property
    def summary(self) -> str:
        """A line for the training log: the sizes of the stages."""
        return f"{self.num_stages} stages of {', '.join(f'{num_real_parameters(s):,}' for s in self.stages)} parameters"

    def begin_stage(self, stage: int) -> None:
        """Train this stage, counted from 0, and none of the others."""
        if not 0 <= stage < self.num_stages:
            raise ValueError(
                f"{self.name} has {self.num_stages} stages; there is no stage {stage + 1} to train."
            )
        self.active = stage
        for number, module in enumerate(self.stages):
            module.requires_grad_(number == stage)
            for parameter in module.parameters() if number != stage else ():
                parameter.grad = None
        self.train(self.training)

    def end_stages(self) -> None:
        """Use all stages again, none of them frozen."""
        self.active = None
        self.requires_grad_()
        self.train(self.training)

    def train(self, mode: bool = True) -> Staged:
        """Set the mode of all stages; those that are frozen stay in evaluation mode."""
        super().train(mode)
        for number, stage in enumerate(self.stages):
            if self.active is not None and number != self.active:
                stage.eval()
        return self

    def check_grid(self, grid: Sequence[int]) -> None:
        """Refuse a grid that a stage cannot take.

        Raises:
            ValueError: in the words of the stage.
        """
        for stage in self.stages:
            check: Any = stage.check_grid
            check(grid)

    def members(self) -> dict[str, nn.Module]:
        """Return models whose forecasts scatter as this one is uncertain, by name."""
        raise NotImplementedError

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the next ``horizon`` frames, normalised; while a stage is trained, without those after it."""
        raise NotImplementedError


def build_stage(
    name: str,
    base: str,
    spec: DataSpec,
    history: int,
    horizon: int,
    options: Mapping[str, Any],
) -> nn.Module:
    """Build a registered model as a stage.

    Raises:
        ValueError: if it is a model of stages itself, does not exist or refuses its options.
    """
    entry = MODELS.get(base)
    if isinstance(entry, type) and issubclass(entry, Staged):
        raise ValueError(f"{name}: the base {base!r} has stages of its own. Choose a model that has none.")
    stage: nn.Module = MODELS.build(base, spec, history, horizon, **options)
    return stage


def _declaration(stage: nn.Module, name: str, default: Any) -> Any:
    """Return what a model declares; where it declares nothing, what the suites of the models take it for."""
    return getattr(stage, name, default)


def _declared(stage: nn.Module, name: str, default: Iterable[str]) -> frozenset[str]:
    return frozenset(_declaration(stage, name, default))


def _common_grids(declared: Iterable[str]) -> str:
    """Return the declaration of grids that suit all: a common multiple, or fixed as soon as one is."""
    multiple = 1
    for grids in declared:
        if grids == "fixed":
            return "fixed"
        if grids != "any":
            multiple = math.lcm(multiple, int(grids.removeprefix("multiple of ")))
    return "any" if multiple == 1 else f"multiple of {multiple}"
