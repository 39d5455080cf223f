"""Draw the pictures of ``data/README.md``: frames of the first test trajectory of a generated set.

``python -m benchmarks.data_cards data/generated/navier_stokes docs/navier_stokes.png``
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pdesurrogate.data.store import StoredTrajectories

NUM_FRAMES = 5


def draw(root: Path, picture: Path) -> None:
    """Draw one row per channel, first frame to last, on one colour scale, about zero if it has both signs.

    Of a volume ``(z, y, x)`` the mean along y is drawn, as a camera sees smoke.
    """
    stored = StoredTrajectories(root / "test.h5")
    vertical, _ = stored.spec.axes
    unit, scale = ("h", 3600.0) if stored.spec.time_units == "s" else ("", 1.0)
    height = 2.0 * stored.grid[0] / stored.grid[1] + 0.1
    frames = stored.frames(0, 0, stored.num_frames)
    if stored.spec.ndim == 3:
        frames = frames.mean(axis=3)
    shown = np.linspace(0, stored.num_frames - 1, NUM_FRAMES).round().astype(int)
    names = stored.spec.channel_names
    figure = Figure(figsize=(2.0 * NUM_FRAMES + 0.8, height * len(names)), layout="constrained")
    axes = figure.subplots(len(names), NUM_FRAMES, squeeze=False)
    for channel, (row, name) in enumerate(zip(axes, names, strict=True)):
        low, high = frames[:, channel].min(), frames[:, channel].max()
        colours = {"cmap": "viridis", "vmin": low, "vmax": high}
        if low < 0 < high:
            limit = max(-low, high)
            colours = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        for axis, k in zip(row, shown, strict=True):
            drawn = axis.imshow(
                frames[k, channel], origin="upper" if vertical.is_descending else "lower", **colours
            )
            axis.set(xticks=[], yticks=[], title=f"t = {stored.times[k] / scale:.3g} {unit}".rstrip())
        figure.colorbar(drawn, ax=row, shrink=0.9, label=name)
    figure.savefig(picture, dpi=80)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
