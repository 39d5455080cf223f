"""Mend blanks at the ends of lines and the newline at the end of text files; fail if any was mended."""

from __future__ import annotations

import sys
from pathlib import Path


def mend(text: str) -> str:
    """Return the text without trailing blanks and with exactly one newline at its end."""
    lines = [line.rstrip() for line in text.split("\n")]
    return "\n".join(lines).rstrip("\n") + "\n" if text.strip() else ""


def main(names: list[str]) -> int:
    """Mend the named files and return 1 if one of them changed."""
    changed = []
    for path in map(Path, names):
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read()
        if (mended := mend(text)) != text:
            with path.open("w", encoding="utf-8", newline="") as file:
                file.write(mended)
            changed.append(str(path))
    if changed:
        sys.stderr.write("mended: " + ", ".join(changed) + "\n")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
