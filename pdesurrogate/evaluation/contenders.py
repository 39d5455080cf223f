"""What is compared: surrogates on the grid of the truth, a run at the training grid that is resampled, persistence.

Every contender forecasts on the grid of the history that it is given, so that all of them are scored by the
same code against the same truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields.regridding import can_resample, on_other_grid
from ..models.specboost import SpecBoost
from ..surrogate import Surrogate

PROTOCOLS = ("native", "spectral")


@runtime_checkable
class Contender(Protocol):
    """Something that forecasts.

    Attributes:
        label: what tables and legends call it.
        role: ``"main"``, ``"compared"``, ``"stage"`` (of one of them), ``"coarse"``, ``"ensemble"`` or
            ``"persistence"``; decides the colour.
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
    """A surrogate that works on the grid of the truth itself.

    Attributes:
        only: the one grid on which it is to run; None for every grid that the model takes.
    """

    surrogate: Surrogate
    label: str
    path: Path
    role: str = "main"
    only: tuple[int, ...] | None = None
    history: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "history", self.surrogate.history)

    def refuses(self, grid: tuple[int, ...]) -> str:
        """Return what the model, or the protocol, says against this grid."""
        if self.only is not None and grid != self.only:
            return "protocol=spectral asks for runs at the training grid alone."
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

    def nearest(
        self,
        history: Float[Tensor, "batch history channel *space"],
        truth: Float[Tensor, "batch time channel *space"],
    ) -> Float[Tensor, "batch time channel *space"] | None:
        """Return the frames nearest to the truth that the model can predict; None if it knows no such bound."""
        return self.surrogate.nearest(history, truth)


@dataclass(frozen=True)
class Coarse:
    """A surrogate at its training grid: the history is resampled to it, each frame back from it.

    The bar that an operator must clear on a finer grid: if it does not do better than this, it has learnt
    nothing that interpolation would not give. On periodic boxes and on spheres resampling is exact for what the
    training grid carries, so what is left of the error is the model's and that of the wavenumbers it cannot see.
    """

    native: Native
    training_grid: tuple[int, ...]
    role: str = "coarse"
    label: str = field(init=False)
    history: int = field(init=False)

    def __post_init__(self) -> None:
        size = " × ".join(map(str, self.training_grid))
        object.__setattr__(self, "label", f"{self.native.label} at {size}, resampled")
        object.__setattr__(self, "history", self.native.history)

    def refuses(self, grid: tuple[int, ...]) -> str:
        """At the training grid it is the model itself; spectral resampling needs a periodic box or a sphere."""
        if grid == self.training_grid:
            return "the same as the model itself on its training grid."
        return "" if can_resample(self.native.surrogate.spec) else "spectral resampling needs periodic axes."

    def forecast(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
        steps: int,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Yield the rollout of the training grid on the grid of ``history``."""
        spec, grid = self.native.surrogate.spec, tuple(history.shape[3:])
        restricted = on_other_grid(history[:, -self.history :], spec, self.training_grid)
        for frame in self.native.surrogate.rollout(restricted, parameters, steps):
            yield on_other_grid(frame, spec, grid)


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


@dataclass(frozen=True)
class Joined:
    """Several artifacts as one: the mean of their rollouts, each of which feeds on its own output.

    Attributes:
        members: the surrogates, such as seeds of one model.
    """

    members: tuple[Native, ...]
    role: str = "ensemble"
    label: str = field(init=False)
    history: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", f"Ensemble of {len(self.members)} artifacts")
        object.__setattr__(self, "history", max(member.history for member in self.members))

    def refuses(self, grid: tuple[int, ...]) -> str:
        """Return what the first member says that cannot take this grid."""
        return next((reason for member in self.members if (reason := member.refuses(grid))), "")

    def forecast(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
        steps: int,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Yield the mean over members."""
        rollouts = [member.forecast(history, parameters, steps) for member in self.members]
        for frames in zip(*rollouts, strict=True):
            yield torch.stack(frames).mean(0)


def line_up(
    main: tuple[Path, Surrogate],
    compared: Sequence[tuple[Path, Surrogate]],
    joined: Sequence[tuple[Path, Surrogate]] = (),
    protocol: Sequence[str] = PROTOCOLS,
) -> list[Contender]:
    """Return all rows: the model and its rivals, each followed by its coarse run and its stages, then persistence.

    A surrogate that does not say on which grid it was trained has no coarse run. The stages of a boosted model are
    what it forecast after each of them, but for the last, which is the model.

    Args:
        main: the surrogate under test, and its file.
        compared: its rivals.
        joined: artifacts that make an ensemble with the main one.
        protocol: how models run on other grids than that of their training: ``"native"`` (there), ``"spectral"`` (at
            the training grid, resampled), or both.
    """
    everyone = [main, *compared]
    rows: list[Contender] = []
    for (path, surrogate), label in zip(everyone, _labels(everyone), strict=True):
        trained = surrogate.provenance.get("training_grid")
        only = tuple(trained) if trained and "native" not in protocol else None
        native = Native(surrogate, label, path, role="compared" if rows else "main", only=only)
        rows.append(native)
        if trained and ("spectral" in protocol or runs_elsewhere(surrogate)):
            rows.append(Coarse(native, tuple(trained)))
        if isinstance(surrogate.model, SpecBoost):
            *earlier, _ = surrogate.members().items()
            rows += [
                Native(member, f"{label}, {name}", path, role="stage", only=only) for name, member in earlier
            ]
    if joined:
        members = [Native(surrogate, "", path, role="member") for path, surrogate in (main, *joined)]
        rows.append(Joined(tuple(members)))
    return [*rows, Persistence()]


def runs_elsewhere(surrogate: Surrogate) -> bool:
    """Return whether a model declares that it does not take every grid: others have to be resampled around it."""
    return str(getattr(surrogate.model, "grids", "any")) != "any"


def native_of(contender: Contender) -> Native | None:
    """Return the surrogate's own row of a row; persistence has none."""
    if isinstance(contender, Coarse):
        return contender.native
    return contender if isinstance(contender, Native) else None


def _labels(artifacts: Sequence[tuple[Path, Surrogate]]) -> list[str]:
    """Return a name for each artifact: of its model, with its folder and number where that is not unique."""
    names = [_model_name(surrogate) for _, surrogate in artifacts]
    taken = [*names, Persistence.label]
    labels = [
        name if taken.count(name) == 1 else f"{name} ({path.absolute().parent.name})"
        for name, (path, _) in zip(names, artifacts, strict=True)
    ]
    return [label if labels.count(label) == 1 else f"{label} {i}" for i, label in enumerate(labels, start=1)]


def _model_name(surrogate: Surrogate) -> str:
    """Return what papers call a model: a class of another library by that library's name for it."""
    model = surrogate.provenance.get("config", {}).get("model", {})
    if model.get("kind") == "neuralop" and "name" in model:
        return f"neuraloperator {model['name']}"
    name = type(surrogate.model).__name__
    return {"UNet": "U-Net"}.get(name, name)
