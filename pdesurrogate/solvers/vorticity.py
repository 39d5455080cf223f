"""Vorticity on a periodic box in Fourier space: its velocity and its advection, free of aliasing."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float, Float64
from torch import Tensor

from pdesurrogate.fields import fourier


class SpectralVorticity:
    """The modes ``|k| <= (N - 1) // 3`` of a vorticity field and what can be computed from them.

    Products are formed at N points an axis. With the modes cut at a third of them (the 2/3 rule; Orszag 1971),
    quadratic products alias only into modes that are dropped. The state consists of the kept modes alone,
    in the layout of `fourier.pruned_forward`: ``(batch, k_y, k_x)``, half spectrum on x, no Nyquist mode.

    Velocity: ``Δψ = -ω``, ``u = ∂ψ/∂y``, ``v = -∂ψ/∂x``; its mean is zero.

    Args:
        grid: points ``(N_y, N_x)``, at least 4 each.
        lengths: sides ``(L_y, L_x)``.
        dtype: real dtype of the fields.
        device: where they live.

    Raises:
        ValueError: if the grid is too small to hold a mode.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        lengths: tuple[float, float],
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        if min(grid) < 4:
            raise ValueError(f"the grid {grid} holds no de-aliased mode; use at least 4 points on each axis.")
        self.grid = grid
        self.bounds = tuple((n - 1) // 3 for n in grid)
        self._num_modes = tuple(2 * k + 1 for k in self.bounds)
        ky = fourier.wavenumbers(self._num_modes[0], lengths[0])[:, None].to(device)
        kx = fourier.wavenumbers(self._num_modes[1], lengths[1], half=True)[None, :].to(device)
        self.largest_wavenumbers = tuple(
            2 * math.pi * bound / length for bound, length in zip(self.bounds, lengths, strict=True)
        )
        self.laplacian: Float64[Tensor, "ky kx"] = -(ky.square() + kx.square())
        inverse = torch.where(self.laplacian == 0, 0.0, 1 / self.laplacian)
        complex_dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
        # psi = -inverse * w; (u, v) = (i ky psi, -i kx psi)
        self._to_velocity = torch.stack([-1j * ky * inverse, 1j * kx * inverse]).to(complex_dtype)
        # advection = d_x d_y (v^2 - u^2) + (d_xx - d_yy)(u v)
        self._to_flux = torch.stack([-ky * kx, ky.square() - kx.square()]).to(dtype)

    def to_modes(self, w: Float[Tensor, "batch y x"]) -> Complex[Tensor, "batch ky kx"]:
        """Field on the grid to its kept modes."""
        return fourier.pruned_forward(w, self._num_modes)

    def to_grid(self, w_hat: Complex[Tensor, "batch ky kx"]) -> Float[Tensor, "batch y x"]:
        """Kept modes to the field on the grid."""
        return fourier.pruned_inverse(w_hat, self.grid)

    def velocity(self, w_hat: Complex[Tensor, "batch ky kx"]) -> Float[Tensor, "batch 2 y x"]:
        """Return ``(u, v)`` on the grid."""
        return fourier.pruned_inverse(self._to_velocity * w_hat[:, None], self.grid)

    def advection(self, w_hat: Complex[Tensor, "batch ky kx"]) -> Complex[Tensor, "batch ky kx"]:
        """Return the modes of ``u·∇ω = ∂x∂y(v² - u²) + (∂xx - ∂yy)(uv)``: four transforms, not five.

        The identity follows from the curl of ``∇·(u u)`` and holds because the velocity has no divergence
        (Basdevant 1983, J. Comput. Phys. 50, 209).
        """
        u, v = self.velocity(w_hat).unbind(1)
        products = torch.stack([v * v - u * u, u * v], dim=1)
        flux = self._to_flux * fourier.pruned_forward(products, self._num_modes)
        return flux[:, 0] + flux[:, 1]
