"""Processes that share out the regions of a sample, against one process that has them all."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import distributed

from pdesurrogate.cli import conf_dir
from pdesurrogate.data.store import StoreWriter
from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.models import MODELS
from pdesurrogate.trainer_options import region_parallel_size
from pdesurrogate.training.region_parallel import GroupShare, require_regions
from pdesurrogate.training.run import train

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("region_worker.py")
SPEC = DataSpec(fields=(Field("tracer"),), axes=(Axis("y", 1.0), Axis("x", 1.0)), dt=0.1)


def run(folder, *command):
    owned = ("PDESURROGATE_RUN", "MASTER", "LOCAL_RANK")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(owned)}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What every process has after three steps, by the number of processes."""
    folder = tmp_path_factory.mktemp("steps")
    run(folder, WORKER, folder, "1/1", "2/2", "4/2")
    return {
        world: [torch.load(folder / str(world) / f"{rank}.pt", weights_only=True) for rank in range(world)]
        for world in (1, 2, 4)
    }


@pytest.mark.parametrize(("world", "group_size"), [(2, 2), (4, 2)])
def test_ranks_that_share_regions_have_the_losses_gradients_and_weights_of_one(world, group_size, outcomes):
    """Two model steps in a row, so that gradients also pass from one process's regions to another's."""
    (one,), ranks = outcomes[1], outcomes[world]
    groups = ranks[::group_size]
    for step, loss in enumerate(one["losses"]):
        mean = sum(rank["losses"][step] for rank in groups) / len(groups)
        assert mean == pytest.approx(loss, rel=1e-9)
        for rank in ranks:
            for name, gradient in one["gradients"][step].items():
                torch.testing.assert_close(rank["gradients"][step][name], gradient, rtol=1e-6, atol=1e-10)
    for rank in ranks:
        for name, weight in one["weights"].items():
            torch.testing.assert_close(rank["weights"][name], weight, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(rank["future"], one["future"], rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split, num in {"train": 2, "valid": 2, "test": 1}.items():
        with StoreWriter(
            root / f"{split}.h5",
            spec=SPEC,
            grid=(12, 12),
            num_trajectories=num,
            times=np.arange(4) * SPEC.dt,
            attributes={},
        ) as writer:
            for i in range(num):
                writer.write(i, rng.normal(size=(4, 1, 12, 12)).astype(np.float32), np.zeros(0, np.float32))
            writer.finish()
    return root


def settings(data_root, *overrides):
    return [
        "model=mgtfno",
        "model.base=fno",
        "+model.base_options={width: 4, num_modes: 4, depth: 1}",
        f"data.root={data_root}",
        "data.grid=12",
        "data.batch_size=1",
        "unroll=k_step",
        "unroll.num_steps=2",
        "trainer.max_epochs=2",
        "trainer.log_every=1",
        "run_id=run",
        *overrides,
    ]


def trained_here(run_dir, data_root):
    """Train in this process, which has the libraries."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=settings(data_root, f"run_dir={run_dir}"))
    train(OmegaConf.to_container(cfg, resolve=True))
    return run_dir


def logged(run_dir, name):
    with (run_dir / "csv" / "version_0" / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def weights(run_dir):
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_training_with_shared_regions_is_training_in_one_process(tmp_path, data_root):
    """A batch of one sample, which data parallelism alone could not share out."""
    one = trained_here(tmp_path / "one", data_root)
    shared = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.region_parallel=2"]
    run(tmp_path, ROOT / "train.py", *settings(data_root, *shared))
    two = tmp_path / "runs" / "run"
    for name in ("train/loss", "valid/loss", "valid/relative_l2", "valid/relative_l2/tracer"):
        assert len(logged(one, name)) >= 2
        assert logged(two, name) == pytest.approx(logged(one, name), rel=1e-5)
    for key, value in weights(one).items():
        torch.testing.assert_close(weights(two)[key], value, rtol=1e-4, atol=1e-6)
    assert (two / "artifact.pt").is_file()


TRAINER = {"devices": 2, "num_nodes": 1, "region_parallel": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": 3}, r"region_parallel is 2 and training runs in 3 processes .* give a multiple of 2"),
        ({"devices": 1}, r"region_parallel is 2 and training runs in 1 process \("),
        ({"devices": [0, 1, 4]}, "training runs in 3 processes"),
        (
            {"region_parallel": 0},
            "region_parallel is 0; it is the number of processes for a sample, 1 or more",
        ),
    ],
)
def test_processes_that_do_not_make_up_whole_groups_are_refused(changes, message):
    assert region_parallel_size(TRAINER) == 2
    assert region_parallel_size({**TRAINER, "devices": "auto"}) == 2  # the processes themselves will see
    with pytest.raises(ValueError, match=message):
        region_parallel_size({**TRAINER, **changes})


def test_a_model_without_regions_or_with_too_few_is_refused():
    plain = MODELS.build("fno", SPEC, 1, 1, width=4, num_modes=4)
    require_regions(plain, "fno", 1)
    with pytest.raises(ValueError, match=r"model 'fno' has none. Use model=mgtfno model.base=fno"):
        require_regions(plain, "fno", 2)
    cut = MODELS.build("mgtfno", SPEC, 1, 1, base="fno", base_options={"width": 4, "num_modes": 4}, regions=3)
    require_regions(cut, "mgtfno", 3)
    with pytest.raises(
        ValueError, match=r"9 regions cannot be shared out equally over trainer.region_parallel=2"
    ):
        require_regions(cut, "mgtfno", 2)


def test_a_group_of_one_is_a_process_alone(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        share = GroupShare(distributed.group.WORLD)
        u = torch.randn(4, 3, requires_grad=True)
        assert share.own(4) == range(4)
        (2 * share.leave(share.enter(u))).sum().backward()
        assert torch.equal(u.grad, torch.full_like(u, 2.0))
    finally:
        distributed.destroy_process_group()
