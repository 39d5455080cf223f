"""Channel statistics in float64, and the affine map between physical and normalised fields.

Statistics have a channel axis only: per-pixel statistics would tie a model to one grid. They are merged
block by block with the parallel update of Chan, Golub and LeVeque (1983, "Algorithms for computing the
sample variance", The American Statistician 37, eq. 2.1), which does not cancel when the mean is much
larger than the standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class ChannelStatistics:
    """Count, mean and sum of squared deviations of each channel, float64.

    ``m2 = Σ (u - mean)²`` over all points, so that the variance is ``m2 / count``.
    """

    count: int
    mean: Float[Tensor, " channel"]
    m2: Float[Tensor, " channel"]

    @classmethod
    def of(cls, frames: Float[Tensor, "*lead channel space"]) -> ChannelStatistics:
        """Return the statistics of one block, given with its space axes flattened to one.

        Raises:
            ValueError: if a value is NaN or infinite; the channel is named.
        """
        values = frames.to(torch.float64).movedim(-2, 0).flatten(1)
        finite = torch.isfinite(values).all(dim=1)
        if not finite.all():
            bad = torch.nonzero(~finite).flatten().tolist()
            raise ValueError(f"channels {bad} hold NaN or infinite values; statistics need finite data.")
        mean = values.mean(dim=1)
        return cls(values.shape[1], mean, (values - mean[:, None]).square().sum(dim=1))

    def merge(self, other: ChannelStatistics) -> ChannelStatistics:
        """Return the statistics of both blocks together."""
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        m2 = self.m2 + other.m2 + delta.square() * (self.count * other.count / count)
        return ChannelStatistics(count, mean, m2)

    @property
    def std(self) -> Float[Tensor, " channel"]:
        """Standard deviation of each channel, ``sqrt(m2 / count)``."""
        return (self.m2 / self.count).sqrt()


class Normaliser(nn.Module):
    """The affine map ``v = (u - mean) / std`` per channel, and the same for PDE parameters.

    Buffers are float32, filled from float64 statistics. A constant channel (std below 1e-12 of its
    magnitude) is shifted but not scaled, so that it stays finite; parameters likewise.

    Args:
        mean, std: per-channel statistics in physical units, length C.
        parameter_mean, parameter_std: statistics of the P parameters; empty where there are none.
        increment_std: standard deviation of ``u(t + Δt) - u(t)`` per channel, for models that predict
            increments; empty where they are not known.
    """

    mean: Tensor
    std: Tensor
    increment_std: Tensor
    parameter_mean: Tensor
    parameter_std: Tensor

    def __init__(
        self,
        mean: Sequence[float] | Tensor,
        std: Sequence[float] | Tensor,
        parameter_mean: Sequence[float] | Tensor = (),
        parameter_std: Sequence[float] | Tensor = (),
        increment_std: Sequence[float] | Tensor = (),
    ) -> None:
        super().__init__()
        increments = torch.as_tensor(increment_std, dtype=torch.float32)
        if len(increments) not in (0, len(mean)) or not (increments >= 0).all():
            raise ValueError(
                f"increment_std is {increments.tolist()}; it needs one number, not negative, for each of "
                f"{len(mean)} channels, or none."
            )
        self.register_buffer("increment_std", torch.where(increments == 0, 1.0, increments))
        for name, centre, scale in (
            ("", mean, std),
            ("parameter_", parameter_mean, parameter_std),
        ):
            centre64 = torch.as_tensor(centre, dtype=torch.float64)
            scale64 = torch.as_tensor(scale, dtype=torch.float64)
            if centre64.shape != scale64.shape or centre64.ndim != 1:
                raise ValueError(
                    f"{name}mean and {name}std must be vectors of equal length; given shapes "
                    f"{tuple(centre64.shape)} and {tuple(scale64.shape)}."
                )
            valid = torch.isfinite(centre64) & torch.isfinite(scale64) & (scale64 >= 0)
            if not valid.all():
                bad = torch.nonzero(~valid).flatten().tolist()
                raise ValueError(
                    f"{name}mean and {name}std must be finite, and {name}std not negative; "
                    f"entries {bad} are not."
                )
            is_constant = (scale64 <= 1e-12 * centre64.abs()) | (scale64.to(torch.float32) == 0)
            scale64 = torch.where(is_constant, torch.ones_like(scale64), scale64)
            self.register_buffer(f"{name}mean", centre64.to(torch.float32))
            self.register_buffer(f"{name}std", scale64.to(torch.float32))

    @classmethod
    def fit(
        cls,
        fields: ChannelStatistics,
        parameters: Float[Tensor, "trajectory parameter"] | None = None,
        increments: ChannelStatistics | None = None,
    ) -> Normaliser:
        """Build the map from statistics of the train split, its parameters and its increments in time."""
        increment_std = () if increments is None else increments.std
        if parameters is None or parameters.shape[1] == 0:
            return cls(fields.mean, fields.std, increment_std=increment_std)
        values = parameters.to(torch.float64)
        return cls(fields.mean, fields.std, values.mean(0), values.std(0, correction=0), increment_std)

    def symmetrised(self, action: Float[Tensor, "element channel channel"]) -> Normaliser:
        """Return the map fitted to all transformed copies of the data, which commutes with the group.

        Means and mean squares are averaged over the group: a channel that some element changes in sign has mean zero,
        and the components of a vector that mix have one standard deviation.

        Args:
            action: signed permutations of the channels, see `pdesurrogate.fields.point_group.channel_action`.
        """
        if len(action) == 1:
            return self
        action = action.to("cpu", torch.float64)
        mean, std, increment_std = (t.cpu().double() for t in (self.mean, self.std, self.increment_std))
        exchanged = action.abs().mean(dim=0)
        averaged = action.mean(dim=0) @ mean
        squares = exchanged @ (std.square() + mean.square())
        if len(increment_std):
            increment_std = (exchanged @ increment_std.square()).sqrt()
        return Normaliser(
            averaged,
            (squares - averaged.square()).clamp_min(0).sqrt(),
            self.parameter_mean,
            self.parameter_std,
            increment_std,
        )

    def normalise(
        self, u: Float[Tensor, "batch time channel *space"]
    ) -> Float[Tensor, "batch time channel *space"]:
        """Physical to normalised fields.

        Raises:
            ValueError: if the fields have another number of channels than the statistics.
        """
        return (u - self._column(self.mean, u)) / self._column(self.std, u)

    def denormalise(
        self, v: Float[Tensor, "batch time channel *space"]
    ) -> Float[Tensor, "batch time channel *space"]:
        """Normalised to physical fields.

        Raises:
            ValueError: if the fields have another number of channels than the statistics.
        """
        return v * self._column(self.std, v) + self._column(self.mean, v)

    def advance(
        self,
        u: Float[Tensor, "batch 1 channel *space"],
        v: Float[Tensor, "batch time channel *space"],
        *,
        scaled: bool = True,
    ) -> Float[Tensor, "batch time channel *space"]:
        """Return ``u + unit · v``: a frame moved on by increments.

        The unit is ``increment_std``, or the fields' ``std`` for increments that are not scaled.

        Raises:
            ValueError: if the standard deviations of increments are needed and not known.
        """
        return u + v * self._column(self._increment_unit(scaled), v)

    def increments(
        self,
        u: Float[Tensor, "batch 1 channel *space"],
        later: Float[Tensor, "batch time channel *space"],
        *,
        scaled: bool = True,
    ) -> Float[Tensor, "batch time channel *space"]:
        """Return ``(later - u) / unit``, the inverse of `advance`.

        Raises:
            ValueError: if the standard deviations of increments are needed and not known.
        """
        return (later - u) / self._column(self._increment_unit(scaled), later)

    def _increment_unit(self, scaled: bool) -> Tensor:
        if scaled and len(self.increment_std) == 0:
            raise ValueError("this normaliser knows no increments; fit it with increments to predict them.")
        return self.increment_std if scaled else self.std

    def normalise_parameters(
        self, parameters: Float[Tensor, "batch parameter"]
    ) -> Float[Tensor, "batch parameter"]:
        """Physical to normalised PDE parameters."""
        return (parameters - self.parameter_mean) / self.parameter_std

    @staticmethod
    def _column(statistic: Tensor, like: Tensor) -> Tensor:
        if like.shape[2] != len(statistic):
            raise ValueError(
                f"fields of shape {tuple(like.shape)} have {like.shape[2]} channels (third axis) and the "
                f"normaliser has statistics of {len(statistic)}."
            )
        return statistic.view(-1, *[1] * (like.ndim - 3)).to(like.dtype)
