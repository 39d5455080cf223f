from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pdesurrogate.fields import ChannelStatistics, Normaliser


def blocks_of(values, sizes):
    start = 0
    for size in sizes:
        yield ChannelStatistics.of(torch.from_numpy(values[start : start + size]))
        start += size


def merged(blocks):
    total, *rest = blocks
    for block in rest:
        total = total.merge(block)
    return total


def test_statistics_agree_with_numpy_in_double_precision():
    values = np.random.default_rng(0).normal(3.0, 0.5, (7, 4, 2, 30)).astype(np.float32)
    statistics = ChannelStatistics.of(torch.from_numpy(values))
    flat = values.astype(np.float64).transpose(2, 0, 1, 3).reshape(2, -1)
    assert statistics.count == flat.shape[1]
    np.testing.assert_allclose(statistics.mean, flat.mean(1), rtol=1e-14)
    np.testing.assert_allclose(statistics.std, flat.std(1), rtol=1e-13)


def test_merging_blocks_does_not_cancel_where_the_textbook_formula_does():
    mean, std = 1e9, 1e-2
    values = mean + std * np.random.default_rng(1).standard_normal((60, 1, 50))
    exact = (values - values.mean()).std()
    naive = (values**2).mean() - values.mean() ** 2
    assert abs(naive - exact**2) > 0.5 * exact**2  # the premise: E[u²] - E[u]² is useless here
    statistics = merged(blocks_of(values, [10, 1, 30, 19]))
    assert float(statistics.mean[0]) == pytest.approx(values.mean(), rel=1e-15)
    assert float(statistics.std[0]) == pytest.approx(exact, rel=1e-6)


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), seed=st.integers(0, 50))
def test_any_split_merged_in_any_order_gives_the_statistics_of_the_whole(sizes, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal([[5.0], [-200.0]], [[0.1], [30.0]], (sum(sizes), 2, 3))
    whole = ChannelStatistics.of(torch.from_numpy(values))
    blocks = list(blocks_of(values, sizes))
    rng.shuffle(blocks)
    for order in (blocks, blocks[::-1]):
        total = merged(order)
        assert total.count == whole.count
        torch.testing.assert_close(total.mean, whole.mean, rtol=1e-13, atol=0)
        torch.testing.assert_close(total.m2, whole.m2, rtol=1e-10, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_by_channel(bad):
    frames = torch.zeros(4, 3, 5)
    frames[2, 1, 0] = bad
    with pytest.raises(ValueError, match=r"channels \[1\] hold NaN or infinite values"):
        ChannelStatistics.of(frames)


def test_normalised_fields_have_zero_mean_and_unit_deviation_per_channel():
    u = torch.randn(6, 5, 2, 8, 9) * torch.tensor([0.01, 50.0]).view(2, 1, 1) + torch.tensor(
        [3.0, -7.0]
    ).view(2, 1, 1)
    normaliser = Normaliser.fit(ChannelStatistics.of(u.flatten(-2)))
    v = normaliser.normalise(u).to(torch.float64)
    torch.testing.assert_close(v.mean((0, 1, 3, 4)), torch.zeros(2, dtype=torch.float64), atol=1e-4, rtol=0)
    torch.testing.assert_close(v.std((0, 1, 3, 4)), torch.ones(2, dtype=torch.float64), atol=1e-3, rtol=0)


@pytest.mark.parametrize("space", [(9,), (6, 7), (3, 4, 5)])
def test_denormalising_undoes_normalising_in_every_dimension(space):
    normaliser = Normaliser([3.0, -7.0], [0.5, 50.0])
    u = torch.randn(4, 2, 2, *space)
    torch.testing.assert_close(normaliser.denormalise(normaliser.normalise(u)), u, atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6, 1e-30])
def test_a_constant_channel_is_shifted_but_not_scaled(value):
    u = torch.full((3, 2, 1, 5, 5), value)
    normaliser = Normaliser.fit(ChannelStatistics.of(u.flatten(-2)))
    assert normaliser.std.tolist() == [1.0]
    torch.testing.assert_close(normaliser.normalise(u), torch.zeros_like(u))
    torch.testing.assert_close(normaliser.denormalise(torch.zeros_like(u)), u)


def test_a_small_but_honest_deviation_is_scaled():
    normaliser = Normaliser([0.0, 1.0], [1e-20, 1e-6])
    torch.testing.assert_close(normaliser.std, torch.tensor([1e-20, 1e-6]))


def test_a_deviation_that_single_precision_cannot_hold_counts_as_constant():
    assert Normaliser([0.0], [1e-60]).std.tolist() == [1.0]


def test_parameters_are_normalised_over_trajectories_and_constant_ones_only_shifted():
    parameters = torch.tensor([[1e-3, 0.1], [1e-3, 0.2], [1e-3, 0.6]])
    normaliser = Normaliser.fit(ChannelStatistics.of(torch.randn(4, 1, 6)), parameters)
    v = normaliser.normalise_parameters(parameters)
    torch.testing.assert_close(v[:, 0], torch.zeros(3))
    torch.testing.assert_close(v[:, 1].mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(v[:, 1].std(correction=0), torch.tensor(1.0))


@pytest.mark.parametrize("parameters", [None, torch.zeros(5, 0)])
def test_without_parameters_the_parameter_map_is_empty(parameters):
    normaliser = Normaliser.fit(ChannelStatistics.of(torch.randn(4, 1, 6)), parameters)
    assert normaliser.normalise_parameters(torch.zeros(3, 0)).shape == (3, 0)


def test_the_statistics_travel_in_the_state_dict():
    source = Normaliser([1.0, 2.0], [3.0, 4.0], [5.0], [6.0])
    target = Normaliser([0.0, 0.0], [1.0, 1.0], [0.0], [1.0])
    target.load_state_dict(source.state_dict())
    u = torch.randn(2, 1, 2, 4)
    torch.testing.assert_close(target.normalise(u), source.normalise(u))
    assert not list(source.parameters())


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([1.0, 2.0], [1.0], "vectors of equal length"),
        ([[1.0]], [[1.0]], "vectors of equal length"),
        ([math.nan], [1.0], r"must be finite.* entries \[0\]"),
        ([0.0, 1.0], [1.0, -1.0], r"not negative; entries \[1\]"),
    ],
)
def test_impossible_statistics_are_refused(mean, std, message):
    with pytest.raises(ValueError, match=message):
        Normaliser(torch.tensor(mean), torch.tensor(std))


@pytest.mark.parametrize("channels", [1, 3])
def test_fields_with_another_number_of_channels_are_refused_and_not_broadcast(channels):
    normaliser = Normaliser([1.0, 2.0], [3.0, 4.0])
    for convert in (normaliser.normalise, normaliser.denormalise):
        with pytest.raises(ValueError, match=f"have {channels} channels .* statistics of 2"):
            convert(torch.zeros(2, 1, channels, 4, 4))
