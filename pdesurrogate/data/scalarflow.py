"""ScalarFlow's reconstructed smoke plumes: volumes of density and velocity, one ``.npz`` file a frame.

``sim_000000/reconstruction/density_000000.npz`` holds ``data`` (z, y, x, 1), ``velocity_000000.npz`` ``data`` (z, y,
x, 3) on lower faces, in cells a frame; y points up. ``imgsTarget_000000.npz`` holds the camera images (camera, y, x,
1).

Source: Eckert, Um and Thuerey (2019), "ScalarFlow: a large-scale volumetric data set of real-world scalar transport
flows"; the split by number of the recording is that of Poli et al. (2022), "Transform once".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pdesurrogate.fields import Axis, DataSpec, Field

from . import DATASETS
from .array_trajectories import ArrayTrajectories, Place, Slot
from .containers import ContainerPool, refuses_damage
from .file_lists import natural
from .files import listing, require_path
from .recognition import FORMATS, Recognised
from .splits import Partition, divided
from .trajectories import DataSet

RECORDING = re.compile(r"sim_(\d+)")
FRAME = re.compile(r"_(\d+)\.npz$")


@DATASETS.register("scalarflow")
@refuses_damage
def scalarflow(
    root: str,
    what: str = "volumes",
    camera: int = 2,
    last_train: int = 63,
    last_valid: int = 83,
    split: Mapping[str, Any] | None = None,
) -> DataSet:
    """Recordings of ScalarFlow, split by their numbers: up to 63 train, up to 83 validate, the others test.

    Args:
        root: the folder of ``sim_*`` folders.
        what: ``"volumes"`` (density and velocity) or ``"images"`` of one camera.
        camera: of images, 0 to 4; 2 stands in the middle.
        last_train: number of the last recording that trains.
        last_valid: number of the last recording that validates.
        split: another rule, see `splits.divided`.

    Raises:
        ValueError: if there are no recordings, or they lack frames or differ in their grid.
    """
    folder = Path(root).absolute()
    require_path(folder)
    if what not in ("volumes", "images"):
        raise ValueError(f"what is {what!r}; allowed: 'volumes', 'images'.")
    kinds = ("density", "velocity") if what == "volumes" else ("imgsTarget",)
    found = {
        p: _frames(p, kinds)
        for p in sorted(folder.glob("sim_*"), key=lambda p: natural(p.name))
        if p.is_dir()
    }
    if RECORDING.fullmatch(folder.name) and not found:
        found = {folder: _frames(folder, kinds)}
    if not any(found.values()):
        raise ValueError(
            f"{folder} holds no recordings sim_*/**/{kinds[0]}_*.npz; it holds {listing(folder)}."
        )
    counts = {recording: len(files) // len(kinds) for recording, files in found.items()}
    num_frames = min(counts.values())
    if not num_frames:
        raise ValueError(f"{next(p for p, n in counts.items() if not n)} holds no {kinds[0]}_*.npz.")
    whole = FrameFiles(*_layout(next(iter(found.values())), what, camera, num_frames), found, len(kinds))
    numbers = [int(m[1]) if (m := RECORDING.match(p.name)) else i for i, p in enumerate(found)]

    def rule(total: int) -> Partition:
        splits = {
            "train": tuple(i for i, n in enumerate(numbers) if n <= last_train),
            "valid": tuple(i for i, n in enumerate(numbers) if last_train < n <= last_valid),
            "test": tuple(i for i, n in enumerate(numbers) if n > last_valid),
        }
        return Partition(splits, total, f"recordings up to {last_train} train, up to {last_valid} validate")

    return divided(folder.name, whole, split, rule, {"root": str(root), "format": "ScalarFlow", "what": what})


class FrameFiles(ArrayTrajectories):
    """Trajectories with one file, or one a kind of field, for each frame.

    Args:
        spec, grid, slots: as of `ArrayTrajectories`.
        num_frames: frames that all recordings have.
        recordings: the files of each recording, frame after frame.
        per_frame: files of one frame.
    """

    def __init__(
        self,
        spec: DataSpec,
        grid: tuple[int, ...],
        slots: tuple[Slot, ...],
        num_frames: int,
        recordings: Mapping[Path, list[Path]],
        per_frame: int,
    ) -> None:
        self._per_frame = per_frame
        places = [Place(tuple(files[: num_frames * per_frame])) for files in recordings.values()]
        super().__init__(spec, grid, spec.dt * np.arange(num_frames), slots, places)

    def _read(self, place: Place, channels: list[int], start: int, stop: int) -> list[np.ndarray]:
        """Return channels of one kind of file, each as ``(time, *space)``, frame after frame."""
        frames = []
        for frame in range(start, stop):
            files = place.files[frame * self._per_frame : (frame + 1) * self._per_frame]
            frames.append(super()._read(Place(files), channels, 0, 1))
        return [np.concatenate(values) for values in zip(*frames, strict=True)]


def _frames(recording: Path, kinds: tuple[str, ...]) -> list[Path]:
    """Return the files of a recording, those of one frame together."""
    by_kind = [
        sorted(recording.glob(f"**/{kind}_[0-9]*.npz"), key=lambda p: natural(p.name)) for kind in kinds
    ]
    numbers = [[FRAME.search(p.name)[1] for p in files] for files in by_kind]  # type: ignore[index]
    if any(other != numbers[0] for other in numbers[1:]):
        odd = sorted(set(numbers[0]) ^ set(numbers[-1]))
        raise ValueError(f"{recording}: frames {', '.join(odd[:6])} lack one of {' and '.join(kinds)}.")
    return [file for frame in zip(*by_kind, strict=True) for file in frame]


def _layout(
    files: list[Path], what: str, camera: int, num_frames: int
) -> tuple[DataSpec, tuple[int, ...], tuple[Slot, ...], int]:
    pool = ContainerPool()
    shape = pool.get(files[0]).shapes().get("data", ())
    if len(shape) != 4 or shape[-1] != 1:
        wanted = "(z, y, x, 1)" if what == "volumes" else "(camera, y, x, 1)"
        raise ValueError(f"{files[0]}: data has the shape {shape}; needed is {wanted}.")
    density = Field("density", long_name="density of smoke")
    if what == "images":
        if not 0 <= camera < shape[0]:
            raise ValueError(f"camera is {camera}; {files[0]} has {shape[0]}.")
        axes = tuple(
            Axis(name, float(n), "open", offset=0.5) for name, n in zip("yx", shape[1:3], strict=True)
        )
        spec = DataSpec((Field("image", long_name="brightness"),), axes, 1.0)
        slot = Slot("data", ("camera", "y", "x", "channel"), {"camera": camera, "channel": 0})
        return spec, shape[1:3], (slot,), num_frames
    velocity = Field(
        "velocity",
        kind="vector",
        components=("x", "y", "z"),
        long_name="velocity in cells a frame, each component on the lower faces of cells along its axis",
        is_on_faces=True,
    )
    axes = tuple(Axis(name, float(n), "open", offset=0.5) for name, n in zip("zyx", shape[:3], strict=True))
    spec = DataSpec((density, velocity), axes, 1.0, equation="a real plume of smoke in air, reconstructed")
    place = ("z", "y", "x", "component")
    slots = (
        Slot("data", place, {"component": 0}, file=0),
        *(Slot("data", place, {"component": c}, file=1) for c in range(3)),
    )
    return spec, shape[:3], slots, num_frames


@FORMATS.register("scalarflow")
def recognise(path: Path, look: Recognised) -> dict[str, Any] | None:
    """Recognise a folder of recordings ``sim_*`` with frames of density or of images."""
    if look.kind(path) != "folder":
        return None
    for what, kind in (("volumes", "density"), ("images", "imgsTarget")):
        inside = next(path.glob(f"sim_*/**/{kind}_[0-9]*.npz"), None)
        if inside is not None and len(look.shapes(inside).get("data", ())) == 4:
            return {"root": str(path), "what": what}
    return None
