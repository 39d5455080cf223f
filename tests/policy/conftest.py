from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def package_files(repository) -> dict[Path, ast.Module]:
    """Every module of the package, parsed, by its path relative to the checkout."""
    files = sorted((repository / "pdesurrogate").rglob("*.py"))
    return {path.relative_to(repository): ast.parse(path.read_text(encoding="utf-8")) for path in files}


@pytest.fixture(scope="session")
def tracked_files(repository) -> list[Path]:
    """Files under version control, or all but the ignored ones where there is no git."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout: which files belong to the project is unknown")
    return [
        repository / name for name in listing.stdout.split("\0") if name and (repository / name).is_file()
    ]
