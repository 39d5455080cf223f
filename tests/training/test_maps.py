"""Maps from a given field to a solution, a -> p: two frames and a static field, through training and evaluation."""

from __future__ import annotations

import json

import pytest
import torch
from omegaconf import OmegaConf

from pdesurrogate.cli import conf_dir
from pdesurrogate.data.generation import generate_splits
from pdesurrogate.evaluation.run import evaluate
from pdesurrogate.solvers import GENERATORS
from pdesurrogate.surrogate import Surrogate
from pdesurrogate.training.run import train

NUMBERS = {"train": 24, "valid": 4, "test": 4}


@pytest.fixture
def darcy(tmp_path):
    generator = GENERATORS.build("darcy", solve_grid=12, grid=12)
    generate_splits(generator, tmp_path / "darcy", NUMBERS, device="cpu")
    return tmp_path / "darcy"


def test_a_surrogate_learns_pressures_from_coefficients_and_is_scored_on_pressures_alone(
    compose_train, darcy, tmp_path
):
    options = ["data=darcy/li", f"data.root={darcy}", "data.grid=null", "model.coordinates=linear"]
    options += ["optim.lr=2e-2", "trainer.figure_every=6", "trainer.max_epochs=6"]
    error = train(compose_train(*options))
    assert error < 0.9  # persistence, no pressure, is off by 1
    surrogate = Surrogate.load(tmp_path / "run" / "artifact.pt")
    assert surrogate.spec.static_channels == (False, True)
    assert "valid/relative_l2/coefficient" not in surrogate.provenance["metrics"]
    assert list((tmp_path / "run").rglob("epoch_0006.png"))
    state = torch.rand(1, 1, 2, 12, 12)
    assert torch.equal(surrogate.step(state, torch.zeros(1, 0))[:, :, 1], state[:, :, 1])

    config = OmegaConf.to_container(OmegaConf.load(conf_dir() / "evaluate.yaml"))
    config.update(artifact=str(tmp_path / "run" / "artifact.pt"), horizon=1, plugins=[], data=None)
    assert evaluate(config) < 1.0
    folder = tmp_path / "run" / "evaluation"
    content = json.loads((folder / "metrics.json").read_text())
    assert content["fields"] == ["pressure"]
    persistence = [r for r in content["results"] if r["role"] == "persistence"]
    assert persistence[0]["rollout"]["relative_l2"]["summary"]["mean"] == pytest.approx(1.0)
    assert "Fields (pressure) on the training grid" in (folder / "report.html").read_text()
