"""Localised neural operator: a Fourier neural operator with differential and integral kernels beside its waves.

Liu-Schiaffini, Berner, Bonev, Kurth, Azizzadenesheli, Anandkumar, "Neural Operators with Localized Integral and
Differential Kernels", ICML 2024, arXiv:2402.16845. Each layer adds local kernels to what the layer of the FNO adds up,

    v ← σ( W v + b + F⁻¹[ R(k) · F[v](k) ] + D_h v + K v ),

with a first derivative ``D_h`` and an integral ``K`` over a ball of fixed radius, see `pdesurrogate.layers`; with a
channel MLP the layer goes on as that of `fno`. Waves carry what is smooth and global, kernels what is sharp and near.

Beware: a differential kernel that was trained on one grid need not transfer to a finer one. Its error falls with the
spacing, the network may learn to use it, and on another grid it is another one. The integral kernel and the
antisymmetric stencil, whose errors fall with the square, are safer there. Any local kernel helps a Fourier layer with
few modes on the grid of training; the kind ``conv``, an ordinary convolution, is the control that tells how much of a
gain is owed to the scaling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from ..fields import DataSpec
from ..layers import (
    DifferentialKernel,
    FilterBank,
    IntegralKernel,
    LocalKernel,
    PlainKernel,
    PointwiseMLP,
    check_memory,
    check_precision,
    filter_basis,
    joins_the_waves,
    joint_filters,
    local_operator,
    needs_plain_operations,
)
from ..registry import did_you_mean
from . import MODELS
from .fno import FNOBlock
from .operator_frame import OperatorFrame
from .options import require_at_least, require_geometry

ORDERS = {"differential": 1, "antisymmetric": 2, "integral": 2, "conv": 1}
"""Local kernels by name, and the orders in the spacing with which they settle as the grid is refined; an ordinary
convolution does so on a pointwise map."""
KINDS = tuple(ORDERS)


@MODELS.register("localno")
class LocalNO(nn.Module):
    """Localised neural operator on a box; time is folded into channels.

    Args:
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        width: channels of the lifted field.
        depth: number of layers.
        num_modes: kept modes per axis, counting both signs: one number for all axes, or one per axis.
        local: local kernels of all layers, or a list with those of each: ``"none"``, or names joined by ``+``.
            ``differential`` is a generic stencil scaled by the spacing, as in the paper's code, ``antisymmetric`` one
            with ``K(-z) = -K(z)``, ``integral`` the kernel of fixed radius, and ``conv`` a convolution that knows no
            spacing, the control.
        stencil: odd number of points of differential and plain stencils along each axis.
        reference_grid: points per axis, one number or one each, of the grid on which a differential stencil counts as
            it is drawn; that of training, or one near it.
        radius: cutoff of the integral kernel in the units of the axes; a sixteenth of the shortest axis if None, which
            is four spacings where that axis has 64 points.
        basis: ``"piecewise_linear"``, ``"morlet"`` or ``"zernike"``, see `pdesurrogate.layers.filter_basis`.
        basis_shape: how many functions: radii and angles, waves per axis, or degrees; a few if None.
        depthwise: whether local kernels keep channels apart, which makes them small and fast.
        channel_mlp: hidden width of a layer's channel MLP as a fraction of ``width``; 0 leaves it out, as the paper's
            layers do.
        coordinates: positions in space as channels, ``"none"``, ``"linear"`` or ``"periodic"``, see
            `pdesurrogate.layers.append_coordinates`.
        padding: zeros appended to every axis that is not periodic, for the waves, as a fraction of its size. Local
            kernels see the domain alone, mirrored at walls and continued by its edge at open ends.
        memory: what the backward pass keeps, ``"speed"``, ``"lean"`` or ``"minimal"``, see
            `pdesurrogate.layers.fourier_layer`; it changes memory and speed only.
        precision: arithmetic inside, see `pdesurrogate.layers.precision`; local kernels are float32 under ``"bf16"``.

    Raises:
        ValueError: if an option is out of range, a list has another length than there are layers or axes, or the radius
            is larger than half of an axis.
    """

    geometries: ClassVar[frozenset[str]] = frozenset({"plane"})
    memory_options: ClassVar[tuple[str, ...]] = ("memory=minimal", "num_modes", "depth", "width")
    symmetries: frozenset[str] = frozenset({"shift"})
    grids: str = "any"
    convergence: int | None

    def __init__(
        self,
        spec: DataSpec,
        history: int,
        horizon: int,
        *,
        width: int = 32,
        depth: int = 4,
        num_modes: int | Sequence[int] = 24,
        local: str | Sequence[str] = "antisymmetric+integral",
        stencil: int = 3,
        reference_grid: int | Sequence[int] = 64,
        radius: int | float | None = None,
        basis: str = "piecewise_linear",
        basis_shape: int | Sequence[int] | None = None,
        depthwise: bool = False,
        channel_mlp: int | float = 0,
        coordinates: str = "none",
        padding: int | float = 0.0,
        memory: str = "lean",
        precision: str = "full",
    ) -> None:
        super().__init__()
        require_geometry("localno", spec, self.geometries)
        require_at_least("localno", 1, width=width, depth=depth)
        require_at_least("localno", 0, channel_mlp=channel_mlp)
        check_memory(memory)
        self.memory = memory
        check_precision(precision)
        self.frame = OperatorFrame("localno", spec, history, horizon, "channels", coordinates, padding)
        self.num_modes = self.frame.modes_per_axis(num_modes)
        if not self.frame.treats_points_alike:
            self.symmetries = frozenset()
        kinds_per_layer = _kinds_per_layer(local, depth)
        self.convergence = min((ORDERS[kind] for kinds in kinds_per_layer for kind in kinds), default=None)

        makers = _makers(spec, stencil, reference_grid, radius, basis, basis_shape)
        engine = {"backend": "auto", "memory": memory, "precision": precision}
        pointwise = {"memory": memory, "precision": "full" if precision == "bf16" else precision}
        self.lift = PointwiseMLP(self.frame.in_channels, 2 * width, width, **pointwise)
        self.blocks = nn.ModuleList(
            LocalBlock(
                width,
                self.num_modes,
                round(channel_mlp * width),
                [makers[kind](width, depthwise) for kind in kinds],
                first=i == 0,
                last=i == depth - 1,
                engine=engine,
            )
            for i, kinds in enumerate(kinds_per_layer)
        )
        self.project = PointwiseMLP(width, 2 * width, self.frame.out_channels, **pointwise)

    def check_grid(self, grid: Sequence[int]) -> None:
        """Refuse a grid that cannot carry the kept modes or the local kernels.

        Raises:
            ValueError: naming the axis and the largest allowed number of modes, or the radius that does not fit.
        """
        self.frame.check_grid(grid, self.num_modes)
        spacings = self.frame.spec.spacings(grid)
        for block in self._blocks():
            for kernel in block.local_kernels():
                kernel.filters(spacings)

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the next ``horizon`` frames, normalised.

        Raises:
            TypeError: if the history is not real and floating.
            ValueError: if there is no sample, or the grid cannot carry the kept modes or the local kernels.
        """
        grid = history.shape[3:]
        self.check_grid(grid)
        u = self.frame.enter(history, parameters)
        v = self.frame.pad(self.lift(u))
        spacings = self.frame.spec.spacings(grid)
        for block in self._blocks():
            filters = block.filters(spacings)
            if filters is None or block.joins(v, *filters):
                v = block(v, filters=filters)
            else:
                v = block(v, local=self.frame.pad(block.local(self.frame.crop(v, u), *filters)))
        return self.frame.leave(self.project(self.frame.crop(v, u)).to(history.dtype))

    def _blocks(self) -> list[LocalBlock]:
        return [block for block in self.blocks if isinstance(block, LocalBlock)]


class LocalBlock(FNOBlock):
    """One layer: that of the FNO, and local kernels whose fields enter it beside the waves.

    Args:
        width, num_modes, hidden, first, last, engine: see `FNOBlock`.
        kernels: all on the same boundaries.
    """

    def __init__(
        self,
        width: int,
        num_modes: Sequence[int],
        hidden: int,
        kernels: Sequence[LocalKernel],
        *,
        first: bool,
        last: bool,
        engine: Mapping[str, str],
    ) -> None:
        super().__init__(width, num_modes, hidden, first=first, last=last, engine=engine)
        self.kernels = nn.ModuleList(kernels)
        self.boundaries = kernels[0].boundaries if kernels else ()

    def local_kernels(self) -> list[LocalKernel]:
        """Return the kernels, none where waves are alone."""
        return [kernel for kernel in self.kernels if isinstance(kernel, LocalKernel)]

    def filters(self, spacings: Sequence[float]) -> tuple[FilterBank, Tensor] | None:
        """Return the filters of the local kernels on a grid and their matrices, None where waves are alone."""
        return joint_filters(self.local_kernels(), spacings) if self.local_kernels() else None

    def joins(self, u: Float[Tensor, "batch *layout width"], bank: FilterBank, weights: Tensor) -> bool:
        """Whether the filters are to act on the modes of the layer: in periodic boxes where that is faster.

        Traced programs hold the filters as they are, and under bfloat16 local kernels stay in float32.
        """
        if set(self.boundaries) != {"periodic"} or self.engine["precision"] == "bf16":
            return False
        return not needs_plain_operations(u, weights) and joins_the_waves(bank, u, weights, self.num_modes)

    def local(
        self, u: Float[Tensor, "batch *layout width"], bank: FilterBank, weights: Tensor
    ) -> Float[Tensor, "batch *layout width"]:
        """Return what the filters make of the previous layer's pre-activation."""
        return local_operator(
            u,
            bank,
            weights,
            self.boundaries,
            activate=not self.first,
            precision=self.engine["precision"],
        )


def _kinds_per_layer(local: str | Sequence[str], depth: int) -> list[list[str]]:
    layers = list(local) if isinstance(local, Sequence) and not isinstance(local, str) else [local] * depth
    if len(layers) != depth:
        raise ValueError(
            f"localno: local lists the kernels of {len(layers)} layers and depth is {depth}. Give one entry a layer, "
            "or one name for all layers."
        )
    return [_parsed(entry) for entry in layers]


def _parsed(entry: Any) -> list[str]:
    if entry == "none":
        return []
    kinds = [part.strip() for part in str(entry).split("+")]
    for kind in kinds:
        if kind not in KINDS:
            names = (*KINDS, "none")
            raise ValueError(
                f"localno: local is {entry!r}.{did_you_mean(kind, names)} Allowed: none, or some of "
                f"{', '.join(KINDS)}, joined by +."
            )
    if len(set(kinds)) != len(kinds) or {"differential", "antisymmetric"} <= set(kinds):
        raise ValueError(
            f"localno: local is {entry!r}; each kernel may be named once, and differential holds antisymmetric."
        )
    return kinds


def _makers(
    spec: DataSpec,
    stencil: int,
    reference_grid: int | Sequence[int],
    radius: int | float | None,
    basis: str,
    basis_shape: int | Sequence[int] | None,
) -> dict[str, Callable[[int, bool], LocalKernel]]:
    """Return what builds a kernel of each kind, after checking the options of all."""
    points = [reference_grid] * spec.ndim if isinstance(reference_grid, int) else list(reference_grid)
    if len(points) != spec.ndim or min(points) < 1:
        raise ValueError(
            f"localno: reference_grid is {points}; give one positive number, or {spec.ndim} of them for the axes "
            f"{', '.join(spec.axis_names)}."
        )
    if stencil % 2 == 0 or stencil < 3:
        raise ValueError(
            f"localno: stencil is {stencil}; it is the number of points along an axis, odd so that there is a centre, "
            "and at least 3."
        )
    if len({axis.units for axis in spec.axes}) > 1:
        units = ", ".join(f"{axis.name} in {axis.units}" for axis in spec.axes)
        raise ValueError(
            f"localno: the axes have different units ({units}), so that a radius means nothing. Give the data one unit "
            "of length."
        )
    shortest = min(spec.axes, key=lambda axis: axis.length)
    cutoff = shortest.length / 16 if radius is None else radius
    if not 0 < cutoff <= shortest.length / 2:
        raise ValueError(
            f"localno: radius is {cutoff:g}; it must be positive and at most half of the shortest axis, "
            f"{shortest.name!r} of length {shortest.length:g}."
        )
    functions = filter_basis(basis, spec.ndim, basis_shape)
    reference = spec.spacings(points)

    boundaries = spec.boundaries

    def differential(width: int, depthwise: bool) -> LocalKernel:
        return DifferentialKernel(width, width, boundaries, reference, size=stencil, depthwise=depthwise)

    def antisymmetric(width: int, depthwise: bool) -> LocalKernel:
        return DifferentialKernel(
            width, width, boundaries, reference, size=stencil, antisymmetric=True, depthwise=depthwise
        )

    def integral(width: int, depthwise: bool) -> LocalKernel:
        return IntegralKernel(width, width, boundaries, functions, cutoff, depthwise=depthwise)

    def conv(width: int, depthwise: bool) -> LocalKernel:
        return PlainKernel(width, width, boundaries, size=stencil, depthwise=depthwise)

    return dict(zip(KINDS, (differential, antisymmetric, integral, conv), strict=True))
