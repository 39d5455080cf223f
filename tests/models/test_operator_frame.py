"""The way into an operator's layout and back: nothing is lost, nothing leaks, and messages name the model."""

import pytest
import torch

from pdesurrogate.models.operator_frame import OperatorFrame, _appended_to_open, _is_rational


def frame_of(case, **options):
    return OperatorFrame("wavelet", case.spec, case.history, case.horizon, **options)


@pytest.mark.parametrize("options", [{}, {"coordinates": "periodic"}, {"time": "axis", "padding": 0.25}])
def test_channels_of_what_enters_are_those_that_it_announces(options, channel, sample_windows):
    frame = frame_of(channel._replace(history=3), **options)
    u = frame.enter(*sample_windows(channel._replace(history=3)))
    time = [2] if frame.time_is_axis else []
    assert u.shape == (2, *time, *((12, 8) if not time else (8, 12)), frame.in_channels)


def test_frames_that_enter_as_channels_leave_as_the_frames_they_were(case, sample_windows):
    """History and horizon of the same length, and no parameters: what enters is what leaves."""
    case = case._replace(history=3, horizon=3, spec=case.spec.replace(parameters=()))
    frames, parameters = sample_windows(case)
    frame = frame_of(case)
    assert frame.in_channels == frame.out_channels
    assert torch.equal(frame.leave(frame.enter(frames, parameters)), frames)


def test_with_time_as_an_axis_every_lead_time_sees_the_history_and_its_own_number(box, sample_windows):
    case = box._replace(horizon=4)
    frames, parameters = sample_windows(case)
    frame = frame_of(case, time="axis", padding=0.5)
    u = frame.enter(frames, parameters)
    assert torch.equal(u[..., -1].amin((2, 3, 4)), (torch.arange(4) / 4).expand(2, -1))
    for lead in range(4):
        assert torch.equal(u[:, lead, ..., 0], frames[:, 0, 0])
    assert frame.leave(u[..., :1]).shape == (2, 4, 1, *case.grid)


def test_padding_acts_on_open_axes_alone_and_cropping_undoes_it(channel, sample_windows):
    frame = frame_of(channel, time="axis", padding=0.5)
    assert frame.axis_names == ("y", "x", "time")
    assert frame.fractions == (0.5, 0.0, 0.5)
    u = frame.enter(*sample_windows(channel))
    padded = frame.pad(u)
    assert padded.shape == (2, 3, 12, 12, frame.in_channels)
    assert padded.abs().sum() == u.abs().sum()
    assert torch.equal(frame.crop(padded, u), u)


def test_points_are_alike_until_coordinates_or_padding_in_space_tell_them_apart(plane, channel):
    assert frame_of(channel).treats_points_alike
    assert frame_of(plane, time="axis", padding=0.5).treats_points_alike
    assert not frame_of(channel, padding=0.5).treats_points_alike
    assert not frame_of(plane, coordinates="linear").treats_points_alike


def test_kept_modes_are_checked_on_the_padded_grid(channel):
    frame = frame_of(channel, padding=0.5)
    frame.check_grid((8, 12), frame.modes_per_axis(12))
    with pytest.raises(ValueError, match=r"14 modes on axis 'y'.*at most 12"):
        frame.check_grid((8, 14), (14, 14))
    frame.check_grid((2, 2))  # a model without modes takes any


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"time": "axes"}, "wavelet: time is 'axes'. Did you mean 'axis'"),
        ({"padding": 2.0}, "wavelet: padding is 2.0; it is a fraction"),
        ({"padding": 0.5}, "wavelet: padding is 0.5 but every axis is periodic"),
    ],
)
def test_messages_begin_with_the_name_of_the_model(options, sentence, plane, channel, caplog):
    with pytest.raises(ValueError, match=sentence):
        frame_of(plane, **options)
    with pytest.raises(ValueError, match="wavelet: horizon is 0"):
        frame_of(plane._replace(horizon=0))
    with pytest.raises(ValueError, match="wavelet: num_modes is"):
        frame_of(plane).modes_per_axis([3, 3, 3])
    with pytest.raises(ValueError, match="wavelet was built for 2 axes"):
        frame_of(plane).check_grid((8,))
    frame_of(channel)
    assert caplog.text.count("wavelet: padding is 0") == 1


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.1, 0.125, 0.3, 1 / 3, 1.0])
def test_padding_of_open_sizes_is_counted_in_whole_numbers(fraction):
    assert _is_rational(fraction)
    assert [_appended_to_open(n, fraction) for n in range(1, 50)] == [
        round(fraction * n) for n in range(1, 50)
    ]


def test_a_fraction_whose_products_round_by_accident_has_no_program_for_any_grid():
    assert round(0.14 * 75) == 11  # 0.14 · 75 is 10.5, and a little more in floating point
    assert not _is_rational(0.14)
