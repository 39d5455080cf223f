"""What is checked before anything is submitted to a cluster."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_LAUNCHER = "hydra_plugins.hydra_submitit_launcher"
_LEAST = {"minutes": 1, "nodes": 1, "devices": 1, "jobs_at_once": 1, "signal_seconds": 1, "requeues": 0}
_SIZES = ("cluster", "trainer.devices", "trainer.num_nodes")


def submission_overrides(command: str, arguments: Sequence[str], conf: Path) -> list[str]:
    """Check a command line that asks for ``cluster=slurm``; return the overrides that it needs besides.

    Without anything to sweep the job's folder is that of the run, as it is without a cluster.

    Raises:
        ValueError: if the cluster cannot be used from here, or for numbers that cannot be or do not fit together.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    flags = {a for a in arguments if a.startswith("-") and "=" not in a}
    if flags - {"-m", "--multirun"} or not any(_asks_for_a_cluster(a) for a in arguments):
        return []
    given = [a for a in arguments if a not in flags]
    parsed = OverridesParser.create().parse_overrides(given)
    swept = [o.key_or_group for o in parsed if o.is_sweep_override()]
    if sizes := [key for key in swept if key.startswith(_SIZES)]:
        raise ValueError(
            f"{', '.join(sizes)} cannot be swept on a cluster: all jobs of an array have the same size. Submit one "
            "multirun for each."
        )
    fixed = [a for a, o in zip(given, parsed, strict=True) if not o.is_sweep_override()]
    with initialize_config_dir(str(conf), version_base="1.3"):
        cfg = compose(command, overrides=fixed, return_hydra_config=True)
    cluster: Any = OmegaConf.to_container(cfg.cluster, resolve=True)
    _check_numbers(cluster)
    _check_sizes(cluster, cfg.trainer)
    _check_machine()
    sweeps = bool(swept) or bool(OmegaConf.select(cfg, "hydra.sweeper.params"))
    return [] if sweeps else ["hydra.sweep.subdir=."]


def explain_submission(error: RuntimeError) -> str | None:
    """Return a sentence for what submitit reports of a job that could not be submitted or did not end; else None."""
    if not type(error).__module__.startswith("submitit"):
        return None
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return f"the job did not succeed. {' '.join(lines[:4])} The jobs' own words are in the folder slurm of the run."


def _asks_for_a_cluster(argument: str) -> bool:
    key, _, value = argument.partition("=")
    return key.lstrip("+") == "cluster" and value != "local"


def _check_numbers(cluster: Mapping[str, Any]) -> None:
    for name, least in _LEAST.items():
        value = cluster[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"cluster.{name} is {value!r}; it must be an integer from {least} upwards.")
    if cluster["signal_seconds"] >= 60 * cluster["minutes"]:
        raise ValueError(
            f"cluster.signal_seconds is {cluster['signal_seconds']} and cluster.minutes {cluster['minutes']}: no time "
            "is left to work in before the signal. Give fewer seconds or more minutes."
        )
    for name in ("container", "setup"):
        if not isinstance(cluster[name], list) or not all(isinstance(word, str) for word in cluster[name]):
            raise ValueError(f"cluster.{name} is {cluster[name]!r}; it must be a list of words, [] for none.")


def _check_sizes(cluster: Mapping[str, Any], trainer: Mapping[str, Any]) -> None:
    for mine, theirs in (("devices", "devices"), ("nodes", "num_nodes")):
        if trainer[theirs] != cluster[mine]:
            raise ValueError(
                f"cluster.{mine} is {cluster[mine]} and trainer.{theirs} {trainer[theirs]}. Give cluster.{mine} alone; "
                f"trainer.{theirs} follows."
            )


def _check_machine() -> None:
    if importlib.util.find_spec("hydra_plugins") is None or importlib.util.find_spec(_LAUNCHER) is None:
        raise ValueError(
            'cluster=slurm needs hydra-submitit-launcher: pip install "pdesurrogate[slurm]". Without it, write a batch '
            "script that calls srun python train.py."
        )
    missing = [name for name in ("sbatch", "srun", "scontrol") if shutil.which(name) is None]
    if missing:
        raise ValueError(
            f"cluster=slurm needs {', '.join(missing)}, which this machine does not have. Run the command where jobs "
            "are submitted from, or leave cluster=local."
        )
