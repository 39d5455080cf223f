"""Words of warning that a process says once, however many models it builds.

Matching the parameters of two models builds one of them dozens of times, and every one would warn of the same data.
"""

from __future__ import annotations

_SAID: set[tuple[str, ...]] = set()


def is_first(*topic: str) -> bool:
    """Whether nobody in this process has asked for a topic before: the model's name, and what the warning is about."""
    if topic in _SAID:
        return False
    _SAID.add(topic)
    return True


def forget() -> None:
    """Begin anew, as a new process does."""
    _SAID.clear()
