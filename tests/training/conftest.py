"""A small set of travelling waves, whose flow map is known, and configurations composed as the CLI does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pdesurrogate.cli import conf_dir
from pdesurrogate.data.store import StoreWriter
from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.fields.spherical.grid import spherical_axes

SPEC = DataSpec(
    fields=(Field("tracer", units="kg m-3"),),
    axes=(Axis("y", 1.0), Axis("x", 1.0)),
    dt=0.125,
    equation="u_t + u_x = 0",
)
GRID = (16, 16)
NUM_FRAMES = 6
SPHERE = SPEC.replace(axes=spherical_axes(), geometry="sphere")
SPHERE_SIZES = {"train": 8, "valid": 2, "test": 1}


def travelling_waves(seed: int, num: int) -> np.ndarray:
    """Solutions of u_t + u_x = 0 with random smooth initial states, (num, time, 1, y, x)."""
    rng = np.random.default_rng(seed)
    x = np.arange(GRID[1]) / GRID[1]
    y = np.arange(GRID[0])[:, None] / GRID[0]
    frames = np.zeros((num, NUM_FRAMES, 1, *GRID))
    for n in range(num):
        for _ in range(4):
            ky, kx = rng.integers(-2, 3, 2)
            amplitude, phase = rng.normal(), rng.uniform(0, 2 * np.pi)
            for t in range(NUM_FRAMES):
                wave = np.cos(2 * np.pi * (ky * y + kx * (x - t * SPEC.dt)) + phase)
                frames[n, t, 0] += amplitude * wave
    return frames.astype(np.float32)


def write_splits(root: Path, spec: DataSpec, splits: dict[str, np.ndarray]) -> Path:
    """Write trajectories ``(num, time, channel, *space)``, one array a split."""
    for seed, (split, trajectories) in enumerate(splits.items()):
        with StoreWriter(
            root / f"{split}.h5",
            spec=spec,
            grid=trajectories.shape[3:],
            num_trajectories=len(trajectories),
            times=np.arange(trajectories.shape[1]) * spec.dt,
            attributes={"solver": "exact", "seed": seed},
        ) as writer:
            for i, frames in enumerate(trajectories):
                writer.write(i, frames, np.zeros(0, np.float32))
            writer.finish()
    return root


@pytest.fixture(scope="session")
def wave_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"train": 8, "valid": 3, "test": 3}
    waves = {split: travelling_waves(seed, num) for seed, (split, num) in enumerate(sizes.items())}
    return write_splits(tmp_path_factory.mktemp("waves"), SPEC, waves)


@pytest.fixture(scope="session")
def sphere_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise on a sphere."""
    rng = np.random.default_rng(0)
    noise = {
        split: rng.normal(size=(num, 3, 1, 8, 16)).astype(np.float32) for split, num in SPHERE_SIZES.items()
    }
    return write_splits(tmp_path_factory.mktemp("sphere"), SPHERE, noise)


Compose = Callable[..., dict[str, Any]]


@pytest.fixture
def compose_train(wave_store: Path, tmp_path: Path) -> Compose:
    """Compose conf/train.yaml as the CLI does, for the waves and a small model."""

    def compose(*overrides: str, run_dir: Path = tmp_path / "run") -> dict[str, Any]:
        from hydra import compose as hydra_compose
        from hydra import initialize_config_dir
        from omegaconf import OmegaConf

        small = [
            f"data.root={wave_store}",
            "data.grid=16",
            "data.batch_size=8",
            "model.width=8",
            "model.num_modes=6",
            "model.depth=2",
            "trainer.max_epochs=2",
            "trainer.figure_every=0",
            "logger=none",
            f"run_dir={run_dir}",
            "run_id=test",
        ]
        given = {o.split("=", 1)[0] for o in overrides}
        if "model" in given:  # another model has options of its own
            small = [o for o in small if not o.startswith("model.")]
        kept = [o for o in small if o.split("=", 1)[0] not in given]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = hydra_compose("train", overrides=[*kept, *overrides])
        config = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(config, dict)
        return config

    return compose
