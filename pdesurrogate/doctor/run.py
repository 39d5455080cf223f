"""One examination: from a plain configuration to findings, and to an exit code."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..data.datamodule import TrajectoryDataModule
from ..data.opening import open_data
from ..registry import check_numbers, check_options, load_plugins
from ..trainer_options import region_parallel_size
from ..training.optimisation import Optimisation
from ..training.stages import Boosting
from ..training.unrolls import build_unroll, steps_option
from .data_checks import look_at_data
from .environment import look_at_environment, num_ranks
from .findings import Finding, ok, problem, refusals, told
from .memory import look_at_memory
from .model_checks import look_at_model

log = logging.getLogger(__name__)


def doctor(config: Mapping[str, Any]) -> None:
    """Examine what a training would meet, and say what to change.

    Args:
        config: plain containers with the sections of ``conf/doctor.yaml``, which are those of a training.

    Raises:
        ValueError: after everything has been told, if there is a problem.
    """
    load_plugins(config.get("plugins") or [])
    findings: list[Finding] = []
    for title, look in _rooms(config, findings):
        log.info("%s", title)
        found = look()
        findings += found
        for line in told(found):
            log.info("%s", line)
    problems, warnings = (sum(f.level == level for f in findings) for level in ("problem", "warning"))
    hints = f" ({warnings} warning{'' if warnings == 1 else 's'})" if warnings else ""
    if problems:
        raise ValueError(f"{problems} problem{'' if problems == 1 else 's'} to mend before training{hints}.")
    log.info("Nothing stands in the way of training%s.", hints)


def examine(config: Mapping[str, Any]) -> list[Finding]:
    """Return all findings of an examination."""
    findings: list[Finding] = []
    for _, look in _rooms(config, findings):
        findings += look()
    return findings


def _rooms(
    config: Mapping[str, Any], findings: list[Finding]
) -> Iterator[tuple[str, Callable[[], list[Finding]]]]:
    """Yield what is looked at, in turn; what comes later may depend on what was found before."""
    yield "Machine", lambda: look_at_environment(config, os.environ)
    opened: list[TrajectoryDataModule] = []

    def data() -> list[Finding]:
        try:
            opened.append(_open(config))
        except (ValueError, TypeError, OSError) as error:
            return [problem("data", str(error))]
        return look_at_data(opened[0], config["num_trajectories"])

    yield "Data", data
    if not opened:
        return
    yield "Model", lambda: [*_look_at_options(config), *look_at_model(config, opened[0])]
    if not config["measure_memory"]:
        yield "Memory", lambda: [ok("memory", "not measured (measure_memory=false).")]
    elif all(f.level != "problem" or f.subject in ("batch", "SLURM", "W&B") for f in findings):
        yield "Memory", lambda: look_at_memory(config, opened[0])


def _open(config: Mapping[str, Any]) -> TrajectoryDataModule:
    return open_data(
        config["data"],
        num_steps=build_unroll(config["unroll"], config["data"].get("horizon", 1)).num_steps,
        steps_option=steps_option(config["unroll"]["kind"]),
        seed=config["seed"],
        augment=config.get("augment"),
    )


def _look_at_options(config: Mapping[str, Any]) -> list[Finding]:
    """Return what is wrong with the options of the optimiser and of the processes."""

    def optimisation() -> None:
        check_options("optim", Optimisation, config["optim"])
        check_numbers("optim", Optimisation, config["optim"])
        Optimisation(**config["optim"])

    def boosting() -> None:
        check_options("boosting", Boosting, config["boosting"])
        Boosting(**config["boosting"])

    found = [
        *refusals("optimiser", optimisation),
        *refusals("boosting", boosting),
        *refusals("processes", lambda: region_parallel_size(config["trainer"])),
    ]
    ranks = num_ranks(config["trainer"], os.environ)
    if config["data"].get("batch_size", 16) % ranks:
        found.append(
            problem(
                "batch",
                f"data.batch_size is {config['data']['batch_size']}, counted over all {ranks} processes, and no "
                f"multiple of their number. Choose {-(-config['data']['batch_size'] // ranks) * ranks}.",
            )
        )
    return found
