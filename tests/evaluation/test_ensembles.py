"""Several artifacts as one, and members inside one artifact: mean, spread and coverage are the known ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from pdesurrogate.evaluation.cost import Cost, joint_cost
from pdesurrogate.evaluation.plan import prepare
from pdesurrogate.evaluation.run import evaluate, run


@pytest.fixture
def joined(configure, make_artifact):
    """A configuration of gains of a tenth, two and three tenths that make one forecast."""
    others = [str(make_artifact(f"seed{n}", gain=gain)) for n, gain in ((1, 0.2), (2, 0.3))]
    return configure(ensemble=others)


def test_artifacts_are_joined_by_the_mean_of_their_own_rollouts(joined):
    evaluation = run(prepare(joined), joined)
    (row,) = [c for c in evaluation.contenders if c.role == "ensemble"]
    values = evaluation.score(row, (16, 16)).rollout["relative_l2"].values[..., 0]
    expected = [sum((1 + g) ** n - 1 for g in (0.1, 0.2, 0.3)) / 3 for n in range(1, 9)]
    torch.testing.assert_close(values, torch.tensor(expected).double().expand(6, -1), rtol=1e-4, atol=1e-5)


def test_an_ensemble_costs_all_of_its_members_and_every_file_is_named(joined):
    evaluation = run(prepare(joined), joined)
    own, all_of_them = evaluation.costs
    assert (own.parameters, all_of_them.parameters) == (1, 3)
    assert all_of_them.label == "Ensemble of 3 artifacts"
    assert all_of_them.ms_per_frame > own.ms_per_frame
    files = [facts["file"] for name, facts in evaluation.provenance.items() if name.startswith("Artifact")]
    assert files == [joined["artifact"], *joined["ensemble"]]


def test_peak_memory_of_an_ensemble_is_all_weights_and_the_largest_step():
    # 2**18 numbers in single precision are 1 MiB.
    members = [Cost("", 2**18, 2.0, 1 + step, (16, 16), "cpu, 1 thread") for step in (0.5, 3.0)]
    found = joint_cost("both", members)
    assert found.peak_mib == pytest.approx(2 + 3.0)
    assert (found.parameters, found.ms_per_frame) == (2**19, 4.0)


def test_spread_and_skill_of_gains_are_those_of_their_powers(joined):
    evaluation = run(prepare(joined), joined)
    (found,) = evaluation.ensembles
    assert (found.num_members, found.are_alike, found.expected_coverage) == (3, True, 0.5)
    powers = torch.tensor([[(1 + g) ** n for n in range(1, 9)] for g in (0.1, 0.2, 0.3)]).double()
    spread, skill = powers.std(0), powers.mean(0) - 1
    for name, expected in (("spread", spread), ("skill", skill)):
        values = found.tables[name].values[..., 0]
        torch.testing.assert_close(values, expected.expand(6, -1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.ratio[:, 0], math.sqrt(4 / 3) * spread / skill, rtol=1e-4, atol=1e-5)
    assert found.tables["coverage"].values.mean() < 0.1  # all members err to one side


def test_members_of_one_artifact_are_found_and_stages_are_called_what_they_are(configure, make_artifact):
    seeds = make_artifact("seeds", kind="ensemble", base="gain", num_members=2)
    boosted = make_artifact(
        "boosted", kind="specboost", base="gain", residual_options={"gain": -1.05}, base_options={"gain": 0.1}
    )
    config = configure(artifact=str(seeds), compare=[str(boosted)])
    evaluate(config)
    folder = seeds.parent / "evaluation"
    found = json.loads((folder / "metrics.json").read_text())["ensembles"]
    assert [(e["model"], e["members"], e["are_alike"]) for e in found] == [
        ("Ensemble", 2, True),
        ("SpecBoost", 2, False),
    ]
    assert max(v[0] for row in found[0]["spread"]["values"] for v in row) == 0  # two gains of a tenth
    page = Path(folder / "report.html").read_text(encoding="utf-8")
    assert "Spread and skill" in page
    assert "no draws from one distribution" in page


def test_a_member_of_other_data_is_refused_by_its_name(configure, make_artifact, spec):
    other = make_artifact("other", spec=spec.replace(dt=0.5))
    with pytest.raises(ValueError, match=str(other)):
        prepare(configure(ensemble=[str(other)]))
