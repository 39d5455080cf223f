"""The relative L2 loss on the amplitudes of a model that works on waves, without its transform out."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import Batch, DataSpec
from ..metrics import field_slices, relative_l2
from ..metrics.norms import ratio_to
from ..surrogate import Surrogate
from .unrolls import OneStep, Unroll


class AmplitudeLoss:
    """``‖p - t‖ / ‖t‖`` by Parseval's sum over orthonormal waves, per sample, frame and field.

    With the amplitudes ``p̂`` that the model predicts and those ``t̂`` of the truth on the kept waves,

        ‖p - t‖² = Σ_k (p̂_k - t̂_k)² + (‖t‖² - Σ_k t̂_k²),

    where the second part is what no prediction can reach. The number is that of `relative_l2` on the grid; the
    prediction is never transformed to it. Poli et al. (2022, arXiv:2211.14453) train so.
    """

    def __call__(
        self,
        prediction: Float[Tensor, "batch time channel *space"],
        target: Float[Tensor, "batch time channel *space"],
        spec: DataSpec,
    ) -> Float[Tensor, "batch time field"]:
        """Return the same number from fields, as validation has them."""
        return relative_l2(prediction, target, spec)

    def check(self, model: Any, unroll: Unroll) -> None:
        """Refuse a model without amplitudes, and unrolls that feed fields back.

        Raises:
            ValueError: saying which.
        """
        if not hasattr(model, "amplitudes"):
            raise ValueError(
                f"loss.space=amplitudes is for models that predict amplitudes of waves, such as t1; "
                f"{type(model).__name__} predicts fields. Use loss.space=field."
            )
        if not isinstance(unroll, OneStep):
            raise ValueError(
                "loss.space=amplitudes compares one step of the model, and this unroll feeds fields back. Use "
                "unroll=one_step, or loss.space=field."
            )

    def of_batch(self, surrogate: Surrogate, batch: Batch) -> Float[Tensor, "batch time field"]:
        """Return the loss of one step on a batch, with gradients."""
        model: Any = surrogate.model
        normaliser = surrogate.normaliser
        wanted = surrogate.wanted_output(batch.history, batch.future)
        predicted = model.amplitudes(
            normaliser.normalise(batch.history), normaliser.normalise_parameters(batch.parameters)
        ).flatten(3)
        truth = model.waves.analyse(wanted).flatten(3)
        beyond = wanted.flatten(3).square().mean(-1) - truth.square().sum(-1)
        unreachable = beyond.clamp(min=0).sqrt().unsqueeze(-1)
        difference = torch.cat([predicted - truth, unreachable], -1) * surrogate.output_unit[:, None]
        size = batch.future.flatten(3).square().mean(-1)
        return torch.stack(
            [
                ratio_to(
                    torch.linalg.vector_norm(difference[:, :, part].flatten(2), dim=-1),
                    size[:, :, part].sum(-1).sqrt(),
                )
                for part in field_slices(surrogate.spec)
            ],
            dim=-1,
        )
