"""Every registered model trains alike in one process and in two, with whole weights in each (ddp) and shares (fsdp).

One pair of gloo processes takes all models in turn, each through the whole of a training.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pdesurrogate.cli import conf_dir
from pdesurrogate.data.store import StoreWriter
from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.fields.spherical.grid import spherical_axes
from pdesurrogate.models import MODELS
from pdesurrogate.models.staged import Staged
from pdesurrogate.surrogate import Surrogate
from pdesurrogate.training.run import train

SCRIPT = Path(__file__).with_name("train_models.py")
PLANE = DataSpec((Field("u"),), (Axis("y", 1.0), Axis("x", 1.0)), 0.1)
SPHERE = PLANE.replace(axes=spherical_axes(), geometry="sphere")
GRIDS = {"plane": (16, 16), "sphere": (8, 16)}
FNO = {"width": 4, "depth": 2, "num_modes": 4}
SMALL_OPTIONS = {
    "fno": FNO,
    "t1": {"width": 4, "depth": 2, "num_modes": 4, "head_width": 8},
    "tfno": {**FNO, "rank": 0.5},
    "unet": {"width": 4, "multipliers": [1, 2], "num_blocks": 1, "groups": 2},
    "localno": {**FNO, "radius": 0.3, "reference_grid": 16},
    "gfno": {**FNO, "width": 2, "group": "p4m"},
    "factformer": {"width": 8, "depth": 1, "heads": 2, "head_dim": 4, "rotary_frequency": 8.0},
    "ffno": FNO,
    "dilated_resnet": {"width": 4, "depth": 1, "dilations": [1, 2]},
    "mgtfno": {"base": "fno", "base_options": FNO},
    "specboost": {"base_options": FNO},
    "ensemble": {"base_options": FNO},
    "sfno": {"width": 4, "depth": 1, "max_degree": 5},
    "lsno": {"width": 4, "depth": 1, "max_degree": 5, "cutoff": 0.8, "encoder_cutoff": 0.5},
}
"""Options for the suite's speed; a model without an entry runs with those of its file."""
OTHERS = {"persistence", "neuralop"}
"""What has nothing to train, and what is a peer's."""
JOINT = {**SMALL_OPTIONS["tfno"], "joint": True, "factorisation": "tt"}
MODELS_HERE = {
    **{kind: (kind, SMALL_OPTIONS.get(kind, {})) for kind in sorted(set(MODELS.names()) - OTHERS)},
    "tfno, joint": ("tfno", JOINT),
}
SHARDED = tuple(name for name, (kind, _) in MODELS_HERE.items() if not issubclass(MODELS.get(kind), Staged))
"""All that are trained as a whole; stages are refused."""
CASES = [*((name, "ddp") for name in MODELS_HERE), *((name, "fsdp") for name in SHARDED)]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Noise on the plane and on the sphere; the windows of validation are an odd number."""
    rng, roots = np.random.default_rng(0), {}
    for geometry, spec in {"plane": PLANE, "sphere": SPHERE}.items():
        roots[geometry] = tmp_path_factory.mktemp(geometry)
        for split, num in {"train": 8, "valid": 3, "test": 1}.items():
            with StoreWriter(
                roots[geometry] / f"{split}.h5",
                spec=spec,
                grid=GRIDS[geometry],
                num_trajectories=num,
                times=np.arange(2) * spec.dt,
                attributes={},
            ) as writer:
                for i in range(num):
                    frames = rng.normal(size=(2, 1, *GRIDS[geometry])).astype(np.float32)
                    writer.write(i, frames, np.zeros(0, np.float32))
                writer.finish()
    return roots


def configured(kind, options, strategy, run_dir, stores):
    """The configuration of a tiny run in double precision, so that Adam does not magnify rounding."""
    geometry = "plane" if "plane" in MODELS.get(kind).geometries else "sphere"
    devices = 1 if strategy == "auto" else 2
    overrides = [
        f"model={kind}",
        f"data.root={stores[geometry]}",
        "data.grid=null",
        "data.batch_size=4",
        "data.history=1",
        f"trainer.strategy={strategy}",
        f"trainer.devices={devices}",
        "trainer.precision=64-true",
        "trainer.max_epochs=2",
        "trainer.log_every=1",
        "trainer.gradient_clip=0.1",
        "optim.lr=1e-2",
        "optim.schedule=constant",  # so that half of a run is the first half of a whole one
        "optim.warmup=0",
        "run_id=test",
        f"run_dir={run_dir}",
    ]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", overrides), resolve=True)
    config["model"] |= options
    return config


@pytest.fixture(scope="module")
def runs(tmp_path_factory, stores, repository):
    """The folders of all runs by name of the model and strategy, ``auto`` for one process."""
    folder = tmp_path_factory.mktemp("runs")
    places = {
        (name, strategy): folder / name.replace(", ", "_") / strategy
        for name, strategy in [*((name, "auto") for name in MODELS_HERE), *CASES]
    }
    configs = {key: configured(*MODELS_HERE[key[0]], key[1], place, stores) for key, place in places.items()}
    one_then_two, two_then_one = folder / "one_then_two", folder / "two_then_one"
    train(half(configured("fno", FNO, "auto", one_then_two, stores)))
    together = [configs[case] for case in CASES]
    together += [configured("fno", FNO, "fsdp", one_then_two, stores) | {"resume": str(one_then_two)}]
    together += [half(configured("fno", FNO, "fsdp", two_then_one, stores))]
    request = folder / "request.json"
    request.write_text(json.dumps({"configs": together}))
    command = [sys.executable, str(SCRIPT), str(request)]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as pair:
        try:
            for key, config in configs.items():
                if key[1] == "auto":
                    train(config)
            errors = pair.communicate(timeout=240)[1]
        finally:
            pair.kill()
    assert pair.returncode == 0, errors[-3000:]
    train(configured("fno", FNO, "auto", two_then_one, stores) | {"resume": str(two_then_one)})
    return places | {("fno", "one then two"): one_then_two, ("fno", "two then one"): two_then_one}


def half(config):
    """The first of the two epochs."""
    return config | {"trainer": config["trainer"] | {"max_epochs": 1}}


def logged(run):
    """Losses, learning rates and errors by name, without what depends on the machine."""
    with (run / "csv" / "version_0" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = [n for n in rows[0] if "valid/" in n or n.endswith(("train/loss", "train/learning_rate"))]
    return {name: [float(row[name]) for row in rows if row[name]] for name in names}


def checkpoint(run):
    (path,) = sorted(run.glob("checkpoints/**/last.ckpt"))[-1:]
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(("name", "strategy"), CASES)
def test_two_processes_have_the_losses_metrics_and_weights_of_one(name, strategy, runs):
    one, two = runs[name, "auto"], runs[name, strategy]
    alone, together = logged(one), logged(two)
    assert alone.keys() == together.keys()
    assert any(key.endswith("train/loss") for key in alone)
    for key, values in alone.items():
        assert together[key] == pytest.approx(values, rel=1e-6), key  # losses are logged in single precision
    alone, together = checkpoint(one)["state_dict"], checkpoint(two)["state_dict"]
    assert alone.keys() == together.keys()
    for key, value in alone.items():
        torch.testing.assert_close(together[key], value, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["one then two", "two then one"])
def test_shares_and_whole_weights_go_on_from_the_checkpoints_of_each_other(name, runs):
    whole, parts = checkpoint(runs["fno", "auto"]), checkpoint(runs["fno", name])
    assert whole["global_step"] == parts["global_step"] == 4
    for key, value in whole["state_dict"].items():
        torch.testing.assert_close(parts["state_dict"][key], value, rtol=1e-8, atol=1e-10)
    one, two = (c["optimizer_states"][0] for c in (whole, parts))
    assert one["state"].keys() == two["state"].keys()
    for index, moments in one["state"].items():
        torch.testing.assert_close(two["state"][index], moments, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("name", SHARDED)
def test_the_artifact_of_a_sharded_training_has_the_whole_best_weights(name, runs):
    run = runs[name, "fsdp"]
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    saved = Surrogate.load(run / "artifact.pt").state_dict()
    assert saved.keys() == {key.removeprefix("surrogate.") for key in best}
    for key, value in saved.items():
        torch.testing.assert_close(best[f"surrogate.{key}"].to(value.dtype), value)
