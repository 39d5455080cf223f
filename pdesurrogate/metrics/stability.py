"""For how long a rollout can be used: correlation, its time, the first divergence, and the growth of errors.

Times are read off errors by sample, lead time and field, as a `MetricTable` keeps them. Frame ``n`` is ``n dt`` after
the start; at the start itself the forecast is the truth. A time is infinite where the event does not happen within the
horizon: it is censored there, and only medians and counts make sense of many of them.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import DataSpec
from . import METRICS
from .norms import at_least_single, check_shapes, field_norms, field_slices, spatial_means

CORRELATED = 0.8
"""Correlation below which a forecast is lost, after Kochkov et al. 2021 and Lippe et al. 2023 (PDE-Refiner)."""


@METRICS.register("decorrelation")
def decorrelation(
    prediction: Float[Tensor, "batch time channel *space"],
    target: Float[Tensor, "batch time channel *space"],
    spec: DataSpec,
) -> Float[Tensor, "batch time field"]:
    """One minus Pearson's correlation over space of the fluctuations ``p' = p - mean(p)`` and ``t' = t - mean(t)``.

    ``1 - <p', t'> / (‖p'‖ ‖t'‖)``: 0 for the same pattern whatever its mean and amplitude, 1 for an unrelated one, 2
    for its negative. It is computed as ``½ ‖p'/‖p'‖ - t'/‖t'‖‖²``, which loses no digits near 0. Where a fluctuation
    vanishes there is no pattern: 0 if both vanish, else 1.
    """
    check_shapes(prediction, target, spec)
    units, sizes = [], []
    for u in (at_least_single(prediction), at_least_single(target)):
        fluctuation = u - spatial_means(u, spec)
        size = field_norms(fluctuation, spec)
        safe = torch.where(size > 0, size, torch.ones_like(size))
        repeats = torch.tensor([part.stop - part.start for part in field_slices(spec)], device=u.device)
        by_channel = safe.repeat_interleave(repeats, dim=-1)
        kept = torch.cat([fluctuation[:, :, part] for part in field_slices(spec)], dim=2)
        units.append(kept / by_channel.reshape(*by_channel.shape, *[1] * spec.ndim))
        sizes.append(size)
    distance = _norms_of_forecast_fields(units[0] - units[1], spec)
    lost = (sizes[0] > 0) != (sizes[1] > 0)
    return torch.where(lost, torch.ones_like(distance), 0.5 * distance.square())


def correlation_time(
    lost: Float[Tensor, "sample lead field"], dt: float, threshold: float = CORRELATED
) -> Float[Tensor, "sample field"]:
    """Return when the correlation first falls below ``threshold``, interpolated between frames; infinite if never.

    Args:
        lost: values of `decorrelation`.
        dt: time between frames.
        threshold: correlation that counts as lost; 0.8 in Kochkov et al. 2021, PNAS 118, and Lippe et al. 2023.

    Raises:
        ValueError: if the threshold is not between -1 and 1.
    """
    if not -1 < threshold < 1:
        raise ValueError(f"threshold is {threshold}; a correlation lies between -1 and 1, such as 0.8.")
    return first_crossing(lost, 1 - threshold) * dt


def first_divergence(
    errors: Float[Tensor, "sample lead field"], dt: float, threshold: float = 1.0
) -> Float[Tensor, "sample field"]:
    """Return when an error first exceeds ``threshold``, interpolated between frames; infinite if never.

    With the VRMSE and 1 this is the time from which on the mean of the truth would have been the better forecast. An
    error that is infinite or not a number exceeds every threshold.
    """
    return first_crossing(errors, threshold) * dt


def first_crossing(
    values: Float[Tensor, "sample lead field"], threshold: float
) -> Float[Tensor, "sample field"]:
    """Return after how many frames values first exceed a threshold, as a fraction between two frames.

    The value before the first lead is 0; between frames values change linearly, and a step to infinity is counted at
    its frame.
    """
    values = values.double().nan_to_num(nan=math.inf, posinf=math.inf)
    above = values > threshold
    first = above.to(torch.int8).argmax(dim=1, keepdim=True)
    after = values.gather(1, first)
    before = torch.where(first > 0, values.gather(1, (first - 1).clamp(min=0)), torch.zeros_like(after))
    fraction = torch.where(after.isinf(), 1.0, (threshold - before) / (after - before))
    crossing = (first + fraction).squeeze(1)
    return torch.where(above.any(1), crossing, math.inf)


def growth_rate(
    errors: Float[Tensor, "sample lead field"], dt: float, saturation: float = 0.5
) -> Float[Tensor, "sample field"]:
    """Return the rate λ of exponential growth, ``error ~ exp(λ t)``, by least squares on ``log error``.

    Only leads before the error first exceeds ``saturation`` count: an error as large as the field grows no more. For
    fewer than three of them, and where an error is 0, there is no rate and NaN is returned.
    """
    values = errors.double()
    early = (values <= saturation).to(torch.int64).cumprod(dim=1).bool() & (values > 0)
    times = dt * torch.arange(1, values.shape[1] + 1, dtype=torch.float64).view(1, -1, 1)
    count = early.sum(1, keepdim=True)
    logs = torch.where(early, values.clamp(min=1e-300).log(), 0.0)
    weights = early.double() / count.clamp(min=1)
    centred = torch.where(early, times - (times * weights).sum(1, keepdim=True), 0.0)
    rate = (centred * logs).sum(1) / centred.square().sum(1)
    return torch.where(count.squeeze(1) >= 3, rate, math.nan)


def _norms_of_forecast_fields(u: Tensor, spec: DataSpec) -> Tensor:
    """Return norms as `field_norms` of channels from which static ones were taken out."""
    forecast = spec.replace(fields=spec.forecast_fields)
    return field_norms(u, forecast)
