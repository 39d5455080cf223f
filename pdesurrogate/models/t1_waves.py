"""Which waves T1 works on: their kind from the boundaries, and which of them are kept.

A model that keeps some waves can never err less than the projection of the truth on them does: the truncation floor,
the irreducible part of the loss in a reduced-order model. Waves are chosen by it: the lowest ones, those with the
largest mean energy in the training data, and as many as a given floor needs (Poli et al. 2022, arXiv:2211.14453, on
reduced-order models).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..fields.fourier import RealWaves, WaveKind, num_waves
from ..registry import did_you_mean
from .operator_frame import OperatorFrame

TRANSFORMS = ("auto", "dct", "rfft_real", "dct_everywhere")
SELECTIONS = ("lowest", "energy")
_MOST_TRAJECTORIES, _MOST_FRAMES = 64, 512  # that are looked at to choose waves


def wave_kinds(transform: str, boundaries: Sequence[str], axis_names: Sequence[str]) -> tuple[WaveKind, ...]:
    """Return the kind of waves of every axis.

    Raises:
        ValueError: for an unknown transform, cosines on a periodic axis or Fourier waves on one with ends.
    """
    if transform not in TRANSFORMS:
        raise ValueError(
            f"t1: transform is {transform!r}.{did_you_mean(str(transform), TRANSFORMS)} Allowed: "
            f"{', '.join(TRANSFORMS)}."
        )
    periodic = [n for n, b in zip(axis_names, boundaries, strict=True) if b == "periodic"]
    bounded = [n for n, b in zip(axis_names, boundaries, strict=True) if b != "periodic"]
    if transform == "dct" and periodic:
        raise ValueError(
            f"t1: transform is 'dct' and {_axes(periodic)} periodic. Cosines continue a field as its mirror image, "
            "which has a kink at both ends of a periodic axis: their amplitudes decay slowly and the truncation floor "
            "is high. Use transform=auto, which takes Fourier waves there, or transform=dct_everywhere for the "
            "paper's cosines all the same."
        )
    if transform == "rfft_real" and bounded:
        raise ValueError(
            f"t1: transform is 'rfft_real' and {_axes(bounded)} not periodic. Fourier waves join the two ends of such "
            "an axis, where the field jumps: their amplitudes decay slowly. Use transform=auto, which takes cosines "
            "there, whose slopes vanish at the ends."
        )
    fourier, cosine = get_args(WaveKind)
    everywhere = transform == "dct_everywhere"
    return tuple(fourier if b == "periodic" and not everywhere else cosine for b in boundaries)


def kept_numbers(
    waves: str | Sequence[Sequence[int]], num_modes: Sequence[int], axis_names: Sequence[str]
) -> tuple[tuple[int, ...], ...]:
    """Return the numbers of the kept waves of every axis.

    Raises:
        ValueError: for a name that does not exist, one that needs data, or lists that are none of waves.
    """
    if waves == "lowest":
        return tuple(tuple(range(k)) for k in num_modes)
    if waves == "energy":
        raise ValueError(
            "t1: waves is 'energy', which looks at the training data; train.py does so before it builds the model. "
            "Here, give the numbers of the waves, one list an axis, or waves=lowest."
        )
    if not (isinstance(waves, Sequence) and all(_are_numbers(own) for own in waves)):
        raise ValueError(
            f"t1: waves is {waves!r}.{did_you_mean(str(waves), SELECTIONS)} Allowed: {', '.join(SELECTIONS)}, or one "
            "list of numbers an axis."
        )
    lists = [sorted({int(n) for n in numbers}) for numbers in waves]
    if [len(own) for own in lists] != list(num_modes) or any(own[0] < 0 for own in lists):
        raise ValueError(
            f"t1: waves has lists of {[len(own) for own in waves]} numbers and num_modes is {list(num_modes)}; give "
            f"one list for each of the axes {', '.join(axis_names)}, with that many different numbers from 0 on."
        )
    return tuple(map(tuple, lists))


def wanted_modes(frame: OperatorFrame, num_modes: int | Sequence[int]) -> tuple[int, ...]:
    """Return how many waves of every axis are kept; of one number for all, time takes no more than there are frames.

    Raises:
        ValueError: as `OperatorFrame.modes_per_axis`.
    """
    if isinstance(num_modes, int) and num_modes > 0 and frame.time_is_axis:
        num_modes = [*[num_modes] * frame.spec.ndim, min(num_modes, frame.horizon)]
    return frame.modes_per_axis(num_modes)


def options_for_data(options: Mapping[str, Any], data: Any, horizon: int) -> dict[str, Any]:
    """Return the options of a model with the ``waves`` and ``num_modes`` that they want the training data to decide.

    Args:
        options: of the model.
        data: the `TrajectoryDataModule` of the training.
        horizon: number of output frames; windows of several model steps have more.

    Raises:
        ValueError: if the waves are wanted of a kind that does not suit the boundaries, or are more than the grid
            carries; before any of the data are read.
    """
    options = dict(options)
    tolerance, waves = options.get("tolerance"), options.get("waves", "lowest")
    if waves != "energy" and tolerance is None:
        return options
    spec = data.spec
    kinds = wave_kinds(options.get("transform", "auto"), spec.boundaries, spec.axis_names)
    given = options.get("num_modes", 24)
    frame = OperatorFrame("t1", spec, data.history, horizon, options.get("time", "channels"), padding=None)
    modes = list(wanted_modes(frame, given))
    if waves != "energy":
        kept_numbers(waves, modes[: spec.ndim], spec.axis_names)
    if tolerance is None:
        _require_carried(kinds, modes, given, data.grid, spec.axis_names)
    else:
        _require_positive(tolerance)
    # Nothing of the data has been read so far.
    energy = mean_energy(all_waves(kinds, data.grid, [axis.offset for axis in spec.axes]), _some_frames(data))
    if tolerance is not None:
        modes[: spec.ndim] = fewest_modes(energy, tolerance, lowest=waves == "lowest")
        options["tolerance"] = None
    if waves == "energy":
        options["waves"] = strongest(energy, modes[: spec.ndim])
    return {**options, "num_modes": modes}


def _some_frames(data: Any) -> Iterator[Float[Tensor, "time channel *space"]]:
    """Yield normalised frames of what is forecast, spread evenly over the first training trajectories."""
    moving = [i for i, is_static in enumerate(data.spec.static_channels) if not is_static]
    normaliser, train = data.fit_normaliser(), data.trajectories("train")
    count = min(train.num_trajectories, _MOST_TRAJECTORIES)
    for i in range(count):
        for frame in np.unique(
            np.linspace(0, train.num_frames - 1, max(2, _MOST_FRAMES // count)).astype(int)
        ):
            frames = torch.from_numpy(train.frames(i, int(frame), int(frame) + 1))
            yield normaliser.normalise(frames[None])[0, :, moving]


def all_waves(
    kinds: Sequence[WaveKind], grid: Sequence[int], offsets: Sequence[float] | None = None
) -> RealWaves:
    """Return all waves that a grid carries."""
    numbers = tuple(tuple(range(num_waves(kind, n))) for kind, n in zip(kinds, grid, strict=True))
    return RealWaves(tuple(kinds), numbers, tuple(offsets or [0.0] * len(grid)))


def mean_energy(
    waves: RealWaves, blocks: Iterable[Float[Tensor, "_time channel *space"]]
) -> Float[Tensor, "*waves"]:
    """Return the share of each wave in a field's energy, the mean over all frames and channels, float64.

    Every frame and channel counts alike, whatever its size.
    """
    total, count = torch.zeros(waves.shape, dtype=torch.float64), 0
    for block in blocks:
        square = block.double().flatten(2).square().mean(-1)
        energy = waves.analyse(block.double()).square()
        weight = torch.where(square > 0, 1 / square.where(square > 0, 1.0), 0.0)
        total += torch.einsum("tc,tc...->...", weight, energy)
        count += int((square > 0).sum())
    if count == 0:
        raise ValueError("t1: the training data are zero everywhere; there is no energy to choose waves by.")
    return total / count


def strongest(energy: Float[Tensor, "*waves"], num_modes: Sequence[int]) -> list[list[int]]:
    """Return the waves of each axis with the largest energy, summed over the other axes, in ascending order."""
    chosen = []
    for axis, wanted in enumerate(num_modes):
        others = [a for a in range(energy.ndim) if a != axis]
        own = energy.sum(others) if others else energy
        chosen.append(sorted(own.argsort(descending=True, stable=True)[:wanted].tolist()))
    return chosen


def fewest_modes(energy: Float[Tensor, "*waves"], tolerance: float, *, lowest: bool) -> list[int]:
    """Return the smallest numbers of waves, the same share of every axis, that keep the error within ``tolerance``.

    The error is the root of the mean share of energy that is left out, which the mean relative L2 error cannot exceed.

    Raises:
        ValueError: if the tolerance is not positive.
    """
    _require_positive(tolerance)
    longest = max(energy.shape)
    for share in range(1, longest + 1):
        modes = [max(1, -(-share * size // longest)) for size in energy.shape]
        numbers = [list(range(k)) for k in modes] if lowest else strongest(energy, modes)
        kept = energy
        for axis, own in enumerate(numbers):
            kept = kept.index_select(axis, torch.tensor(own))
        if float(1 - kept.sum()) <= tolerance**2:
            break
    return modes


def _require_carried(
    kinds: Sequence[WaveKind],
    modes: Sequence[int],
    given: int | Sequence[int],
    grid: Sequence[int],
    axis_names: Sequence[str],
) -> None:
    for kind, wanted, size, name in zip(kinds, modes, grid, axis_names, strict=False):  # time comes last
        carried = num_waves(kind, size)
        if wanted > carried:
            raise ValueError(
                f"t1: num_modes is {given} and the {size} points of axis {name!r} carry {carried} {kind} waves. Use "
                f"num_modes of at most {carried} on this axis, or a finer grid."
            )


def _require_positive(tolerance: float) -> None:
    if not tolerance > 0:
        raise ValueError(f"t1: tolerance is {tolerance}; it is a relative error above 0, such as 0.01.")


def _are_numbers(numbers: Any) -> bool:
    return isinstance(numbers, Sequence) and all(isinstance(n, int) for n in numbers)


def _axes(names: Sequence[str]) -> str:
    return f"the axis {names[0]!r} is" if len(names) == 1 else f"the axes {', '.join(map(repr, names))} are"
