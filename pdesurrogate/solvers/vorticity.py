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
    quadratic products alias only into modes that are dropped. States have the layout of `fourier.pruned_forward`:
    ``(batch, k_y, k_x)``, half spectrum on x with the kept modes alone, and on y all N rows, the rows of dropped
    modes being zero: no transform has to move rows then.

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
        self.grid, self.lengths = grid, lengths
        self.bounds = tuple((n - 1) // 3 for n in grid)
        self._num_modes = (grid[0], 2 * self.bounds[1] + 1)
        ky = fourier.wavenumbers(grid[0], lengths[0])[:, None].to(device)
        kx = fourier.wavenumbers(self._num_modes[1], lengths[1], half=True)[None, :].to(device)
        self.largest_wavenumbers = tuple(
            2 * math.pi * bound / length for bound, length in zip(self.bounds, lengths, strict=True)
        )
        self.laplacian: Float64[Tensor, "ky kx"] = -(ky.square() + kx.square())
        self._is_kept = (ky.abs() <= self.largest_wavenumbers[0] * (1 + 1e-9)).expand_as(self.laplacian)
        inverse = torch.where((self.laplacian == 0) | ~self._is_kept, 0.0, 1 / self.laplacian)
        # Multipliers are complex also where they are real: the products need no conversion then.
        complex_dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
        # psi = -inverse * w; (u, v) = (i ky psi, -i kx psi)
        self._to_velocity = torch.stack([-1j * ky * inverse, 1j * kx * inverse]).to(complex_dtype)
        # advection = d_x d_y (v^2 - u^2) + (d_xx - d_yy)(u v)
        to_flux = torch.stack([-ky * kx, ky.square() - kx.square()]) * self._is_kept
        self._to_shear, self._to_stretch = to_flux.to(complex_dtype)
        self._weights = torch.where(kx > 0, 2.0, 1.0) * self._is_kept  # modes with k_x > 0 stand for two
        reach = torch.maximum(ky.abs() / self.largest_wavenumbers[0], kx / self.largest_wavenumbers[1])
        self._is_outer = reach > 0.8

    def to_modes(self, w: Float[Tensor, "batch y x"]) -> Complex[Tensor, "batch ky kx"]:
        """Field on the grid to its kept modes."""
        return fourier.pruned_forward(w, self._num_modes) * self._is_kept

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
        difference, product = self._flux_modes(w_hat)
        return torch.addcmul(self._to_shear * difference, self._to_stretch, product)

    def tendency(
        self, w_hat: Complex[Tensor, "batch ky kx"], source: Complex[Tensor, "one ky kx"]
    ) -> Complex[Tensor, "batch ky kx"]:
        """Return the modes of ``source - u·∇ω``."""
        difference, product = self._flux_modes(w_hat)
        partial = torch.addcmul(source, self._to_shear, difference, value=-1)
        return torch.addcmul(partial, self._to_stretch, product, value=-1)

    def frequency(self, w_hat: Complex[Tensor, "batch ky kx"]) -> Float[Tensor, " batch"]:
        """Return the largest frequency of advection, ``max(|u| max k_x + |v| max k_y)``, in 1/time.

        A time step times this is the Courant number that integrators limit.
        """
        speed_x, speed_y = self.velocity(w_hat.detach()).abs().unbind(1)
        largest_ky, largest_kx = self.largest_wavenumbers
        return (speed_x * largest_kx + speed_y * largest_ky).flatten(1).amax(1)

    def palinstrophy(self, w_hat: Complex[Tensor, "batch ky kx"]) -> Float64[Tensor, " batch"]:
        """Return the mean of ``|∇ω|²``; enstrophy ``<ω²>/2`` is lost to viscosity at the rate ``ν <|∇ω|²>``."""
        return (self._power(w_hat) * -self.laplacian).flatten(1).sum(1)

    def tail(self, w_hat: Complex[Tensor, "batch ky kx"]) -> Float64[Tensor, " batch"]:
        """Return the share of the enstrophy in the modes within a fifth of the cut on either axis."""
        power = self._power(w_hat)
        everything = power.flatten(1).sum(1)
        return (power * self._is_outer).flatten(1).sum(1) / everything.clamp_min(1e-300)

    def _power(self, w_hat: Complex[Tensor, "batch ky kx"]) -> Float64[Tensor, "batch ky kx"]:
        """Return what each kept mode, with its conjugate, adds to the mean of ``ω²`` (Parseval)."""
        return torch.view_as_real(w_hat.detach()).double().square().sum(-1) * self._weights

    def _flux_modes(self, w_hat: Complex[Tensor, "batch ky kx"]) -> tuple[Tensor, Tensor]:
        """Return the modes of ``v² - u²`` and ``uv``."""
        velocity = self.velocity(w_hat)
        u, v = velocity.unbind(1)
        if velocity.requires_grad:
            products = torch.stack([torch.addcmul(v * v, u, u, value=-1), u * v], dim=1)
        else:  # the same without copies
            products = torch.empty_like(velocity)
            torch.mul(u, v, out=products[:, 1])
            torch.mul(v, v, out=products[:, 0]).addcmul_(u, u, value=-1)
        difference, product = fourier.pruned_forward(products, self._num_modes).unbind(1)
        return difference, product
