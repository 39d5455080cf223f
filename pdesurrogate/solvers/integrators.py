"""Time integrators for spectra: ``dû/dt = L û + N(û)`` with a diagonal, real linear part ``L``.

Each is built for one ``L`` and one step ``dt``, or one step a trajectory; its coefficients are computed in float64
and then cast, to complex numbers for complex spectra because products with real ones would be converted each time.
``order`` is the order of convergence, ``courant_limit`` the largest ``dt max|u·k|`` that is stable for advection.
A method with ``is_multistep`` keeps tendencies from step to step: it is good for one solution and for steps of one
length. An optional ``diffusion_margin`` is the largest ratio of a wave's frequency in ``N`` to its decay rate in
``L`` at which steps of any length are stable.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float64, Inexact
from torch import Tensor

from . import INTEGRATORS

Tendency = Callable[[Tensor], Tensor]
Step = float | Float64[Tensor, "batch *ones"]


@runtime_checkable
class Integrator(Protocol):
    """One step of an integrator."""

    order: ClassVar[int]
    courant_limit: ClassVar[float]
    is_multistep: ClassVar[bool]

    def step(
        self, u_hat: Inexact[Tensor, "batch *modes"], tendency: Tendency
    ) -> Inexact[Tensor, "batch *modes"]:
        """Return the state ``dt`` later; ``tendency`` is ``N``."""
        ...


def phi_functions(z: Float64[Tensor, "*shape"]) -> tuple[Float64[Tensor, "*shape"], ...]:
    """Return ``φ1, φ2, φ3`` of real arguments to rounding error.

    ``φ1(z) = (e^z - 1)/z``, ``φ_{n+1}(z) = (φ_n(z) - 1/n!)/z``. These quotients cancel near zero, where the Taylor
    series of ``φ3`` and the recurrence read upwards, ``φ_n = z φ_{n+1} + 1/n!``, take their place; no
    contour integral is needed for a real spectrum.
    """
    is_small = z.abs() < 1.0
    small = torch.where(is_small, z, 0.0)
    series3 = torch.zeros_like(z)
    for j in reversed(range(19)):
        series3 = series3 * small + 1.0 / math.factorial(j + 3)
    series2 = small * series3 + 0.5
    series1 = small * series2 + 1.0
    large = torch.where(is_small, 1.0, z)
    quotient1 = torch.expm1(large) / large
    quotient2 = (quotient1 - 1.0) / large
    quotient3 = (quotient2 - 0.5) / large
    return (
        torch.where(is_small, series1, quotient1),
        torch.where(is_small, series2, quotient2),
        torch.where(is_small, series3, quotient3),
    )


@INTEGRATORS.register("etdrk4")
class ETDRK4:
    """Fourth-order exponential time differencing: ``L`` and constant forcings are integrated exactly.

    With ``z = dt L``, ``Q = (dt/2) φ1(z/2)``::

        a = e^{z/2} û + Q N(û)        b = e^{z/2} û + Q N(a)        c = e^{z/2} a + Q (2 N(b) - N(û))
        û' = e^z û + dt [ (φ1 - 3φ2 + 4φ3) N(û) + (2φ2 - 4φ3) (N(a) + N(b)) + (4φ3 - φ2) N(c) ]

    Source: Cox and Matthews (2002), "Exponential time differencing for stiff systems", J. Comput. Phys. 176, eqs.
    26-29. Its limit on the imaginary axis is that of classical RK4, ``2√2``.

    Args:
        linear: the diagonal ``L``, broadcastable to the state.
        dt: time step.
        dtype: real dtype of the state.
        is_real: whether the state is real, as cosine amplitudes are.
    """

    order: ClassVar[int] = 4
    courant_limit: ClassVar[float] = 2 * math.sqrt(2)
    diffusion_margin: ClassVar[float] = 0.5
    is_multistep: ClassVar[bool] = False

    def __init__(
        self, linear: Float64[Tensor, "*modes"], dt: Step, dtype: torch.dtype, is_real: bool = False
    ) -> None:
        dtype = dtype if is_real else dtype.to_complex()
        z = dt * linear
        phi1, phi2, phi3 = phi_functions(z)
        half1 = phi_functions(z / 2)[0]
        self._decay = z.exp().to(dtype)
        self._half_decay = (z / 2).exp().to(dtype)
        self._half_weight = (dt / 2 * half1).to(dtype)
        self._first = (dt * (phi1 - 3 * phi2 + 4 * phi3)).to(dtype)
        self._middle = (dt * (2 * phi2 - 4 * phi3)).to(dtype)
        self._last = (dt * (4 * phi3 - phi2)).to(dtype)

    def step(
        self, u_hat: Inexact[Tensor, "batch *modes"], tendency: Tendency
    ) -> Inexact[Tensor, "batch *modes"]:
        """Return the state ``dt`` later (four evaluations of the tendency)."""
        n_u = tendency(u_hat)
        half = self._half_decay * u_hat
        a = torch.addcmul(half, self._half_weight, n_u)
        n_a = tendency(a)
        n_b = tendency(torch.addcmul(half, self._half_weight, n_a))
        difference = torch.sub(n_b, n_u, alpha=0.5)
        n_c = tendency(torch.addcmul(self._half_decay * a, self._half_weight, difference, value=2))
        late = torch.addcmul(self._decay * u_hat, self._first, n_u)
        late = torch.addcmul(late, self._middle, n_a + n_b)
        return torch.addcmul(late, self._last, n_c)


@INTEGRATORS.register("cn_ab2")
class CrankNicolsonAdamsBashforth2:
    """Crank-Nicolson for ``L``, two-step Adams-Bashforth for the rest, second order.

    ``û' = [(1 + z/2) û + dt (3 N(û) - N(û_before)) / 2] / (1 - z/2)``. The first step takes the mean of ``N`` at both
    ends, the later one predicted by forward Euler (Heun's method), so that the start is of second order too. One
    evaluation a step, against four of `ETDRK4`. It amplifies an undamped wave of Courant number C by about ``1 +
    C⁴/4`` a step; the limit stands where that reaches 1.6 %.

    Source: Ascher, Ruuth and Wetton (1995), "Implicit-explicit methods for time-dependent partial differential
    equations", SIAM J. Numer. Anal. 32, 797, where it is called CNAB.

    Args:
        linear: the diagonal ``L``, broadcastable to the state.
        dt: time step.
        dtype: real dtype of the state.
        is_real: whether the state is real, as cosine amplitudes are.
    """

    order: ClassVar[int] = 2
    courant_limit: ClassVar[float] = 0.5
    is_multistep: ClassVar[bool] = True

    def __init__(
        self, linear: Float64[Tensor, "*modes"], dt: Step, dtype: torch.dtype, is_real: bool = False
    ) -> None:
        dtype = dtype if is_real else dtype.to_complex()
        z = dt * linear
        self._decay = ((1 + z / 2) / (1 - z / 2)).to(dtype)
        self._weight = (dt / (1 - z / 2)).to(dtype)
        self._before: Tensor | None = None

    def step(
        self, u_hat: Inexact[Tensor, "batch *modes"], tendency: Tendency
    ) -> Inexact[Tensor, "batch *modes"]:
        """Return the state ``dt`` later (one evaluation of the tendency, two in the first step)."""
        n_u = tendency(u_hat)
        decayed = self._decay * u_hat
        if self._before is None:
            mean = (n_u + tendency(torch.addcmul(decayed, self._weight, n_u))) / 2
        else:
            mean = torch.sub(1.5 * n_u, self._before, alpha=0.5)
        self._before = n_u
        return torch.addcmul(decayed, self._weight, mean)


@INTEGRATORS.register("cn_euler")
class CrankNicolsonEuler:
    """Crank-Nicolson for ``L``, forward Euler for the rest: ``û' = [(1 + z/2) û + dt N(û)] / (1 - z/2)``.

    First order. The scheme behind Li et al.'s published data sets (there with ``dt = 1e-4``), kept to reproduce
    them; `ETDRK4` is more accurate at a small part of the cost. Forward Euler amplifies an undamped wave of
    Courant number C by ``sqrt(1 + C²)`` a step, so that keeping well below the limit of 1 is advisable.

    Source: Li et al. (2021), "Fourier neural operator for parametric PDEs", ICLR, appendix A.3.3.

    Args:
        linear: the diagonal ``L``, broadcastable to the state.
        dt: time step.
        dtype: real dtype of the state.
        is_real: whether the state is real, as cosine amplitudes are.
    """

    order: ClassVar[int] = 1
    courant_limit: ClassVar[float] = 1.0
    is_multistep: ClassVar[bool] = False

    def __init__(
        self, linear: Float64[Tensor, "*modes"], dt: Step, dtype: torch.dtype, is_real: bool = False
    ) -> None:
        dtype = dtype if is_real else dtype.to_complex()
        z = dt * linear
        self._decay = ((1 + z / 2) / (1 - z / 2)).to(dtype)
        self._weight = (dt / (1 - z / 2)).to(dtype)

    def step(
        self, u_hat: Inexact[Tensor, "batch *modes"], tendency: Tendency
    ) -> Inexact[Tensor, "batch *modes"]:
        """Return the state ``dt`` later (one evaluation of the tendency)."""
        return torch.addcmul(self._decay * u_hat, self._weight, tendency(u_hat))
