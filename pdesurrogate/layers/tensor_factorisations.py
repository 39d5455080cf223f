"""Low-rank forms of a complex tensor: Tucker, CP and tensor train.

For a tensor of sizes ``n_1 .. n_N``:

    tucker   W = G ×_1 U_1 .. ×_N U_N                Π r_k + Σ n_k r_k numbers
    cp       W = Σ_r λ_r u_1r ⊗ .. ⊗ u_Nr            R + R Σ n_k numbers
    tt       W = A_1[n_1] A_2[n_2] .. A_N[n_N]       Σ r_{k-1} n_k r_k numbers, r_0 = r_N = 1

(Kolda and Bader, SIAM Review 51, 2009; Oseledets, SIAM J. Sci. Comput. 33, 2011.) An entry of ``W`` is a sum of
``num_terms`` products of one entry from each factor, which is all that the initial variance depends on. Numbers are
complex, factors real tensors with a trailing pair.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..registry import did_you_mean

Sizes = Sequence[int]
Ranks = Sequence[float]

SIZE_TOLERANCE = 0.03
"""Relative deviation from the wanted number of parameters that is accepted for the sake of even ranks."""


@dataclass(frozen=True)
class Factorisation:
    """One low-rank form.

    Attributes:
        shapes: of the factors, for the sizes of a tensor and its ranks.
        ranks_at: ranks at a scale from 0, the smallest, upwards; real numbers at least 1.
        num_terms: of the sum that is one entry, for given ranks.
        slices: axis of each factor that counts the entries of one axis of the tensor, None for the factor without.
    """

    shapes: Callable[[Sizes, Ranks], list[Ranks]]
    ranks_at: Callable[[Sizes, float], Ranks]
    num_terms: Callable[[Ranks], float]
    slices: Callable[[int], list[int | None]]

    def size(self, shape: Sizes, ranks: Ranks) -> float:
        """Return how many numbers the factors have; a whole number for whole ranks."""
        return sum(math.prod(factor) for factor in self.shapes(shape, ranks))

    def ranks(self, shape: Sizes, fraction: float) -> tuple[int, ...]:
        """Return ranks whose factors have about ``fraction`` of the tensor's numbers.

        Of those that have it to `SIZE_TOLERANCE`, the ones that grow most evenly with the sizes of the axes; where
        small whole numbers allow none, those that come nearest.

        Raises:
            ValueError: if the fraction is not above 0 and at most 1, or if even ranks of 1 have more.
        """
        if not 0 < fraction <= 1:
            raise ValueError(
                f"rank is {fraction}; it is the share of the dense weights' numbers that is kept, above 0 and at "
                "most 1."
            )
        target = fraction * math.prod(shape)
        smallest = self.size(shape, self.ranks_at(shape, 0.0))
        if smallest > 1.1 * target:
            raise ValueError(
                f"rank is {fraction}, which leaves {target:.0f} of {math.prod(shape)} complex numbers; the factors "
                f"have {smallest:.0f} already with ranks of 1. Give at least rank={smallest / math.prod(shape):.2g}."
            )
        low, high = 0.0, 1.0
        while self.size(shape, self.ranks_at(shape, high)) < target:
            low, high = high, 2 * high
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (
                (middle, high) if self.size(shape, self.ranks_at(shape, middle)) < target else (low, middle)
            )
        exact, largest = self.ranks_at(shape, high), self.ranks_at(shape, math.inf)
        near = [
            [r for r in range(math.floor(rank) - 1, math.ceil(rank) + 2) if 1 <= r <= most]
            for rank, most in zip(exact, largest, strict=True)
        ]

        def misfit(ranks: tuple[int, ...]) -> tuple[float, float]:
            """What is off by little in size is judged by its proportions."""
            size = abs(self.size(shape, ranks) / target - 1)
            return max(size, SIZE_TOLERANCE), sum(
                math.log(r / e) ** 2 for r, e in zip(ranks, exact, strict=True)
            )

        return min(itertools.product(*near), key=misfit)

    def draw(self, shape: Sizes, ranks: Sequence[int], std: float) -> list[Tensor]:
        """Return random factors of a tensor whose entries have standard deviation ``std``.

        All entries of all factors have the same variance, so that one learning rate serves them. Every slice of a
        factor is scaled to that variance exactly: with small ranks luck would otherwise decide how large the tensor, or
        one of its layers, begins.
        """
        shapes = self.shapes(shape, ranks)
        entry = (std / math.sqrt(self.num_terms(ranks))) ** (1 / len(shapes))
        factors = []
        for size, axis in zip(shapes, self.slices(len(shape)), strict=True):
            factor = torch.randn([*map(int, size), 2])
            others = [dim for dim in range(factor.ndim) if dim != axis]
            factors.append(entry * factor / factor.square().mean(others, keepdim=True).mul(2).sqrt())
        return factors


def _tucker_ranks(shape: Sizes, scale: float) -> Ranks:
    return [min(max(scale * n, 1.0), n) for n in shape]


def _train_ranks(shape: Sizes, scale: float) -> Ranks:
    """Ranks between neighbours, in proportion to their mean size, at most what a full tensor needs."""
    ranks: list[float] = []
    for k in range(1, len(shape)):
        full = min(math.prod(shape[:k]), math.prod(shape[k:]))
        ranks.append(min(max(scale * (shape[k - 1] + shape[k]) / 2, 1.0), full))
    return ranks


def _train_shapes(shape: Sizes, ranks: Ranks) -> list[Ranks]:
    ends = (1, *ranks, 1)
    return [(ends[k], n, ends[k + 1]) for k, n in enumerate(shape)]


FACTORISATIONS: dict[str, Factorisation] = {
    "tucker": Factorisation(
        shapes=lambda shape, ranks: [ranks, *zip(shape, ranks, strict=True)],
        ranks_at=_tucker_ranks,
        num_terms=math.prod,
        slices=lambda order: [None, *[0] * order],
    ),
    "cp": Factorisation(
        shapes=lambda shape, ranks: [ranks, *((n, ranks[0]) for n in shape)],
        ranks_at=lambda shape, scale: [max(scale, 1.0)],
        num_terms=math.prod,
        slices=lambda order: [None, *[0] * order],
    ),
    "tt": Factorisation(
        shapes=_train_shapes,
        ranks_at=_train_ranks,
        num_terms=math.prod,
        slices=lambda order: [1] * order,
    ),
}


def check_factorisation(name: str) -> None:
    """Refuse a low-rank form that does not exist.

    Raises:
        ValueError: with the nearest name and all names.
    """
    if name not in FACTORISATIONS:
        raise ValueError(
            f"factorisation is {name!r}.{did_you_mean(str(name), FACTORISATIONS)} "
            f"Allowed: {', '.join(FACTORISATIONS)}."
        )
