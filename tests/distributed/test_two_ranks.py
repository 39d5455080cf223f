"""Two gloo processes against one, through the command line that a user would type."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pdesurrogate.cli import conf_dir
from pdesurrogate.data.store import StoreWriter
from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.training.run import train

ROOT = Path(__file__).resolve().parents[2]
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
SPEC = DataSpec(fields=(Field("tracer"),), axes=(Axis("y", 1.0), Axis("x", 1.0)), dt=0.1)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split, num in {"train": 4, "valid": 3, "test": 1}.items():
        with StoreWriter(
            root / f"{split}.h5",
            spec=SPEC,
            grid=(12, 12),
            num_trajectories=num,
            times=np.arange(6) * SPEC.dt,
            attributes={},
        ) as writer:
            for i in range(num):
                writer.write(i, rng.normal(size=(6, 1, 12, 12)).astype(np.float32), np.zeros(0, np.float32))
            writer.finish()
    return root


def settings(data_root: Path) -> list[str]:
    return [
        f"data.root={data_root}",
        "data.grid=12",
        "data.batch_size=4",
        "trainer.log_every=1",
        "model.width=6",
        "model.num_modes=6",
        "model.depth=2",
        "trainer.max_epochs=3",
        "run_id=run",
    ]


def train_here(run_dir: Path, data_root: Path) -> Path:
    """Train in this process, which has the libraries."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=[*settings(data_root), f"run_dir={run_dir}"])
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    train(config)
    return run_dir


def train_in_two(folder: Path, data_root: Path) -> Path:
    """Train as a user would."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PDESURROGATE", "MASTER", "LOCAL_RANK"))
    }
    command = [sys.executable, str(ROOT / "train.py"), *settings(data_root), *TWO]
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return folder / "runs" / "run"


def logged(run: Path, name: str) -> list[float]:
    with (run / "csv" / "version_0" / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_two_ranks_have_the_losses_metrics_and_weights_of_one(tmp_path, data_root):
    (tmp_path / "two").mkdir()
    one = train_here(tmp_path / "one", data_root)
    two = train_in_two(tmp_path / "two", data_root)
    for name in ("train/loss", "valid/loss", "valid/relative_l2", "valid/relative_l2/tracer"):
        assert len(logged(one, name)) > 2
        assert logged(two, name) == pytest.approx(logged(one, name), rel=1e-5)
    a, b = weights(one), weights(two)
    for key, value in a.items():
        torch.testing.assert_close(b[key], value, rtol=1e-4, atol=1e-6)
    # Both ranks worked in one run folder, and only one of them wrote the files.
    assert sorted(p.name for p in (tmp_path / "two" / "runs").iterdir()) == ["run"]
    assert (two / "artifact.pt").is_file()
    assert [p.name for p in (two / "csv").iterdir()] == ["version_0"]
