"""Travelling waves, whose truth is known on every grid, and a model whose errors are known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pdesurrogate.cli import conf_dir
from pdesurrogate.data.store import StoreWriter
from pdesurrogate.deploy.artifact import save_artifact
from pdesurrogate.fields import Axis, DataSpec, Field, Normaliser
from pdesurrogate.models import MODELS
from pdesurrogate.surrogate import Surrogate

SPEC = DataSpec(
    fields=(Field("tracer"),), axes=(Axis("y", 1.0), Axis("x", 1.0)), dt=0.125, equation="u_t + u_x = 0"
)
STORED, TRAINED, FRAMES = 32, 16, 9
ONLY_TEST = {"test": "test.h5"}


class Gain(nn.Module):
    """The exact flow map of u_t + u_x = 0 over dt = 1/8, times ``1 + gain``: n frames on it is off by (1+g)^n - 1."""

    grids = "multiple of 8"

    def __init__(self, spec: DataSpec, history: int, horizon: int, gain: float = 0.1) -> None:
        super().__init__()
        self.horizon = horizon
        self.gain = nn.Parameter(torch.tensor(gain, dtype=torch.float32))

    def check_grid(self, grid: tuple[int, ...]) -> None:
        if any(n % 8 for n in grid):
            raise ValueError(f"this model needs multiples of 8 points; the grid is {tuple(grid)}.")

    def forward(self, history: Tensor, parameters: Tensor) -> Tensor:
        frames, frame = [], history[:, -1]
        for _ in range(self.horizon):
            frame = (1 + self.gain) * frame.roll(frame.shape[-1] // 8, dims=-1)
            frames.append(frame)
        return torch.stack(frames, dim=1)


@pytest.fixture(autouse=True)
def gain_model(monkeypatch: pytest.MonkeyPatch) -> None:
    MODELS.names()
    monkeypatch.setitem(MODELS._entries, "gain", Gain)


def travelling_wave(ky: int, kx: int, phase: float = 0.0) -> np.ndarray:
    """cos(2π(ky y + kx (x - t)) + phase) as frames (time, channel, y, x)."""
    x = np.arange(STORED) / STORED
    t = np.arange(FRAMES)[:, None, None, None] * SPEC.dt
    return np.cos(2 * np.pi * (ky * x[:, None] + kx * (x - t)) + phase)


def write_waves(root: Path, trajectories: np.ndarray, split: str = "test", spec: DataSpec = SPEC) -> Path:
    path = root / f"{split}.h5"
    times = np.arange(trajectories.shape[1]) * spec.dt
    with StoreWriter(
        path,
        spec=spec,
        grid=trajectories.shape[3:],
        num_trajectories=len(trajectories),
        times=times,
        attributes={"solver": "exact", "seed": 0},
    ) as writer:
        for i, frames in enumerate(trajectories.astype(np.float32)):
            writer.write(i, frames, np.zeros(0, np.float32))
        writer.finish()
    return root


@pytest.fixture
def waves(tmp_path: Path) -> Path:
    """A store of four test trajectories, each with one slow and one fast mode of its own amplitude."""
    root = tmp_path / "waves"
    root.mkdir()
    rows = [travelling_wave(1, 1, n) + (0.5 + n) * travelling_wave(-2, 2, 2 * n) for n in range(4)]
    return write_waves(root, np.stack(rows))


@pytest.fixture
def wave() -> Callable[..., np.ndarray]:
    return travelling_wave


@pytest.fixture
def replace_waves(waves: Path) -> Callable[..., Path]:
    """Replace the test split by other trajectories, (trajectory, time, channel, y, x)."""

    def replace(trajectories: np.ndarray, spec: DataSpec = SPEC) -> Path:
        (waves / "test.h5").unlink()
        return write_waves(waves, trajectories, spec=spec)

    return replace


@pytest.fixture
def spec() -> DataSpec:
    return SPEC


Make = Callable[..., Path]


@pytest.fixture
def make_artifact(tmp_path: Path, waves: Path) -> Make:
    """Write an artifact of a named model that was 'trained' on the waves at 16 x 16."""

    def make(
        name: str = "run",
        kind: str = "gain",
        history: int = 1,
        horizon: int = 1,
        spec: DataSpec = SPEC,
        **options: Any,
    ) -> Path:
        torch.manual_seed(1)
        model = MODELS.build(kind, spec, history, horizon, **options)
        data = {"kind": "store", "root": str(waves), "splits": ONLY_TEST, "history": history, "grid": TRAINED}
        provenance = {
            "config": {"model": {"kind": kind, **options}, "data": data, "seed": 0},
            "training_grid": [TRAINED] * spec.ndim,
        }
        surrogate = Surrogate(
            spec, Normaliser([0.0], [1.0]), model, history=history, horizon=horizon, provenance=provenance
        )
        path = tmp_path / name / "artifact.pt"
        path.parent.mkdir(exist_ok=True)
        return save_artifact(surrogate, path)

    return make


Configure = Callable[..., dict[str, Any]]


@pytest.fixture
def configure(make_artifact: Make) -> Configure:
    """Compose conf/evaluate.yaml as the CLI does; keyword arguments replace keys."""

    def compose(**changes: Any) -> dict[str, Any]:
        from hydra import compose as hydra_compose
        from hydra import initialize_config_dir
        from omegaconf import OmegaConf

        OmegaConf.register_new_resolver("new_run_id", lambda: "test", replace=True)
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = OmegaConf.to_container(hydra_compose("evaluate"), resolve=True)
        assert isinstance(config, dict)
        unknown = set(changes) - set(config) - {"data"}
        assert not unknown, unknown
        config |= {"horizon": 8, "device": "cpu", **changes}
        if "artifact" not in changes:
            config["artifact"] = str(make_artifact())
        return {str(k): v for k, v in config.items()}

    return compose


@pytest.fixture
def gain_error() -> Callable[[float, int], float]:
    """Relative error of the gain model after n frames."""
    return lambda gain, n: math.expm1(n * math.log1p(gain))
