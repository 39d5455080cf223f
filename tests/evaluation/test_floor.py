"""The truncation floor of a model on some waves stands beside its errors, and is what it should be."""

from __future__ import annotations

import json

import pytest
import torch

from pdesurrogate.evaluation.metrics_file import to_dict
from pdesurrogate.evaluation.plan import prepare
from pdesurrogate.evaluation.report import render
from pdesurrogate.evaluation.run import console_table, run
from pdesurrogate.fields import Normaliser
from pdesurrogate.models import MODELS
from pdesurrogate.surrogate import Surrogate

OPTIONS = {"width": 4, "depth": 1, "num_modes": 3, "head_width": 8}


@pytest.fixture
def narrow_artifact(make_artifact, tmp_path):
    """A T1 with waves of up to one period, for either meaning of its output."""

    def write(predict="state"):
        template = Surrogate.load(make_artifact())
        torch.manual_seed(0)
        model = MODELS.build("t1", template.spec, 1, 1, **OPTIONS)
        config = {**template.provenance["config"], "model": {"kind": "t1", **OPTIONS}, "predict": predict}
        normaliser = Normaliser([0.2], [1.3], increment_std=[0.4])
        provenance = {**template.provenance, "config": config}
        surrogate = Surrogate(
            template.spec, normaliser, model, history=1, horizon=1, predict=predict, provenance=provenance
        )
        return str(surrogate.save(tmp_path / "t1.pt"))

    return write


def evaluated(config):
    return run(prepare(config), config)


def floors(evaluation):
    return [
        evaluation.floor(evaluation.main, (16, 16), protocol).mean for protocol in ("one_step", "rollout")
    ]


@pytest.mark.parametrize("predict", ["state", "increment"])
def test_it_is_the_energy_of_the_waves_that_are_not_kept(
    predict, configure, wave, replace_waves, narrow_artifact
):
    """A wave of one period with amplitude 3 and one of three with 4; increments carry the latter over at first."""
    replace_waves((3 * wave(0, 1) + 4 * wave(3, 0))[None])
    evaluation = evaluated(configure(artifact=narrow_artifact(predict)))
    expected = 0.8 if predict == "state" else 0.0  # the second wave stands still
    assert floors(evaluation) == pytest.approx([expected] * 2, abs=1e-5)
    errors = evaluation.one_step(evaluation.main, (16, 16)).mean
    assert errors > expected


def test_it_is_printed_in_the_report_the_numbers_and_the_console(
    configure, wave, replace_waves, narrow_artifact
):
    replace_waves((3 * wave(0, 1) + 4 * wave(3, 0))[None])
    evaluation = evaluated(configure(artifact=narrow_artifact()))
    assert "floor 80" in render(evaluation)
    assert "<i>Floor</i>" in render(evaluation)
    assert any(line.startswith("  its floor") and line.count("80") == 2 for line in console_table(evaluation))
    content = json.loads(json.dumps(to_dict(evaluation)))
    (own,) = [result for result in content["results"] if result["role"] == "main"]
    assert own["floor"]["one_step"]["summary"]["mean"] == pytest.approx(0.8, abs=1e-5)


def test_models_that_can_predict_every_field_have_none(configure):
    evaluation = evaluated(configure())
    assert evaluation.floor(evaluation.main, (16, 16), "one_step") is None
    assert "loor" not in render(evaluation).split("</style>")[1]
