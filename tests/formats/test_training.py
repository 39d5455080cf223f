"""An epoch of training from every format gives the loss that it gives from our own store."""

from __future__ import annotations

import math

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pdesurrogate.cli import _register_resolvers, conf_dir
from pdesurrogate.training.run import train

CASES = {
    "li_v5": "li_navier_stokes",
    "gfno": "gfno",
    "neuralop_darcy": "neuralop_pt",
    "neuralop_burgers": "neuralop_pt",
    "pdebench_rdb": "pdebench",
    "pdearena_flow": "pdearena",
    "pdearena_weather": "pdearena",
    "the_well": "the_well",
    "factformer_smoke": "factformer",
    "scalarflow": "scalarflow",
    "spherical_pairs": "spherical_swe",
    "custom": "custom",
}


@pytest.mark.parametrize("name", CASES)
def test_an_epoch_gives_the_same_loss_as_from_the_store(made, tmp_path, monkeypatch, name):
    monkeypatch.setenv("PDESURROGATE_RUN_ID", "test")
    _register_resolvers()
    case = made[name]
    on_sphere = case.axes[0][0] == "lat"
    model = ["model=sfno", "model.max_degree=2"] if on_sphere else ["model=fno", "model.num_modes=2"]
    small = [f"data={CASES[name]}", *model, "model.width=4", "model.depth=1", "trainer.max_epochs=1"]
    small += ["trainer.figure_every=0", "logger=none", "run_id=test"]
    errors = []
    for place in ("direct", "store"):
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = OmegaConf.to_container(
                compose("train", [*small, f"run_dir={tmp_path / place}"]), resolve=True
            )
        config["data"].update(case.options, history=1, batch_size=4, stride=1)
        if name == "factformer_smoke":
            config["data"]["split"] = {"rule": "trajectory", "train": 8, "valid": 2, "test": 2}
        if place == "store":
            config["data"]["rechunk"] = str(tmp_path / "copies")
        errors.append(train(config))
    assert errors[0] == errors[1]
    assert math.isfinite(errors[0])
    assert len(list((tmp_path / "copies").rglob("train.h5"))) == 1
