from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pdesurrogate.data.sampling import WindowBatches


def flat(batches: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


def epoch_of(*arguments: int, shuffle: bool, epoch: int = 0, **options: int) -> list[list[int]]:
    batches = WindowBatches(*arguments, shuffle=shuffle, **options)
    batches.set_epoch(epoch)
    return list(batches)


@given(st.integers(1, 200), st.integers(1, 8), st.integers(1, 4), st.integers(0, 5))
def test_training_on_many_ranks_uses_the_batches_of_one(
    num_windows: int, share: int, world_size: int, epoch: int
) -> None:
    batch_size = share * world_size
    assume(num_windows >= batch_size)
    whole = epoch_of(num_windows, batch_size, shuffle=True, epoch=epoch)
    ranks = [
        epoch_of(num_windows, batch_size, shuffle=True, epoch=epoch, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert [flat(slices) for slices in zip(*ranks, strict=True)] == whole
    assert {len(batch) for rank in ranks for batch in rank} == {share}
    assert len(whole) == num_windows // batch_size
    used = [window for batch in whole for window in batch]
    assert len(set(used)) == len(used)
    assert set(used) <= set(range(num_windows))


@given(st.integers(1, 200), st.integers(1, 8), st.integers(1, 4))
def test_evaluation_uses_every_window_once_over_all_ranks(
    num_windows: int, share: int, world_size: int
) -> None:
    assume(num_windows >= world_size)
    batch_size = share * world_size
    ranks = [
        epoch_of(num_windows, batch_size, shuffle=False, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert sorted(window for rank in ranks for batch in rank for window in batch) == list(range(num_windows))
    assert len({len(rank) for rank in ranks}) == 1, "ranks with unequal numbers of batches wait for ever"
    sizes = [len(batch) for rank in ranks for batch in rank]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


def test_evaluation_on_one_rank_keeps_the_order_and_the_batch_size() -> None:
    batches = epoch_of(10, 4, shuffle=False)
    assert flat(batches) == list(range(10))
    assert [len(batch) for batch in batches] == [3, 3, 4]


def test_epochs_and_seeds_give_different_permutations() -> None:
    orders = {
        tuple(flat(epoch_of(64, 8, shuffle=True, epoch=epoch, seed=seed)))
        for epoch in range(4)
        for seed in range(4)
    }
    assert len(orders) == 16
    assert epoch_of(64, 8, shuffle=True, epoch=3, seed=1) == epoch_of(64, 8, shuffle=True, epoch=3, seed=1)


def test_windows_left_out_in_one_epoch_are_used_in_others() -> None:
    used = [set(flat(epoch_of(11, 4, shuffle=True, epoch=epoch))) for epoch in range(20)]
    assert all(len(windows) == 8 for windows in used)
    assert set.union(*used) == set(range(11))
    assert any(a != b for a, b in pairwise(used))


def test_fewer_windows_than_a_batch_form_one_batch() -> None:
    assert [sorted(batch) for batch in epoch_of(6, 16, shuffle=True)] == [[0, 1, 2, 3, 4, 5]]
    two = [epoch_of(6, 16, shuffle=True, rank=rank, world_size=2) for rank in range(2)]
    assert [[len(batch) for batch in rank] for rank in two] == [[3], [3]]
    with pytest.raises(ValueError, match="choose batch_size=6 or"):
        WindowBatches(7, 16, shuffle=True, world_size=2)


@pytest.mark.parametrize("done", [0, 1, 5, 8])
def test_a_restored_sampler_hands_out_the_rest_of_the_epoch_and_then_whole_ones(done: int) -> None:
    batches = WindowBatches(34, 4, shuffle=True, seed=5)
    batches.set_epoch(2)
    whole = list(batches)
    walk = iter(batches)
    for _ in range(done):
        next(walk)
    state = batches.state_dict() if done else {"epoch": 2, "next_batch": 0}
    assert state == {"epoch": 2, "next_batch": done}

    restored = WindowBatches(34, 4, shuffle=True, seed=5)
    restored.load_state_dict(state)
    assert list(restored) == whole[done:]
    assert list(restored) == whole
    restored.set_epoch(3)
    assert list(restored) == epoch_of(34, 4, shuffle=True, seed=5, epoch=3)


def test_impossible_settings_are_refused() -> None:
    for change, message in (
        ({"batch_size": 5, "world_size": 2}, "positive multiple of the number of ranks, 2"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"rank": 2, "world_size": 2}, "rank is 2; with 2 ranks it is 0 to 1"),
        ({"seed": -1}, "seed is -1"),
        ({"num_windows": 1, "world_size": 2}, "1 windows cannot be shared out over 2 ranks"),
    ):
        options = {"num_windows": 10, "batch_size": 4, "shuffle": False} | change
        with pytest.raises(ValueError, match=message):
            WindowBatches(**options)
    with pytest.raises(ValueError, match="cannot skip 3 batches; an epoch has 2"):
        WindowBatches(8, 4, shuffle=True).skip(3)
