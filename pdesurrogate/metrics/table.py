"""A table of errors that keeps every sample, and says how sure its means are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import stdtrit
from torch import Tensor

FEWEST_SAMPLES = 5  # with fewer, a spread is too uncertain for an interval that says anything


class MetricTable:
    """Errors by sample, lead time and field, filled batch by batch and kept in float64.

    A sample is what is statistically independent: usually a trajectory. Samples are identified by an
    integer, so that the table does not depend on the order of arrival, on the batch size, or on how the
    samples were dealt out to ranks. A value that is not a number counts as infinite: a rollout that blew up
    has not got away.

    Args:
        fields: names along the last axis.
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self.fields = tuple(fields)
        self._blocks: list[tuple[list[int], int, Tensor, bool]] = []

    def add(
        self,
        samples: Int[Tensor, " batch"] | Sequence[int],
        values: Float[Tensor, "batch time field"],
        first_lead: int = 0,
        undefined: bool = False,
    ) -> None:
        """Store the values of some samples at the leads ``first_lead, first_lead + 1, ...``.

        Args:
            samples: their identifiers.
            values: their errors.
            first_lead: where along the lead axis they belong.
            undefined: whether a value is infinite because its target vanishes, whatever was predicted.

        Raises:
            ValueError: if the shapes disagree.
        """
        ids = [int(s) for s in samples]
        if values.shape[0] != len(ids) or values.shape[2] != len(self.fields):
            raise ValueError(
                f"values of shape {tuple(values.shape)} do not fit {len(ids)} samples and the "
                f"fields {self.fields}."
            )
        block = values.detach().to("cpu", torch.float64).nan_to_num(nan=math.inf, posinf=math.inf)
        self._blocks.append((ids, first_lead, block, undefined))

    @property
    def samples(self) -> list[int]:
        """Identifiers of the samples in the order of `values`."""
        return sorted({sample for ids, *_ in self._blocks for sample in ids})

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def values(self) -> Float[Tensor, "sample lead field"]:
        """All values, samples sorted by identifier and leads in order.

        Raises:
            ValueError: if the table is empty, a sample lacks a lead that another has, or one was given two
                different values.
        """
        if not self._blocks:
            raise ValueError("the table is empty: no sample was evaluated.")
        samples = self.samples
        place = {sample: row for row, sample in enumerate(samples)}
        num_leads = max(first + block.shape[1] for _, first, block, _ in self._blocks)
        values = torch.full((len(samples), num_leads, len(self.fields)), math.nan, dtype=torch.float64)
        for ids, first, block, _ in self._blocks:
            rows = torch.tensor([place[sample] for sample in ids])
            stored = values[rows, first : first + block.shape[1]]
            if not torch.where(stored.isnan(), block, stored).equal(block):
                raise ValueError(f"samples {ids} were given two different values at one lead.")
            values[rows, first : first + block.shape[1]] = block
        if values.isnan().any():
            sample, lead = (int(i) for i in values.isnan().any(-1).nonzero()[0])
            raise ValueError(f"sample {samples[sample]} lacks lead {lead}, which another sample has.")
        return values

    @property
    def undefined(self) -> bool:
        """Whether a relative error does not exist somewhere because the target vanishes there."""
        return any(undefined for *_, undefined in self._blocks)

    def mean(self) -> Float[Tensor, "lead field"]:
        """Mean over samples."""
        return self.values.mean(0)

    def standard_error(self) -> Float[Tensor, "lead field"]:
        """Standard error of the mean over samples, ``s / sqrt(n)``; NaN for a single sample."""
        values = self.values
        return values.std(0, correction=1) / math.sqrt(len(self)) if len(self) > 1 else values[0] * math.nan

    def interval(self, level: float = 0.95) -> Float[Tensor, "2 lead field"]:
        """Student's t interval of the mean over samples, for each lead and field; that of errors is not below 0."""
        values = self.values
        ends = mean_interval(values, level)
        return ends.clamp(min=0) if (values >= 0).all() else ends

    def per_sample(self) -> Float[Tensor, " sample"]:
        """Mean over leads and fields of each sample: the number by which cases are ranked."""
        return self.values.flatten(1).mean(1)

    def gathered(self) -> MetricTable:
        """Return the table of all ranks together; a sample that several ranks hold counts once.

        Samples, not sums, are exchanged, so that means and intervals on n ranks equal those on one to the
        last bit. Without torch.distributed it returns the table itself.
        """
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()):
            return self
        parts: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(parts, self._blocks)
        table = MetricTable(self.fields)
        table._blocks = [block for part in parts for block in part]
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON: samples, fields, mean, standard error, interval, values.

        Infinite and undefined numbers become ``None``, since JSON has no word for them.
        """
        interval = self.interval()
        return {
            "dims": ["sample", "lead", "field"],
            "fields": list(self.fields),
            "samples": self.samples,
            "n": len(self),
            "undefined": self.undefined,
            "mean": plain(self.mean()),
            "standard_error": plain(self.standard_error()),
            "interval_95": {"low": plain(interval[0]), "high": plain(interval[1])},
            "values": plain(self.values),
        }


def mean_interval(values: Float[Tensor, "sample *rest"], level: float = 0.95) -> Float[Tensor, "2 *rest"]:
    """Return Student's t interval of the mean over samples, ``mean ± t_{n-1} s / √n``.

    It covers the mean as often as it says for normal samples of any number, and nearly so for moderately skewed
    ones. For fewer than `FEWEST_SAMPLES`, and where a value is infinite, both ends are NaN: there is no interval.

    Args:
        values: one row a sample; for a paired comparison the differences of two contenders on each sample.
        level: how often the interval is to cover the mean.

    Raises:
        ValueError: if ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; a confidence level lies between 0 and 1, such as 0.95.")
    n = values.shape[0]
    if n < FEWEST_SAMPLES:
        return torch.full((2, *values.shape[1:]), math.nan, dtype=values.dtype, device=values.device)
    quantile = float(stdtrit(n - 1, (1 + level) / 2))
    reach = quantile * values.std(0, correction=1) / math.sqrt(n)
    ends = torch.stack([values.mean(0) - reach, values.mean(0) + reach])
    return torch.where(ends.isfinite().all(0), ends, math.nan)


def bootstrap_interval(
    values: Float[Tensor, " sample"], statistic: str = "mean", level: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Return a bootstrap interval over samples, drawn with replacement by a fixed seed.

    Of a mean by the bias-corrected accelerated percentiles (BCa), of a median by plain ones, which allow for infinite
    values: times that lie beyond the horizon. Efron and Tibshirani 1993, "An Introduction to the Bootstrap",
    chapters 13 and 14. Unlike `mean_interval` it supposes no shape of the distribution, and covers less than it says
    for few samples. For fewer than `FEWEST_SAMPLES`, and for a mean of infinite values, both ends are NaN.

    Args:
        values: one number a sample; for a paired comparison the difference of two contenders on each sample.
        statistic: ``"mean"`` or ``"median"``.
        level: how often the interval is to cover the statistic.
        resamples: number of resamples.

    Raises:
        ValueError: for another statistic, or a level that is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; a confidence level lies between 0 and 1, such as 0.95.")
    if statistic not in ("mean", "median"):
        raise ValueError(f"statistic is {statistic!r}; allowed: 'mean', 'median'.")
    sample = values.double().numpy()
    if len(sample) < FEWEST_SAMPLES or (statistic == "mean" and not np.isfinite(sample).all()):
        return math.nan, math.nan
    if (sample == sample[0]).all():
        return float(sample[0]), float(sample[0])
    if statistic == "median":
        draws = np.random.default_rng(0).integers(len(sample), size=(resamples, len(sample)))
        ends = np.quantile(
            np.median(sample[draws], axis=1), [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf"
        )
        return float(ends[0]), float(ends[1])
    from scipy.stats import bootstrap

    found = bootstrap(
        (sample,), np.mean, confidence_level=level, n_resamples=resamples, rng=np.random.default_rng(0)
    ).confidence_interval
    return float(found.low), float(found.high)


def plain(values: Tensor | float) -> Any:
    """Return nested lists of floats with ``None`` for what is not finite."""

    def finite(nested: Any) -> Any:
        if isinstance(nested, list):
            return [finite(v) for v in nested]
        return nested if math.isfinite(nested) else None

    return finite(values.tolist() if isinstance(values, Tensor) else values)
