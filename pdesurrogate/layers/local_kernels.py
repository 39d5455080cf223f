"""Local kernels of neural operators: differential, integral and, as a control, plain convolution.

Liu-Schiaffini, Berner, Bonev, Kurth, Azizzadenesheli, Anandkumar, "Neural Operators with Localized Integral and
Differential Kernels", ICML 2024, arXiv:2402.16845. A kernel knows its filters and matrices on a grid of given
spacings, see `local_operator`; kernels that act on the same field do so in one pass, see `apply_kernels`. Fields are
``(batch, N_d, N_1, .., N_{d-1}, channel)``.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .differences import Stencil, stencil
from .filter_bank import FilterBank, joined
from .filter_basis import FilterBasis
from .integral_filters import integral_filters
from .local_operator import local_operator


class LocalKernel(nn.Module):
    """A local linear map between fields, with a matrix between channels, or a factor a channel, for each filter.

    Args:
        in_channels, out_channels: of the fields.
        boundaries: ``"periodic"``, ``"wall"`` or ``"open"`` per axis in space order, see `halo`.
        depthwise: whether channels stay apart; there are as many then on both sides.

    Raises:
        ValueError: if channels shall stay apart and there is another number of them on the other side.
    """

    weight: nn.Parameter

    def __init__(
        self, in_channels: int, out_channels: int, boundaries: Sequence[str], *, depthwise: bool = False
    ) -> None:
        super().__init__()
        if depthwise and in_channels != out_channels:
            raise ValueError(
                f"a depthwise kernel keeps channels apart and was asked to go from {in_channels} to {out_channels}."
            )
        self.boundaries = tuple(boundaries)
        self.shape = (in_channels,) if depthwise else (in_channels, out_channels)
        self.fan_in = 1 if depthwise else in_channels

    @abstractmethod
    def filters(self, spacings: Sequence[float]) -> FilterBank:
        """Return the filters on a grid of the given spacings, in space order."""

    @abstractmethod
    def matrices(self, spacings: Sequence[float]) -> Float[Tensor, "filter *channels"]:
        """Return a matrix ``(in, out)`` or factors ``(channel,)`` for each of the filters."""

    def forward(
        self, v: Float[Tensor, "batch *layout in_channel"], spacings: Sequence[float]
    ) -> Float[Tensor, "batch *layout out_channel"]:
        """Return the kernel's field on the same grid."""
        return apply_kernels([self], v, spacings)


def apply_kernels(
    kernels: Sequence[LocalKernel],
    u: Float[Tensor, "batch *layout in_channel"],
    spacings: Sequence[float],
    *,
    activate: bool = False,
    route: str = "auto",
    precision: str = "full",
) -> Float[Tensor, "batch *layout out_channel"]:
    """Return the sum of what some kernels make of one field, ``v = u`` or ``v = σ(u)``; see `local_operator`."""
    bank, weights = joint_filters(kernels, spacings)
    settings = {"activate": activate, "route": route, "precision": precision}
    return local_operator(u, bank, weights, kernels[0].boundaries, **settings)  # type: ignore[arg-type]


def joint_filters(
    kernels: Sequence[LocalKernel], spacings: Sequence[float]
) -> tuple[FilterBank, Float[Tensor, "filter *channels"]]:
    """Return the filters of some kernels on a grid as one bank, and their matrices or factors."""
    bank = joined(tuple(kernel.filters(spacings) for kernel in kernels))
    return bank, torch.cat([kernel.matrices(spacings) for kernel in kernels])


class DifferentialKernel(LocalKernel):
    """A first derivative, ``D_h v → Σ_a b_a δ_a ∂_a v`` as the grid is refined, with ``b = Σ_j K_j z_j``.

    With taps at the offsets ``z_j`` of a stencil and one spacing ``h``, in units of the reference spacing ``δ``,

        D_h v(x) = (1/h) Σ_j K_j (v(x + h z_j) - v(x)),

    so that constants are sent to zero exactly. Where spacings differ, each difference goes from ``x`` to ``x + h z_j``
    along the axes one by one, every step is divided by its own spacing, and the mean is taken over the orders of the
    axes: the limit and the action on linear functions are the same on every grid. A generic stencil converges with
    the first order, an antisymmetric one, ``K(-z) = -K(z)``, with the second.

    The weights are drawn as those of a convolution, and at the reference spacing the kernel is one; the reference
    belongs to the data (the grid of training), not to the grid that is met.

    Args:
        in_channels, out_channels, boundaries, depthwise: see `LocalKernel`.
        reference: reference spacing ``δ_a`` of each axis in space order, in the units of the axis.
        size: odd number of points of the stencil along each axis.
        antisymmetric: whether ``K(-z) = -K(z)``.

    Raises:
        ValueError: if the stencil has no centre or no neighbours, or the reference is not positive for every axis.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        boundaries: Sequence[str],
        reference: Sequence[float],
        *,
        size: int = 3,
        antisymmetric: bool = False,
        depthwise: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, boundaries, depthwise=depthwise)
        _require_spacings("reference", reference, boundaries)
        self.reference = tuple(float(spacing) for spacing in reference)
        self.stencil: Stencil = stencil(len(boundaries), size, antisymmetric)
        bound = 1 / math.sqrt(self.fan_in * size ** len(boundaries))
        self.weight = nn.Parameter(torch.empty(self.stencil.num_free, *self.shape).uniform_(-bound, bound))

    def filters(self, spacings: Sequence[float]) -> FilterBank:
        """Return the differences of neighbours, the same on every grid."""
        return self.stencil.differences

    def matrices(self, spacings: Sequence[float]) -> Float[Tensor, "filter *channels"]:
        """Return the matrices of the differences, which carry the spacings."""
        _require_spacings("spacings", spacings, self.boundaries)
        scales = [reference / h for reference, h in zip(self.reference, spacings, strict=True)]
        return self.stencil.scaled(self.weight, scales)


class IntegralKernel(LocalKernel):
    """An integral over a ball of fixed physical radius, by a discrete-continuous convolution (DISCO).

        (K v)(x) = Σ_l W_l Σ_j q_j ψ_l(x_j - x) v(x_j),    Σ_j q_j |ψ_l(x_j - x)| = 1

    with the functions ``ψ_l`` of a basis on ``|x_j - x| ≤ r`` and the weights ``q`` of the trapezoidal rule. The
    filters are sampled anew for every grid, whatever its spacings, so that the kernel is one integral operator on all
    of them; they are second-order accurate.

    Args:
        in_channels, out_channels, boundaries, depthwise: see `LocalKernel`.
        basis: functions of as many dimensions as there are boundaries.
        radius: cutoff ``r`` in the units of the axes.

    Raises:
        ValueError: if the radius is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        boundaries: Sequence[str],
        basis: FilterBasis,
        radius: float,
        *,
        depthwise: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, boundaries, depthwise=depthwise)
        if not (math.isfinite(radius) and radius > 0):
            raise ValueError(f"radius is {radius}; it is a length and must be positive.")
        self.basis, self.radius = basis, float(radius)
        std = 1 / math.sqrt(self.fan_in * basis.size)
        self.weight = nn.Parameter(std * torch.randn(basis.size, *self.shape))

    def filters(self, spacings: Sequence[float]) -> FilterBank:
        """Return the sampled basis.

        Raises:
            ValueError: if the grid is so coarse that the kernel is pointwise or a function of the basis is not seen.
        """
        _require_spacings("spacings", spacings, self.boundaries)
        return integral_filters(self.basis, self.radius, tuple(spacings))

    def matrices(self, spacings: Sequence[float]) -> Float[Tensor, "filter *channels"]:
        """Return the weights, which no grid changes."""
        return self.weight


class PlainKernel(LocalKernel):
    """An ordinary convolution, which knows no spacing: the control of the other two.

    As the grid is refined it becomes pointwise, the sum of its matrices.

    Args:
        in_channels, out_channels, boundaries, depthwise: see `LocalKernel`.
        size: odd number of points of the stencil along each axis.

    Raises:
        ValueError: if the stencil has no centre or no neighbours.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        boundaries: Sequence[str],
        *,
        size: int = 3,
        depthwise: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, boundaries, depthwise=depthwise)
        self.stencil: Stencil = stencil(len(boundaries), size, False)
        num_taps = size ** len(boundaries)
        bound = 1 / math.sqrt(self.fan_in * num_taps)
        self.weight = nn.Parameter(torch.empty(num_taps, *self.shape).uniform_(-bound, bound))

    def filters(self, spacings: Sequence[float]) -> FilterBank:
        """Return one filter a tap."""
        return self.stencil.shifts

    def matrices(self, spacings: Sequence[float]) -> Float[Tensor, "filter *channels"]:
        """Return the weights."""
        return self.weight


def _require_spacings(name: str, spacings: Sequence[float], boundaries: Sequence[str]) -> None:
    if torch.compiler.is_compiling():
        return  # they may be symbols
    if len(spacings) != len(boundaries) or not all(math.isfinite(h) and h > 0 for h in spacings):
        raise ValueError(
            f"{name} {tuple(spacings)}: there must be one positive length for each of {len(boundaries)} axes."
        )
