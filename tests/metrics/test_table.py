from __future__ import annotations

import json
import math

import pytest
import torch
import torch.multiprocessing as multiprocessing

from pdesurrogate.metrics import MetricTable
from pdesurrogate.metrics.table import bootstrap_interval, mean_interval


def _values() -> torch.Tensor:
    return torch.rand(7, 5, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_the_order_of_arrival_and_the_batch_size_do_not_matter():
    values = _values()
    whole, parts = MetricTable(["a", "b"]), MetricTable(["a", "b"])
    whole.add(range(7), values)
    for lead in reversed(range(5)):
        for ids in ([6, 2, 0], [5, 1], [3, 4]):
            parts.add(torch.tensor(ids), values[ids, lead : lead + 1], first_lead=lead)
    assert parts.samples == list(range(7))
    assert torch.equal(parts.values, values)
    assert torch.equal(parts.interval(), whole.interval())


def test_mean_and_standard_error_are_those_of_the_samples():
    values = _values()
    table = MetricTable(["a", "b"])
    table.add(range(7), values)
    torch.testing.assert_close(table.mean(), values.mean(0))
    torch.testing.assert_close(table.standard_error(), values.std(0) / math.sqrt(7))
    torch.testing.assert_close(table.per_sample(), values.mean((1, 2)))


@pytest.mark.parametrize("skewed", [False, True])
def test_the_interval_of_sixteen_samples_covers_the_mean_about_as_often_as_it_says(skewed):
    generator = torch.Generator().manual_seed(1)
    normal = torch.randn(16, 4000, generator=generator, dtype=torch.float64)
    samples, mean = ((0.3 * normal).exp(), math.exp(0.045)) if skewed else (normal, 0.0)
    low, high = mean_interval(samples, 0.95)
    coverage = ((low < mean) & (high > mean)).double().mean().item()
    assert 0.93 < coverage < 0.965
    assert mean_interval(samples, 0.5)[1].mean() < high.mean()


def test_too_few_samples_have_no_interval():
    assert mean_interval(torch.rand(4, 3)).isnan().all()
    assert mean_interval(torch.rand(5, 3)).isfinite().all()


def test_a_rollout_that_blew_up_counts_as_infinite():
    table = MetricTable(["a"])
    table.add([0, 1, 2], torch.tensor([[[0.1]], [[math.nan]], [[0.2]]]))
    assert table.mean().item() == math.inf
    assert table.interval().isnan().all()
    assert json.loads(json.dumps(table.to_dict(), allow_nan=False))["mean"] == [[None]]


def test_one_sample_has_no_interval():
    table = MetricTable(["a"])
    table.add([4], torch.tensor([[[0.1]]]))
    assert table.interval().isnan().all()
    assert table.standard_error().isnan().all()


def test_gaps_contradictions_and_empty_tables_are_refused():
    table = MetricTable(["a"])
    with pytest.raises(ValueError, match="no sample was evaluated"):
        table.mean()
    table.add([0, 1], torch.zeros(2, 2, 1))
    table.add([0], torch.ones(1, 1, 1), first_lead=2)
    with pytest.raises(ValueError, match="sample 1 lacks lead 2"):
        table.mean()
    table.add([1], torch.ones(1, 1, 1), first_lead=1)
    with pytest.raises(ValueError, match="two different values"):
        table.mean()
    with pytest.raises(ValueError, match="do not fit 2 samples"):
        table.add([0, 1], torch.zeros(1, 1, 1))


def _evaluate_a_share(rank: int, world_size: int, address: str, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=world_size)
    values = _values()
    table = MetricTable(["a", "b"])
    share = [*range(rank, 7, world_size), 0]  # samplers pad the shorter share with a repetition
    table.add(share, values[share])
    torch.save(table.gathered().to_dict(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_give_the_table_of_one_to_the_last_bit(tmp_path):
    address = f"file://{tmp_path}/rendezvous"
    multiprocessing.start_processes(
        _evaluate_a_share, (2, address, str(tmp_path)), nprocs=2, start_method="fork"
    )
    alone = MetricTable(["a", "b"])
    alone.add(range(7), _values())
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == alone.gathered().to_dict()


def test_the_bootstrap_interval_of_a_mean_covers_it_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(200, 30, generator=generator, dtype=torch.float64)
    inside = [low <= 0 <= high for low, high in (bootstrap_interval(row, resamples=400) for row in samples)]
    assert 0.88 <= sum(inside) / len(inside) <= 0.99


def test_the_bootstrap_interval_of_a_median_allows_for_times_beyond_the_horizon():
    times = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, math.inf, math.inf])
    low, high = bootstrap_interval(times, "median")
    assert 1.0 <= low <= 4.5
    assert high == math.inf
    assert all(math.isnan(end) for end in bootstrap_interval(times))
    assert bootstrap_interval(torch.full((6,), 2.0)) == (2.0, 2.0)
    assert all(math.isnan(end) for end in bootstrap_interval(times[:4]))
    with pytest.raises(ValueError, match="'median'"):
        bootstrap_interval(times, "mode")
