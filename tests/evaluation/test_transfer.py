"""What sampling alone does to a model is the analytic number, and errors are split at the training grid's last wave."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from pdesurrogate.evaluation.contenders import Native
from pdesurrogate.evaluation.plan import prepare
from pdesurrogate.evaluation.resolution import carried, error_parts, project, transfer
from pdesurrogate.evaluation.run import run
from pdesurrogate.evaluation.verdict import verdict
from pdesurrogate.fields import Normaliser
from pdesurrogate.surrogate import Surrogate


class Points(nn.Module):
    """A function of neighbouring points, whatever their distance: no function of a field."""

    def forward(self, history, parameters):
        return 0.5 * (history.roll(1, -1) + history.roll(-1, -1))


class Square(nn.Module):
    """A product at points, which has twice the wavenumbers of its factor."""

    def forward(self, history, parameters):
        return history.square()


def native(model: nn.Module, spec, only=None) -> Native:
    surrogate = Surrogate(spec, Normaliser([0.0], [1.0]), model, history=1, horizon=1)
    return Native(surrogate, "model", Path("model.pt"), only=only)


def waves(grid, *modes) -> torch.Tensor:
    """Waves (ky, kx) of amplitude 1 on a grid of the unit square, as one state."""
    y, x = (torch.arange(n, dtype=torch.float32) / n for n in grid)
    return sum(torch.cos(2 * math.pi * (ky * y[:, None] + kx * x)) for ky, kx in modes)[None, None, None]


NOTHING = torch.zeros(1, 0)


@pytest.mark.parametrize(("grid", "kx"), [((32, 32), 5), ((16, 24), -3), ((15, 17), 2)])
def test_a_function_of_neighbours_is_as_inconsistent_as_its_multipliers_differ(spec, grid, kx):
    found = transfer(native(Points(), spec), waves((16, 16), (2, kx)), NOTHING, grid)
    trained, other = (math.cos(2 * math.pi * kx / n) for n in (16, grid[1]))
    assert found.inconsistency.item() == pytest.approx(abs(other / trained - 1), rel=1e-4, abs=1e-6)


def test_a_square_folds_the_wave_that_its_grid_does_not_carry(spec):
    state = waves(
        (16, 16), (0, 6)
    )  # cos² = ½ + ½ cos(12 κx), which 16 points take for the wave 4 and 32 do not
    found = transfer(native(Square(), spec), state, NOTHING, (32, 32))
    assert found.inconsistency.item() == pytest.approx(math.sqrt(0.125 / 0.375), rel=1e-4)
    assert found.aliasing.item() == pytest.approx(0, abs=1e-5)
    coarse = transfer(native(Square(), spec), state, NOTHING, (16, 20))
    assert coarse.aliasing.item() == pytest.approx(0.5 * math.sqrt(0.5) / 0.5, rel=1e-4)


def test_what_no_refined_grid_takes_is_said_and_the_rest_is_measured(spec):
    found = transfer(native(Points(), spec, only=(8, 8)), waves((8, 8), (1, 1)), NOTHING, (8, 8))
    assert found.aliasing is None
    assert "training grid" in found.why_no_aliasing


@pytest.mark.parametrize("grid", [(32, 32), (33, 30)])
def test_errors_are_told_apart_at_the_last_wave_of_the_training_grid(spec, grid):
    truth = waves(grid, (1, 0))
    inside, outside = 0.3 * waves(grid, (-2, 7)), 0.4 * waves(grid, (3, -9))
    parts = error_parts(truth + inside + outside, truth, spec, (16, 16))
    assert parts["within"].item() == pytest.approx(0.3, rel=1e-4)
    assert parts["beyond"].item() == pytest.approx(0.4, rel=1e-4)
    assert parts["truth beyond"].item() == pytest.approx(0, abs=1e-5)


def test_a_projection_keeps_what_it_carries_and_is_its_own_square(spec):
    u = torch.randn(1, 1, 1, 18, 21, generator=torch.Generator().manual_seed(0))
    band = carried((16, 16), spec)
    once = project(u, spec, band)
    torch.testing.assert_close(project(once, spec, band), once, atol=1e-5, rtol=1e-4)
    assert (once * (u - once)).sum().abs() < 1e-3
    assert project(u, spec, (33, 33)) is u


def test_a_model_of_some_grids_is_resampled_around_the_others_and_the_page_says_so(configure):
    config = configure(resolutions=[12, [16, 17], 32])
    evaluation = run(prepare(config), config)
    for grid in ((12, 12), (16, 17)):
        assert "multiples of 8" in evaluation.score(evaluation.main, grid).refused
        runner = evaluation.runner(grid)
        assert runner.role == "coarse"
        assert evaluation.rollout(runner, grid).mean == pytest.approx(
            evaluation.rollout(evaluation.main, (16, 16)).mean, rel=1e-3
        )
    assert evaluation.runner((32, 32)) is evaluation.main
    assert "at 12 × 12, resampled around" in verdict(evaluation)


def test_the_protocol_decides_whether_models_run_on_other_grids(configure):
    def rows(protocol) -> dict[tuple[str, int], bool]:
        config = configure(resolutions=[32], protocol=protocol, solver=False)
        scores = run(prepare(config), config).scores
        return {(s.contender.role, s.grid[0]): not s.refused for s in scores}

    both = {("main", 16): True, ("main", 32): True, ("coarse", 16): False, ("coarse", 32): True}
    persistence = {("persistence", 16): True, ("persistence", 32): True}
    assert rows(["native", "spectral"]) == both | persistence
    # This model takes multiples of 8 points only: its resampled run stays.
    assert rows("native") == both | persistence
    assert rows("spectral") == both | persistence | {("main", 32): False}
