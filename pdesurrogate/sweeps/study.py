"""A study of Optuna in an SQLite file: which options to try next, what came out, and what was interrupted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .summary import FAILED, FINISHED, PRUNED, Outcome

STUDY = "study.db"


class Study:
    """Trials that look for the least score: the tree-structured Parzen estimator of Bergstra et al. 2011.

    Everything is in the file, so that a study goes on where it stopped: finished trials are kept, and one that was
    running is run again with its options.

    Args:
        folder: of the sweep.
        space: distributions of Optuna by option.
        seed: of the first trials and of the estimator.
        random_trials: how many are drawn at random before the estimator has a say.

    Raises:
        ValueError: where Optuna is not installed, saying how to get it, and if the file is of other options.
    """

    def __init__(self, folder: Path, space: Mapping[str, Any], *, seed: int, random_trials: int) -> None:
        optuna = import_optuna()
        self.url = f"sqlite:///{(folder / STUDY).resolve()}"
        self.name = folder.name
        self.space = dict(space)
        self._study = optuna.create_study(
            storage=self.url, study_name=self.name, direction="minimize", load_if_exists=True
        )
        done = len(self._study.trials)
        # A new seed for every part of an interrupted study: the same one would propose the same trials again.
        self._study.sampler = optuna.samplers.TPESampler(seed=seed + done, n_startup_trials=random_trials)
        for trial in self._study.trials:
            if trial.distributions != self.space:
                raise ValueError(
                    f"{folder / STUDY} is of other options or ranges: {_described(trial.distributions)} there and "
                    f"{_described(self.space)} here. Choose another run_id, or the ranges of before."
                )

    def interrupted(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the trials that were running when the study stopped: number and options."""
        return [(t.number, t.params) for t in self._study.trials if t.state.name == "RUNNING"]

    def ask(self) -> tuple[int, dict[str, Any]]:
        """Return the next trial: number and options."""
        trial = self._study.ask(self.space)
        return trial.number, trial.params

    def tell(self, number: int, score: float) -> None:
        """Note the score of a trial; NaN is a failure, and a trial that was stopped early stays so."""
        from optuna.trial import TrialState

        from ..training.pruning import PRUNED_AT

        if PRUNED_AT in self._study.trials[number].user_attrs:
            self._study.tell(number, state=TrialState.PRUNED)
        elif math.isnan(score):
            self._study.tell(number, state=TrialState.FAIL)
        else:
            self._study.tell(number, score)

    def outcomes(self) -> list[Outcome]:
        """Return what came out of all trials that are over."""
        states = {"COMPLETE": FINISHED, "PRUNED": PRUNED, "FAIL": FAILED}
        return [
            Outcome(
                number=trial.number,
                options={key: _as_text(value) for key, value in trial.params.items()},
                score=float("nan") if trial.value is None else trial.value,
                state=states[trial.state.name],
            )
            for trial in self._study.trials
            if trial.state.is_finished()
        ]


def import_optuna() -> Any:
    """Return the library, which speaks of warnings and errors only.

    Raises:
        ValueError: where it is not installed, saying how to get it.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ValueError(
            "sweep=optuna needs the package optuna. Install it with: pip install 'pdesurrogate[sweep]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def interval(low: float, high: float, tags: Sequence[str]) -> Any:
    """Return the distribution of numbers from ``low`` to ``high``, whole where both are; of their logarithm by a tag.

    Raises:
        ValueError: for a tag other than ``log``.
    """
    optuna = import_optuna()
    if unknown := sorted(set(tags) - {"log"}):
        raise ValueError(
            f"an interval has the unknown tag {unknown[0]!r}. Allowed: log, as in tag(log, interval(..))."
        )
    kind = (
        optuna.distributions.IntDistribution
        if isinstance(low, int) and isinstance(high, int)
        else optuna.distributions.FloatDistribution
    )
    return kind(low, high, log="log" in tags)


def choice(values: Sequence[Any]) -> Any:
    """Return the distribution of one of several values."""
    return import_optuna().distributions.CategoricalDistribution(list(values))


def _as_text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _described(space: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} in {distribution}" for key, distribution in space.items())
