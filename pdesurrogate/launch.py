"""What has started this process, as the environment tells: torchrun, ``srun``, a SLURM job, or a user."""

from __future__ import annotations

import hashlib
import os
import signal
import time

_RUN_ID = "PDESURROGATE_RUN_ID"


def run_id() -> str:
    """Return the identifier of this run, which all ranks, all jobs of a sweep and a job's restarts share.

    It comes from ``PDESURROGATE_RUN_ID``, SLURM, torchrun, or is new; the choice is left in the
    environment, from which processes started later inherit it.
    """
    if not has_run_id():
        slurm, elastic = os.environ.get("SLURM_JOB_ID"), os.environ.get("TORCHELASTIC_RUN_ID", "none")
        if slurm:
            step = os.environ.get("SLURM_STEP_ID", "0")  # a script may call srun several times
            identifier = f"slurm-{slurm}" if step == "0" else f"slurm-{slurm}-{step}"
        elif elastic != "none":
            identifier = elastic
        elif "LOCAL_RANK" in os.environ:  # torchrun without an id: one parent process starts all ranks
            common = f"{os.environ.get('MASTER_PORT')}-{os.getppid()}"
            identifier = f"torchrun-{hashlib.sha256(common.encode()).hexdigest()[:8]}"
        else:
            suffix = hashlib.sha256(os.urandom(16)).hexdigest()[:4]
            identifier = f"{time.strftime('%Y%m%d-%H%M%S')}-{suffix}"
        set_run_id(identifier)
    return os.environ[_RUN_ID]


def has_run_id() -> bool:
    """Return whether this process was told its run by the one that started it, or has found it already."""
    return _RUN_ID in os.environ


def set_run_id(identifier: str) -> None:
    """Let this process and those that it starts belong to a run."""
    os.environ[_RUN_ID] = identifier


def propose_run_id(identifier: str) -> None:
    """Let this process and those that it starts use an identifier, unless they have one."""
    os.environ.setdefault(_RUN_ID, identifier)


def rank_and_size() -> tuple[int, int]:
    """Return which of the processes that work together this one is, and how many there are.

    A batch script has ``SLURM_NTASKS``, too, and is one process: only ``srun`` starts several.
    """
    environment = os.environ
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return int(environment["RANK"]), int(environment["WORLD_SIZE"])
    if "SLURM_STEP_ID" in environment and "SLURM_PROCID" in environment:
        return int(environment["SLURM_PROCID"]), int(environment.get("SLURM_STEP_NUM_TASKS", 1))
    return 0, 1


def local_rank() -> int:
    """Return which of the processes on its machine this one is."""
    in_step = "SLURM_STEP_ID" in os.environ
    return int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0) if in_step else 0))


def was_restarted() -> bool:
    """Return whether SLURM queued this job again, or torchrun started this process again."""
    return any(
        int(os.environ.get(count, 0)) > 0 for count in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
    )


def leave_to_launcher(signal_name: str) -> None:
    """Let what stood before deal with a signal that this process has answered by saving its state.

    Under submitit that is its handler, which queues the job again. Elsewhere there is none, and the exit code says
    what happened: a batch script queues itself again after code 138 (SIGUSR1).
    """
    signum = signal.Signals[signal_name]
    handler = signal.getsignal(signum)
    if callable(handler):
        handler(signum, None)
