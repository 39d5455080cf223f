"""Other codes that step the vorticity equation, as functions from a state to the state some steps later.

Each takes and returns vorticity ``(batch, y, x)`` on the unit torus, so that it can be compared with ours before
anything is timed. exponax and jax-cfd are optional: ``pip install --target FOLDER exponax jax-cfd``.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Advance = Callable[[Any], Any]


@dataclass(frozen=True)
class Peer:
    """Another code with its state in its own form.

    Attributes:
        name: of the code and its scheme.
        start: its state.
        advance: its state some steps later.
        read: its state as vorticity ``(batch, y, x)``.
        finish: waits until a state is computed.
    """

    name: str
    start: Any
    advance: Advance
    read: Callable[[Any], Tensor]
    finish: Callable[[Any], object] = lambda state: state


def li_scheme(vorticity: Tensor, viscosity: float, dt: float, steps: int) -> Peer:
    """Li et al. (2021), appendix A.3.3: Crank-Nicolson with explicit Euler, five transforms a step, in plain torch.

    ``ω̂' = [(1 - νΔt k²/2) ω̂ + Δt (f̂ - (u·∇ω)^)] / (1 + νΔt k²/2)``, the product cut to a third of the points.
    """
    size, dtype = vorticity.shape[-1], vorticity.dtype
    ky = 2 * math.pi * size * torch.fft.fftfreq(size, dtype=torch.float64)[:, None]
    kx = 2 * math.pi * size * torch.fft.rfftfreq(size, dtype=torch.float64)[None]
    square = (ky.square() + kx.square()).to(dtype)
    inverse = torch.where(square > 0, 1 / square, 0.0)
    keep = ((ky.abs() <= 2 * math.pi * size / 3) & (kx <= 2 * math.pi * size / 3)).to(dtype)
    complex_dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
    iky, ikx = (1j * ky).to(complex_dtype), (1j * kx).to(complex_dtype)
    to_u, to_v = iky * inverse, -ikx * inverse
    y, x = torch.arange(size, dtype=dtype)[:, None] / size, torch.arange(size, dtype=dtype)[None] / size
    phase = 2 * math.pi * (x + y)
    source = dt * torch.fft.rfft2(0.1 * (phase.sin() + phase.cos()))
    before, after = 1 - dt * viscosity * square / 2, 1 / (1 + dt * viscosity * square / 2)
    cut = dt * keep

    def advance(w_hat: Tensor) -> Tensor:
        for _ in range(steps):
            u, v = torch.fft.irfft2(to_u * w_hat), torch.fft.irfft2(to_v * w_hat)
            w_x, w_y = torch.fft.irfft2(ikx * w_hat), torch.fft.irfft2(iky * w_hat)
            w_hat = (before * w_hat - cut * torch.fft.rfft2(u * w_x + v * w_y) + source) * after
        return w_hat

    return Peer("Li et al., CN + Euler", torch.fft.rfft2(vorticity), advance, torch.fft.irfft2)


def find_jax(folder: str, threads: int) -> Any:
    """Return jax, on the CPU with that many threads, or None if it is not installed.

    Args:
        folder: of ``pip install --target``, searched after the environment's own packages; may be empty.
        threads: 1, or more for all that XLA takes.
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    if folder:
        sys.path.append(folder)
    try:
        return importlib.import_module("jax")
    except ImportError:
        return None


def jax_peers(jax: Any, vorticity: Tensor, viscosity: float, dt: float, steps: int) -> list[Peer]:
    """Return those of exponax (ETDRK4) and jax-cfd (Crank-Nicolson with RK4) that are installed; both unforced."""
    builders = {"exponax": _exponax_step, "jax_cfd": _jax_cfd_step}
    peers = []
    for package, build in builders.items():
        try:
            importlib.import_module(package)
        except ImportError:
            continue
        name, start, step, read = build(jax, vorticity, viscosity, dt)
        many = jax.jit(lambda state, step=step: jax.lax.fori_loop(0, steps, lambda _, s: step(s), state))
        peers.append(Peer(name, start, many, read, jax.block_until_ready))
    return peers


def _exponax_step(jax: Any, vorticity: Tensor, viscosity: float, dt: float) -> tuple[str, Any, Advance, Any]:
    exponax = importlib.import_module("exponax")
    stepper = exponax.stepper.NavierStokesVorticity(
        2, 1.0, vorticity.shape[-1], dt, diffusivity=viscosity, order=4
    )
    # Its axes are (x, y) and its vorticity has the other sign: the same numbers as ours.
    start = jax.numpy.asarray(vorticity[:, None].numpy())
    return f"exponax {exponax.__version__}, ETDRK4", start, jax.vmap(stepper), _from_jax(lambda w: w[:, 0])


def _jax_cfd_step(jax: Any, vorticity: Tensor, viscosity: float, dt: float) -> tuple[str, Any, Advance, Any]:
    grids = importlib.import_module("jax_cfd.base.grids")
    spectral = importlib.import_module("jax_cfd.spectral")
    size = vorticity.shape[-1]
    grid = grids.Grid((size, size), domain=((0.0, 1.0), (0.0, 1.0)))
    equation = spectral.equations.NavierStokes2D(viscosity, grid, smooth=True)
    step = spectral.time_stepping.crank_nicolson_rk4(equation, dt)
    # Its axes are (x, y).
    start = jax.numpy.fft.rfftn(jax.numpy.asarray(vorticity.transpose(1, 2).numpy()), axes=(1, 2))
    read = _from_jax(lambda w_hat: jax.numpy.fft.irfftn(w_hat, axes=(1, 2)).swapaxes(1, 2))
    return "jax-cfd, CN + RK4", start, jax.vmap(step), read


def _from_jax(read: Callable[[Any], Any]) -> Callable[[Any], Tensor]:
    numpy = importlib.import_module("numpy")
    return lambda state: torch.from_numpy(numpy.array(read(state)))
