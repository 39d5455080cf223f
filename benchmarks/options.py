"""Options of the benchmarks: ``key=value`` words checked against a dataclass."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pdesurrogate.registry import did_you_mean

Options = TypeVar("Options")


class OptionError(ValueError):
    """An option that cannot be used; the message is a sentence for the person at the keyboard."""


def parse_options(kind: type[Options], words: Sequence[str]) -> Options:
    """Return the dataclass ``kind`` with the given ``key=value`` words.

    A field such as ``model_options`` collects ``model.key=value``. Fields may be int, float, bool, str or a tuple of
    ints, written ``64`` or ``64,64,40``.

    Raises:
        OptionError: for an unknown key or a value that does not read as the field's type.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    keys = [name for name in fields if not name.endswith("_options")]
    given: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise OptionError(f"{word!r} is no option; options are written key=value, such as {keys[0]}=...")
        owner, dot, name = key.partition(".")
        if dot and f"{owner}_options" in fields:
            given.setdefault(f"{owner}_options", {})[name] = _literal(value)
            continue
        if key not in keys:
            raise OptionError(
                f"There is no option {key!r}.{did_you_mean(key, keys)} Options: {', '.join(keys)}."
            )
        given[key] = _read(key, value, hints[key])
    try:
        return kind(**given)
    except ValueError as error:
        raise OptionError(str(error)) from error


def require_one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a value that is not among the allowed ones, in a sentence."""
    if value not in allowed:
        raise OptionError(
            f"{name} is {value!r}.{did_you_mean(value, allowed)} Allowed: {', '.join(allowed)}."
        )


def require_at_least_1(options: object, *keys: str) -> None:
    """Refuse numbers below 1 among the given fields, in a sentence."""
    for key in keys:
        value = getattr(options, key)
        if value < 1:
            raise OptionError(f"{key} is {value}; it must be at least 1.")


def run_command(main: Callable[[Sequence[str]], object]) -> None:
    """Call a benchmark with the words of the command line; errors of the user end it with one sentence."""
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"error: {error}")
    except RuntimeError as error:
        if type(error).__name__ != "NotEqualError":
            raise
        sys.exit(f"error: {error}")


def _read(key: str, value: str, hint: Any) -> Any:
    if hint is bool:
        if value.lower() not in ("true", "false"):
            raise OptionError(f"{key}={value}: give true or false.")
        return value.lower() == "true"
    if hint in (int, float):
        try:
            return hint(value)
        except ValueError as error:
            number = "a whole number" if hint is int else "a number"
            raise OptionError(f"{key}={value}: give {number}.") from error
    if typing.get_origin(hint) is tuple:
        try:
            return tuple(int(part) for part in value.replace("x", ",").split(","))
        except ValueError as error:
            raise OptionError(
                f"{key}={value}: give one whole number or several, such as 64 or 64,64,40."
            ) from error
    return value


def _literal(value: str) -> Any:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    if "," in value:
        return [_literal(part) for part in value.split(",")]
    return {"true": True, "false": False, "null": None}.get(value.lower(), value)
