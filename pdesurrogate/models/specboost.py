"""SpecBoost: a model, and further ones that are trained on what the ones before them leave over.

Qin et al. 2024, "Toward a Better Understanding of Fourier Neural Operators from a Spectral Perspective",
arXiv:2404.07200; called SpecBoost in its first version and SpecB-FNO in its second, which is the same algorithm. What
a trained operator gets wrong has a flatter spectrum than its target, so that the next operator learns the scales that
hardly count in the first one's loss:

    y_1 = A(x),    y_s = y_{s-1} + η_s σ_s B_s([x, y_{s-1}])

In the paper A and B are Fourier neural operators and there are two stages; here they are any registered models. σ_s is
the root mean square of the training residual and η_s a shrinkage, 1 in the paper; training measures both, see
`pdesurrogate.training.corrections`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..fields import DataSpec
from ..registry import did_you_mean
from . import MODELS
from .options import require_at_least
from .staged import Staged, build_stage

STAGE_INPUTS = ("concat", "x_only", "pred_only")
SAME = "same"


@MODELS.register("specboost")
class SpecBoost(Staged):
    """The sum of a base model and of corrections, each of which sees the forecast that it corrects.

    The forecast reaches a correction as ``horizon`` further frames after those of the history, so that the number of
    frames is all that a model has to agree to, and vectors stay vectors: the input channels are, in this order, the
    history's frames, the forecast's frames, the PDE parameters and, where the model adds them, coordinates. Costs are
    those of the stages, one after the other.

    Args:
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        base: name of the first stage's model.
        base_options: its options.
        residual: name of the model of the other stages, or ``"same"`` as the base.
        residual_options: its options; for ``"same"``, what differs from those of the base.
        num_stages: number of stages; the paper's 2.
        stage_input: what a correction sees: ``"concat"``, history and forecast, or ``"x_only"`` or ``"pred_only"``.
        zero_init: whether the last layer of a correction starts at zero and with it the correction; the paper's does
            not.

    Raises:
        ValueError: if an option is out of range, a model does not exist, refuses its options or cannot take the
            further frames, or has nothing to train.
    """

    def __init__(
        self,
        spec: DataSpec,
        history: int,
        horizon: int,
        *,
        base: str = "fno",
        base_options: Mapping[str, Any] = MappingProxyType({}),
        residual: str = SAME,
        residual_options: Mapping[str, Any] = MappingProxyType({}),
        num_stages: int = 2,
        stage_input: str = "concat",
        zero_init: bool = False,
    ) -> None:
        require_at_least("specboost", 1, history=history, horizon=horizon, num_stages=num_stages)
        if stage_input not in STAGE_INPUTS:
            raise ValueError(
                f"specboost: stage_input is {stage_input!r}.{did_you_mean(str(stage_input), STAGE_INPUTS)} "
                f"Allowed: {', '.join(map(repr, STAGE_INPUTS))}."
            )
        stages = [build_stage("specboost", base, spec, history, horizon, base_options)]
        kind, options = residual, dict(residual_options)
        if residual == SAME:
            kind, options = base, {**base_options, **residual_options}
        frames = {"concat": history + horizon, "x_only": history, "pred_only": horizon}[stage_input]
        for number in range(2, num_stages + 1):
            try:
                model = build_stage("specboost", kind, spec, frames, horizon, options)
            except ValueError as error:
                raise ValueError(
                    f"specboost: stage {number}, a {kind!r}, gets {frames} frames "
                    f"({_words(stage_input, history, horizon)}). {error}"
                ) from error
            if zero_init:
                zero_last_layer(model)
            stages.append(Correction(model, spec, stage_input))
        super().__init__("specboost", spec, stages)

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the next ``horizon`` frames, normalised; while a stage is trained, without those after it.

        Raises:
            ValueError: if a stage cannot take the grid.
        """
        in_use = self.num_stages if self.active is None else self.active + 1
        return sum_of_stages(list(self.stages)[:in_use], history, parameters)

    def earlier(
        self,
        stage: int,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the forecast that a stage, counted from 0 and not the first, corrects."""
        return sum_of_stages(list(self.stages)[:stage], history, parameters)

    def correction(self, stage: int) -> Correction:
        """Return a stage that is not the first.

        Raises:
            TypeError: for the first one.
        """
        found = self.stages[stage]
        if not isinstance(found, Correction):
            raise TypeError(f"stage {stage + 1} is the base and corrects nothing.")
        return found

    def members(self) -> dict[str, nn.Module]:
        """Return the forecasts after each stage: how far the last corrections still move it."""
        return {
            f"stage {count} of {self.num_stages}": PartialSum(self.stages[:count])
            for count in range(1, self.num_stages + 1)
        }


class Correction(nn.Module):
    """``y ↦ y + η σ B(input)``, with one scale σ for each field, so that the components of a vector share it.

    Args:
        model: B.
        spec: the data.
        stage_input: what B sees.
    """

    scale: Tensor
    shrinkage: Tensor
    _is_static: Tensor

    def __init__(self, model: nn.Module, spec: DataSpec, stage_input: str) -> None:
        super().__init__()
        self.model = model
        self.stage_input = stage_input
        self.register_buffer("scale", torch.ones(spec.num_channels))
        self.register_buffer("shrinkage", torch.ones(()))
        self._has_static = any(spec.static_channels)
        is_static = torch.tensor(spec.static_channels).view(-1, *[1] * spec.ndim)
        self.register_buffer("_is_static", is_static, persistent=False)
        for name in ("geometries", "symmetries", "grids", "convergence"):
            if hasattr(model, name):
                setattr(self, name, getattr(model, name))

    def check_grid(self, grid: Iterable[int]) -> None:
        """Refuse a grid that the model cannot take."""
        check: Any = self.model.check_grid
        check(grid)

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
        future: Float[Tensor, "batch horizon channel *space"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the corrected forecast."""
        change = self.model(self.input(history, future), parameters)
        weight = (self.shrinkage * self.scale).view(-1, *[1] * (future.ndim - 3))
        return future + weight.to(future.dtype) * change

    def input(
        self,
        history: Float[Tensor, "batch history channel *space"],
        future: Float[Tensor, "batch horizon channel *space"],
    ) -> Float[Tensor, "batch frame channel *space"]:
        """Return the frames that the model sees; static fields of the forecast are those of the last frame."""
        if self.stage_input == "x_only":
            return history
        if self._has_static:
            future = torch.where(self._is_static, history[:, -1:], future)
        return future if self.stage_input == "pred_only" else torch.cat([history, future], dim=1)


class PartialSum(nn.Module):
    """The forecast after some stages."""

    def __init__(self, stages: Iterable[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def check_grid(self, grid: Iterable[int]) -> None:
        """Refuse a grid that a stage cannot take."""
        for stage in self.stages:
            check: Any = stage.check_grid
            check(grid)

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the next frames, normalised."""
        return sum_of_stages(self.stages, history, parameters)


def sum_of_stages(
    stages: Iterable[nn.Module],
    history: Float[Tensor, "batch history channel *space"],
    parameters: Float[Tensor, "batch parameter"],
) -> Float[Tensor, "batch horizon channel *space"]:
    """Return a base's forecast after its corrections."""
    base, *corrections = stages
    future: Tensor = base(history, parameters)
    for correct in corrections:
        future = correct(history, parameters, future)
    return future


def zero_last_layer(model: nn.Module) -> None:
    """Set the parameters of a model's last layer to zero: of the module with parameters that it registered last."""
    layers = [module for module in model.modules() if any(True for _ in module.parameters(recurse=False))]
    for parameter in layers[-1].parameters(recurse=False) if layers else ():
        nn.init.zeros_(parameter)


def _words(stage_input: str, history: int, horizon: int) -> str:
    past, ahead = f"{history} of the history", f"{horizon} of the forecast that it corrects"
    return {"concat": f"{past} and {ahead}", "x_only": past, "pred_only": ahead}[stage_input]
