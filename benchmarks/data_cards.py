"""Draw the pictures of ``data/README.md`` and of the cards: what the first test trajectories of a set look like.

``python -m benchmarks.data_cards data/generated/navier_stokes docs/navier_stokes.png``

A third argument is the first frame to be shown, where the one at t = 0 is noise that would set the colours.
On a plane: frames of the first trajectory, first to last, or, where there are two frames, the last one of a few
trajectories. On a line: all frames of a few trajectories, one panel each.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pdesurrogate.data.store import StoredTrajectories

NUM_COLUMNS = 5


def draw(root: Path, picture: Path, first: int = 0) -> None:
    """Draw one row per channel, each on one colour scale, about zero if it has both signs.

    Of a volume ``(z, y, x)`` the mean along y is drawn, as a camera sees smoke.
    """
    stored = StoredTrajectories(root / "test.h5")
    names = stored.spec.channel_names
    height = 2.1 if stored.spec.ndim == 1 else 2.0 * stored.grid[0] / stored.grid[-1] + 0.1
    figure = Figure(figsize=(2.0 * NUM_COLUMNS + 0.8, height * len(names)), layout="constrained")
    axes = figure.subplots(len(names), NUM_COLUMNS, squeeze=False, sharey="row")
    if stored.spec.ndim == 1:
        _draw_lines(stored, axes)
    else:
        _draw_planes(stored, figure, axes, first)
    figure.savefig(picture, dpi=80)


def _draw_planes(stored: StoredTrajectories, figure: Figure, axes: np.ndarray, first: int) -> None:
    if stored.num_frames > 2:
        shown = np.linspace(first, stored.num_frames - 1, NUM_COLUMNS).round().astype(int)
        images = stored.frames(0, 0, stored.num_frames)[shown]
        unit, scale = (" h", 3600.0) if stored.spec.time_units == "s" else ("", 1.0)
        titles = [f"t = {stored.times[k] / scale:.3g}{unit}" for k in shown]
    else:
        count = stored.num_frames
        images = np.concatenate([stored.frames(i, count - 1, count) for i in range(NUM_COLUMNS)])
        titles = [f"sample {i}" for i in range(NUM_COLUMNS)]
    if stored.spec.ndim == 3:
        images = images.mean(axis=3)
    origin = "upper" if stored.spec.axes[0].is_descending else "lower"
    for channel, (row, name) in enumerate(zip(axes, stored.spec.channel_names, strict=True)):
        low, high = images[:, channel].min(), images[:, channel].max()
        colours = {"cmap": "viridis", "vmin": low, "vmax": high}
        if low < 0 < high:
            limit = max(-low, high)
            colours = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        for axis, image, title in zip(row, images, titles, strict=True):
            drawn = axis.imshow(image[channel], origin=origin, **colours)
            axis.set(xticks=[], yticks=[], title=title)
        figure.colorbar(drawn, ax=row, shrink=0.9, label=name)


def _draw_lines(stored: StoredTrajectories, axes: np.ndarray) -> None:
    x = stored.spec.axes[0].coordinates(stored.grid[0])
    shown = np.unique(np.linspace(0, stored.num_frames - 1, NUM_COLUMNS).round().astype(int))
    for channel, (row, name) in enumerate(zip(axes, stored.spec.channel_names, strict=True)):
        for i, axis in enumerate(row):
            frames = stored.frames(i, 0, stored.num_frames)
            for k in shown:
                shade = 0.85 * (1 - k / max(1, stored.num_frames - 1))  # dark at the end
                axis.plot(x, frames[k, channel], color=str(shade), label=f"t = {stored.times[k]:.3g}")
            axis.set(title=f"trajectory {i}", xticks=[0, stored.spec.lengths[0]])
        row[0].set_ylabel(name)
        row[0].legend(fontsize=6, frameon=False)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:4]))
