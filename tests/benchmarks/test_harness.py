"""The arithmetic of the harness with clocks that are known, and its refusal of unequal contestants."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.harness import NotEqualError, Spread, compare, interleave, require_equal


class FakeClock:
    """A clock that only moves when a contestant says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def taking(self, *seconds):
        """A contestant whose successive calls take these times, the last one for ever."""
        calls = iter(seconds)

        def run():
            run.last = next(calls, run.last)
            self.now += run.last

        run.last = seconds[-1]
        return run


def test_each_contestant_gets_its_own_time():
    clock = FakeClock()
    seconds = interleave({"a": clock.taking(2.0), "b": clock.taking(0.5)}, repeats=3, clock=clock)
    assert seconds == {"a": [2.0] * 3, "b": [0.5] * 3}


def test_warm_up_calls_are_not_measured():
    clock = FakeClock()
    slow_start = clock.taking(60.0, 60.0, 1.0)
    assert interleave({"a": slow_start}, repeats=2, clock=clock, warmup=2) == {"a": [1.0, 1.0]}


def test_the_order_rotates_so_that_everyone_goes_first():
    order = []
    runs = {name: (lambda name=name: order.append(name)) for name in "abc"}
    interleave(runs, repeats=4, warmup=0)
    assert "".join(order) == "abcbcacababc"


def test_the_device_is_waited_for_inside_the_measured_time():
    clock = FakeClock()
    pending = [0.0]

    def launch():
        pending[0] = 3.0

    def settle():
        clock.now += pending[0]
        pending[0] = 0.0

    assert interleave({"a": launch}, repeats=2, clock=clock, settle=settle) == {"a": [3.0, 3.0]}


@pytest.mark.parametrize(("runs", "repeats"), [({}, 3), ({"a": lambda: None}, 0)])
def test_nothing_to_measure_is_refused(runs, repeats):
    with pytest.raises(ValueError, match="at least one of each"):
        interleave(runs, repeats=repeats)


def test_speed_ups_are_paired_within_a_repeat():
    # The machine was ten times slower in the second repeat; the ratio does not see it.
    table = compare({"old": [2.0, 20.0, 2.0], "new": [1.0, 10.0, 1.0]}, "old")
    assert table["new"]["speedup"]["median"] == 2.0
    assert table["new"]["speedup"]["quartiles"] == [2.0, 2.0]
    assert table["new"]["milliseconds"]["median"] == 1000.0
    assert "speedup" not in table["old"]


def test_without_a_baseline_there_are_times_only():
    assert "speedup" not in compare({"a": [1.0], "b": [2.0]}, None)["b"]


def test_median_quartiles_and_interval_are_those_of_order_statistics():
    spread = Spread.of([float(n) for n in range(11, 0, -1)])
    assert (spread.median, spread.quartiles) == (6.0, (3.5, 8.5))
    # 11 numbers: the 2nd and the 10th enclose the median with 98.8 %, the 3rd and the 9th with 93.5 %.
    assert spread.interval == (2.0, 10.0)


def test_five_numbers_or_fewer_give_their_ends_as_interval():
    assert Spread.of([3.0, 1.0, 2.0]).interval == (1.0, 3.0)
    assert Spread.of([7.0]).interval == (7.0, 7.0)
    assert Spread.of([7.0]).quartiles == (7.0, 7.0)


@pytest.mark.parametrize("size", [6, 9, 15, 21, 40])
def test_the_interval_covers_the_median_of_any_distribution_in_19_of_20_cases(size):
    samples = torch.rand(20_000, size).exp()
    low, high = (torch.tensor([Spread.of(row.tolist()).interval for row in samples[:4000]])).T
    median = math.exp(0.5)
    covered = ((low <= median) & (median <= high)).float().mean()
    assert 0.945 <= covered <= 1.0


def test_equal_tensors_pass_and_the_worst_difference_is_returned():
    reference = {"a": torch.ones(4), "b": torch.ones(4)}
    ours = {"a": torch.ones(4), "b": torch.full((4,), 1.001)}
    assert require_equal("outputs", ours, reference, 1e-2) == pytest.approx(1e-3, rel=1e-3)


def test_complex_tensors_are_compared_as_complex_numbers():
    reference = {"a": torch.ones(4, dtype=torch.complex64)}
    with pytest.raises(NotEqualError):
        require_equal("outputs", {"a": reference["a"] * 1j}, reference, 1e-2)


@pytest.mark.parametrize(
    "ours",
    [
        {"a": torch.full((4,), 1.1)},
        {"a": torch.full((4,), float("nan"))},
        {"a": torch.ones(5)},
        {"b": torch.ones(4)},
        {},
    ],
)
def test_what_differs_is_not_timed(ours):
    with pytest.raises(NotEqualError, match="outputs"):
        require_equal("outputs", ours, {"a": torch.ones(4)}, 1e-2)
