from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdesurrogate.data.windows import WindowIndex


@st.composite
def indices(draw: st.DrawFn) -> WindowIndex:
    history, horizon, stride = (draw(st.integers(1, 5)) for _ in range(3))
    span = stride * (history + horizon - 1) + 1
    return WindowIndex(draw(st.integers(1, 4)), span + draw(st.integers(0, 9)), history, horizon, stride)


@given(indices())
def test_history_and_future_never_overlap_and_are_evenly_spaced(index: WindowIndex) -> None:
    _, start = index[len(index) - 1]
    frames = np.concatenate([index.history_frames(start), index.future_frames(start)])
    assert len(frames) == index.history + index.horizon
    assert (np.diff(frames) == index.stride).all()
    assert frames[0] == start


@given(indices())
def test_every_window_stays_inside_and_the_last_frame_is_reached(index: WindowIndex) -> None:
    last = [index.future_frames(index[i][1])[-1] for i in range(len(index))]
    assert max(last) == index.num_frames - 1
    assert min(index[i][1] for i in range(len(index))) == 0


@given(indices())
def test_every_start_of_every_trajectory_is_used_once(index: WindowIndex) -> None:
    windows = [index[i] for i in range(len(index))]
    expected = [
        (trajectory, start)
        for trajectory in range(index.num_trajectories)
        for start in range(index.num_frames)
        if start + index.stride * (index.history + index.horizon - 1) < index.num_frames
    ]
    assert windows == expected
    span = index.stride * (index.history + index.horizon - 1) + 1
    assert len(index) == index.num_trajectories * (index.num_frames - span + 1)


@given(indices(), st.integers(1, 5))
def test_trajectories_without_room_for_a_window_are_refused(index: WindowIndex, missing: int) -> None:
    with pytest.raises(ValueError, match=f"at least {index.span} frames; there are {index.span - missing}"):
        WindowIndex(1, index.span - missing, index.history, index.horizon, index.stride)


def test_numbers_below_one_and_windows_outside_are_refused() -> None:
    for name in ("history", "horizon", "stride"):
        with pytest.raises(ValueError, match=f"{name} is 0; it must be at least 1"):
            WindowIndex(1, 10, **{name: 0})
    index = WindowIndex(2, 3)
    assert len(index) == 4
    for window in (-1, 4):
        with pytest.raises(IndexError, match="there are 4"):
            index[window]
