"""Group-equivariant Fourier neural operator: rotations and reflections of the input rotate and reflect the output.

Helwig, Zhang, Fu, Kurtin, Wojtowytsch, Ji, "Group Equivariant Fourier Neural Operators for Partial Differential
Equations", ICML 2023, arXiv:2306.05697. Fields inside live on a point group ``H`` as well as on space. From the
physical fields ``u``, which elements act on by ``ρ`` (see `pdesurrogate.fields.point_group`),

    v_s = W ρ(s)⁻¹ u + b                                         lifting
    v ← σ(v)  (but for the first layer)
    v ← W v + b + M₂ σ( M₁ N[ F⁻¹ ( Ψ ∗ F[N[v]] ) ] + c₁ ) + c₂     ``depth`` times
    u = Σ_s ρ(s) Q₂ σ( Q₁ v + d₁ )_s + d₂                        projection, d₂ for invariant channels alone

with group convolutions throughout (`pdesurrogate.layers.group_weights`), ``Ψ`` in the frequency domain, and ``N`` the
instance norm over points and elements. σ is the exact GELU.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..fields import DataSpec
from ..fields.point_group import PointGroup, channel_action, point_group, require_square, unlike_boundaries
from ..layers import (
    GroupFourierLayer,
    GroupLift,
    GroupLinear,
    GroupProjection,
    check_backend,
    check_precision,
    pointwise_linear,
    pointwise_mlp,
    symmetric_modes,
)
from ..registry import did_you_mean
from . import MODELS
from .equivariance import equivariance_error
from .notes import is_first
from .operator_frame import OperatorFrame
from .options import require_at_least, require_geometry

logger = logging.getLogger(__name__)

KERNELS = ("group", "isotropic")


@MODELS.register("gfno")
class GFNO(nn.Module):
    """Fourier neural operator that commutes with a point group of the plane, and with translations.

    The group acts on the last two axes of space; in a box ``(z, y, x)`` these are rotations about ``z``, which gravity
    along it leaves alone, and reflections. Pseudoscalars and vectors are what the spec says they are: a reflection
    changes the sign of vorticity and of a component of velocity. Whether the data have the symmetry is the user's to
    know: a forcing that is fixed in space can break it, and a static field that is part of the data does not, as it is
    turned with them.

    Where the components of a vector live on the faces of cells, points of one are half a spacing from those of the
    other. The model takes all for values at the same points, and is then equivariant as a map of arrays, of fields up
    to half a spacing.

    Args:
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        group: ``"p4"`` (quarter turns), ``"p4m"`` (and reflections), their subgroups ``"p2"``, ``"pm"`` (``x → -x``),
            ``"pmm"``, or ``"p1"``, translations alone: the control.
        width: channels of the lifted field for every element of the group.
        depth: number of Fourier layers.
        num_modes: kept modes per axis, counting both signs: one number for all axes, or one per axis in the order of
            ``spec.axes``, followed by time for ``time="axis"``. Of an even number the mode without a partner is left
            out, because a group keeps ``-k`` with ``k``: 24 are the 12 of the authors' code, ``|k| < 12``.
        kernel: ``"group"``, or ``"isotropic"``: fields on space alone, and spectral weights that are real and the same
            on all modes of an orbit (the paper's "radial" ones, there with ReLU). It takes fields that the group leaves
            alone.
        equivariant_depth: layers that are equivariant; the others are plain ones, ``width · sqrt(order)`` channels
            wide, and so is the projection (the paper's hybrid). None for all.
        time: ``"channels"`` or ``"axis"``, as in `FNO`.
        channel_mlp: hidden width of a layer's MLP over its width; 0 leaves it out.
        projection_ratio: hidden width of the projection over the width; 0 makes it linear.
        norm: whether ``N`` is the instance norm, as in the paper's models on space, or nothing, as in those on
            space-time.
        coordinates: see `pdesurrogate.layers.append_coordinates`; ``"symmetric"`` tells points apart as far as the
            group allows, ``"linear"`` and ``"periodic"`` give up the symmetry.
        padding: zeros appended to every non-periodic axis, as a fraction of its size.
        backend: see `FNO`.
        precision: see `FNO`.
        reproduce_release: whether to do as the authors' code does: pseudoscalars as if they were scalars, which no
            reflection of a flow does, initial weights larger on modes of one axis, and weights that act on nothing
            (means that the norm removes).
        strict: whether a boundary that breaks the symmetry is an error and not a warning.

    Raises:
        ValueError: if an option is out of range, a field has no action of the group, or the box is not mapped onto
            itself.
    """

    geometries: ClassVar[frozenset[str]] = frozenset({"plane"})
    symmetries: frozenset[str] = frozenset({"shift", "rotation"})
    grids: str = "any"

    def __init__(
        self,
        spec: DataSpec,
        history: int,
        horizon: int,
        *,
        group: str = "p4",
        width: int = 10,
        depth: int = 4,
        num_modes: int | Sequence[int] = 24,
        kernel: str = "group",
        equivariant_depth: int | None = None,
        time: str = "channels",
        channel_mlp: int | float = 1.0,
        projection_ratio: int | float = 4.0,
        norm: bool = True,
        coordinates: str = "none",
        padding: int | float = 0.0,
        backend: str = "auto",
        precision: str = "full",
        reproduce_release: bool = False,
        strict: bool = False,
    ) -> None:
        super().__init__()
        require_geometry("gfno", spec, self.geometries)
        require_at_least("gfno", 1, width=width, depth=depth)
        require_at_least("gfno", 0, channel_mlp=channel_mlp, projection_ratio=projection_ratio)
        check_backend(backend)
        check_precision(precision)
        if kernel not in KERNELS:
            raise ValueError(
                f"gfno: kernel is {kernel!r}.{did_you_mean(str(kernel), KERNELS)} Allowed: {', '.join(KERNELS)}."
            )
        equivariant_depth = depth if equivariant_depth is None else equivariant_depth
        if not 1 <= equivariant_depth <= depth:
            raise ValueError(
                f"gfno: equivariant_depth is {equivariant_depth} and depth {depth}; give at least 1 and at most all "
                "layers. A model without equivariant layers is model=fno, or group=p1."
            )
        self.point_group = point_group(group)
        require_square("gfno", self.point_group, spec)
        self.frame = OperatorFrame("gfno", spec, history, horizon, time, coordinates, padding)
        self.num_modes = symmetric_modes(self.frame.modes_per_axis(num_modes))
        self.symmetries = self._symmetries(is_whole=equivariant_depth == depth)

        action = _declared_action(self.point_group, spec, as_scalars=reproduce_release)
        self.channel_action = action
        lift, project = _input_action(action, self.frame), _output_action(action, self.frame)
        inside = self.point_group
        if kernel == "isotropic":
            _require_invariant(action, spec, self.point_group)
            lift, project, inside = lift[:1], project[:1], point_group("p1")
        self.lift = GroupLift(lift, width)
        plane = (max(spec.ndim - 2, 0), spec.ndim - 1)
        keeps_all = reproduce_release or not norm
        sees_means = not bool((lift == lift[:1]).all())
        common: dict[str, Any] = {
            "num_modes": self.num_modes,
            "plane": plane,
            "norm": norm,
            "backend": backend,
            "precision": precision,
            "bound_by_axis": reproduce_release,
        }
        plain_width = round(width * len(inside) ** 0.5)
        channels, blocks = width, []
        for i in range(depth):
            is_plain = i >= equivariant_depth
            here = point_group("p1") if is_plain else inside
            if i == equivariant_depth:
                channels = width * len(inside)
            out = plain_width if is_plain else width
            # A norm over points removes the mean of a field on one element, and that of copies that are all alike.
            acts = keeps_all or (len(here) > 1 and (i > 0 or sees_means))
            block = GroupFourierLayer(
                here,
                channels,
                out,
                round(channel_mlp * out),
                first=i == 0,
                isotropic=self.point_group if kernel == "isotropic" and not is_plain else None,
                acts_on_mean=acts,
                **common,
            )
            blocks.append(block)
            channels = out
        self.blocks = nn.ModuleList(blocks)
        if equivariant_depth < depth:
            project, inside = project[:1], point_group("p1")
        hidden = int(projection_ratio * channels)
        self.hidden = GroupLinear(inside, channels, hidden) if hidden else None
        self.project = GroupProjection(project, hidden or channels)
        self.precision = "full" if precision == "bf16" else precision
        self._check_boundaries(spec, history, strict=strict)

    def check_grid(self, grid: Sequence[int]) -> None:
        """Refuse a grid that cannot carry the kept modes, or that the group does not map onto itself.

        Raises:
            ValueError: naming the axis and the largest allowed number of modes, or the axes of different sizes.
        """
        self.frame.check_grid(grid, self.num_modes)
        require_square("gfno", self.point_group, self.frame.spec, grid)

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the next ``horizon`` frames, normalised.

        Raises:
            TypeError: if the history is not real and floating.
            ValueError: if there is no sample, the grid cannot carry the kept modes or is not square.
        """
        self.check_grid(history.shape[3:])
        u = self.frame.enter(history, parameters)
        v = self.frame.pad(self.lift(u))
        for block in self.blocks:
            v = block(v)
        v = self.frame.crop(v, u)
        weights = self.project.weights()
        if self.hidden is None:
            y = pointwise_linear(v, *weights, precision=self.precision)
        else:
            y = pointwise_mlp(v, *self.hidden.weights(), *weights, precision=self.precision)
        return self.frame.leave(y.to(history.dtype))

    def _symmetries(self, *, is_whole: bool) -> frozenset[str]:
        """Return what the model commutes with: its group's part where no coordinates and no layer break it."""
        found = frozenset({"shift"}) if self.frame.treats_points_alike else frozenset()
        keeps_group = is_whole and self.frame.coordinates in ("none", "symmetric")
        if keeps_group and not (self.frame.padding and unlike_boundaries(self.point_group, self.frame.spec)):
            found |= self.point_group.symmetries
        return found

    def _check_boundaries(self, spec: DataSpec, history: int, *, strict: bool) -> None:
        """Warn once where the group exchanges axes with unlike ends, or refuse that."""
        unlike = unlike_boundaries(self.point_group, spec)
        topic = ("gfno", self.point_group.name, *spec.axis_names[-2:], *(unlike or ()))
        if unlike is None or not (strict or is_first(*topic)):
            return
        sizes = [self.num_modes[axis] + 1 for axis in range(spec.ndim)]
        error = equivariance_error(self, spec, self.point_group, history, [*sizes[:-2], *[max(sizes)] * 2])
        first, second = spec.axis_names[-2:]
        message = (
            f"gfno: quarter turns of the group {self.point_group.name!r} exchange the axes {first} ({unlike[0]}) and "
            f"{second} ({unlike[1]}), which the flow tells apart: it has no such symmetry. The model's own "
            f"equivariance error there is {error:.1e} (relative L2, random fields). Use group=pmm, which exchanges no "
            "axes."
        )
        if strict:
            raise ValueError(message)
        logger.warning("%s strict=true makes this an error.", message)


def _declared_action(
    group: PointGroup, spec: DataSpec, *, as_scalars: bool
) -> Float[Tensor, "element channel channel"]:
    """Return ``ρ`` on the channels, of pseudoscalars as if they were scalars on request."""
    if not as_scalars:
        return channel_action(group, spec)
    vectors = [field.name for field in spec.fields if field.kind == "vector"]
    if vectors:
        raise ValueError(
            f"gfno: reproduce_release takes scalars and pseudoscalars, and {', '.join(vectors)} are vectors, which the "
            "authors' code does not know. Set reproduce_release=false."
        )
    channel_action(group, spec)
    return torch.eye(spec.num_channels, dtype=torch.float64).expand(len(group), -1, -1)


def _input_action(
    action: Float[Tensor, "element channel channel"], frame: OperatorFrame
) -> Float[Tensor, "element in_channel in_channel"]:
    """Return ``ρ`` on what enters: the frames' channels, and further ones that the group leaves alone."""
    rest = frame.in_channels - frame.history * action.shape[1]
    return torch.stack([torch.block_diag(*[rho] * frame.history, torch.eye(rest).to(rho)) for rho in action])


def _output_action(
    action: Float[Tensor, "element channel channel"], frame: OperatorFrame
) -> Float[Tensor, "element out_channel out_channel"]:
    frames = frame.out_channels // action.shape[1]
    return torch.stack([torch.block_diag(*[rho] * frames) for rho in action])


def _require_invariant(
    action: Float[Tensor, "element channel channel"], spec: DataSpec, group: PointGroup
) -> None:
    changed = [
        name
        for name, column in zip(spec.channel_names, (action != action[:1]).any(dim=0).any(dim=0), strict=True)
        if column
    ]
    if changed:
        raise ValueError(
            f"gfno: kernel=isotropic has fields on space alone, which know of no element of the group {group.name!r} "
            f"that changes {', '.join(changed)}. Use kernel=group, or a group that leaves them alone."
        )
