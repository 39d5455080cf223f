"""Every configuration file that is shipped composes, and what it names can be built."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.utils import _locate as locate
from hydra.utils import get_class
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf, SlurmQueueConf
from omegaconf import OmegaConf

from pdesurrogate.cli import COMMANDS, conf_dir
from pdesurrogate.config_errors import check_group_options
from pdesurrogate.data import DATASETS
from pdesurrogate.data.opening import open_data
from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.fields.spherical.grid import spherical_axes
from pdesurrogate.metrics import METRICS
from pdesurrogate.models import MODELS
from pdesurrogate.models.matching import num_real_parameters
from pdesurrogate.solvers import GENERATORS
from pdesurrogate.training import UNROLLS
from pdesurrogate.training.loggers import build_loggers
from pdesurrogate.training.optimisation import Optimisation

CONF = conf_dir()
FILES = sorted(p.relative_to(CONF) for p in CONF.rglob("*.yaml"))
SPEC = DataSpec(fields=(Field("vorticity"),), axes=(Axis("y", 1.0), Axis("x", 1.0)), dt=1.0)
SPHERE = SPEC.replace(axes=spherical_axes(), geometry="sphere")


def files_of(group: str) -> list[str]:
    """Names of a group's files as they are chosen on the command line, those of its folders with the folder."""
    return [p.relative_to(group).with_suffix("").as_posix() for p in FILES if p.is_relative_to(group)]


def composed(command: str, *overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(command, overrides=[*overrides, *(["run_dir=run"] if command == "train" else [])])
    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    return config


def build(section: dict[str, Any], history: int, horizon: int) -> Any:
    """Build a model for data on a geometry that it declares, with walls where it pads."""
    kind = section.pop("kind")
    spec = SPEC if "plane" in getattr(MODELS.get(kind), "geometries", {"plane"}) else SPHERE
    if section.get("padding"):
        spec = spec.replace(axes=tuple(replace(axis, boundary="wall", offset=0.5) for axis in spec.axes))
    return MODELS.build(kind, spec, history, horizon, **section)


@pytest.fixture(autouse=True)
def run_id(monkeypatch):
    monkeypatch.setenv("PDESURROGATE_RUN_ID", "test")
    from pdesurrogate.cli import _register_resolvers

    _register_resolvers()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes(command):
    assert composed(command)["run_id"] == "test"


@pytest.mark.parametrize("name", files_of("model"))
def test_every_model_file_builds_its_model(name):
    section = composed("train", f"model={name}")["model"]
    horizon = 8 if name == "fno_3d" else 1
    assert build(section, 1, horizon) is not None


@pytest.mark.parametrize("name", files_of("data"))
def test_every_data_file_names_a_known_reader_and_generator(name):
    section = composed("train", f"data={name}")["data"]
    assert DATASETS.get(section["kind"])
    generator = dict(section.get("generator", {}))
    if generator:
        generator.pop("num_trajectories")
        built = GENERATORS.build(generator.pop("kind"), **generator)
        assert len(built.grid) == built.spec.ndim


@pytest.mark.parametrize("name", files_of("data"))
def test_every_data_file_may_be_chosen_and_refuses_keys_that_it_does_not_know(name):
    """A file that holds differences only takes the keys of the file that it starts from."""
    config = composed("train", f"data={name}")
    check_group_options(config, {"data": name}, CONF)
    config["data"]["bath_size"] = 3
    with pytest.raises(ValueError, match=r"no option 'bath_size'. Did you mean 'batch_size'"):
        check_group_options(config, {"data": name}, CONF)


@pytest.mark.parametrize("name", files_of("unroll"))
def test_every_unroll_file_builds(name):
    section = composed("train", f"unroll={name}")["unroll"]
    assert UNROLLS.build(section.pop("kind"), **section).num_steps >= 1


@pytest.mark.parametrize("name", files_of("loss"))
def test_every_loss_file_names_a_metric(name):
    assert METRICS.get(composed("train", f"loss={name}")["loss"]["kind"])


@pytest.mark.parametrize("name", files_of("optim"))
def test_every_optimiser_file_builds(name):
    assert Optimisation(**composed("train", f"optim={name}")["optim"]).lr > 0


@pytest.mark.parametrize("name", files_of("logger"))
def test_every_logger_file_builds(name, tmp_path):
    section = composed("train", f"logger={name}")["logger"]
    expected = 0 if name == "none" else 1
    assert len(build_loggers({**section, "mode": "disabled"}, tmp_path, "test", {})) == expected


@pytest.mark.parametrize("name", files_of("trainer"))
def test_every_trainer_file_has_the_same_keys(name):
    assert composed("train", f"trainer={name}")["trainer"].keys() == composed("train")["trainer"].keys()


def test_the_trainer_follows_the_numbers_of_the_cluster():
    numbers = ("cluster.nodes=2", "cluster.devices=4")
    config = composed("train", "trainer=ddp", "cluster=slurm", *numbers)
    assert (config["trainer"]["num_nodes"], config["trainer"]["devices"]) == (2, 4)
    check_group_options(config, {"cluster": "slurm", "trainer": "ddp"}, CONF)
    config["cluster"]["minuets"] = 3
    with pytest.raises(ValueError, match=r"no option 'minuets'. Did you mean 'minutes'"):
        check_group_options(config, {"cluster": "slurm"}, CONF)


@pytest.mark.parametrize("name", files_of("cluster"))
def test_every_cluster_file_describes_a_launcher(name):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=[f"cluster={name}", "trainer=gpu"], return_hydra_config=True)
    launcher = OmegaConf.to_container(cfg.hydra.launcher, resolve=False)
    assert get_class(launcher.pop("_target_"))
    if name == "slurm":
        assert cfg.hydra.launcher.gpus_per_node == 1
        accepted = {
            "timeout_min",
            "stderr_to_stdout",
            *BaseQueueConf.__annotations__,
            *SlurmQueueConf.__annotations__,
        }
        assert set(launcher) - accepted == {"srun_args"}


@pytest.mark.parametrize("name", files_of("sweep"))
def test_every_sweep_varies_options_that_a_run_has(name):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=[f"sweep={name}", "run_dir=run"], return_hydra_config=True)
    varied = cfg.hydra.sweeper.params or {}
    assert bool(varied) == (name != "none") == (cfg.hydra.mode is not None)
    assert all(OmegaConf.select(cfg, key) is not None for key in varied)
    assert locate(cfg.hydra.sweeper._target_)


@pytest.mark.parametrize("name", files_of("experiment"))
def test_every_experiment_composes_into_a_model_that_builds(name):
    config = composed("train", f"experiment={name}")
    section, data = config["model"], config["data"]
    assert build(section, data["history"], data["horizon"]) is not None


@pytest.mark.parametrize("name", files_of("experiment"))
def test_every_experiment_trains_on_points_that_its_own_data_set_has(name):
    """Points between those that a generator stores cannot be made up."""
    data = composed("train", f"experiment={name}")["data"]
    if data.get("grid") is None or "generator" not in data:
        return
    generator = dict(data["generator"])
    generator.pop("num_trajectories")
    stored = GENERATORS.build(generator.pop("kind"), **generator).grid
    wanted = [data["grid"]] * len(stored) if isinstance(data["grid"], int) else data["grid"]
    assert len(wanted) == len(stored)
    assert all(n <= most for n, most in zip(wanted, stored, strict=True)), f"{wanted} of {stored}"


def test_the_isotropic_experiment_has_the_authors_model_and_room_for_its_pushes_in_their_files(tmp_path):
    """Twenty frames of pressure and velocity a trajectory, one a folder, 0.05 apart."""
    config = composed("train", "experiment=factformer_isotropic", f"data.path={tmp_path}")
    for number in range(6):
        (tmp_path / f"run_{number}").mkdir()
        for name in ("prs", "vx", "vy", "vz"):
            np.save(tmp_path / f"run_{number}" / f"{name}.npy", np.zeros((20, 4, 4, 4, 1), np.float32))
    unroll = dict(config["unroll"])
    pushes = UNROLLS.build(unroll.pop("kind"), **unroll)
    data = open_data(config["data"], num_steps=pushes.num_steps)
    assert data.spec.dt == 0.05
    assert (config["data"]["history"], config["data"]["horizon"], pushes.num_steps) == (10, 2, 2)
    assert len(data.windows("train")) == 4 * (20 - 10 - 2 * 2 + 1)
    assert [pushes.num_pushes(step) for step in (7999, 8000, 8001, 8002)] == [0, 0, 0, 1]
    assert [pushes.num_frames(step, 2) for step in (4999, 5000)] == [1, 2]
    model = dict(config["model"])
    with torch.device("meta"):
        built = MODELS.build(model.pop("kind"), data.spec, 10, 2, **model)
    assert num_real_parameters(built) == 5_093_188


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_key_is_explained(file):
    """A comment stands on the line of each key, except where a section begins."""
    lines = (CONF / file).read_text().splitlines()
    internal = ("hydra", "version:", "defaults:", "kind: ")
    if file.parts[0] == "hydra":
        return
    in_hydra = False
    for line in lines:
        if re.match(r"\S", line):
            in_hydra = line.startswith("hydra:")
        is_key = re.match(r"\s*[a-z_0-9]+: *[^\s#]", line)
        if is_key and not in_hydra and not line.strip().startswith(internal):
            assert "#" in line, f"{file}: {line!r} has no comment"
