"""Transform once: one transform in, a network on the amplitudes of some waves, one transform out.

Poli, Massaroli, Berto, Park, Dao, Ré, Ermon, "Transform Once: Efficient Operator Learning in Frequency Domain",
NeurIPS 2022, arXiv:2211.14453. With the amplitudes ``û(k)`` of M kept waves, lift to C channels, and ``depth`` times

    h(k) = σ( W(k) v(k) )                                 channels are mixed wave by wave
    v    ← a v + S₁ S₂ h                                  waves are mixed along each axis, channel by channel

then project: ``ŷ(k) = P₂ sin(P₁ v(k))``. σ is the exact GELU, applied to amplitudes; there is no bias after the
lifting. Waves are real: cosines between walls and at open ends (DCT-II), sines and cosines on periodic axes, see
`pdesurrogate.fields.fourier.RealWaves`.

The order of the first steps is chosen for speed and changes no number. Lifting is linear, so the input's own channels
are transformed, to the M kept waves alone, and positions, parameters and bias enter as the amplitudes that they have;
all other waves would leave every layer as zeros, and are never formed. The layers cost the same on every grid.

Beware: what lies outside the kept waves cannot be predicted. The error of the truth's projection on them, the
truncation floor, stands beside every error in the report. The GELU acts on amplitudes and waves are mixed at will: no
symmetry of the equation is built in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..fields import Axis, DataSpec
from ..fields.fourier import RealWaves
from ..fields.fourier.kept_tables import kept
from ..layers import append_coordinates, fold_inputs, wave_layer
from ..layers.precision import products_in
from ..registry import did_you_mean
from . import MODELS
from .operator_frame import OperatorFrame
from .options import require_at_least, require_dimension, require_geometry
from .t1_variance import channel_scales, expected_energy, kept_share
from .t1_waves import kept_numbers, options_for_data, wanted_modes, wave_kinds

HEAD_SCALE = 0.02
"""Standard deviation of the projection's initial weights. The paper's code has 1e-8, of which the gradients are as
small as what Adam divides by."""
RESIDUALS = ("balanced", "sum")


@MODELS.register("t1")
class T1(nn.Module):
    """Transform once, on a box with any boundaries.

    Time is treated in one of two ways. ``"channels"``: history frames are input channels and horizon frames output
    channels, for one state from another and for autoregressive use. ``"axis"``: a whole trajectory at once, as the
    amplitudes of waves in space and cosines in time, from a history that is constant along it.

    Args:
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        width: channels.
        depth: number of layers.
        num_modes: kept waves: one number for all axes, or one per axis, followed by time for ``time="axis"``. On a
            periodic axis a cosine and a sine count as two; of one number, time takes no more than there are frames.
        waves: which ones: the ``"lowest"``; those of each axis with the largest mean ``"energy"`` in the training
            data, which `train.py` looks at; or one list of numbers an axis (`pdesurrogate.fields.fourier.RealWaves`).
        tolerance: relative L2 error that the projection of the training data on the kept waves may have; the fewest
            waves are kept, and ``num_modes`` is not used but for time. None: ``num_modes`` decides.
        transform: ``"auto"``: what suits each axis's boundary. ``"dct"``: cosines, refused on periodic axes;
            ``"rfft_real"``: sines and cosines, refused on others; ``"dct_everywhere"``: the paper's cosines on
            periodic axes too.
        time: ``"channels"`` or ``"axis"``.
        residual: ``"balanced"``: ``a² = 1 - 1/(depth + 1)``, and initial weights at which the activations have the same
            variance at all depths; ``"sum"``: the paper's ``a = 1``, and its variance-preserving weights in the first
            layer. See `pdesurrogate.models.t1_variance`.
        decay: with which the energy of waves is expected to fall, ``(1 + |κ|²)^(-decay/2)``; 0 is the paper's white
            noise.
        reference_grid: points per axis, one number or one each, of the grid on which amplitudes have the size that an
            orthonormal transform gives them, as in the paper; that of training, or one near it.
        head_width: hidden width of the projection.
        coordinates: positions in space as channels, ``"none"``, ``"linear"`` (the paper's) or ``"periodic"``, see
            `pdesurrogate.layers.append_coordinates`.

    Raises:
        ValueError: if an option is out of range, waves do not suit a boundary or do not fit the dimension, or the
            horizon cannot carry those in time.
    """

    geometries: ClassVar[frozenset[str]] = frozenset({"plane"})
    symmetries: ClassVar[frozenset[str]] = frozenset()
    grids: str = "any"
    memory_options: ClassVar[tuple[str, ...]] = ("num_modes", "depth", "width")
    options_for = staticmethod(options_for_data)  # what `train.py` asks before it builds the model

    _constant: Tensor

    def __init__(
        self,
        spec: DataSpec,
        history: int,
        horizon: int,
        *,
        width: int = 48,
        depth: int = 8,
        num_modes: int | Sequence[int] = 24,
        waves: str | Sequence[Sequence[int]] = "lowest",
        tolerance: float | None = None,
        transform: str = "auto",
        time: str = "channels",
        residual: str = "balanced",
        decay: int | float = 4,
        reference_grid: int | Sequence[int] = 64,
        head_width: int = 128,
        coordinates: str = "none",
    ) -> None:
        super().__init__()
        require_geometry("t1", spec, self.geometries)
        require_at_least("t1", 1, width=width, depth=depth, head_width=head_width)
        require_at_least("t1", 0, decay=decay)
        if tolerance is not None:
            raise ValueError(
                f"t1: tolerance is {tolerance}, which needs the training data; train.py looks at them before it "
                "builds the model. Here, give num_modes and leave tolerance out."
            )
        if residual not in RESIDUALS:
            raise ValueError(
                f"t1: residual is {residual!r}.{did_you_mean(str(residual), RESIDUALS)} Allowed: "
                f"{', '.join(RESIDUALS)}."
            )
        self.frame = OperatorFrame("t1", spec, history, horizon, time, coordinates, padding=None)
        modes = wanted_modes(self.frame, num_modes)
        kinds = wave_kinds(transform, spec.boundaries, spec.axis_names)
        self.waves = RealWaves(
            kinds,
            kept_numbers(waves, modes[: spec.ndim], spec.axis_names),
            tuple(float(axis.offset) for axis in spec.axes),
        )
        self.time_waves = RealWaves(("cosine",), (tuple(range(modes[-1])),), (0.0,))
        sizes = _reference(reference_grid, spec, horizon, self.frame.time_is_axis)
        self.scale = math.sqrt(math.prod(sizes))
        constant = torch.zeros(self.waves.shape)
        if all(0 in numbers for numbers in self.waves.numbers):
            constant[tuple(numbers.index(0) for numbers in self.waves.numbers)] = 1.0
        self.register_buffer("_constant", constant[..., None, None], persistent=False)

        shape = modes if self.frame.time_is_axis else self.waves.shape
        balanced = residual == "balanced"
        mixed = 1 / (depth + 1) if balanced else 1.0
        self.lift = nn.Linear(self.frame.in_channels, width)
        self.layers = nn.ModuleList(
            T1Layer(width, shape, math.sqrt(1 - mixed) if balanced else 1.0) for _ in range(depth)
        )
        self.hidden = nn.Linear(width, head_width, bias=False)
        self.project = nn.Linear(head_width, self.frame.out_channels, bias=False)
        self._initialise(sizes, float(decay), balanced, mixed)

    @property
    def summary(self) -> str:
        """What the start of a training says about the waves."""
        waves = zip(self.frame.spec.axis_names, self.waves.shape, self.waves.kinds, strict=True)
        along = [f"{count} {kind} waves along {name}" for name, count, kind in waves]
        if self.frame.time_is_axis:
            along.append(f"{self.time_waves.shape[0]} cosine waves in time")
        return f"keeps {', '.join(along)}"

    def check_grid(self, grid: Sequence[int]) -> None:
        """Refuse a grid that cannot carry the kept waves.

        Raises:
            ValueError: naming the axis and the largest allowed number of waves.
        """
        names = self.frame.spec.axis_names
        require_dimension("t1", names, grid)
        self.waves.require_resolved(grid, names)

    def training_memory(self, grid: Sequence[int], batch_size: int) -> int:
        """Return about how many bytes a training step takes: amplitudes, frames, weights, their gradients and moments.

        Amplitudes are those that the backward pass keeps, and the work on one layer at a time. The compiled layers of a
        CPU keep one field of amplitudes a layer less.

        Args:
            grid: sizes in space.
            batch_size: windows a step.
        """
        width, head = self.hidden.in_features, self.hidden.out_features
        shape = cast(T1Layer, self.layers[0]).shape
        per_layer = (len(shape) + 2) * width  # what enters the layer, the GELU, and each mixing of waves
        amplitudes = len(self.layers) * per_layer + width + 2 * head + 4 * max(width, head)
        frames = self.frame.spec.num_channels * (self.frame.history + 3 * self.frame.horizon)
        kept = math.prod(shape) * amplitudes + math.prod(grid) * frames
        weights = sum(parameter.numel() for parameter in self.parameters())
        return 4 * (batch_size * kept + 4 * weights)

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the next ``horizon`` frames, normalised.

        Raises:
            TypeError: if the history is not real and floating.
            ValueError: if the grid cannot carry the kept waves.
        """
        amplitudes = self.amplitudes(history, parameters)
        return self.waves.synthesise(amplitudes, history.shape[3:]).to(history.dtype)

    def amplitudes(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *waves"]:
        """Return the amplitudes of the kept waves of the next ``horizon`` frames: `forward` before its transform out.

        Raises:
            TypeError, ValueError: as `forward`.
        """
        self.check_grid(history.shape[3:])
        with products_in("full", history.device):
            v = self._lifted(history, parameters)
            for layer in self.layers:
                v = layer(v)
            y = self.project(torch.sin(self.hidden(v))) / self.scale
        y = y.movedim((-2, -1), (0, 1))
        if self.frame.time_is_axis:
            return self.time_waves.synthesise(y, (self.frame.horizon,)).movedim(-1, 1)
        return y.unflatten(1, (self.frame.horizon, -1))

    def nearest(
        self, frames: Float[Tensor, "batch time channel *space"]
    ) -> Float[Tensor, "batch time channel *space"]:
        """Return the nearest frame to each that the model can predict: the one without the waves that it does not keep.

        Frames are taken one by one; what ``time="axis"`` cannot follow in time comes on top.
        """
        return self.waves.synthesise(self.waves.analyse(frames), frames.shape[3:]).to(frames.dtype)

    def _lifted(self, history: Tensor, parameters: Tensor) -> Float[Tensor, "*waves batch width"]:
        """Return the amplitudes of the lifted input, positions, parameters and bias among them."""
        fields = self.waves.analyse(fold_inputs(history, parameters[:, :0]))
        constant, batch = self._constant.to(fields.dtype), fields.shape[0]
        inputs = [fields.movedim((0, 1), (-2, -1))]
        if parameters.shape[1]:
            inputs.append(constant * parameters.to(fields.dtype))
        if self.frame.coordinates != "none":
            positions = self._positions(tuple(history.shape[3:]), fields)
            inputs.append(positions.expand(*self.waves.shape, batch, -1))
        inputs.append(constant.expand(*self.waves.shape, batch, 1))
        lead = self.frame.time_is_axis
        weight, bias = self.lift.weight, self.lift.bias
        inward = torch.cat([weight[:, :-1] if lead else weight, bias[:, None]], 1)
        v = F.linear(torch.cat(inputs, -1) * self.scale, inward)
        if not lead:
            return v
        # What is constant in time has the first cosine alone; the lead time has all, and is constant in space.
        horizon = self.frame.horizon
        times = torch.arange(horizon, dtype=v.dtype, device=v.device)[None] / horizon
        times = self.time_waves.analyse(times)[0].view(-1, 1, 1) * self.scale
        first = torch.zeros_like(times)
        first[0] = 1.0
        return v.unsqueeze(-3) * first + constant.unsqueeze(-3) * times * weight[:, -1]

    def _positions(self, grid: tuple[int, ...], like: Tensor) -> Float[Tensor, "*waves 1 positions"]:
        settings = (self.frame.spec.axes, self.frame.coordinates, self.waves, grid, like.dtype)
        if torch.compiler.is_compiling():
            return _positions(*settings, like.device)
        return kept(_cached_positions(*settings, str(like.device)))

    @torch.no_grad()
    def _initialise(self, sizes: Sequence[int], decay: float, balanced: bool, mixed: float) -> None:
        width, inputs = self.lift.weight.shape
        space = self.frame.spec.ndim
        kinds, numbers = [*self.waves.kinds], [*self.waves.numbers]
        if self.frame.time_is_axis:
            kinds, numbers = [*kinds, "cosine"], [*numbers, *self.time_waves.numbers]
        share = kept_share(kinds[:space], numbers[:space], sizes[:space], decay)
        nn.init.normal_(self.lift.weight, std=1 / math.sqrt(inputs * (share if balanced else 1)))
        nn.init.zeros_(self.lift.bias)
        scales = [1 / math.sqrt(width)] * len(self.layers)
        if balanced:
            energy = expected_energy(kinds, numbers, decay)
            scales = channel_scales(energy / energy.sum() * self.scale**2, width, len(self.layers), mixed)
        else:
            scales[0] /= math.sqrt(share)  # on the truncating layer only
        for layer, scale in zip(self.layers, scales, strict=True):
            cast(T1Layer, layer).initialise(scale, math.sqrt(mixed))
        nn.init.normal_(self.hidden.weight, std=HEAD_SCALE)
        nn.init.normal_(self.project.weight, std=HEAD_SCALE)


class T1Layer(nn.Module):
    """``v ← keep · v + S₁ S₂ σ(W v)`` on the amplitudes ``(*waves, batch, width)``.

    Channels are mixed with one matrix a wave, waves with one an axis and channel: `pdesurrogate.layers.wave_layer`.

    Args:
        width: channels.
        shape: number of waves of each axis.
        keep: what is kept of the input.
    """

    def __init__(self, width: int, shape: Sequence[int], keep: float) -> None:
        super().__init__()
        self.shape, self.keep = tuple(shape), keep
        self.weight = nn.Parameter(torch.empty(math.prod(shape), width, width))
        self.mixing = nn.ParameterList(torch.empty(width, m, m) for m in shape)

    def initialise(self, channel_scale: float, mixing_gain: float) -> None:
        """Draw normal weights: of the channels with the given deviation, of the waves with ``1/√m``, once the gain."""
        nn.init.normal_(self.weight, std=channel_scale)
        for axis, matrix in enumerate(self.mixing):
            gain = mixing_gain if axis == 0 else 1.0
            nn.init.normal_(matrix, std=gain / math.sqrt(self.shape[axis]))

    def forward(self, v: Float[Tensor, "*waves batch width"]) -> Float[Tensor, "*waves batch width"]:
        """Return the amplitudes after the layer."""
        return wave_layer(v, self.weight, list(self.mixing), self.keep)


def _reference(
    reference_grid: int | Sequence[int], spec: DataSpec, horizon: int, time_is_axis: bool
) -> tuple[int, ...]:
    sizes = (reference_grid,) * spec.ndim if isinstance(reference_grid, int) else tuple(reference_grid)
    if len(sizes) != spec.ndim or min(sizes) < 1:
        raise ValueError(
            f"t1: reference_grid is {reference_grid}; give one positive number, or {spec.ndim} of them for the axes "
            f"{', '.join(spec.axis_names)}."
        )
    return (*sizes, horizon) if time_is_axis else sizes


def _positions(
    axes: tuple[Axis, ...],
    kind: str,
    waves: RealWaves,
    grid: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device | str,
) -> Tensor:
    fields = append_coordinates(torch.zeros(1, 0, *grid, dtype=dtype, device=device), axes, kind)
    return waves.analyse(fields).movedim((0, 1), (-2, -1))


@lru_cache(maxsize=64)
def _cached_positions(
    axes: tuple[Axis, ...],
    kind: str,
    waves: RealWaves,
    grid: tuple[int, ...],
    dtype: torch.dtype,
    device: str,
) -> Tensor:
    with torch.inference_mode(False):
        return _positions(axes, kind, waves, grid, dtype, device)
