"""The HDF5 files of PDEBench, in four layouts that are told apart by their content.

- A group a sample (radial dam break, diffusion-reaction): groups ``0000``, ``0001``, ... with ``data`` (t, x, y,
  channel), ``grid/x``, ``grid/y``, ``grid/t`` and the settings as YAML text in the attribute ``config``.
- Incompressible flow: ``velocity`` (sample, t, x, y, 2), ``particles``, ``force`` (sample, x, y, 2), ``t``; many files.
- Compressible flow in one, two or three dimensions: ``density``, ``pressure``, ``Vx``, ... (sample, t, x, ..) and
  ``x-coordinate``, ``t-coordinate`` with one entry more than there are frames.
- ``tensor`` (sample, t, x) of scalar equations, or (sample, 1, x, y) with ``nu`` (sample, x, y) of Darcy flow.

Only the format is used here, as the files show it. Source: Takamoto et al. (2022), "PDEBench", doi:10.18419/darus-2986.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import DATASETS
from .containers import refuses_damage
from .file_lists import files_of
from .pdebench_layouts import LAYOUTS, layout_of
from .pooling import Pooled, Shortened
from .recognition import FORMATS, Recognised
from .splits import Partition, by_trajectory, divided
from .trajectories import DataSet, Trajectories

SUFFIXES = (".h5", ".hdf5")


@DATASETS.register("pdebench")
@refuses_damage
def pdebench(
    path: str,
    boundary: str | None = None,
    pool_size: int = 1,
    num_frames: int | None = None,
    split: Mapping[str, Any] | None = None,
) -> DataSet:
    """One file of PDEBench, or several of one layout, such as the shards of the incompressible set.

    PDEBench's two loaders disagree on which tenth tests. Here the last tenth of the samples does, in the files'
    order, and the tenth before it validates.

    Args:
        path: a file, a folder or a pattern with ``*``.
        boundary: of compressible flow and of scalar equations, ``"periodic"`` or ``"open"``; None to take it from the
            file's name (``periodic``, ``trans``), as PDEBench does.
        pool_size: cells a side that are averaged into one; 4 makes G-FNO's SWE-Sym from the radial dam break.
        num_frames: frames to read, from the first on; None for all. G-FNO drops the last of 101.
        split: another rule, see `splits.divided`.

    Raises:
        ValueError: if a file is missing, damaged, of none of these layouts, or of another grid than the first.
    """
    files = files_of(path, SUFFIXES)
    layout = layout_of(files[0])
    whole: Trajectories = LAYOUTS[layout](files, boundary)
    provenance = {"path": str(path), "format": "PDEBench", "layout": layout, "files": len(files)}
    if num_frames is not None:
        whole = Shortened(whole, num_frames)
    if pool_size != 1:
        whole = Pooled(whole, pool_size)
    name = files[0].stem if len(files) == 1 else Path(path).absolute().parent.name

    def rule(total: int) -> Partition:
        return by_trajectory(total, 0.8, 0.1, 0.1)

    return divided(name, whole, split, rule, provenance)


@FORMATS.register("pdebench")
def recognise(path: Path, look: Recognised) -> dict[str, Any] | None:
    """Recognise an HDF5 file of one of the four layouts, or a folder of them."""
    file = path
    if look.kind(path) == "folder":
        inside = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)
        if not inside:
            return None
        file = inside[0]
    if look.kind(file) != "hdf5":
        return None
    try:
        layout_of(file)
    except ValueError:
        return None
    return {"path": str(path)}
