"""Errors that are known beforehand come out of the protocol: on every grid, at every lead time, from every start."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pdesurrogate.evaluation.cost import LiveTensors
from pdesurrogate.evaluation.plan import prepare
from pdesurrogate.evaluation.run import run
from pdesurrogate.surrogate import Surrogate


def evaluated(config):
    return run(prepare(config), config)


def result(evaluation, role, grid):
    contender = next(c for c in evaluation.contenders if c.role == role)
    return evaluation.score(contender, (grid, grid))


def test_a_gain_of_a_tenth_compounds_in_rollouts_and_shows_once_in_single_steps(configure, gain_error):
    evaluation = evaluated(configure(resolutions=[8, 16, 32]))
    expected = torch.tensor([gain_error(0.1, n) for n in range(1, 9)], dtype=torch.float64)
    for grid in (8, 16, 32):
        score = result(evaluation, "main", grid)
        values = score.rollout["relative_l2"].values[..., 0]
        torch.testing.assert_close(values, expected.expand(6, -1), rtol=1e-5, atol=1e-6)
        steps = score.one_step["relative_l2"].values
        torch.testing.assert_close(steps, torch.full((6, 8, 1), 0.1).double(), rtol=1e-5, atol=1e-6)


def test_persistence_has_the_analytic_error_of_a_wave_that_moves_on(configure, wave, replace_waves):
    replace_waves(wave(1, 3)[None])
    score = result(evaluated(configure()), "persistence", 16)
    expected = [2 * abs(math.sin(math.pi * 3 * n / 8)) for n in range(1, 9)]
    torch.testing.assert_close(
        score.rollout["relative_l2"].values[0, :, 0], torch.tensor(expected).double(), rtol=1e-4, atol=1e-5
    )
    steps = score.one_step["relative_l2"].values[0, :, 0]
    torch.testing.assert_close(steps, torch.full((8,), expected[0]).double(), rtol=1e-4, atol=1e-5)


def test_a_coarse_run_resampled_loses_exactly_the_modes_that_its_grid_cannot_carry(
    configure, make_artifact, wave, replace_waves
):
    fine = 0.5
    replace_waves(np.stack([wave(1, 1), wave(1, 1) + fine * wave(0, 12)]))
    evaluation = evaluated(configure(artifact=str(make_artifact(gain=0.0)), resolutions=[32]))
    coarse = result(evaluation, "coarse", 32).rollout["relative_l2"].values[..., 0]
    assert coarse[0].max() < 1e-5
    lost = math.sqrt(fine**2 / (1 + fine**2))
    torch.testing.assert_close(coarse[1], torch.full((8,), lost).double(), rtol=1e-4, atol=1e-5)
    assert result(evaluation, "main", 32).rollout["relative_l2"].values.max() < 1e-5
    assert "same as the model itself" in result(evaluation, "coarse", 16).refused


def test_a_rival_that_cannot_take_a_grid_gets_a_reason_instead_of_numbers(configure, make_artifact):
    rival = make_artifact("rival", kind="unet", width=4, multipliers=[1, 2, 2, 4, 4], num_blocks=1, groups=2)
    evaluation = evaluated(configure(compare=[str(rival)], resolutions=[8]))
    refused = result(evaluation, "compared", 8)
    assert "16" in refused.refused
    assert not refused.rollout
    assert result(evaluation, "compared", 16).rollout["relative_l2"].values.isfinite().all()


def test_contenders_with_different_histories_forecast_the_same_frames(configure, make_artifact):
    rival = make_artifact("rival", history=3, horizon=2, gain=0.2)
    config = configure(compare=[str(rival)], horizon=6)
    evaluation = evaluated(config)
    assert evaluation.lead_in == 3
    for role, gain in (("main", 0.1), ("compared", 0.2)):
        score = result(evaluation, role, 16)
        assert score.rollout["relative_l2"].values.shape == (6, 6, 1)
        assert score.one_step["relative_l2"].mean().mean().item() == pytest.approx(gain, rel=1e-5)
        assert score.rollout["relative_l2"].mean()[1].item() == pytest.approx((1 + gain) ** 2 - 1, rel=1e-5)


def test_the_batch_size_changes_no_number(configure, make_artifact):
    artifact = str(make_artifact(kind="fno", width=4, depth=1, num_modes=4))
    tables = []
    for batch_size in (1, 3, 16):
        evaluation = evaluated(configure(artifact=artifact, batch_size=batch_size))
        score = result(evaluation, "main", 16)
        tables.append((score.rollout["h1"].values, score.one_step["h1"].values))
    for rollout, one_step in tables[1:]:
        torch.testing.assert_close(rollout, tables[0][0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(one_step, tables[0][1], rtol=1e-5, atol=1e-6)


def test_the_error_spectrum_is_the_square_of_the_gain_in_every_band_that_has_energy(configure, gain_error):
    evaluation = evaluated(configure())
    spectra = evaluation.headline.spectra
    assert set(spectra) == {1, 8}
    for lead in (1, 8):
        target, prediction, error = spectra[lead].mean[:, 0]
        energetic = target > 1e-6
        assert energetic.sum() == 2  # |k| = √2 and √8
        factor = gain_error(0.1, lead)
        torch.testing.assert_close(error[energetic], factor**2 * target[energetic], rtol=1e-4, atol=0)
        torch.testing.assert_close(
            prediction[energetic], (1 + factor) ** 2 * target[energetic], rtol=1e-4, atol=0
        )


def test_worst_median_and_best_are_those_of_the_ranking(configure, make_artifact):
    artifact = str(make_artifact(kind="fno", width=4, depth=1, num_modes=4))
    evaluation = evaluated(configure(artifact=artifact))
    per_trajectory = evaluation.headline.rollout["relative_l2"].per_sample()
    cases = {case.rank: case for case in evaluation.cases}
    assert cases["worst"].trajectory == int(per_trajectory.argmax())
    assert cases["best"].trajectory == int(per_trajectory.argmin())
    assert cases["worst"].error > cases["median"].error > cases["best"].error
    shown = cases["worst"]
    assert shown.leads == (1, 2, 4, 8)
    error = (shown.prediction - shown.truth).flatten(1).norm(dim=1) / shown.truth.flatten(1).norm(dim=1)
    row = evaluation.headline.rollout["relative_l2"].values[shown.trajectory, :, 0]
    torch.testing.assert_close(error.double(), row[[n - 1 for n in shown.leads]], rtol=1e-5, atol=1e-6)


def test_one_trajectory_is_shown_once_and_has_no_interval(configure):
    evaluation = evaluated(configure(num_trajectories=1))
    assert [case.rank for case in evaluation.cases] == ["worst"]
    assert math.isnan(evaluation.rollout(evaluation.main, (16, 16)).low)


def test_cost_counts_real_numbers_and_measures_time(configure, make_artifact):
    rival = make_artifact("rival", kind="fno", width=4, depth=1, num_modes=4)
    evaluation = evaluated(configure(compare=[str(rival)]))
    own, other = evaluation.costs
    assert (own.label, own.parameters) == ("Gain", 1)
    assert other.parameters > 4 * 4 * 4 * 3 * 2
    assert 0 < own.ms_per_frame < 1e4
    assert own.grid == (16, 16)


def test_a_rollout_of_a_thousand_steps_holds_as_much_as_one_of_ten(make_artifact):
    surrogate = Surrogate.load(make_artifact(gain=0.0))
    history, none = torch.ones(1, 1, 1, 16, 16), torch.zeros(1, 0)

    def peak(steps):
        with LiveTensors() as live:
            for frame in surrogate.rollout(history, none, steps):
                assert frame.shape == (1, 1, 16, 16)
        return live.peak

    assert peak(1000) == peak(10) < 12 * history.numel() * 4


def test_evaluating_does_not_poison_the_caches_that_training_needs(configure, make_artifact):
    artifact = make_artifact(kind="fno", width=4, depth=1, num_modes=4)
    config = configure(artifact=str(artifact))
    plan = prepare(config)
    run(plan, config)
    history = torch.randn(1, 1, 1, 16, 16)
    plan.main.step(history, torch.zeros(1, 0)).sum().backward()
    assert all(p.grad is not None for p in plan.main.model.parameters())
