from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pdesurrogate.data.memory import available_memory, ranks_here


def machine(root: Path, *, groups: str = "") -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable: 8000 kB\n")
    if groups:
        (root / "proc/self/cgroup").write_text(groups)
    return root


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


def test_this_machine_has_memory() -> None:
    free = available_memory()
    assert free is not None
    assert 2**20 < free < 2**50


def test_the_machine_is_the_bound_without_limits(tmp_path: Path) -> None:
    root = machine(tmp_path, groups="0::/job/step\n")
    group(root / "sys/fs/cgroup/job/step", memory__max="max\n", memory__current="5\n")
    assert available_memory(root) == 8000 * 1024


def test_the_limit_of_an_enclosing_control_group_counts(tmp_path: Path) -> None:
    root = machine(tmp_path, groups="0::/job/step\n")
    group(root / "sys/fs/cgroup/job/step", memory__max="max\n", memory__current="5\n")
    group(
        root / "sys/fs/cgroup/job",
        memory__max="3000000",
        memory__current="1000000",
        memory__stat="anon 1\ninactive_file 400000\n",
    )
    assert available_memory(root) == 2_400_000


def test_limits_of_control_groups_version_1_count(tmp_path: Path) -> None:
    root = machine(tmp_path, groups="9:cpu,cpuacct:/a\n4:memory:/a\n")
    group(
        root / "sys/fs/cgroup/memory/a",
        memory__limit_in_bytes="2000000\n",
        memory__usage_in_bytes="1500000\n",
        memory__stat="total_inactive_file 100000\n",
    )
    assert available_memory(root) == 600_000


def test_a_limit_that_is_exceeded_leaves_nothing(tmp_path: Path) -> None:
    root = machine(tmp_path, groups="0::/\n")
    group(root / "sys/fs/cgroup", memory__max="1000", memory__current="2000")
    assert available_memory(root) == 0


def test_ranks_here_are_those_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_WORLD_SIZE", "SLURM_STEP_ID", "SLURM_STEP_NUM_NODES"):
        monkeypatch.delenv(name, raising=False)
    assert ranks_here() == 1
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 6)
    assert ranks_here() == 6
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    assert ranks_here() == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # torchrun knows better
    assert ranks_here() == 4
