"""Linear maps of the channels on every kept mode: one matrix a mode, whole or as a product of smaller ones.

    v̂(k) = û(k) A W(k) B

with ``A`` and ``B`` the same for all modes and possibly absent. ``W(k)`` is a matrix, or a factor a channel where
channels are not mixed. Weights are real tensors with a trailing pair (real, imaginary).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from .mode_products import Modes, as_numbers, mode_matmul, mode_multiply
from .real_pairs import pair_contract, pair_multiply

Spectrum = Complex[Tensor, "mode batch _channel"]

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

    def steps(self, modes: Spectrum) -> list[Spectrum]:
        """Return the modes after each of the factors, the last of them mixed; for passes that record no gradients."""
        steps = []
        for factor in self._factors(modes):
            modes = factor.of(modes)
            steps.append(modes)
        return steps

    def backward(
        self, modes: Spectrum, between: list[Tensor], gradient: Spectrum
    ) -> tuple[Spectrum, list[Tensor | None]]:
        """Return the gradients of the modes and of `tensors` from that of the mixed modes, which is used up.

        Args:
            modes: what was mixed.
            between: what `steps` made of them before the last factor.
            gradient: of the mixed modes.
        """
        found: dict[str, Tensor] = {}
        for factor, before in zip(self._factors(modes)[::-1], [modes, *between][::-1], strict=True):
            gradient, found[factor.name] = factor.backward(before, gradient)
        return gradient, [found.get(name) for name in ("weight", "inward", "outward")]

    def _factors(self, modes: Spectrum) -> list[_Factor]:
        """Return ``A``, ``W`` and ``B`` as numbers, those that are there."""
        given = {"inward": self.inward, "weight": self.weight, "outward": self.outward}
        return [
            _Factor(name, as_numbers(modes, t), name == "weight" and t.ndim == 3)
            for name, t in given.items()
            if t is not None
        ]

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


class _Factor(NamedTuple):
    """One factor: a matrix for all modes, one a mode, or a number a mode and channel.

    The product with a matrix for all modes is one of real numbers, pairs side by side: ``[z] [M; i M]``.
    """

    name: str
    numbers: Tensor
    keeps_channels_apart: bool

    def of(self, modes: Spectrum) -> Spectrum:
        """Return the modes times the factor."""
        if self.keeps_channels_apart:
            return modes * self.numbers.unsqueeze(1)
        if self.numbers.ndim == 3:
            return torch.bmm(modes, self.numbers)
        return _complex(torch.mm(_rows(modes), self._real()), modes.shape[:2])

    def backward(self, before: Spectrum, gradient: Spectrum) -> tuple[Spectrum, Tensor]:
        """Return the gradients of what it acted on and, as pairs, of its numbers; ``gradient`` is used up.

        With ``s' = s F`` they are ``∂/∂s = ∂/∂s' Fᴴ`` and ``∂/∂F = sᴴ ∂/∂s'``.
        """
        numbers = self.numbers
        if self.keeps_channels_apart:
            grad = torch.linalg.vecdot(before, gradient, dim=1)
            return gradient.mul_(numbers.conj().unsqueeze(1)), torch.view_as_real(grad)
        if numbers.ndim == 3:
            # The small spectra are conjugated, never the matrices.
            grad = torch.bmm(before.conj_physical().transpose(1, 2), gradient)
            gradient = torch.bmm(gradient.conj_physical_(), numbers.transpose(1, 2)).conj_physical_()
            return gradient, torch.view_as_real(grad)
        rows = _rows(gradient)
        both = torch.mm(_rows(before).t(), rows).view(numbers.shape[0], 2, numbers.shape[1], 2)
        grad = torch.stack([both[:, 0, :, 0] + both[:, 1, :, 1], both[:, 0, :, 1] - both[:, 1, :, 0]], -1)
        return _complex(torch.mm(rows, self._real().t()), gradient.shape[:2]), grad

    def _real(self) -> Tensor:
        matrix = torch.stack([self.numbers, 1j * self.numbers], 1).flatten(0, 1)
        return torch.view_as_real(matrix).flatten(1)


def _rows(modes: Spectrum) -> Tensor:
    return torch.view_as_real(modes).flatten(0, 1).flatten(1)


def _complex(rows: Tensor, shape: torch.Size) -> Spectrum:
    return torch.view_as_complex(rows.view(*shape, -1, 2))
