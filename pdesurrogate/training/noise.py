"""Noise on the input: a surrogate learns to come back to the trajectory from beside it.

Sanchez-Gonzalez et al., "Learning to Simulate Complex Physics with Graph Networks", ICML 2020, arXiv:2002.09405,
section 4.3, "Training noise"; for turbulence on grids Stachenfeld et al. 2022, arXiv:2112.15275.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import Batch
from ..surrogate import Surrogate
from . import UNROLLS
from .unrolls import KStep, require_count

_MASK = 2**64 - 1
_INCREMENT = 0x9E3779B97F4A7C15


@UNROLLS.register("noise")
@dataclass(frozen=True)
class Noise:
    """Minimise ``loss(S(u + σ std ξ), u_next)`` with ``ξ ~ N(0, 1)`` at every point of every frame of the history.

    The target is the true future, so that the model takes noise away rather than carrying it on; with
    ``predict=increment`` the increment leads there from the noisy last frame, which is the source's adjusted target.
    The source lets the noise of velocities add up along the history, a random walk; here it is independent in every
    frame. Static fields and PDE parameters have none, and validation has none.

    What is drawn depends on the seed, the optimiser step and the window alone, see `normal_numbers`.

    Attributes:
        std: σ, in units of the standard deviation of each channel over the train split.
        num_steps: model steps in the chain that starts from the noisy history, see `KStep`.
        seed: of the draws.
    """

    std: float = 0.01
    num_steps: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.std, int | float) or not 0 < self.std < math.inf:
            raise ValueError(
                f"std of unroll noise is {self.std!r}; it must be a positive number, in units of each channel's "
                "standard deviation, such as 0.01. Without noise: unroll=one_step or k_step."
            )
        require_count("noise", "num_steps", self.num_steps, 1)
        require_count("noise", "seed", self.seed, 0)

    def __call__(self, surrogate: Surrogate, batch: Batch) -> Float[Tensor, "batch horizon channel *space"]:
        """Return ``num_steps`` model steps in a row, from the true history."""
        return KStep(self.num_steps)(surrogate, batch)

    def learn(self, surrogate: Surrogate, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Return the model steps from the noisy history, with gradients, and the true future."""
        return self(surrogate, self.noisy(surrogate, batch, step)), batch.future

    def noisy(self, surrogate: Surrogate, batch: Batch, step: int) -> Batch:
        """Return the batch with the noise of an optimiser step on its history."""
        scale = self.std * surrogate.normaliser.std.view(surrogate.is_static.shape)
        xi = normal_numbers(batch, (self.seed, step)).to(batch.history.dtype)
        noise = torch.where(surrogate.is_static, 0.0, scale * xi)
        return Batch(batch.history + noise, *batch.tensors()[1:])


def normal_numbers(batch: Batch, key: tuple[int, ...]) -> Float[Tensor, "batch history channel *space"]:
    """Return standard normal numbers, one for each value of the history.

    Number ``i`` of a window is a function of the key, the window's trajectory and start, and ``i``: the same in
    whatever batch, process or resumed run the window comes, and on every device but for rounding. A counter-based
    generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") with the mixing function of SplitMix64
    (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"); the host never waits for the device.
    Two numbers of 24 bits become a normal one (Box and Muller 1958), of at most 5.8 in size.
    """
    state = torch.zeros_like(batch.trajectory, dtype=torch.int64)
    words: tuple[int | Tensor, ...] = (*key, batch.trajectory, batch.start)
    for word in words:
        state = _mixed(_next(state, word))
    index = torch.arange(batch.history[0].numel(), device=state.device)
    bits = _mixed(_next(state[:, None], index))
    first = (_shifted(bits, 40) + 1).float() * 2.0**-24  # in (0, 1]: its logarithm is finite
    second = (bits & 0xFFFFFF).float() * 2.0**-24
    return ((-2 * first.log()).sqrt() * (2 * math.pi * second).cos()).view_as(batch.history)


def _next(state: Tensor, word: int | Tensor) -> Tensor:
    """Return SplitMix64's state ``word + 1`` increments on; integers of 64 bits wrap around."""
    if isinstance(word, int):
        return state + _signed((word + 1) * _INCREMENT)
    return state + (word + 1) * _signed(_INCREMENT)


def _mixed(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Return the logical shift to the right; that of signed integers repeats the sign."""
    return (z >> bits) & (_MASK >> bits)


def _signed(word: int) -> int:
    word &= _MASK
    return word - 2**64 if word >= 2**63 else word
