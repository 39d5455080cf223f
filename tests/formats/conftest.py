"""Every public layout, written once for all tests of this folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the fuzzing process imports the same file

import layouts


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was written of each layout, by name."""
    folder = tmp_path_factory.mktemp("formats")
    return {name: layouts.make(name, folder) for name in layouts.LAYOUTS}
