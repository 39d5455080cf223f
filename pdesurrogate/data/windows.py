"""Windows: which frames of which trajectory form one training example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int


def span(history: int, horizon: int, stride: int) -> int:
    """Return the stored frames from the first to the last frame of a window, both included."""
    return stride * (history + horizon - 1) + 1


def require_room(
    num_frames: int, history: int, horizon: int, stride: int, num_steps: int = 1, steps_option: str = ""
) -> None:
    """Refuse windows with the truth of some model steps that trajectories are too short for.

    Args:
        num_frames: stored frames of each trajectory.
        history: input frames of a window.
        horizon: frames of one model step.
        stride: stored frames from one frame of the window to the next.
        num_steps: model steps.
        steps_option: the option that sets their number, where they are several.

    Raises:
        ValueError: naming both factors of what follows the history, and the options that lower them.
    """
    needed = span(history, num_steps * horizon, stride)
    if needed <= num_frames:
        return
    future, advice = f"horizon={horizon}", "Shorten one of them."
    if num_steps > 1:
        future = f"{num_steps} model steps of horizon={horizon} each"
        advice = f"Lower data.horizon, {steps_option}, data.history or data.stride."
    raise ValueError(
        f"history={history}, {future} and stride={stride} need trajectories of at least {needed} frames; there are "
        f"{num_frames}. {advice}"
    )


@dataclass(frozen=True)
class WindowIndex:
    """All windows of ``history`` frames followed by ``horizon`` frames, ``stride`` frames apart.

    A window that starts at frame s has its history at ``s, s + stride, ...`` and its future right after,
    so that history and future never share a frame. It spans ``stride · (history + horizon - 1) + 1``
    stored frames, and a trajectory of F frames has ``F - span + 1`` of them: every start is used once and
    the last frame is reached. Window i is start ``i mod n`` of trajectory ``i // n``.

    Attributes:
        num_trajectories: number of trajectories.
        num_frames: stored frames of each trajectory, F.
        history: input frames of a window.
        horizon: frames to be forecast.
        stride: stored frames from one frame of the window to the next.

    Raises:
        ValueError: if a number is not positive or the trajectories are too short for one window.
    """

    num_trajectories: int
    num_frames: int
    history: int = 1
    horizon: int = 1
    stride: int = 1

    def __post_init__(self) -> None:
        for name in ("history", "horizon", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        require_room(self.num_frames, self.history, self.horizon, self.stride)

    @property
    def span(self) -> int:
        """Stored frames from the first to the last frame of a window, both included."""
        return span(self.history, self.horizon, self.stride)

    @property
    def starts_per_trajectory(self) -> int:
        """Number of windows in one trajectory, ``F - span + 1``."""
        return self.num_frames - self.span + 1

    def __len__(self) -> int:
        return self.num_trajectories * self.starts_per_trajectory

    def __getitem__(self, window: int) -> tuple[int, int]:
        """Return trajectory and first frame of window number ``window``."""
        if not 0 <= window < len(self):
            raise IndexError(f"window {window} was asked for; there are {len(self)}.")
        trajectory, start = divmod(window, self.starts_per_trajectory)
        return trajectory, start

    def places(
        self, windows: Sequence[int] | np.ndarray
    ) -> tuple[Int[np.ndarray, " window"], Int[np.ndarray, " window"]]:
        """Return trajectory and first frame of many windows.

        Raises:
            IndexError: if there is no such window.
        """
        numbers = np.asarray(windows, dtype=np.int64)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self):
            outside = numbers[(numbers < 0) | (numbers >= len(self))][0]
            raise IndexError(f"window {outside} was asked for; there are {len(self)}.")
        return np.divmod(numbers, self.starts_per_trajectory)

    def rows(
        self, trajectory: Int[np.ndarray, " window"], start: Int[np.ndarray, " window"]
    ) -> Int[np.ndarray, " row"]:
        """Return the frames of windows, counted through all trajectories: every history, and then every future."""
        first = (trajectory * self.num_frames + start)[:, None]
        return np.concatenate(
            [(first + self.history_frames(0)).ravel(), (first + self.future_frames(0)).ravel()]
        )

    def history_frames(self, start: int) -> Int[np.ndarray, " history"]:
        """Return the indices of the input frames of a window that begins at frame ``start``."""
        return start + self.stride * np.arange(self.history)

    def future_frames(self, start: int) -> Int[np.ndarray, " horizon"]:
        """Return the indices of the frames to be forecast after ``start``."""
        return start + self.stride * np.arange(self.history, self.history + self.horizon)
