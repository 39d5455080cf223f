"""The protocol: rollouts from the first frames, and one step from every frame, for all contenders at once.

The truth is read once. All contenders advance in lockstep beside it, so that memory holds one frame each,
whatever the horizon.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from ..fields import DataSpec
from ..metrics import METRICS, MetricTable, decorrelation, error_spectrum, relative_l2
from ..metrics.balances import balance_errors, balances, measure_balances
from ..metrics.spectral_errors import RANGES, DominantModes, SpectralErrors, energy_by_range
from .contenders import Contender, Native
from .resolution import error_parts, goes_beyond
from .truth import Truth

log = logging.getLogger(__name__)


@dataclass
class MeanSpectra:
    """Sums over samples of the three spectra at one lead time, divided on reading."""

    wavenumber: Tensor
    sums: Tensor  # (target prediction error, field, band)
    count: int = 0

    @property
    def mean(self) -> Float[Tensor, "3 field bands"]:
        """Mean spectra of target, prediction and error."""
        return self.sums / self.count


@dataclass
class Score:
    """What one contender did on one grid.

    Attributes:
        contender: who.
        grid: where.
        refused: why there are no numbers, in a sentence; empty if there are.
        rollout: a table (trajectory, lead time, field) by metric.
        one_step: a table (trajectory, start, field) by metric; the first frame after every window.
        further: tables of the rollout (trajectory, lead time, what) that are no distances of fields: ``decorrelation``
            by field, ``balances`` by balance, ``band_energy`` by field and range of wavenumbers, and ``within``,
            ``beyond`` and ``truth beyond`` (see `error_parts`) on grids beyond the training grid.
        spectra: mean spectra by lead time (1 is the first forecast frame).
        spectral_errors: errors by scale over all frames of the rollouts; None where the contender was refused.
        floor: of a model that cannot predict every field, the relative L2 error of what it can predict nearest to the
            truth, by protocol, ``"rollout"`` and ``"one_step"``; empty for others.
    """

    contender: Contender
    grid: tuple[int, ...]
    refused: str = ""
    rollout: dict[str, MetricTable] = field(default_factory=dict)
    one_step: dict[str, MetricTable] = field(default_factory=dict)
    further: dict[str, MetricTable] = field(default_factory=dict)
    spectra: dict[int, MeanSpectra] = field(default_factory=dict)
    spectral_errors: SpectralErrors | None = None
    floor: dict[str, MetricTable] = field(default_factory=dict)


@torch.no_grad()  # inference mode would poison cached transform tables for later training
def score(
    contenders: Sequence[Contender],
    truth: Truth,
    spec: DataSpec,
    *,
    horizon: int,
    metrics: Sequence[str],
    batch_size: int,
    dominant: DominantModes | None = None,
    trained: tuple[int, ...] | None = None,
) -> list[Score]:
    """Score all contenders on one grid.

    Args:
        contenders: who takes part; those that refuse the grid get a score that says why.
        truth: the test trajectories on this grid.
        spec: of the data.
        horizon: frames of a rollout.
        metrics: registered names.
        batch_size: trajectories rolled out, or windows advanced, together.
        dominant: modes whose errors are told from those of the others, where they were chosen on this grid.
        trained: the training grid, beyond whose waves errors are told apart; None for no such split.
    """
    scores = [Score(c, truth.grid, refused=c.refuses(truth.grid)) for c in contenders]
    running = [s for s in scores if not s.refused]
    names = [f.name for f in spec.forecast_fields]
    functions: dict[str, Callable[..., Tensor]] = {name: METRICS.get(name) for name in metrics}
    for s in running:
        s.rollout = {name: MetricTable(names) for name in metrics}
        s.one_step = {name: MetricTable(names) for name in metrics}
        of_grid = dominant if dominant is not None and dominant.grid == truth.grid else None
        s.spectral_errors = SpectralErrors(truth.grid, spec, of_grid)

    def measure(tables: dict[str, MetricTable], ids: Sequence[int], p: Tensor, t: Tensor, lead: int) -> None:
        for name, function in functions.items():
            values = function(p, t, spec)
            undefined = bool(values.isinf().any()) and _vanishes(function, values, t, spec)
            tables[name].add(ids, values, first_lead=lead, undefined=undefined)

    beyond = trained if trained is not None and goes_beyond(truth.grid, trained, spec) else None
    size = " x ".join(map(str, truth.grid))
    for start in range(0, len(truth.indices), batch_size):
        ids = truth.indices[start : start + batch_size]
        _roll_out(running, truth, ids, spec, horizon, measure, beyond)
        log.info("%s: rolled out %d of %d trajectories", size, start + len(ids), len(truth.indices))
    for done, trajectory in enumerate(truth.indices, start=1):
        _step_everywhere(running, truth, trajectory, spec, batch_size, measure)
        if done == len(truth.indices) or done % 10 == 0:
            log.info("%s: one step from every frame, %d of %d trajectories", size, done, len(truth.indices))
    return scores


Measure = Callable[[dict[str, MetricTable], Sequence[int], Tensor, Tensor, int], None]


def _roll_out(
    running: list[Score],
    truth: Truth,
    ids: Sequence[int],
    spec: DataSpec,
    horizon: int,
    measure: Measure,
    beyond: tuple[int, ...] | None,
) -> None:
    history, parameters = truth.frames(ids, 0, truth.lead_in), truth.parameters(ids)
    forecasts = [s.contender.forecast(history, parameters, horizon) for s in running]
    for lead, target in enumerate(truth.after_lead_in(ids, horizon), start=1):
        for s, forecast in zip(running, forecasts, strict=True):
            prediction = next(forecast)[:, None]
            measure(s.rollout, ids, prediction, target[:, None], lead - 1)
            _add_floor(s, "rollout", ids, history, target[:, None], spec, lead - 1)
            _add_further(s, ids, prediction, target[:, None], spec, lead - 1, beyond)
            if s.spectral_errors is not None:
                s.spectral_errors.add(prediction, target[:, None])
                if lead in (1, horizon):
                    _add_spectra(s, prediction, target[:, None], spec, lead)


def _step_everywhere(
    running: list[Score],
    truth: Truth,
    trajectory: int,
    spec: DataSpec,
    batch_size: int,
    measure: Measure,
) -> None:
    lead_in = truth.lead_in
    for start in range(lead_in, truth.num_frames, batch_size):
        stop = min(start + batch_size, truth.num_frames)
        frames = truth.frames([trajectory], start - lead_in, stop)[0]
        windows = torch.stack([frames[i : i + lead_in] for i in range(stop - start)])
        parameters = truth.parameters([trajectory]).expand(stop - start, -1)
        for s in running:
            prediction = next(s.contender.forecast(windows, parameters, 1))
            # The starts of one trajectory are not independent: they lie along the table's lead axis.
            measure(s.one_step, [trajectory], prediction[None], frames[None, lead_in:], start - lead_in)
            _add_floor(s, "one_step", [trajectory], windows, frames[lead_in:, None], spec, start - lead_in)


def _add_floor(
    s: Score, protocol: str, ids: Sequence[int], history: Tensor, target: Tensor, spec: DataSpec, lead: int
) -> None:
    """Add the error of what a model can predict nearest to the truth; windows of one trajectory lie along the leads."""
    nearest = s.contender.nearest(history, target) if isinstance(s.contender, Native) else None
    if nearest is None:
        return
    values = relative_l2(nearest, target, spec)
    if len(values) != len(ids):
        values = values.transpose(0, 1)
    table = s.floor.setdefault(protocol, MetricTable([f.name for f in spec.forecast_fields]))
    table.add(ids, values, first_lead=lead)


def _add_further(
    s: Score,
    ids: Sequence[int],
    prediction: Tensor,
    target: Tensor,
    spec: DataSpec,
    lead: int,
    beyond: tuple[int, ...] | None,
) -> None:
    fields = [f.name for f in spec.forecast_fields]
    found = {
        "decorrelation": (fields, decorrelation(prediction, target, spec)),
        "balances": ([b.name for b in balances(spec)], measure_balances(prediction, spec)),
        "balance_errors": ([b.name for b in balances(spec)], balance_errors(prediction, target, spec)),
        "band_energy": (
            [f"{name}, {part}" for name in fields for part in RANGES],
            energy_by_range(prediction, target, spec).flatten(2),
        ),
    }
    if beyond is not None:
        parts = error_parts(prediction, target, spec, beyond)
        found |= {name: (fields, values) for name, values in parts.items()}
    for name, (columns, values) in found.items():
        s.further.setdefault(name, MetricTable(columns)).add(ids, values, first_lead=lead)


def _vanishes(function: Callable[..., Tensor], values: Tensor, target: Tensor, spec: DataSpec) -> bool:
    """Return whether an infinite value is the target's doing: a forecast off by a constant has it as well."""
    elsewhere = function(target + 1 + target.abs().max(), target, spec)
    return bool((values.isinf() & elsewhere.isinf()).any())


def _add_spectra(s: Score, prediction: Tensor, target: Tensor, spec: DataSpec, lead: int) -> None:
    spectra = error_spectrum(prediction, target, spec)
    sums = torch.stack([spectra.target, spectra.prediction, spectra.error])[:, :, 0].sum(1).cpu()
    if lead not in s.spectra:
        s.spectra[lead] = MeanSpectra(spectra.wavenumber.cpu(), torch.zeros_like(sums))
    s.spectra[lead].sums += sums
    s.spectra[lead].count += prediction.shape[0]
