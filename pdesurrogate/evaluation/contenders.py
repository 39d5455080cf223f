"""What is compared: surrogates on the grid of the truth, a coarse run that is resampled, and persistence.

Every contender forecasts on the grid of the history that it is given, so that all of them are scored by the
same code against the same truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ..fields.fourier import resample
from ..surrogate import Surrogate


@runtime_checkable
class Contender(Protocol):
    """Something that forecasts.

    Attributes:
        label: what tables and legends call it.
        role: ``"main"``, ``"compared"``, ``"coarse"`` or ``"persistence"``; decides the colour.
        history: number of frames that it needs.
    """

    @property
    def label(self) -> str: ...  # noqa: D102
    @property
    def role(self) -> str: ...  # noqa: D102
    @property
    def history(self) -> int: ...  # noqa: D102

    def refuses(self, grid: tuple[int, ...]) -> str:
        """Return why it has no row at this grid, in a sentence; empty if it has one."""
        ...

    def forecast(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
        steps: int,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Yield the next ``steps`` frames, one at a time; ``history`` may be longer than needed."""
        ...


@dataclass(frozen=True)
class Native:
    """A surrogate that works on the grid of the truth itself."""

    surrogate: Surrogate
    label: str
    path: Path
    role: str = "main"
    history: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "history", self.surrogate.history)

    def refuses(self, grid: tuple[int, ...]) -> str:
        """Return what the model says against this grid."""
        try:
            self.surrogate.check_grid(grid)
        except ValueError as error:
            return str(error)
        return ""

    def forecast(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
        steps: int,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Yield the rollout."""
        return self.surrogate.rollout(history[:, -self.history :], parameters, steps)


@dataclass(frozen=True)
class Coarse:
    """A surrogate at its training grid: the history is resampled to it, each frame back from it.

    The bar that an operator must clear on a finer grid: if it does not do better than this, it has learnt
    nothing that interpolation would not give. On periodic boxes resampling is exact for what the training
    grid carries, so what is left of the error is the model's and that of the wavenumbers it cannot see.
    """

    surrogate: Surrogate
    label: str
    training_grid: tuple[int, ...]
    role: str = "coarse"
    history: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "history", self.surrogate.history)

    def refuses(self, grid: tuple[int, ...]) -> str:
        """At the training grid it is the model itself; spectral resampling needs a periodic box."""
        if grid == self.training_grid:
            return "the same as the model itself on its training grid."
        if not self.surrogate.spec.is_periodic:
            return "spectral resampling needs periodic axes."
        return ""

    def forecast(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
        steps: int,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Yield the rollout of the training grid on the grid of ``history``."""
        grid = tuple(history.shape[3:])
        restricted = resample(history[:, -self.history :], self.training_grid)
        for frame in self.surrogate.rollout(restricted, parameters, steps):
            yield resample(frame, grid)


@dataclass(frozen=True)
class Persistence:
    """The last frame for ever: a forecast that is worth nothing must at least beat this."""

    label: str = "Persistence"
    role: str = "persistence"
    history: int = 1

    def refuses(self, grid: tuple[int, ...]) -> str:
        """Never."""
        return ""

    def forecast(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
        steps: int,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Yield the last frame ``steps`` times."""
        for _ in range(steps):
            yield history[:, -1]


def line_up(
    main: tuple[Path, Surrogate],
    compared: Sequence[tuple[Path, Surrogate]],
    training_grid: tuple[int, ...],
) -> list[Contender]:
    """Return all contenders: the model, its rivals, its coarse run, persistence."""
    everyone = [main, *compared]
    names = [type(surrogate.model).__name__ for _, surrogate in everyone]
    labels = [
        name if names.count(name) == 1 else f"{name} ({path.parent.name})"
        for name, (path, _) in zip(names, everyone, strict=True)
    ]
    labels = [
        label if labels.count(label) == 1 else f"{label} {i}" for i, label in enumerate(labels, start=1)
    ]
    rows: list[Contender] = [Native(main[1], labels[0], main[0])]
    rows += [
        Native(surrogate, label, path, role="compared")
        for (path, surrogate), label in zip(compared, labels[1:], strict=True)
    ]
    size = " × ".join(map(str, training_grid))
    rows.append(Coarse(main[1], f"{labels[0]} at {size}, resampled", training_grid))
    return [*rows, Persistence()]
