"""Tensorised Fourier neural operator: an FNO whose spectral weights are low-rank tensors.

Kossaifi, Kovachki, Azizzadenesheli, Anandkumar, "Multi-Grid Tensorized Fourier Neural Operator for High-Resolution
PDEs", TMLR 2024, arXiv:2310.00120. The layers are those of `pdesurrogate.models.fno`; the weights ``R`` of one layer,
or of all layers together, are a tensor in Tucker, CP or tensor-train form, and its factors are what is learned, see
`pdesurrogate.layers.factorised_weights`. The equations follow the authors' released code, neuraloperator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from ..fields import DataSpec
from ..layers import (
    FactorisedSpectralWeights,
    check_backend,
    check_memory,
    check_precision,
    pointwise_map,
)
from . import MODELS
from .fno import FNOBlock
from .operator_frame import OperatorFrame
from .options import require_at_least, require_geometry


@MODELS.register("tfno")
class TFNO(nn.Module):
    """Tensorised Fourier neural operator on a periodic box, or on a padded one.

    Frames, parameters and time enter as in `pdesurrogate.models.fno.FNO`.

    Args:
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        width: channels of the lifted field.
        depth: number of Fourier layers.
        num_modes: kept modes per axis, counting both signs: one number for all axes, or one per axis in
            the order of ``spec.axes``, followed by time for ``time="axis"``.
        factorisation: form of the spectral weights, ``"tucker"``, ``"cp"`` or ``"tt"``.
        rank: share of the dense spectral weights' numbers that the factors have, above 0 and at most 1.
        joint: one tensor for all layers, as in the paper, or a tensor for each.
        separable: spectral weights that mix no channels: a number for every channel and mode.
        contraction: how the factors act, ``"auto"``, ``"factorised"`` or ``"reconstructed"``, see
            `pdesurrogate.layers.FactorisedSpectralWeights`; it changes speed and rounding only.
        time: ``"channels"`` or ``"axis"``.
        channel_mlp: hidden width of a layer's channel MLP as a fraction of ``width``; 0 leaves it out.
        lift_ratio: hidden width of the lifting MLP over ``width``; 0 makes it linear.
        projection_ratio: hidden width of the projection MLP over ``width``; 0 makes it linear.
        coordinates: positions in space as channels, ``"none"``, ``"linear"`` or ``"periodic"``, see
            `pdesurrogate.layers.append_coordinates`.
        padding: zeros appended to every non-periodic axis (time included), as a fraction of its size.
        backend: route of the transforms, see `pdesurrogate.layers.spectral_conv`.
        memory: what the backward pass keeps, see `pdesurrogate.layers.fourier_layer`.
        precision: arithmetic inside, see `pdesurrogate.layers.precision`; factors are multiplied in float32.

    Raises:
        ValueError: if an option is out of range, ``num_modes`` does not fit the dimension, the horizon
            cannot carry the modes in time, or ``padding`` has no axis to act on.
    """

    geometries: ClassVar[frozenset[str]] = frozenset({"plane"})
    memory_options: ClassVar[tuple[str, ...]] = ("memory=minimal", "num_modes", "depth", "width")
    symmetries: frozenset[str] = frozenset({"shift"})
    grids: str = "any"

    def __init__(
        self,
        spec: DataSpec,
        history: int,
        horizon: int,
        *,
        width: int = 32,
        depth: int = 4,
        num_modes: int | Sequence[int] = 24,
        factorisation: str = "tucker",
        rank: int | float = 0.1,
        joint: bool = False,
        separable: bool = False,
        contraction: str = "auto",
        time: str = "channels",
        channel_mlp: int | float = 0.5,
        lift_ratio: int | float = 2.0,
        projection_ratio: int | float = 2.0,
        coordinates: str = "none",
        padding: int | float = 0.0,
        backend: str = "auto",
        memory: str = "lean",
        precision: str = "full",
    ) -> None:
        super().__init__()
        require_geometry("tfno", spec, self.geometries)
        require_at_least("tfno", 1, width=width, depth=depth)
        require_at_least(
            "tfno", 0, channel_mlp=channel_mlp, lift_ratio=lift_ratio, projection_ratio=projection_ratio
        )
        check_backend(backend)
        check_memory(memory)
        self.memory = memory
        check_precision(precision)
        self.frame = OperatorFrame("tfno", spec, history, horizon, time, coordinates, padding)
        self.num_modes = self.frame.modes_per_axis(num_modes)
        if not self.frame.treats_points_alike:
            self.symmetries = frozenset()

        # Lifting and projection are a small share of the work, and rounding the output would be seen in every error.
        pointwise = {"memory": memory, "precision": "full" if precision == "bf16" else precision}
        engine = {"backend": backend, "memory": memory, "precision": precision}
        hidden = round(channel_mlp * width)
        self.lift = pointwise_map(self.frame.in_channels, int(lift_ratio * width), width, **pointwise)
        self.spectral = FactorisedSpectralWeights(
            depth,
            width,
            width,
            self.num_modes,
            factorisation=factorisation,
            rank=rank,
            joint=joint,
            separable=separable,
            contraction=contraction,
        )
        self.blocks = nn.ModuleList(
            FNOBlock(
                width,
                self.num_modes,
                hidden,
                first=i == 0,
                last=i == depth - 1,
                engine=engine,
                owns_spectral=False,
            )
            for i in range(depth)
        )
        self.project = pointwise_map(
            width, int(projection_ratio * width), self.frame.out_channels, **pointwise
        )

    def check_grid(self, grid: Sequence[int]) -> None:
        """Refuse a grid that cannot carry the kept modes.

        Raises:
            ValueError: naming the axis and the largest allowed number of modes.
        """
        self.frame.check_grid(grid, self.num_modes)

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the next ``horizon`` frames, normalised.

        Raises:
            TypeError: if the history is not real and floating.
            ValueError: if there is no sample, or the grid cannot carry the kept modes.
        """
        self.check_grid(history.shape[3:])
        u = self.frame.enter(history, parameters)
        v = self.frame.pad(self.lift(u))
        for layer, block in enumerate(self.blocks):
            v = block(v, self.spectral.mixing(layer, batch=v.shape[0]))
        return self.frame.leave(self.project(self.frame.crop(v, u)).to(history.dtype))

    @property
    def spectral_compression(self) -> float:
        """How many times fewer real parameters the spectral weights have than dense ones of the same kind."""
        return self.spectral.num_dense_parameters / self.spectral.num_parameters

    @property
    def compression(self) -> float:
        """How many times fewer real parameters the whole model has than with dense spectral weights."""
        total = sum(parameter.numel() for parameter in self.parameters())
        return (total - self.spectral.num_parameters + self.spectral.num_dense_parameters) / total

    @property
    def summary(self) -> str:
        """What the training log says of the model: sizes, counted in real numbers."""
        factors, dense = self.spectral.num_parameters, self.spectral.num_dense_parameters
        return (
            f"spectral weights: {factors:,} real numbers for {dense:,} ({self.spectral_compression:.3g} times fewer; "
            f"the whole model {self.compression:.3g} times), {self.spectral.factorisation} ranks {self.spectral.ranks}"
        )
