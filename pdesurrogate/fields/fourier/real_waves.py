"""Real orthonormal waves on a box: cosines and sines on periodic axes, cosines between walls, products over the axes.

    u(x) = Σ_n c_n φ_n1(x_1) φ_n2(x_2) ..,        mean(φ_m φ_n) = δ_mn,

    fourier   φ_0 = 1,  φ_{2k-1} = √2 cos 2πk s,  φ_{2k} = √2 sin 2πk s     s the position over the length, in [0, 1)
    cosine    φ_0 = 1,  φ_n = √2 cos πn s                                   s at cell centres, (j + 1/2) / N

All amplitudes are real: on a periodic axis they are the real and imaginary parts of the Fourier modes up to a factor,
on any other axis those of the DCT-II. They do not depend on the grid, and neither does Parseval's sum ``mean(u²) = Σ_n
c_n²``, which holds on the grid as well as in the box as long as every wave lies below the Nyquist wave. Keeping a few
of them is the orthogonal projection on their span. Transforms are products with tables, one axis after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .dft_plan import table_product
from .kept_tables import kept

WaveKind = Literal["fourier", "cosine"]


@dataclass(frozen=True)
class RealWaves:
    """A set of waves: some numbers on every axis, and all their products.

    Attributes:
        kinds: ``"fourier"`` or ``"cosine"`` for each axis, in space order.
        numbers: the kept waves of each axis.
        offsets: position of an axis's first point in units of the spacing, for ``"fourier"`` axes.
    """

    kinds: tuple[WaveKind, ...]
    numbers: tuple[tuple[int, ...], ...]
    offsets: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of kept waves of each axis."""
        return tuple(len(numbers) for numbers in self.numbers)

    def require_resolved(self, grid: Sequence[int], axis_names: Sequence[str]) -> None:
        """Check that every wave is below the grid's Nyquist wave.

        Raises:
            ValueError: naming the axis, its size and how many waves it carries.
        """
        for kind, numbers, size, name in zip(self.kinds, self.numbers, grid, axis_names, strict=True):
            carried = num_waves(kind, size)
            if max(numbers) >= carried:
                raise ValueError(
                    f"the waves on axis {name!r} go up to number {max(numbers)}, which is at or above the Nyquist wave "
                    f"of its {size} points: they carry {carried} {kind} waves. Use num_modes of at most {carried} on "
                    "this axis, or a finer grid."
                )

    def analyse(self, u: Float[Tensor, "*lead_and_space"]) -> Float[Tensor, "*lead_and_waves"]:
        """Return the amplitudes of the kept waves; the axes of space are the last ones, after at least one other."""
        first = u.ndim - len(self.kinds)
        u = u if u.dtype == torch.float64 else u.float()
        for axis in reversed(range(len(self.kinds))):
            size = u.shape[first + axis]
            analysis, _ = self._tables(axis, size, u)
            u = _along(analysis, u, first + axis)
        return u

    def synthesise(
        self, amplitudes: Float[Tensor, "*lead_and_waves"], grid: Sequence[int]
    ) -> Float[Tensor, "*lead_and_space"]:
        """Return the field with the given amplitudes on a grid."""
        first = amplitudes.ndim - len(self.kinds)
        u = amplitudes if amplitudes.dtype == torch.float64 else amplitudes.float()
        for axis, size in enumerate(grid):
            _, synthesis = self._tables(axis, size, u)
            u = _along(synthesis, u, first + axis)
        return u

    def _tables(self, axis: int, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
        settings = (self.kinds[axis], self.numbers[axis], size, self.offsets[axis])
        if torch.compiler.is_compiling():  # the size may be a tracer's symbol
            return _cast_tables(*settings, like.dtype, like.device)
        return kept(_cached_tables(*settings, like.dtype, str(like.device)))


def num_waves(kind: WaveKind, size: int) -> int:
    """Return how many of the lowest waves are orthonormal on ``size`` points: all of them but a Nyquist wave."""
    return size - (kind == "fourier" and size % 2 == 0)


def wave_table(
    kind: WaveKind, numbers: Sequence[int], size: int, offset: float = 0.0
) -> Float[Tensor, "waves points"]:
    """Return the values of waves at the points of an axis, float64."""
    n = torch.tensor(numbers, dtype=torch.float64)[:, None]
    j = torch.arange(size).to(torch.float64)
    if kind == "cosine":
        product = n * (2 * j + 1)  # n(2j + 1) mod 4N, exact in float64
        waves = ((product - 4 * size * torch.floor(product / (4 * size))) * (math.pi / (2 * size))).cos()
    else:
        k = torch.floor((n + 1) / 2)
        turns = k * j - size * torch.floor(k * j / size)
        angle = (turns + k * offset) * (2 * math.pi / size)
        waves = torch.where(n % 2 == 1, angle.cos(), angle.sin())
    return torch.where(n == 0, 1.0, math.sqrt(2) * waves)


def _along(table: Tensor, u: Tensor, dim: int) -> Tensor:
    """Multiply one axis by a table; some axis leads."""
    with torch.autocast(u.device.type, enabled=False):
        if dim == u.ndim - 1:
            return F.linear(u, table)
        lead, rest = u.shape[:dim], u.shape[dim + 1 :]
        product = table_product(table, u.reshape(-1, u.shape[dim], math.prod(rest)))
        return product.reshape(*lead, table.shape[0], *rest)


def _cast_tables(
    kind: WaveKind,
    numbers: tuple[int, ...],
    size: int,
    offset: float,
    dtype: torch.dtype,
    device: torch.device | str,
) -> tuple[Tensor, Tensor]:
    waves = wave_table(kind, numbers, size, offset)
    analysis, synthesis = waves / size, waves.T
    return analysis.to(device, dtype).contiguous(), synthesis.to(device, dtype).contiguous()


@lru_cache(maxsize=128)
def _cached_tables(
    kind: WaveKind, numbers: tuple[int, ...], size: int, offset: float, dtype: torch.dtype, device: str
) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # gradients flow through them later
        return _cast_tables(kind, numbers, size, offset, dtype, device)
