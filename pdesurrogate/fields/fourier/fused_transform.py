"""Truncated transforms on NVIDIA GPUs by Triton kernels that do two axes at once.

`DFTTransform` takes one product per axis, and writes and reads the half-transformed field and the planes of the
spectrum between them. Here a field is read or written once, and the complex spectrum is written or read as it is
mixed. The mixing itself stays one batched complex product of cuBLAS: it is a few per cent of the bytes. Adjoints
are the same kernels with the transposed tables.

In three dimensions the kernels do the half axis and the first one; the rest is a product on kept modes, a quarter
of a field or less. TurboFNO (Wu et al. 2025, arXiv:2504.11681) also fuses transform, mixing and inverse; it is for
complex input, 64 modes and the forward pass, and transforms the first axis by a kernel of its own.

Products have float32 accumulators. With float32 fields they take three TF32 products each (``tf32x3``, as exact
as float32 to 3e-7), or one where torch's own matrix products may.
"""

from __future__ import annotations

import importlib.util
import math
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from .dft_plan import modes_together, table_product
from .transforms import DFTTransform, complex_modes, real_planes

MIN_CAPABILITY = (8, 0)
MAX_ENTRIES = 2**31
"""Entries of one sample, and of one spectrum, that the kernels can count."""

SECTOR_BYTES = 32
"""Bytes that a GPU moves at least; a program takes as many channels as fill them."""

TILES: dict[str, dict[str, int]] = {
    "analysis": {"BLOCK_MODES_X": 16, "BLOCK_MODES_Y": 32, "BLOCK_X": 32, "BLOCK_Y": 16},
    "synthesis": {"BLOCK_MODES_X": 16, "BLOCK_MODES_Y": 16, "BLOCK_X": 64, "BLOCK_Y": 16},
}
LAUNCH: dict[str, dict[str, Any]] = {
    "analysis": {"num_warps": 8, "num_stages": 2, "enable_fp_fusion": True},
    "synthesis": {"num_warps": 8, "num_stages": 1, "enable_fp_fusion": True},
}
"""Chosen so that compiled for compute capability 9.0 nothing spills and at most 70 KiB of shared memory are taken."""


def reason_without_fused(device: torch.device, dtype: torch.dtype, ndim: int) -> str | None:
    """Return why the kernels cannot run, as a clause, or None if they can."""
    if ndim not in (2, 3):
        return f"its kernels take two or three dimensions and this grid has {ndim}"
    if dtype not in (torch.float32, torch.bfloat16):
        return f"its kernels take float32 and bfloat16 fields, and these are {dtype}"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    if is_interpreted():
        return "Triton's interpreter has no products in bfloat16" if dtype == torch.bfloat16 else None
    if device.type != "cuda":
        return f"it needs an NVIDIA GPU and the field is on {device.type} (TRITON_INTERPRET=1 imitates one, slowly)"
    capability = torch.cuda.get_device_capability(device)
    if capability < MIN_CAPABILITY:
        return f"it needs a GPU of compute capability 8.0 and this one has {'.'.join(map(str, capability))}"
    return None


def is_interpreted() -> bool:
    """Whether Triton's interpreter stands in for a GPU; Triton reads this when it is first imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


class FusedTransform(DFTTransform):
    """Two axes in one kernel each way, in periodic boxes, see `fused_kernels`.

    It has been compiled for compute capability 9.0 and agrees with `DFTTransform` in Triton's interpreter. Its speed
    has not been measured on hardware, and it runs where it is asked for by name only.

    Raises:
        ValueError: if the kernels cannot run on this device, dtype or dimension; if one sample or one spectrum
            has 2³¹ entries or more; for a box with walls.
    """

    takes_walls = False

    def __init__(
        self,
        grid: tuple[int, ...],
        num_modes: tuple[int, ...],
        dtype: torch.dtype,
        device: str,
        boundaries: tuple[str, ...] | None = None,
    ) -> None:
        reason = reason_without_fused(torch.device(device), dtype, len(grid))
        if reason is not None:
            raise ValueError(f"There is no fused transform here: {reason}.")
        if boundaries is not None and "wall" in boundaries:
            raise ValueError(f"The fused transform knows no walls and the boundaries are {boundaries}.")
        super().__init__(grid, num_modes, dtype, device)
        from . import fused_kernels

        self._kernels = fused_kernels

    def analyse(
        self, u: Float[Tensor, "batch *layout channel"], out: Tensor | None = None
    ) -> Complex[Tensor, "mode batch channel"]:
        """Return the kept modes of a field, written to ``out`` where that is given."""
        return self._to_modes(u, self.plan.analysis, out)

    def synthesise(
        self, u_hat: Complex[Tensor, "mode batch channel"], accumulate: Tensor | None = None
    ) -> Float[Tensor, "batch *layout channel"]:
        """Return the field with the given modes, added in place to ``accumulate`` where that is given."""
        return self._to_field(u_hat, self.plan.synthesis, accumulate)

    def analyse_adjoint(
        self, u_hat: Complex[Tensor, "mode batch channel"], accumulate: Tensor | None = None
    ) -> Float[Tensor, "batch *layout channel"]:
        """Return the gradient of the field from that of its kept modes."""
        return self._to_field(u_hat, self.plan.analysis_t, accumulate)

    def synthesise_adjoint(
        self, u: Float[Tensor, "batch *layout channel"], out: Tensor | None = None
    ) -> Complex[Tensor, "mode batch channel"]:
        """Return the gradient of the kept modes from that of the field, written to ``out`` where that is given."""
        return self._to_modes(u, self.plan.synthesis_t, out)

    def _to_modes(self, u: Tensor, tables: list[Tensor], out: Tensor | None) -> Tensor:
        batch, channels = u.shape[0], u.shape[-1]
        if len(self.grid) == 2:
            if out is None:
                out = torch.empty(self.num_kept, batch, channels, dtype=torch.complex64, device=u.device)
            self._analyse_two_axes(u, tables, torch.view_as_real(out).permute(1, 0, 3, 2))
            return out
        kept, size = self.plan.layout_kept, self.plan.layout_grid[2]
        planes = u.new_empty(batch, kept[0] * kept[1], 2, size * channels)
        self._analyse_two_axes(u.flatten(3), tables, planes)
        last = table_product(tables[2], planes.view(-1, 2 * size, channels))
        return complex_modes(last.view(batch, self.num_kept, 2, channels), out)

    def _to_field(self, u_hat: Tensor, tables: list[Tensor], accumulate: Tensor | None) -> Tensor:
        _, batch, channels = u_hat.shape
        field = accumulate
        if field is None:
            field = torch.empty(
                batch, *self.plan.layout_grid, channels, dtype=self.plan.dtype, device=u_hat.device
            )
        if len(self.grid) == 2:
            planes = torch.view_as_real(u_hat.resolve_conj()).permute(1, 0, 3, 2)
        else:
            kept, size = self.plan.layout_kept, self.plan.layout_grid[2]
            modes = real_planes(u_hat, self.plan.dtype)
            lead = batch * kept[0] * kept[1]
            last = table_product(tables[2], modes_together(modes, lead, kept[2], channels))
            planes = last.view(batch, kept[0] * kept[1], 2, size * channels)
        self._synthesise_two_axes(planes, tables, field, accumulate=accumulate is not None)
        return field

    def _analyse_two_axes(self, u: Tensor, tables: list[Tensor], planes: Tensor) -> None:
        """Write ``planes`` ``(batch, mode, 2, channel)``, of any strides, from a field ``(batch, x, y, channel)``."""
        tile = _tile("analysis", u.dtype)
        programs = u.shape[0] * math.prod(
            _ceil(size, tile[name])
            for size, name in (
                (self.plan.layout_kept[0], "BLOCK_MODES_X"),
                (self.plan.layout_kept[1], "BLOCK_MODES_Y"),
                (planes.shape[-1], "BLOCK_CHANNELS"),
            )
        )
        kernel = self._kernels.analysis_kernel[(programs,)]
        with _current_device(u):
            kernel(u.contiguous(), *tables[:2], planes, *self._sizes(u, planes), **tile, **LAUNCH["analysis"])

    def _synthesise_two_axes(
        self, planes: Tensor, tables: list[Tensor], field: Tensor, *, accumulate: bool
    ) -> None:
        """Write, or add to, a field ``(batch, x, y, channel)`` from planes as above."""
        tile = _tile("synthesis", field.dtype)
        programs = field.shape[0] * math.prod(
            _ceil(size, tile[name])
            for size, name in (
                (self.plan.layout_grid[0], "BLOCK_X"),
                (self.plan.layout_grid[1], "BLOCK_Y"),
                (planes.shape[-1], "BLOCK_CHANNELS"),
            )
        )
        kernel = self._kernels.synthesis_kernel[(programs,)]
        into = field.contiguous()
        with _current_device(field):
            kernel(
                planes,
                *tables[:2],
                into,
                *self._sizes(into, planes),
                ACCUMULATE=accumulate,
                **tile,
                **LAUNCH["synthesis"],
            )
        if into is not field:
            field.copy_(into)

    def _sizes(self, field: Tensor, planes: Tensor) -> tuple[int, ...]:
        entries = max(field[0].numel(), planes.numel())
        if entries >= MAX_ENTRIES:
            raise ValueError(
                f"the fused kernels count up to 2^31 entries and here a sample or a spectrum has {entries}. Take a "
                "smaller batch, or backend=dft."
            )
        return (
            *self.plan.layout_grid[:2],
            planes.shape[-1],
            *self.plan.layout_kept[:2],
            *planes.stride(),
        )


def _tile(way: str, dtype: torch.dtype) -> dict[str, Any]:
    # The flag is what the layers' precision policy has set around this call.
    precision = "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"
    return {**TILES[way], "BLOCK_CHANNELS": SECTOR_BYTES // dtype.itemsize, "PRECISION": precision}


def _current_device(field: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device, whichever that of its arguments is."""
    return torch.cuda.device(field.device) if field.is_cuda else nullcontext()


def _ceil(size: int, block: int) -> int:
    return -(-size // block)
