"""An ensemble of seeds: the same model several times, trained apart from other initial weights, and averaged.

Lakshminarayanan, Pritzel, Blundell, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
NeurIPS 2017, arXiv:1612.01474, for the mean alone. The scatter of the members says where the model is uncertain, and
the mean is what a boosted model of as many stages has to beat.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..fields import DataSpec
from . import MODELS
from .options import require_at_least
from .staged import Staged, build_stage


@MODELS.register("ensemble")
class Ensemble(Staged):
    """``1/M Σ_m A_m(x)`` of M models with weights of their own, each trained on the target by itself.

    Args:
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        base: name of the members' model.
        base_options: its options.
        num_members: how many.

    Raises:
        ValueError: if an option is out of range, or the base does not exist or refuses its options.
    """

    def __init__(
        self,
        spec: DataSpec,
        history: int,
        horizon: int,
        *,
        base: str = "fno",
        base_options: Mapping[str, Any] = MappingProxyType({}),
        num_members: int = 2,
    ) -> None:
        require_at_least("ensemble", 1, history=history, horizon=horizon, num_members=num_members)
        stages = [
            build_stage("ensemble", base, spec, history, horizon, base_options) for _ in range(num_members)
        ]
        super().__init__("ensemble", spec, stages)

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the mean of the members; while one is trained, its own forecast.

        Raises:
            ValueError: if the members cannot take the grid.
        """
        if self.active is not None:
            own: Tensor = self.stages[self.active](history, parameters)
            return own
        return torch.stack([member(history, parameters) for member in self.stages]).mean(0)

    def members(self) -> dict[str, nn.Module]:
        """Return the members."""
        return {f"member {i} of {self.num_stages}": member for i, member in enumerate(self.stages, start=1)}
