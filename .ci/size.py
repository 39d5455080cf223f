"""Refuse files above one megabyte: data and checkpoints do not belong into the history."""

from __future__ import annotations

import sys
from pathlib import Path

LIMIT = 1_000_000  # bytes


def main(names: list[str]) -> int:
    """Return 1 if one of the named files is too large, and say which."""
    large = [name for name in names if Path(name).stat().st_size > LIMIT]
    for name in large:
        sys.stderr.write(f"{name} has {Path(name).stat().st_size:,} bytes; at most {LIMIT:,} are kept.\n")
    return int(bool(large))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
