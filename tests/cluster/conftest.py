"""A SLURM cluster of two nodes on this machine, and trainings that are submitted to it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pdesurrogate.data.store import StoreWriter
from pdesurrogate.fields import Axis, DataSpec, Field

sys.path.insert(0, str(Path(__file__).parent))

from submitting import ROOT, Cluster

SPEC = DataSpec(fields=(Field("tracer"),), axes=(Axis("y", 1.0), Axis("x", 1.0)), dt=0.1)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with one core each."""
    beside = ROOT.parent / "shared" / "tools" / "local-slurm"
    tool = str(beside) if beside.is_file() else shutil.which("local-slurm")
    if tool is None:
        pytest.skip(f"the tool that starts a cluster, local-slurm, is neither at {beside} nor on PATH")
    missing = [name for name in ("slurmctld", "slurmd", "srun", "munged") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"SLURM is not installed ({', '.join(missing)} missing): apt install slurm-wlm munge")
    if os.getuid() != 0:
        pytest.skip("the cluster's daemons start as root only")
    running = Cluster(tool, tmp_path_factory.mktemp("cluster") / "slurm")
    try:
        running.tool("start")
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty windows of noise: five steps an epoch."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split, num in {"train": 4, "valid": 1, "test": 1}.items():
        times = np.arange(6) * SPEC.dt
        with StoreWriter(
            root / f"{split}.h5", spec=SPEC, grid=(12, 12), num_trajectories=num, times=times, attributes={}
        ) as writer:
            for i in range(num):
                writer.write(i, rng.normal(size=(6, 1, 12, 12)).astype(np.float32), np.zeros(0, np.float32))
            writer.finish()
    return root
