"""What data generation needs to know about an ensemble of solutions of one PDE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from pdesurrogate.fields import DataSpec
from pdesurrogate.version import __version__

from .equation import Equation


@runtime_checkable
class TrajectoryGenerator(Protocol):
    """An ensemble of trajectories, numbered 0, 1, 2, ...

    Trajectory ``i`` is a function of the generator's options (its seed is one of them) and of ``i``: never of
    the other trajectories that are solved beside it.

    Attributes:
        spec: what the fields are.
        grid: the grid that frames are returned on, in array order.
        times: time of each frame in ``spec.time_units``, float64.
        attributes: every option that the numbers depend on, and facts for readers; text and numbers only.
    """

    @property
    def spec(self) -> DataSpec: ...  # noqa: D102
    @property
    def grid(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def times(self) -> np.ndarray: ...  # noqa: D102
    @property
    def attributes(self) -> Mapping[str, Any]: ...  # noqa: D102

    def parameters(self, indices: Sequence[int]) -> Float32[np.ndarray, "batch parameter"]:
        """Return the PDE parameters of some trajectories, in the order of ``spec.parameters``."""
        ...

    def frames(
        self,
        indices: Sequence[int],
        device: torch.device | str = "cpu",
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Solve some trajectories together and yield one frame after the other, in physical units.

        Args:
            indices: which trajectories.
            device: where to solve.
            names: what messages call the trajectories; their indices by default.
        """
        ...


class MarchedEquation(Equation, Protocol):
    """An equation that is solved in steps of time.

    Attributes:
        dt: the longest step; None for steps as long as the state allows.
    """

    @property
    def dt(self) -> float | None: ...  # noqa: D102


@runtime_checkable
class ContinuableGenerator(TrajectoryGenerator, Protocol):
    """An ensemble whose solutions can go on from any of its frames, on other grids too.

    Attributes:
        solve_grid: the grid on which it is solved, in array order.
        has_whole_states: whether a frame is all that goes on in time. If not, `continued` solves up to it.
    """

    @property
    def solve_grid(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def has_whole_states(self) -> bool: ...  # noqa: D102

    def continued(
        self,
        frame: Float[Tensor, "batch channel *space"],
        indices: Sequence[int],
        *,
        elapsed: float,
        grid: Sequence[int],
        dt: float | None = None,
    ) -> tuple[MarchedEquation, Float[Tensor, "batch variable *grid"]]:
        """Return the equation with what was drawn for some trajectories, and its state on a grid at a frame.

        The equation refuses no resolution.

        Args:
            frame: of these trajectories.
            indices: which trajectories.
            elapsed: time of the frame since the ensemble's first one.
            grid: that of the state.
            dt: time step; that of the ensemble by default. Of no consequence where steps are adaptive.

        Raises:
            ValueError: if frames lack a part of the state that cannot be had otherwise, or the grid is too coarse.
        """
        ...

    def seen(
        self, state: Float[Tensor, "batch variable *space"], grid: Sequence[int]
    ) -> Float[Tensor, "batch channel *grid"]:
        """Return the frame of a state, on another grid."""
        ...


def common_attributes(spec: DataSpec, dtype: torch.dtype, seed: int) -> dict[str, Any]:
    """Return what every generator says of itself, to go with what only it can say."""
    return {
        "equation": spec.equation,
        "dtype": str(dtype).removeprefix("torch."),
        "seed": seed,
        "pdesurrogate_version": __version__,
    }
