"""Linear maps of the channels on every kept mode: one matrix a mode, whole or as a product of smaller ones.

    v̂(k) = û(k) A W(k) B

with ``A`` and ``B`` the same for all modes and possibly absent. ``W(k)`` is a matrix, or a factor a channel where
channels are not mixed. Weights are real tensors with a trailing pair (real, imaginary).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .mode_products import Modes, mode_matmul, mode_multiply
from .real_pairs import pair_contract, pair_multiply

NUMBER_COST = 16
"""Products of complex numbers in the time that an intermediate one is written, read and differentiated: measured on a
Zen 4 core, where it separates the faster way for CP at both sides of the balance."""


@dataclass(frozen=True)
class ChannelMixing:
    """``û(k) A W(k) B``, in either form of a spectrum.

    Attributes:
        weight: ``W``, matrices ``(mode, rank_in, rank_out, plane)`` or factors ``(mode, rank, plane)``.
        inward: ``A``, ``(in, rank_in, plane)``; without it the ranks are the channels.
        outward: ``B``, ``(rank_out, out, plane)``.
    """

    weight: Float[Tensor, "mode rank_in rank_out plane"] | Float[Tensor, "mode rank plane"]
    inward: Float[Tensor, "in_channel _rank plane"] | None = None
    outward: Float[Tensor, "_rank out_channel plane"] | None = None

    def __call__(self, modes: Modes) -> Modes:
        """Return the mixed modes."""
        if self.inward is not None:
            modes = mode_matmul(modes, self.inward)
        modes = (mode_matmul if self.weight.ndim == 4 else mode_multiply)(modes, self.weight)
        return modes if self.outward is None else mode_matmul(modes, self.outward)

    on_planes = __call__

    @property
    def is_dense(self) -> bool:
        """Whether it is one matrix a mode and nothing else."""
        return self.weight.ndim == 4 and self.inward is None and self.outward is None

    @property
    def tensors(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """``W``, ``A`` and ``B``."""
        return self.weight, self.inward, self.outward

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of modes, of input and of output channels."""
        size_in = self.weight.shape[1] if self.inward is None else self.inward.shape[0]
        size_out = self.weight.shape[-2] if self.outward is None else self.outward.shape[1]
        return self.weight.shape[0], size_in, size_out

    def dense(self) -> ChannelMixing:
        """Return the same map as one matrix a mode."""
        if self.is_dense:
            return self
        weight, inward, outward = self.tensors
        if weight.ndim == 4:
            if outward is not None:
                weight = pair_contract(outward.transpose(0, 1), weight, 2)
            return ChannelMixing(weight if inward is None else pair_contract(inward, weight, 1))
        if inward is None or outward is None:
            num_channels = weight.shape[1]
            identity = torch.eye(num_channels, dtype=weight.dtype, device=weight.device).unsqueeze(-1)
            diagonal = ChannelMixing(weight.unsqueeze(2) * identity, inward, outward)
            return diagonal.dense()
        # Rank-one matrices, one a channel of the middle: Σ_r W_r(k) A_ir B_ro.
        ones = pair_multiply(inward.unsqueeze(1), outward.transpose(0, 1).unsqueeze(0))
        return ChannelMixing(pair_contract(ones.flatten(0, 1), weight, 1).unflatten(1, ones.shape[:2]))

    def cost(self, batch: int) -> int:
        """Return the predicted cost of mapping a spectrum of ``batch`` samples.

        It is counted in products of complex numbers; an intermediate number weighs `NUMBER_COST` of them.
        """
        modes, size_in, size_out = self.shape
        rank_in, rank_out = self.weight.shape[1], self.weight.shape[-2]
        products = rank_in * rank_out if self.weight.ndim == 4 else rank_in
        numbers = 0
        if self.inward is not None:
            products, numbers = products + size_in * rank_in, numbers + rank_in
        if self.outward is not None:
            products, numbers = products + rank_out * size_out, numbers + rank_out
        return batch * modes * (products + NUMBER_COST * numbers)

    def cost_of_dense(self, batch: int) -> int:
        """Return the predicted cost of multiplying it out and mapping a spectrum by the result."""
        modes, size_in, size_out = self.shape
        rank_in, rank_out = self.weight.shape[1], self.weight.shape[-2]
        matrix = size_in * size_out
        products, numbers = 0, modes * matrix
        if self.weight.ndim == 3 and self.inward is not None and self.outward is not None:
            products, numbers = (modes + 1) * rank_in * matrix, numbers + rank_in * matrix
        elif self.weight.ndim == 4:
            if self.outward is not None:
                products = modes * rank_in * rank_out * size_out
                numbers += modes * rank_in * size_out
            if self.inward is not None:
                products += modes * size_in * rank_in * size_out
        return batch * modes * matrix + products + NUMBER_COST * numbers
