from __future__ import annotations

import pytest
import torch

from pdesurrogate.metrics.ensembles import (
    coverage,
    ensemble_skill,
    ensemble_spread,
    expected_coverage,
    fair_crps,
    spread_skill_ratio,
)


@pytest.fixture
def drawn() -> torch.Tensor:
    """Six members and a truth from one distribution, standard normal at 4096 points."""
    return torch.randn(7, 2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_an_ensemble_whose_truth_is_one_more_member_is_calibrated(drawn, square):
    members, truth = drawn[:6], drawn[6]
    spread, skill = (f(members, truth, square) for f in (ensemble_spread, ensemble_skill))
    assert spread_skill_ratio(spread, skill, 6).mean().item() == pytest.approx(1, abs=0.02)
    assert spread.mean().item() == pytest.approx(1, abs=0.02)
    share = coverage(members, truth, square).mean().item()
    assert share == pytest.approx(expected_coverage(6), abs=0.01)
    assert expected_coverage(6) == 5 / 7


def test_the_fair_score_does_not_depend_on_the_number_of_members(drawn, square):
    truth = drawn[6]
    scores = [fair_crps(drawn[:count], truth, square).mean().item() for count in (2, 3, 6)]
    assert scores == pytest.approx([1 / torch.pi**0.5] * 3, abs=0.03)  # of the standard normal


def test_the_score_is_the_sum_over_all_pairs(drawn, square):
    members, truth = drawn[:4], drawn[6]
    distance = (members - truth).abs().mean(0)
    scatter = (members[:, None] - members[None]).abs().sum((0, 1)) / (2 * 4 * 3)
    expected = (distance - scatter).mean((-2, -1)) / truth.std((-2, -1), correction=0)
    torch.testing.assert_close(fair_crps(members, truth, square), expected)


def test_an_ensemble_that_is_sure_and_wrong_scores_its_error(drawn, square):
    truth = drawn[6]
    members = (truth + truth.std((-2, -1), correction=0, keepdim=True)).expand(3, *truth.shape)
    ones = torch.ones(2, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(fair_crps(members, truth, square), ones)
    torch.testing.assert_close(ensemble_skill(members, truth, square), ones)
    assert ensemble_spread(members, truth, square).abs().max() < 1e-12
    assert coverage(members, truth, square).max() == 0


def test_one_member_is_no_ensemble(drawn, square):
    with pytest.raises(ValueError, match="at least 2 members"):
        fair_crps(drawn[:1], drawn[6], square)
