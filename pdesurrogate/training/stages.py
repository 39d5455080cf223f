"""A run in stages: every stage of a model is fitted by itself, from a new optimiser and schedule, the others frozen.

The folder of checkpoints has a folder for every fit, ``stage1``, ``stage2``, .., with what any training writes, and
with ``finished.pt`` once the fit is over; resuming skips what is finished and goes on inside the rest. With out-of-fold
residuals the fits ``stage1_fold1``, .. follow on their stage.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from ..data.datamodule import TrajectoryDataModule
from ..deploy.artifact import read_plain, write_plain
from ..models.specboost import SpecBoost
from ..models.staged import Staged
from ..registry import did_you_mean
from ..surrogate import Surrogate
from .corrections import CACHES, CorrectionTraining, Forecasts, cache_is_valid, choose_shrinkage, forecasts_of
from .module import Metric, SurrogateTraining
from .optimisation import Optimisation
from .stage_spectra import dominant_modes, stage_spectra
from .unrolls import ChangingUnroll, OneStep, Unroll

log = logging.getLogger(__name__)

SHRINKAGE = ("none", "validation")
FINISHED = "finished.pt"


@dataclass(frozen=True)
class Boosting:
    """How the stages of a model are trained.

    Attributes:
        epochs: passes over the training windows of every stage; None for as many as the trainer has.
        normalise_residual: whether a correction is scaled by the root mean square of the training residual.
        shrinkage: ``"validation"`` weighs every correction by the η of 0, 1/4, .., 1 that is best on the validation
            set; ``"none"`` is the paper's.
        folds: out-of-fold residuals: each stage but the last is trained that many times more, leaving out a part of
            the training trajectories, and the next one corrects what those models forecast for the parts that they
            have not seen. 0 is the paper's, residuals of the trajectories that the stage was trained on.
        cache: whether the earlier stages' forecasts are held in memory, ``"auto"``, ``"ram"`` or ``"none"``.
    """

    epochs: Sequence[int] | None = None
    normalise_residual: bool = True
    shrinkage: str = "none"
    folds: int = 0
    cache: str = "auto"

    def __post_init__(self) -> None:
        for key, value, allowed in (
            ("shrinkage", self.shrinkage, SHRINKAGE),
            ("cache", self.cache, CACHES),
        ):
            if value not in allowed:
                raise ValueError(
                    f"boosting.{key} is {value!r}.{did_you_mean(str(value), allowed)} Allowed: {', '.join(allowed)}."
                )
        if self.folds < 0 or self.folds == 1:
            raise ValueError(f"boosting.folds is {self.folds}; give at least 2, or 0 for none.")
        if self.epochs is not None and (not self.epochs or min(self.epochs) < 1):
            raise ValueError(f"boosting.epochs is {self.epochs}; give a positive number for every stage.")

    def check(self, model: nn.Module, unroll: Unroll, data: TrajectoryDataModule, capture: bool) -> None:
        """Refuse what does not fit the model, the unroll or the data.

        Raises:
            ValueError: naming the option.
        """
        given = [key for key in self.__dataclass_fields__ if getattr(self, key) != getattr(Boosting(), key)]
        if given and not isinstance(model, Staged):
            raise ValueError(
                f"boosting.{given[0]} is set and the model has one stage. Use model=specboost, or leave it out."
            )
        corrections = [key for key in given if key != "epochs"]
        if corrections and not isinstance(model, SpecBoost):
            raise ValueError(
                f"boosting.{corrections[0]} is set and the stages correct nothing. Use model=specboost."
            )
        if isinstance(model, Staged) and self.epochs is not None and len(self.epochs) != model.num_stages:
            raise ValueError(
                f"boosting.epochs has {len(self.epochs)} entries and the model {model.num_stages} stages; give one for "
                "each."
            )
        if isinstance(model, SpecBoost) and isinstance(unroll, ChangingUnroll):
            raise ValueError(
                "the stages of specboost correct a residual, and what this unroll learns from changes as training goes "
                "on. Use unroll=one_step, or k_step without a curriculum."
            )
        trajectories = data.dataset.splits["train"].num_trajectories
        if self.folds > trajectories:
            raise ValueError(
                f"boosting.folds is {self.folds} and there are {trajectories} training trajectories; use fewer folds."
            )
        for key, needs_one_step in (("folds", self.folds > 0), ("shrinkage", self.shrinkage != "none")):
            if needs_one_step and not isinstance(unroll, OneStep):
                raise ValueError(f"boosting.{key} is about residuals of one step; use unroll=one_step.")
        is_augmented = data.augmentation.changes_windows
        if (self.folds or self.cache == "ram") and not cache_is_valid(unroll, capture, is_augmented):
            raise ValueError(
                "boosting.cache=ram and boosting.folds look forecasts up by window, which needs unroll=one_step, "
                "trainer.capture=false, and no augment."
            )


@dataclass(frozen=True)
class Fitted:
    """What came out of a fit, whose best weights are loaded.

    Attributes:
        score: the best validation error.
        steps: optimiser steps.
        device: where it ran.
    """

    score: float
    steps: int
    device: torch.device


Fit = Callable[[SurrogateTraining, TrajectoryDataModule, str, "int | None"], Fitted]
"""Fit a module on data, into the folder and under the name of a stage, for some epochs (None: the trainer's)."""
Report = Callable[[str, Mapping[str, float], Mapping[str, Any], int], None]
"""Log a stage's metrics, and its spectra by name, at a step."""


@dataclass(frozen=True)
class StagedRun:
    """All that the fits of a run share.

    Attributes:
        surrogate: whose model has stages; at the end it has the best weights of all.
        data, unroll, loss, optimisation, capture: of every fit.
        boosting: how stages are trained.
        seed: of the run; each fit starts from the random numbers of its own.
        fit: how a module is fitted.
        report: how a stage's metrics are logged.
        finished: folder where an interrupted run has left finished fits; None for a new run.
        folder: where those of this run go.
    """

    surrogate: Surrogate
    data: TrajectoryDataModule
    unroll: Unroll
    loss: Metric
    optimisation: Optimisation
    capture: bool
    boosting: Boosting
    seed: int
    fit: Fit
    report: Report
    finished: Path | None
    folder: Path

    def train(self) -> tuple[float, int]:
        """Train all stages; return the validation error of the last and the steps of all.

        Raises:
            ValueError: before anything is trained, if a stage's model cannot take its input.
        """
        model = self._model(self.surrogate)
        rehearse(self.surrogate, self.data.grid)
        untrained = copy.deepcopy(self.surrogate) if self.boosting.folds else None
        dominant = dominant_modes(self.surrogate, self.data)
        known: Forecasts | None = None
        score, steps, facts = float("nan"), 0, []
        for stage in range(model.num_stages):
            found = self._stage(stage, known, dominant)
            score, steps = found["score"], steps + found["steps"]
            facts.append({key: value for key, value in found.items() if key != "weights"})
            if untrained is not None and stage + 1 < model.num_stages:
                known = self._out_of_fold(untrained, stage, known)
        model.end_stages()
        self.surrogate.provenance["stages"] = facts
        if dominant is not None:
            self.surrogate.provenance["dominant_modes"] = dominant.to_dict()
        return score, steps

    def _stage(self, stage: int, known: Forecasts | None, dominant: Any) -> dict[str, Any]:
        """Train a stage, or take it from where it was finished; return its facts."""
        surrogate, name = self.surrogate, f"stage{stage + 1}"
        model = self._model(surrogate)
        model.begin_stage(stage)
        if (kept := self._kept(name)) is not None:
            surrogate.load_state_dict(kept["weights"])
            return kept
        log.info("Stage %d of %d", stage + 1, model.num_stages)
        lightning.seed_everything(self.seed + stage, verbose=False)
        surrogate.train()
        fitted = self.fit(self._module(surrogate, stage, known), self.data, name, self._epochs(stage))
        found: dict[str, Any] = {"score": fitted.score, "steps": fitted.steps}
        surrogate.to(fitted.device).eval()
        if isinstance(model, SpecBoost) and stage > 0:
            if self.boosting.shrinkage == "validation":
                windows = self.data.windows("valid")
                eta, errors = choose_shrinkage(surrogate, stage, windows, self.data.batch_size, fitted.device)
                model.correction(stage).shrinkage.fill_(eta)
                found["score"] = errors[eta]
                log.info("Shrinkage of stage %d: %g", stage + 1, eta)
            found["shrinkage"] = float(model.correction(stage).shrinkage)
            found["scale"] = model.correction(stage).scale.tolist()
        metrics, spectra = stage_spectra(surrogate, self.data, dominant, fitted.device)
        surrogate.cpu()
        numbers = {key: value for key, value in found.items() if key in ("shrinkage",)} | metrics
        self.report(name, numbers, spectra, fitted.steps)
        found |= {"valid": metrics, "spectra": spectra}
        self._keep(name, {**found, "weights": surrogate.state_dict()})
        return found

    def _out_of_fold(self, untrained: Surrogate, stage: int, known: Forecasts | None) -> Forecasts:
        """Return the forecasts after a stage for all training windows, each by a model that has not seen them."""
        folds, count = self.boosting.folds, self.data.dataset.splits["train"].num_trajectories
        values: Tensor | None = None
        starts = self.data.windows("train").index.starts_per_trajectory
        for fold in range(folds):
            held = list(range(fold, count, folds))
            found = self._fold(untrained, stage, fold, held, known)
            if values is None:
                values = found.new_empty(count, starts, *found.shape[1:])
            values[held] = found.unflatten(0, (len(held), starts))
        if values is None:
            raise ValueError("out-of-fold residuals need folds.")
        return Forecasts(values.flatten(0, 1), starts)

    def _fold(
        self, untrained: Surrogate, stage: int, fold: int, held: list[int], known: Forecasts | None
    ) -> Tensor:
        """Return what a stage that was trained without some trajectories makes of them."""
        name = f"stage{stage + 1}_fold{fold + 1}"
        if (kept := self._kept(name)) is not None:
            values: Tensor = kept["values"]
            return values
        log.info("Stage %d without part %d of %d", stage + 1, fold + 1, self.boosting.folds)
        twin = copy.deepcopy(untrained)
        model = self._model(twin)
        for number, trained in enumerate(list(self._model(self.surrogate).stages)[:stage]):
            model.stages[number].load_state_dict(trained.state_dict())
        model.begin_stage(stage)
        count = self.data.dataset.splits["train"].num_trajectories
        rest = sorted(set(range(count)) - set(held))
        seen = None if known is None else known.of_trajectories(rest)
        lightning.seed_everything(self.seed + stage, verbose=False)
        twin.train()
        fitted = self.fit(
            self._module(twin, stage, seen),
            self.data.with_training_trajectories(rest),
            name,
            self._epochs(stage),
        )
        twin.to(fitted.device).eval()
        before = None if known is None else known.of_trajectories(held)
        unseen = self.data.with_training_trajectories(held).windows("train")

        def forecast(batch: Any) -> Tensor:
            inputs = twin.normalised(batch.history, batch.parameters)
            if before is None:
                future: Tensor = twin.model(*inputs)
                return future
            boost: Any = twin.model
            corrected: Tensor = boost.correction(stage)(*inputs, before.of(batch))
            return corrected

        found = forecasts_of(unseen, forecast, self.data.batch_size, fitted.device).values
        self._keep(name, {"values": found})
        return found

    def _module(self, surrogate: Surrogate, stage: int, known: Forecasts | None) -> SurrogateTraining:
        shared = (surrogate, self.unroll, self.loss, self.optimisation)
        if not isinstance(surrogate.model, SpecBoost) or stage == 0:
            return SurrogateTraining(*shared, capture=self.capture)
        return CorrectionTraining(
            *shared,
            stage=stage,
            normalise=self.boosting.normalise_residual,
            cache=self.boosting.cache,
            known=known,
            capture=self.capture,
        )

    def _epochs(self, stage: int) -> int | None:
        return None if self.boosting.epochs is None else self.boosting.epochs[stage]

    def _kept(self, name: str) -> dict[str, Any] | None:
        """Return what a finished fit of an interrupted run has left."""
        path = None if self.finished is None else self.finished / name / FINISHED
        return read_plain(path) if path is not None and path.is_file() else None

    @rank_zero_only
    def _keep(self, name: str, content: Mapping[str, Any]) -> None:
        write_plain(content, self.folder / name / FINISHED)

    @staticmethod
    def _model(surrogate: Surrogate) -> Staged:
        model: Any = surrogate.model
        return model


@torch.no_grad()
def rehearse(surrogate: Surrogate, grid: Sequence[int]) -> None:
    """Run all stages once on a field of zeros, so that one that cannot take its input fails before the training.

    Raises:
        ValueError: naming what the model was given.
    """
    spec = surrogate.spec
    history = torch.zeros(1, surrogate.history, spec.num_channels, *grid)
    was_training = surrogate.training
    surrogate.eval()
    try:
        future = surrogate.model(history, torch.zeros(1, spec.num_parameters))
        wanted = (1, surrogate.horizon, spec.num_channels, *grid)
        if tuple(future.shape) != wanted:
            raise ValueError(f"it returns {tuple(future.shape)} instead of {wanted}.")
    except (ValueError, RuntimeError, TypeError) as error:
        hint = (
            f" A correction gets the forecast as {surrogate.horizon} further frames: choose a base that takes them, or "
            "model.stage_input=x_only."
        )
        raise ValueError(
            f"the stages cannot work on {surrogate.history} frames of {spec.num_channels} channels on "
            f"{' x '.join(map(str, grid))} points: {error}{hint if isinstance(surrogate.model, SpecBoost) else ''}"
        ) from error
    finally:
        surrogate.train(was_training)


def require_same_stages(path: Path, weights: Mapping[str, Any], model: nn.Module) -> None:
    """Refuse a checkpoint of another number of stages.

    Raises:
        ValueError: naming both numbers.
    """
    prefix = "surrogate.model.stages."
    theirs = len({key.removeprefix(prefix).split(".")[0] for key in weights if key.startswith(prefix)})
    mine = model.num_stages if isinstance(model, Staged) else 0
    if theirs and mine and theirs != mine:
        raise ValueError(
            f"{path} is of a model of {theirs} stages, and the model has {mine} here. Resume with the run's own "
            "number of stages, or start a new run."
        )
