"""Writing PDEBench's layout with a group a sample, which its loaders for several trajectories read.

Group ``0000``, ..: ``data`` (t, x, y, channel), ``grid/x``, ``grid/y``, ``grid/t``, and the parameters as YAML text
in the attribute ``config``. The file carries our spec as well, so that `pdebench` gives fields and units back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import yaml

from pdesurrogate.version import __version__

from .trajectories import DataSet, Trajectories


def write_pdebench(
    dataset: DataSet,
    root: Path,
    overwrite: bool = False,
    report: Callable[[str, int], None] | None = None,
) -> list[Path]:
    """Write every split of a data set to ``root/{name}_{split}.h5``.

    Args:
        dataset: what is written.
        root: the folder.
        overwrite: whether to replace files that are there.
        report: called with the split and the number of a trajectory when it is written.

    Raises:
        ValueError: if a file is there already, the data are on a sphere, or they cannot be read.
    """
    if dataset.spec.geometry == "sphere":
        raise ValueError("PDEBench has no layout for data on a sphere; convert to=the_well or to=store.")
    root.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, split in dataset.splits.items():
        path = root / f"{dataset.name}_{name}.h5"
        if path.exists() and not overwrite:
            raise ValueError(f"{path} is there already. Choose another folder, or give overwrite=true.")
        part = path.with_name(path.name + ".part")
        with h5py.File(part, "w") as file:
            file.attrs["spec"] = json.dumps(split.spec.to_dict())
            file.attrs["pdesurrogate_version"] = __version__
            for trajectory in range(split.num_trajectories):
                _write_sample(file.create_group(f"{trajectory:04d}"), dataset.name, split, trajectory)
                if report is not None:
                    report(name, trajectory)
        part.replace(path)
        paths.append(path)
    return paths


def _write_sample(group: h5py.Group, name: str, split: Trajectories, trajectory: int) -> None:
    spec = split.spec
    frames = split.frames(trajectory, 0, split.num_frames)
    group["data"] = frames.transpose(0, *range(frames.ndim - 1, 1, -1), 1)
    for axis, size in zip(spec.axes, split.grid, strict=True):
        group[f"grid/{axis.name}"] = axis.coordinates(size).astype(np.float32)
    group["grid/t"] = split.times.astype(np.float32)
    values = (float(v) for v in split.parameters(trajectory))
    parameters = dict(zip(spec.parameter_names, values, strict=True))
    group.attrs["config"] = yaml.safe_dump({"name": name, "sim": parameters}, sort_keys=False)
