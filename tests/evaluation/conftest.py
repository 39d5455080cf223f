"""Travelling waves, whose truth is known on every grid, and a model whose errors are known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pdesurrogate.cli import conf_dir
from pdesurrogate.data.store import StoreWriter
from pdesurrogate.deploy.artifact import save_artifact
from pdesurrogate.evaluation.run import evaluate
from pdesurrogate.fields import Axis, DataSpec, Field, Normaliser
from pdesurrogate.models import MODELS
from pdesurrogate.surrogate import Surrogate

SPEC = DataSpec(
    fields=(Field("tracer"),), axes=(Axis("y", 1.0), Axis("x", 1.0)), dt=0.125, equation="u_t + u_x = 0"
)
STORED, TRAINED, FRAMES = 32, 16, 9


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


@pytest.fixture(autouse=True, scope="module")
def gain_model() -> Iterator[None]:
    """Register the model for the tests of one file only: other rooms' suites run over all registered models."""
    MODELS.names()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS._entries, "gain", Gain)
        yield


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


class Bench:
    """A folder with a store of waves, and what is needed to evaluate artifacts on it.

    The store has six test trajectories, each with one slow and one fast mode of its own amplitude.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.waves = root / "waves"
        self.waves.mkdir()
        rows = [travelling_wave(1, 1, n) + (0.5 + n) * travelling_wave(-2, 2, 2 * n) for n in range(6)]
        write_waves(self.waves, np.stack(rows))

    def replace_waves(self, trajectories: np.ndarray, spec: DataSpec = SPEC) -> Path:
        """Replace the test split by other trajectories, (trajectory, time, channel, y, x)."""
        (self.waves / "test.h5").unlink()
        return write_waves(self.waves, trajectories, spec=spec)

    def make_artifact(
        self,
        name: str = "run",
        kind: str = "gain",
        history: int = 1,
        horizon: int = 1,
        spec: DataSpec = SPEC,
        **options: Any,
    ) -> Path:
        """Write an artifact of a named model that was 'trained' on the waves at 16 x 16."""
        torch.manual_seed(1)
        model = MODELS.build(kind, spec, history, horizon, **options)
        data = {
            "kind": "store",
            "root": str(self.waves),
            "splits": {"test": "test.h5"},
            "history": history,
            "grid": TRAINED,
        }
        provenance = {
            "config": {"model": {"kind": kind, **options}, "data": data, "seed": 0},
            "training_grid": [TRAINED] * spec.ndim,
        }
        normaliser = Normaliser([0.0] * spec.num_channels, [1.0] * spec.num_channels)
        surrogate = Surrogate(
            spec, normaliser, model, history=history, horizon=horizon, provenance=provenance
        )
        path = self.root / name / "artifact.pt"
        path.parent.mkdir(exist_ok=True)
        return save_artifact(surrogate, path)

    def configure(self, **changes: Any) -> dict[str, Any]:
        """Compose conf/evaluate.yaml as the CLI does; keyword arguments replace keys."""
        from hydra import compose, initialize_config_dir
        from omegaconf import OmegaConf

        OmegaConf.register_new_resolver("new_run_id", lambda: "test", replace=True)
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = OmegaConf.to_container(compose("evaluate"), resolve=True)
        assert isinstance(config, dict)
        unknown = set(changes) - set(config) - {"data"}
        assert not unknown, unknown
        config |= {"horizon": 8, "device": "cpu", **changes}
        if "artifact" not in changes:
            config["artifact"] = str(self.make_artifact())
        return {str(k): v for k, v in config.items()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, gain_model: None) -> tuple[float, Path]:
    """A full evaluation, the returned number and the folder: a rival that refuses one of three grids."""
    bench = Bench(tmp_path_factory.mktemp("finished"))
    rival = bench.make_artifact(
        "rival", kind="unet", width=4, multipliers=[1, 2, 2, 4, 4], num_blocks=1, groups=2
    )
    config = bench.configure(compare=[str(rival)], resolutions=[8, 32])
    return evaluate(config), Path(config["artifact"]).parent / "evaluation"


@pytest.fixture
def waves(bench: Bench) -> Path:
    return bench.waves


@pytest.fixture
def replace_waves(bench: Bench) -> Callable[..., Path]:
    return bench.replace_waves


@pytest.fixture
def make_artifact(bench: Bench) -> Callable[..., Path]:
    return bench.make_artifact


@pytest.fixture
def configure(bench: Bench) -> Callable[..., dict[str, Any]]:
    return bench.configure


@pytest.fixture
def wave() -> Callable[..., np.ndarray]:
    return travelling_wave


@pytest.fixture
def spec() -> DataSpec:
    return SPEC


@pytest.fixture
def gain_error() -> Callable[[float, int], float]:
    """Relative error of the gain model after n frames."""
    return lambda gain, n: math.expm1(n * math.log1p(gain))
