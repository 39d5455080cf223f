"""An epoch of training from every format gives the loss that it gives from our own store."""

from __future__ import annotations

import math

import layouts
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pdesurrogate.cli import _register_resolvers, conf_dir
from pdesurrogate.training.run import train

CASES = {
    "li_v5": "li_navier_stokes",
    "li_v7.3": "li_navier_stokes",
    "gfno": "gfno",
    "neuralop_darcy": "neuralop_pt",
    "neuralop_nsforcing": "neuralop_pt",
    "neuralop_burgers": "neuralop_pt",
    "pdebench_rdb": "pdebench",
    "pdebench_diff_react": "pdebench",
    "pdebench_incompressible": "pdebench",
    "pdebench_compressible": "pdebench",
    "pdebench_compressible_3d": "pdebench",
    "pdebench_tensor": "pdebench",
    "pdearena_flow": "pdearena",
    "pdearena_weather": "pdearena",
    "the_well": "the_well",
    "factformer_kolmogorov": "factformer",
    "factformer_smoke": "factformer",
    "factformer_turbulence": "factformer",
    "scalarflow": "scalarflow",
    "spherical_run": "spherical_swe",
    "spherical_pairs": "spherical_swe",
    "custom": "custom",
}


def test_every_layout_is_trained_from():
    """A deflated file differs from its twin in how it is packed alone."""
    assert set(CASES) == set(layouts.LAYOUTS) - {"li_v5_deflated"}


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
        if place == "store":
            config["data"]["rechunk"] = str(tmp_path / "copies")
        errors.append(train(config))
    assert errors[0] == errors[1]
    assert math.isfinite(errors[0])
    assert len(list((tmp_path / "copies").rglob("train.h5"))) == 1


def test_data_without_a_validation_split_are_refused_before_training(made, tmp_path, monkeypatch):
    monkeypatch.setenv("PDESURROGATE_RUN_ID", "test")
    _register_resolvers()
    overrides = ["data=factformer", "logger=none", "run_id=test", f"run_dir={tmp_path}", "model.num_modes=2"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", overrides), resolve=True)
    config["data"].update(made["factformer_kolmogorov"].options, history=1, stride=1, valid=0)
    with pytest.raises(ValueError, match=r"no split 'valid'; it has train, test.*by data\.valid where"):
        train(config)
    assert not any(tmp_path.rglob("*.ckpt"))
