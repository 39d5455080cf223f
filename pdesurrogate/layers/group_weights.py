"""Linear maps between fields on a point group that commute with the group: at every point, and on every mode.

Fields on a group have the channels ``(element, channel)``, elements first. The group acts on them by moving points and
elements alike, ``(g v)_s(x) = v_{g⁻¹s}(A_g⁻¹ x)``. The maps are the group convolutions of Cohen and Welling (2016,
arXiv:1602.07576) with kernels of one point, and those of Helwig et al. (2023, arXiv:2306.05697) in the frequency
domain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..fields.point_group import PointGroup, point_group, sources_and_signs
from .derived_weights import DerivedWeight, gather_blocks
from .group_mixing import group_mixing
from .group_tables import SpectralTables, isotropic_index, spectral_tables, tied_index
from .mode_products import Modes, mode_matmul
from .pointwise_mlp import pointwise_linear
from .tracing import needs_plain_operations


class GroupSpectralWeight(nn.Module):
    """The kernel ``Ψ`` of a group convolution on the kept modes, see `group_tables`; it maps modes to modes.

    It has as many real numbers for every pair of channels and element as the box has modes, as a real kernel of that
    size has points. Initial numbers are uniform within ``± 1 / sqrt(order · in · modes)``.

    With gradients, orbits of modes are mapped by their free numbers as they are stored. Without, the kernel is expanded
    to one matrix a mode once, and kept until it changes: then a map is one product.

    Args:
        group: name of the point group.
        in_channels, out_channels: per element.
        num_modes: kept modes of each axis, odd.
        plane: positions of the group's two axes.
        acts_on_mean: whether the mode ``k = 0`` has a matrix; without it that mode is mapped to zero.
        bound_by_axis: whether initial numbers of ``k = 0`` and of modes with ``k_d = 0`` are bounded as if they were
            weights of their own, ``1 / sqrt(order · in · their number)``: the initial weights of the authors' code.
    """

    def __init__(
        self,
        group: str,
        in_channels: int,
        out_channels: int,
        num_modes: Sequence[int],
        plane: tuple[int, int],
        *,
        acts_on_mean: bool = True,
        bound_by_axis: bool = False,
    ) -> None:
        super().__init__()
        self.key = group, tuple(num_modes), plane
        self.order, self.in_channels, self.out_channels = len(point_group(group)), in_channels, out_channels
        tables, columns = self.tables, len(self.tables.columns)
        shapes = {
            "orbit": (tables.num_orbits, self.order, in_channels, columns, out_channels, 2),
            "single": (len(tables.stored) - 1, self.order, in_channels, out_channels, 2),
            "mean": (int(acts_on_mean), self.order, in_channels, out_channels),
        }
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)) if shape[0] else None)
        for name, array in (("_index", tables.index), ("_signs", tables.signs), ("_singles", tables.singles)):
            self.register_buffer(name, torch.from_numpy(array), persistent=False)
        self._dense = DerivedWeight(self._expand)
        self._some = DerivedWeight(self._expand_singles)
        self._initialise(by_axis=bound_by_axis)

    orbit: Tensor | None
    single: Tensor | None
    mean: Tensor | None
    _index: Tensor
    _signs: Tensor
    _singles: Tensor

    @property
    def tables(self) -> SpectralTables:
        """The tables of the group and the kept modes."""
        return spectral_tables(*self.key)

    def forward(self, modes: Modes) -> Modes:
        """Return the convolved modes."""
        weights = list(self.parameters())
        learns = torch.is_grad_enabled() and any(w.requires_grad for w in weights)
        if self.orbit is None or not learns or modes.ndim == 4 or needs_plain_operations(modes, *weights):
            return mode_matmul(modes, self._dense(*weights))
        return group_mixing(modes, self.orbit, self._some(*weights[1:]), self.tables, self._plain)

    on_planes = forward

    def dense(self) -> Float[Tensor, "mode in_channel out_channel 2"]:
        """Return one matrix a mode, channels ``(element, channel)``."""
        return self._expand(*self.parameters())

    def _rows(self, *weights: Tensor) -> Tensor:
        """Return blocks ``(block, in, out, 2)`` in the order of the tables."""
        shape = (self.order, self.in_channels, self.out_channels, 2)
        rows = []
        for weight in weights:
            if weight.ndim == 6:
                weight = weight.permute(0, 1, 3, 2, 4, 5).flatten(0, 1)
            elif weight.ndim == 4:
                weight = torch.stack([weight, torch.zeros_like(weight)], dim=-1)
            rows.append(weight.flatten(0, 1))
        if self.mean is None:
            like = weights[0] if weights else self._signs.float()
            rows.append(like.new_zeros(shape))
        return torch.cat(rows)

    def _expand(self, *weights: Tensor) -> Tensor:
        return self._matrices(self._rows(*weights), self._index, self._signs)

    def _expand_singles(self, *weights: Tensor) -> Tensor:
        """As `_expand`, of the modes that are in no orbit, from the weights that are of none."""
        skipped = self.tables.num_orbits * self.order * len(self.tables.columns)
        index, signs = self._index[self._singles] - skipped, self._signs[self._singles]
        return self._matrices(self._rows(*weights), index, signs)

    def _matrices(self, rows: Tensor, index: Tensor, signs: Tensor) -> Tensor:
        # (mode, s, h, in, out, 2)
        blocks = gather_blocks(rows, index.transpose(1, 2).contiguous(), signs.transpose(1, 2))
        return blocks.permute(0, 2, 3, 1, 4, 5).flatten(3, 4).flatten(1, 2)

    def _plain(self, modes: Tensor, orbit: Tensor, some: Tensor) -> Tensor:
        """The same map by ordinary operations, to be differentiated twice; ``some`` are the single modes' matrices."""
        rest = [torch.zeros_like(w) for w in (self.single, self.mean) if w is not None]
        return mode_matmul(modes, self._expand(orbit, *rest).index_add(0, self._singles, some))

    @torch.no_grad()
    def _initialise(self, *, by_axis: bool) -> None:
        _, num_modes, _ = self.key
        fan_in = self.order * self.in_channels
        bound = 1 / math.sqrt(fan_in * math.prod(num_modes))
        for weight in self.parameters():
            weight.uniform_(-bound, bound)
        if not by_axis:
            return
        tables = self.tables
        if self.mean is not None:
            self.mean.mul_(_axis_bound(fan_in, num_modes, tables.stored[-1]) / bound)
        if self.single is not None:
            for i, mode in enumerate(tables.stored[:-1]):
                self.single[i].mul_(_axis_bound(fan_in, num_modes, mode) / bound)
        if self.orbit is not None:
            for q, generator in enumerate(tables.generators):
                for column, t in enumerate(tables.columns):
                    mode = tables.action.move(t, generator)
                    self.orbit[q, :, :, column].mul_(_axis_bound(fan_in, num_modes, mode) / bound)


class IsotropicSpectralWeight(nn.Module):
    """Real factors that are the same on all modes of an orbit, one matrix of channels an orbit; it maps modes to modes.

    It commutes with the group on fields without elements (Helwig et al. 2023, section 4.4, there "radial"). Initial
    numbers are uniform within ``± 1 / sqrt(in · orbits)``.

    Args:
        group: name of the point group.
        in_channels, out_channels: of the fields.
        num_modes: kept modes of each axis, odd.
        plane: positions of the group's two axes.
        acts_on_mean: whether the mode ``k = 0`` has a matrix; without it that mode is mapped to zero.
    """

    def __init__(
        self,
        group: str,
        in_channels: int,
        out_channels: int,
        num_modes: Sequence[int],
        plane: tuple[int, int],
        *,
        acts_on_mean: bool = True,
    ) -> None:
        super().__init__()
        index = isotropic_index(group, tuple(num_modes), plane)
        self.acts_on_mean = acts_on_mean
        orbits = int(index.max()) + acts_on_mean
        bound = 1 / math.sqrt(in_channels * orbits)
        self.weight = nn.Parameter(torch.empty(orbits, in_channels, out_channels).uniform_(-bound, bound))
        self.register_buffer("_index", torch.from_numpy(index), persistent=False)
        self._dense = DerivedWeight(self._expand)

    _index: Tensor

    def forward(self, modes: Modes) -> Modes:
        """Return the convolved modes."""
        return mode_matmul(modes, self._dense(self.weight))

    on_planes = forward

    def _expand(self, weight: Tensor) -> Tensor:
        if not self.acts_on_mean:  # which is the first orbit
            weight = torch.cat([weight.new_zeros(1, *weight.shape[1:]), weight])
        factors = gather_blocks(weight, self._index)
        return torch.stack([factors, torch.zeros_like(factors)], dim=-1)


class GroupLinear(nn.Module):
    """An affine map between fields on a group at every point: ``y_s = Σ_h W_{s⁻¹h} v_h + b``.

    Initial numbers are uniform within ``± 1 / sqrt(order · in)``.

    Args:
        group: the point group.
        in_channels, out_channels: per element.
    """

    def __init__(self, group: PointGroup, in_channels: int, out_channels: int) -> None:
        super().__init__()
        order = len(group)
        bound = 1 / math.sqrt(order * in_channels)
        self.weight = nn.Parameter(torch.empty(order, out_channels, in_channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound))
        self.register_buffer("_index", torch.from_numpy(tied_index(group)), persistent=False)
        self.order = order
        self._dense = DerivedWeight(self._expand)
        self._biases = DerivedWeight(self._repeat)

    _index: Tensor

    def weights(self) -> tuple[Float[Tensor, "out_channel in_channel"], Float[Tensor, " out_channel"]]:
        """Return matrix and bias of the map, channels ``(element, channel)``."""
        return self._dense(self.weight), self._biases(self.bias)

    def forward(self, v: Float[Tensor, "*points in_channel"]) -> Float[Tensor, "*points out_channel"]:
        """Return the map's output at every point, in the wider dtype of field and weights."""
        return pointwise_linear(v, *self.weights())

    def _expand(self, weight: Tensor) -> Tensor:
        return gather_blocks(weight, self._index).transpose(1, 2).flatten(2, 3).flatten(0, 1)

    def _repeat(self, bias: Tensor) -> Tensor:
        return bias.expand(self.order, -1).flatten()


class GroupLift(nn.Module):
    """From physical channels to a field on the group: ``v_s = W ρ(s)⁻¹ u + b``.

    Initial numbers are uniform within ``± 1 / sqrt(in)``.

    Args:
        action: ``ρ`` on the input channels, ``(element, channel, channel)``.
        out_channels: per element.
    """

    def __init__(self, action: Float[Tensor, "element channel channel"], out_channels: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(action.shape[1])
        self.weight = nn.Parameter(torch.empty(out_channels, action.shape[1]).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound))
        sources, signs = sources_and_signs(action)
        self.register_buffer("_sources", sources, persistent=False)
        self.register_buffer("_signs", signs.float(), persistent=False)

    _sources: Tensor
    _signs: Tensor

    def forward(self, u: Float[Tensor, "*points in_channel"]) -> Float[Tensor, "*points out_channel"]:
        """Return the lifted field, channels ``(element, channel)``, in the wider dtype of field and weights."""
        # ρ is orthogonal, W ρ⁻¹ = W ρᵀ: columns of W in another order, with signs.
        moved = (self.weight[:, self._sources] * self._signs.to(self.weight.dtype)).transpose(0, 1)
        return pointwise_linear(u, moved.flatten(0, 1), self.bias.expand(len(self._signs), -1).flatten())


class GroupProjection(nn.Module):
    """From a field on the group to physical channels: ``u = Σ_s ρ(s) W v_s + b``, ``b`` for invariant channels alone.

    Initial numbers are uniform within ``± 1 / sqrt(order · in)``.

    Args:
        action: ``ρ`` on the output channels, ``(element, channel, channel)``.
        in_channels: per element.
    """

    def __init__(self, action: Float[Tensor, "element channel channel"], in_channels: int) -> None:
        super().__init__()
        order, out_channels = action.shape[:2]
        bound = 1 / math.sqrt(order * in_channels)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels).uniform_(-bound, bound))
        self.register_buffer("_invariant", _invariant_channels(action), persistent=False)
        sources, signs = sources_and_signs(action)
        self.register_buffer("_sources", sources, persistent=False)
        self.register_buffer("_signs", signs.float(), persistent=False)
        biases = len(self._invariant)
        self.bias = nn.Parameter(torch.empty(biases).uniform_(-bound, bound)) if biases else None

    _invariant: Tensor
    _sources: Tensor
    _signs: Tensor

    def weights(self) -> tuple[Float[Tensor, "out_channel in_channel"], Float[Tensor, " out_channel"]]:
        """Return matrix and bias of the map, input channels ``(element, channel)``."""
        # ρ(s) W: rows of W in another order, with signs.
        moved = self.weight[self._sources] * self._signs.to(self.weight.dtype)[..., None]
        bias = self.weight.new_zeros(self._signs.shape[1])
        if self.bias is not None:
            bias = bias.index_copy(0, self._invariant, self.bias)
        return moved.transpose(0, 1).flatten(1), bias


def _invariant_channels(action: Float[Tensor, "element channel channel"]) -> Int[Tensor, " invariant"]:
    """Return the channels that every element leaves alone."""
    return (action.diagonal(dim1=1, dim2=2) == 1).all(dim=0).nonzero().flatten()


def _axis_bound(fan_in: int, num_modes: Sequence[int], mode: Sequence[int]) -> float:
    """Return the bound of a mode's initial numbers, where those with the same last entry but zero are a tensor."""
    last = max((axis for axis, k in enumerate(mode) if k), default=-1)
    entries = 1 if last < 0 else math.prod(num_modes[:last]) * (num_modes[last] // 2)
    return 1 / math.sqrt(fan_in * entries)
