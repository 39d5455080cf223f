"""A camera in front of a volume: images of smoke, as those that were filmed, from trajectories of the solver.

The light that thin smoke scatters towards a distant camera is in proportion to the smoke along the line of sight,

    I(z, x) = ∫ ρ(z, y, x) dy,

the linear image formation by which Eckert, Um and Thuerey (2019, "ScalarFlow", ACM Transactions on Graphics 38,
section 4) reconstruct their plumes from what their cameras saw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32

from pdesurrogate.fields import Field
from pdesurrogate.registry import did_you_mean

from . import DATASETS
from .store import store
from .trajectories import DataSet, Trajectories, check_frames


@DATASETS.register("camera")
def camera(
    root: str, line_of_sight: str = "y", field: str = "density", splits: Mapping[str, str] | None = None
) -> DataSet:
    """Images of the trajectories in a folder of the store.

    Args:
        root: the folder.
        line_of_sight: axis along which the camera looks.
        field: name of the scalar field that scatters.
        splits: file name of each split inside ``root``; train.h5, valid.h5 and test.h5 by default.

    Raises:
        ValueError: if a file is missing or broken, or there is no such axis or field.
    """
    volumes = store(root, splits)
    images = {name: Filmed(split, line_of_sight, field) for name, split in volumes.splits.items()}
    provenance = {**volumes.provenance, "image": f"integral of {field} along {line_of_sight}"}
    return DataSet(f"{volumes.name}_images", images, provenance)


class Filmed:
    """What a camera sees of other trajectories; PDE parameters are not part of a film.

    Args:
        base: volumes.
        line_of_sight: axis along which the camera looks.
        field: name of the scalar field that scatters.

    Raises:
        ValueError: if there is no such axis or field, or no axis would be left.
    """

    def __init__(self, base: Trajectories, line_of_sight: str, field: str) -> None:
        names, channels = base.spec.axis_names, base.spec.channel_names
        if line_of_sight not in names or len(names) < 2:
            raise ValueError(
                f"line_of_sight is {line_of_sight!r}.{did_you_mean(line_of_sight, names)} The axes are "
                f"{', '.join(names)}, of which at least one other must be left."
            )
        if field not in channels:
            raise ValueError(
                f"field is {field!r}.{did_you_mean(field, channels)} Channels: {', '.join(channels)}."
            )
        self.base = base
        self._axis, self._channel = names.index(line_of_sight), channels.index(field)
        length = base.spec.axes[self._axis].length
        self._spacing = np.float32(length / base.grid[self._axis])
        axes = tuple(axis for axis in base.spec.axes if axis.name != line_of_sight)
        image = Field("image", long_name=f"{field} along the line of sight, {line_of_sight}")
        self.spec = base.spec.replace(fields=(image,), axes=axes, parameters=())
        self.grid = tuple(n for i, n in enumerate(base.grid) if i != self._axis)
        self.num_trajectories, self.num_frames, self.times = (
            base.num_trajectories,
            base.num_frames,
            base.times,
        )

    def frames(self, trajectory: int, start: int, stop: int) -> Float32[np.ndarray, "time channel *space"]:
        """Return the images ``start`` to ``stop - 1`` of one trajectory."""
        check_frames("a camera's film", self, trajectory, start, stop)
        images = []
        for frame in range(start, stop):  # one volume at a time: they are large
            volume = self.base.frames(trajectory, frame, frame + 1)[:, self._channel]
            images.append(volume.sum(self._axis + 1, dtype=np.float32) * self._spacing)
        return np.stack(images)

    def parameters(self, trajectory: int) -> Float32[np.ndarray, " parameter"]:
        """Return no parameters."""
        return np.zeros(0, np.float32)

    def checksum(self) -> str:
        """Return a digest of the base's content and of what is seen of it."""
        seen = f"{self.base.checksum()} {self._channel} along {self._axis}"
        return hashlib.sha256(seen.encode()).hexdigest()
