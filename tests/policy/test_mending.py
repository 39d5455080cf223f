"""The pre-commit hooks that are our own."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.fixture
def hook(repository):
    def run(name, *paths):
        command = [sys.executable, str(repository / ".ci" / name), *map(str, paths)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize(
    ("before", "after"),
    [("a  \nb\t\n\n\n", "a\nb\n"), ("a", "a\n"), ("\n", ""), ("a\n\n  b\n", "a\n\n  b\n")],
)
def test_blanks_at_line_ends_are_mended_and_other_text_is_left(hook, tmp_path, before, after):
    path = tmp_path / "text.txt"
    path.write_text(before)
    assert hook("whitespace.py", path).returncode == (before != after)
    assert path.read_text() == after
    assert hook("whitespace.py", path).returncode == 0


def test_large_files_are_refused_by_name_and_size(hook, tmp_path):
    small, large = tmp_path / "small.bin", tmp_path / "large.bin"
    small.write_bytes(bytes(1_000_000))
    large.write_bytes(bytes(1_000_001))
    assert hook("size.py", small).returncode == 0
    refused = hook("size.py", small, large)
    assert refused.returncode == 1
    assert "large.bin has 1,000,001 bytes" in refused.stderr
    assert "small.bin" not in refused.stderr
