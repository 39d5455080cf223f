"""A set of files appears together or not at all, and never instead of an older one."""

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pdesurrogate.durable import durable_folder


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def write(folder, *names, text="new"):
    with durable_folder(folder) as temporary:
        for name in names:
            (temporary / name).write_text(text)


def test_a_folder_appears_with_all_its_files(tmp_path):
    with durable_folder(tmp_path / "deep" / "report") as temporary:
        (temporary / "a").write_text("new")
        assert not (tmp_path / "deep" / "report").exists()
    assert contents(tmp_path / "deep" / "report") == {"a": "new"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report"]


def test_files_are_replaced_together_and_others_stay(tmp_path):
    (tmp_path / "mine").write_text("kept")
    write(tmp_path, "a", "b", text="old")
    write(tmp_path, "b", "c")
    assert contents(tmp_path) == {"mine": "kept", "a": "old", "b": "new", "c": "new"}


def test_what_breaks_while_writing_leaves_nothing(tmp_path):
    def interrupted():
        with durable_folder(tmp_path / "report") as temporary:
            (temporary / "a").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_what_breaks_while_putting_files_in_place_brings_the_older_ones_back(tmp_path, monkeypatch):
    write(tmp_path, "a", "b", "c", text="old")
    move = Path.replace

    def refuse(self, target):
        if self.name == "b" and self.read_text() == "new":
            raise OSError(errno.EACCES, "Permission denied")
        return move(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match=r"could not write .*What stood there is unchanged"):
        write(tmp_path, "a", "b", "c", "d")
    assert contents(tmp_path) == {"a": "old", "b": "old", "c": "old"}


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_stays(tmp_path):
    script = (
        "import os, sys, signal\n"
        "from pdesurrogate.durable import durable_folder\n"
        "with durable_folder(sys.argv[1]) as folder:\n"
        "    (folder / 'report.html').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "evaluation")], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".part"
    others = left.with_name(left.name.replace(socket.gethostname(), "elsewhere"))
    living = left.with_name(f"{left.name.rsplit('.', 2)[0]}.{os.getppid()}.part")
    others.mkdir()
    living.mkdir()
    with durable_folder(tmp_path / "evaluation") as folder:
        (folder / "report.html").write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([others, living, tmp_path / "evaluation"])
    assert (tmp_path / "evaluation" / "report.html").read_text() == "whole"
