"""Errors by scale in the report: exact, for every contender, and for every stage of a boosted model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pdesurrogate.evaluation.run import evaluate
from pdesurrogate.metrics.spectral_errors import DominantModes, modes_of_fields
from pdesurrogate.surrogate import Surrogate


@pytest.fixture
def boosted(make_artifact, wave, spec):
    """A boosted gain, whose dominant modes are those of a slow wave."""
    path = make_artifact(
        "boosted",
        kind="specboost",
        base="gain",
        base_options={"gain": 0.1},
        residual_options={"gain": -1.05},
    )
    surrogate = Surrogate.load(path)
    slow = torch.from_numpy(wave(1, 1))[None, :, :, ::2, ::2]
    energies = modes_of_fields(slow, spec).sum((0, 1))
    surrogate.provenance["dominant_modes"] = DominantModes.of(energies, (16, 16)).to_dict()
    surrogate.save(path)
    return path


@pytest.fixture
def evaluated(boosted, make_artifact, configure):
    """The numbers of an evaluation beside the first stage by itself, and the page."""
    alone = make_artifact("alone", gain=0.1)
    config = configure(artifact=str(boosted), compare=[str(alone)])
    evaluate(config)
    folder = boosted.parent / "evaluation"
    return json.loads((folder / "metrics.json").read_text()), Path(folder / "report.html").read_text()


def test_a_stage_has_a_row_with_the_numbers_of_that_stage_by_itself(evaluated):
    found, page = evaluated
    rows = {row["model"]: row for row in found["results"]}
    stage, alone = rows["SpecBoost, stage 1 of 2"], rows["Gain"]
    assert stage["role"] == "stage"
    for kind in ("rollout", "one_step"):
        assert stage[kind]["relative_l2"]["values"] == alone[kind]["relative_l2"]["values"]
    assert stage["spectral_errors"] == alone["spectral_errors"]
    assert stage["rollout"]["relative_l2"]["values"] != rows["SpecBoost"]["rollout"]["relative_l2"]["values"]
    assert page.count("SpecBoost, stage 1 of 2") > 4
    assert {cost["model"] for cost in found["cost"]} == {"SpecBoost", "SpecBoost, stage 1 of 2", "Gain"}
    assert "Artifact: SpecBoost, stage 1 of 2" not in found["provenance"]


def test_the_bands_add_up_to_the_mean_squared_relative_error_of_all_frames(evaluated):
    found, _ = evaluated
    for row in found["results"]:
        if "refused" in row:
            continue
        errors = row["spectral_errors"]
        values = torch.tensor(row["rollout"]["relative_l2"]["values"], dtype=torch.float64)
        assert sum(errors["nmse"][0]) == pytest.approx(float(values.square().mean()), rel=1e-5)
        assert sum(v[0] for v in errors["by_range"]["nmse"].values()) == pytest.approx(sum(errors["nmse"][0]))


def test_the_error_of_the_dominant_modes_of_training_stands_beside_that_of_the_others(evaluated):
    found, page = evaluated
    alone = next(row for row in found["results"] if row["model"] == "Gain")
    # A gain is off by the same factor in every mode.
    modes = {name: values[0] for name, values in alone["spectral_errors"]["modes"].items()}
    assert modes["dominant"] == pytest.approx(modes["non_dominant"], rel=1e-4)
    assert "non-dominant" in page
    assert "Squared error by scale" in page
    assert "What is not learned" in page
