"""Stop a trial of a study early when others were better by then."""

from __future__ import annotations

import logging
from typing import Any

import lightning

log = logging.getLogger(__name__)

PRUNED_AT = "pruned_at_epoch"
"""Attribute of a trial that was stopped early."""


class Pruning(lightning.Callback):
    """Report the validation error to a study of Optuna, and stop where its best so far is worse than the median.

    The rule is that of Golovin et al. 2017 (Google Vizier, section 3.2): the best error so far against the median of
    what other trials had by the same epoch. The run ends as any other, with the artifact of its best weights.

    Args:
        storage: where the study is.
        study: its name.
        trial: number of this trial.
        after: epochs in which nothing is stopped.
        against: finished trials before the first that may be stopped.
        monitor: name of the error.
    """

    def __init__(
        self,
        storage: str,
        study: str,
        trial: int,
        after: int,
        against: int,
        monitor: str = "valid/relative_l2",
    ) -> None:
        self._storage, self._study, self._number = storage, study, trial
        self._after, self._against, self._monitor = after, against, monitor
        self._trial: Any = None

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Report after every validation; all processes stop together."""
        if trainer.sanity_checking:
            return
        stops = trainer.is_global_zero and self._stops(trainer)
        if trainer.strategy.broadcast(stops):
            trainer.should_stop = True

    def _stops(self, trainer: lightning.Trainer) -> bool:
        trial, epoch = self._opened(), trainer.current_epoch + 1
        if epoch not in trial.storage.get_trial(trial._trial_id).intermediate_values:
            trial.report(float(trainer.callback_metrics[self._monitor]), epoch)
        if not trial.should_prune():
            return False
        trial.set_user_attr(PRUNED_AT, epoch)
        log.info(
            "Stopping after epoch %d: the best error so far is worse than the median of the study", epoch
        )
        return True

    def _opened(self) -> Any:
        if self._trial is None:
            import optuna

            pruner = optuna.pruners.MedianPruner(
                n_startup_trials=self._against, n_warmup_steps=self._after + 1
            )
            study = optuna.load_study(storage=self._storage, study_name=self._study, pruner=pruner)
            self._trial = optuna.trial.Trial(study, study.trials[self._number]._trial_id)
        return self._trial
