"""Sweepers of Hydra: what ``python train.py sweep=lr`` and ``sweep=optuna`` do.

Runs are numbered, each in the folder of its number below that of the sweep. A sweep that was interrupted goes on by the
same command: what is finished is kept, and a run that was interrupted goes on from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from ..launch import rank_and_size
from .study import Study, choice, interval
from .summary import FAILED, FINISHED, Outcome, read_summary, summary_text, write_summary

log = logging.getLogger(__name__)

_NOT_OF_A_RUN = ("resume", "pruning")
"""Options that a run is started with and that do not tell it from others."""
_MEETING = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
"""What tells the processes of one run of each other."""


class RankedSweeper(BasicSweeper):
    """Runs that are numbered, can be gone on with, and end in a summary.

    A run that fails stops no other one; its error is raised at the end.
    """

    def __init__(self, max_batch_size: int | None = None, params: Mapping[str, str] | None = None) -> None:
        super().__init__(max_batch_size, dict(params or {}))
        self._errors: list[Exception] = []

    def sweep(self, arguments: list[str]) -> Any:
        """Run what is left to be run; write and print the summary.

        Raises:
            ValueError: for a folder of another sweep, or a sweep that was started as several processes.
        """
        given = [f"{key}={value}" for key, value in self.params.items()] + arguments
        parser = OverridesParser.create(config_loader=self._context().config_loader)
        last = {o.get_key_element(): o for o in parser.parse_overrides(given)}
        overrides = list(last.values())
        if not any(o.is_sweep_override() for o in overrides):
            return super().sweep(arguments)  # one run, which a launcher takes elsewhere
        if "LOCAL_RANK" in os.environ or rank_and_size()[1] > 1:
            raise ValueError(
                "a sweep starts the processes of its runs itself. Start it once, by python train.py, rather than as "
                "several processes by torchrun or srun."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self._config(), self.folder / "multirun.yaml")
        outcomes = self.runs(overrides)
        write_summary(self.folder, outcomes)
        sys.stdout.write(f"\n{summary_text(self.folder, outcomes)}\n")
        if self._errors:
            raise self._errors[0]
        return outcomes

    def runs(self, overrides: Sequence[Override]) -> list[Outcome]:
        """Run all and return what came out."""
        raise NotImplementedError

    @property
    def folder(self) -> Path:
        """Folder of the sweep."""
        return Path(str(self._config().hydra.sweep.dir))

    def scores(self, runs: Sequence[tuple[int, Sequence[str]]]) -> list[float]:
        """Launch runs, given as numbers and overrides, and return their scores; NaN for a run that failed.

        Raises:
            ValueError: if a folder holds a run of other options.
        """
        for number, overrides in runs:
            self._require_same(number, overrides)
        batch = [self._placed(number, overrides) for number, overrides in runs]
        launcher: Any = self.launcher
        here = isinstance(launcher, BasicLauncher)
        if not here:  # where a mistake would be noticed late
            self.validate_batch_is_legal(batch)
        with _as_single_run(batch[0]) if here else contextlib.nullcontext():
            results = launcher.launch(batch, initial_job_idx=runs[0][0])
        found = []
        for result in results:
            failed = result.status.name != "COMPLETED" or result.return_value is None
            if failed and isinstance(error := result._return_value, Exception):
                log.error("a run failed: %s", error)
                self._errors.append(error)
            found.append(float("nan") if failed else float(result.return_value))
        return found

    @property
    def at_once(self) -> int:
        """Number of runs that are launched together: one where this process runs them."""
        return 1 if isinstance(self.launcher, BasicLauncher) else self.max_batch_size or sys.maxsize

    def _placed(self, number: int, overrides: Sequence[str]) -> list[str]:
        folder = self.folder / str(number)
        resumed = any((folder / "checkpoints").rglob("last.ckpt"))
        return [
            *overrides,
            *([f"resume='{folder}'"] if resumed else []),
            f"hydra.sweep.subdir={number}",
            f"hydra.run.dir='{folder}'",
        ]

    def _require_same(self, number: int, overrides: Sequence[str]) -> None:
        saved = self.folder / str(number) / ".hydra" / "overrides.yaml"
        if not saved.is_file():
            return
        content: Any = OmegaConf.to_container(OmegaConf.load(saved))
        theirs, mine = _telling(content or []), _telling(overrides)
        if theirs != mine:
            raise ValueError(
                f"{self.folder} holds another sweep: run {number} has {' '.join(sorted(theirs - mine)) or 'nothing'} "
                f"there and {' '.join(sorted(mine - theirs)) or 'nothing'} here. Choose another run_id."
            )

    def _config(self) -> Any:
        return self.config

    def _context(self) -> Any:
        return self.hydra_context


class GridSweeper(RankedSweeper):
    """Every combination of the values that options are given."""

    __module__ = "hydra_plugins.pdesurrogate"  # from where Hydra takes plugins

    def runs(self, overrides: Sequence[Override]) -> list[Outcome]:
        """Run the combinations that are not finished."""
        combinations = self.split_arguments(list(overrides), None)[0]
        varied = [i for i, override in enumerate(overrides) if override.is_sweep_override()]
        outcomes = {
            o.number: o
            for o in read_summary(self.folder)
            if o.state == FINISHED and o.number < len(combinations)
        }
        for number in outcomes:
            self._require_same(number, combinations[number])
        left = [(n, run) for n, run in enumerate(combinations) if n not in outcomes]
        while left:
            batch, left = left[: self.at_once], left[self.at_once :]
            for (number, run), score in zip(batch, self.scores(batch), strict=True):
                options = dict(run[i].split("=", 1) for i in varied)
                outcomes[number] = Outcome(number, options, score, FINISHED if score == score else FAILED)
            write_summary(self.folder, list(outcomes.values()))
        return list(outcomes.values())


class StudySweeper(RankedSweeper):
    """Trials of a study of Optuna, pruned by the validation error.

    Args:
        params: values or ranges of options, in Hydra's grammar: ``choice(16,32)``, ``range(1,9)``,
            ``interval(0,1)``, ``tag(log,interval(1e-4,1e-2))``.
        num_trials: all of the study, with those of an interrupted part and those that failed.
        parallel: trials at the same time, where a launcher runs them elsewhere.
        seed: of the study.
        random_trials: how many are drawn at random before the estimator has a say.
        prune_after: epochs that no trial is stopped in; None stops none.
        prune_against: finished trials before the first that may be stopped.
    """

    __module__ = "hydra_plugins.pdesurrogate"

    def __init__(
        self,
        params: Mapping[str, str],
        num_trials: int,
        parallel: int,
        seed: int,
        random_trials: int,
        prune_after: int | None,
        prune_against: int,
    ) -> None:
        super().__init__(parallel, params)
        for name, value in (("num_trials", num_trials), ("parallel", parallel)):
            if value < 1:
                raise ValueError(f"hydra.sweeper.{name} is {value}; give at least 1.")
        self.num_trials, self.seed, self.random_trials = num_trials, seed, random_trials
        self.prune_after, self.prune_against = prune_after, prune_against

    def runs(self, overrides: Sequence[Override]) -> list[Outcome]:
        """Run trials until there are as many as asked for."""
        given = [o for o in overrides if not o.is_sweep_override()]
        fixed = [f"{o.get_key_element()}={o.get_value_element_as_str()}" for o in given]
        space = {o.get_key_element(): distribution(o) for o in overrides if o not in given}
        study = Study(self.folder, space, seed=self.seed, random_trials=self.random_trials)
        waiting = study.interrupted()
        while (left := self.num_trials - len(study.outcomes())) > 0:
            wanted = min(left, self.at_once)
            trials, waiting = waiting[:wanted], waiting[wanted:]
            trials += [study.ask() for _ in range(wanted - len(trials))]
            batch = [(n, [*fixed, *_as_overrides(params), *self._pruning(study, n)]) for n, params in trials]
            for (number, _), score in zip(batch, self.scores(batch), strict=True):
                if score != score and not study.outcomes():
                    return []  # a mistake in the command; the trial is left for when it is mended
                study.tell(number, score)
            write_summary(self.folder, study.outcomes())
        return study.outcomes()

    def _pruning(self, study: Study, number: int) -> list[str]:
        if self.prune_after is None:
            return []
        return [
            f"pruning={{storage:'{study.url}',study:'{study.name}',trial:{number},after:{self.prune_after},"
            f"against:{self.prune_against}}}"
        ]


def distribution(override: Override) -> Any:
    """Return the distribution of Optuna that an override of Hydra's grammar describes."""
    value: Any = override.value()
    if override.is_interval_sweep():
        return interval(value.start, value.end, sorted(value.tags))
    return choice(list(override.sweep_iterator()))


@contextlib.contextmanager
def _as_single_run(overrides: Sequence[str]) -> Iterator[None]:
    """Let the processes that a run starts see the command of this run alone, and forget them when it is over."""
    command, environment = list(sys.argv), {key: os.environ.get(key) for key in _MEETING}
    sys.argv[1:] = [*overrides, "hydra.mode=RUN"]
    try:
        yield
    finally:
        sys.argv[:] = command
        if (wandb := sys.modules.get("wandb")) and wandb.run is not None:
            wandb.finish()  # or the next run would be logged into this one
        if (torch := sys.modules.get("torch")) and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for key, value in environment.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value


def _as_overrides(options: dict[str, Any]) -> list[str]:
    return [f"{key}={'null' if value is None else value}" for key, value in options.items()]


def _telling(overrides: Sequence[str]) -> set[str]:
    return {o for o in overrides if o.split("=", 1)[0] not in _NOT_OF_A_RUN and not o.startswith("hydra.")}
