"""Names to classes: how one file and one yaml add a model, a data set, a loss or a metric.

A registry imports the modules of its package on first use, so that a file dropped into the folder is
found without any other line changing. Code outside the tree joins in through ``plugins=[my.module]``.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

Entry = TypeVar("Entry", bound=Callable[..., Any])


def did_you_mean(name: object, allowed: Iterable[str]) -> str:
    """Return ``" Did you mean 'fno'?"`` for the nearest allowed name, or an empty string; so for what is no word."""
    near = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5) if isinstance(name, str) else []
    return f" Did you mean {near[0]!r}?" if near else ""


def load_plugins(modules: Iterable[str]) -> None:
    """Import the user's modules, which register their own entries.

    Raises:
        ValueError: if a module cannot be found.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # the plugin was found; something that it imports was not
            raise ValueError(
                f"plugins: no module named {module!r} can be imported. Give importable module names "
                "and put their folder on PYTHONPATH."
            ) from error


class Registry:
    """A named collection of callables, each built with options that its signature allows.

    Args:
        kind: what is collected, as it appears in messages ("model", "loss").
        package: the package whose modules are imported on first use; they register themselves.
        checks_numbers: whether `build` holds options against their annotations, see `check_numbers`; not for entries
            that check their own and say what they measure.
    """

    def __init__(self, kind: str, package: str, *, checks_numbers: bool = False) -> None:
        self.kind = kind
        self._package = package
        self._checks_numbers = checks_numbers
        self._entries: dict[str, Callable[..., Any]] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Return a decorator that files a class or function under ``name``."""

        def decorate(entry: Entry) -> Entry:
            known = self._entries.get(name)
            if known is not None and _origin(known) != _origin(entry):
                raise ValueError(
                    f"{self.kind} {name!r} is already registered by {known.__module__}; "
                    f"{entry.__module__} must choose another name."
                )
            self._entries[name] = entry
            return entry

        return decorate

    def names(self) -> list[str]:
        """Return all registered names, sorted."""
        self._discover()
        return sorted(self._entries)

    def get(self, name: str) -> Callable[..., Any]:
        """Return the entry called ``name``.

        Raises:
            ValueError: if there is none; the message lists the names and suggests the nearest.
        """
        self._discover()
        if name not in self._entries:
            raise ValueError(
                f"Unknown {self.kind} {name!r}.{did_you_mean(name, self._entries)} "
                f"Available: {', '.join(self.names())}."
            )
        return self._entries[name]

    def build(self, name: str, /, *args: Any, **options: Any) -> Any:
        """Call the entry ``name`` with positional arguments and checked options.

        Raises:
            ValueError: for an unknown name, an option that the entry does not have, or a missing one
                that it needs; where numbers are checked, for what is none in their place.
        """
        self.check(name, len(args), options)
        return self.get(name)(*args, **options)

    def check(self, name: str, num_positional: int, options: Mapping[str, Any]) -> None:
        """Refuse what `build` refuses for some number of positional arguments, and build nothing.

        Raises:
            ValueError: as `build`.
        """
        entry = self.get(name)
        owner = f"{self.kind} {name!r}"
        check_options(owner, entry, options, num_positional=num_positional)
        if self._checks_numbers:
            check_numbers(owner, entry, options)

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True  # first, because a module may look into the registry while it is imported
        try:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")
        except BaseException:
            self._discovered = False  # the next call meets the same error, not half a registry
            raise


def check_options(
    owner: str, entry: Callable[..., Any], options: Mapping[str, Any], num_positional: int | None = None
) -> None:
    """Refuse options that ``entry`` has no parameter for.

    Args:
        owner: how messages call the entry.
        entry: what is going to be called.
        options: its keyword arguments.
        num_positional: how many leading parameters are given by position. They are then no options,
            and of the others those without a default must be among ``options``. None: the caller
            supplies every parameter that has no default.

    Raises:
        ValueError: naming the option, the nearest allowed one and all allowed ones.
    """
    parameters = list(inspect.signature(entry).parameters.values())
    variadic = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    named = [p for p in parameters if p.kind not in variadic]
    required = {p.name for p in named if p.default is inspect.Parameter.empty}
    if num_positional is None:
        allowed = [p.name for p in named if p.name not in required]
        required = set()
    else:
        allowed = [p.name for p in named[num_positional:]]
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    for option in options:
        if option not in allowed and not takes_any:
            raise ValueError(
                f"{owner} has no option {option!r}.{did_you_mean(option, allowed)} "
                f"Its options: {', '.join(allowed) or 'none'}."
            )
    missing = [name for name in allowed if name in required and name not in options]
    if missing:
        raise ValueError(f"{owner} needs the option {missing[0]!r}. Its options: {', '.join(allowed)}.")


def check_numbers(owner: str, entry: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse what is no number for options that are annotated as numbers, and fractions for whole ones.

    Words, truth values and null are no numbers, nor are NaN and infinity; a list is none where one number is wanted.

    Args:
        owner: how messages call the entry.
        entry: what is going to be called; where its annotations cannot be read, nothing is refused.
        options: its keyword arguments.

    Raises:
        ValueError: naming the option and what it was given.
    """
    try:
        parameters = inspect.signature(entry, eval_str=True).parameters
    except NameError:  # a type that is imported for type checkers alone
        return
    for option, value in options.items():
        hint = parameters[option].annotation if option in parameters else inspect.Parameter.empty
        kinds = _number_types(hint)
        is_list = isinstance(value, list | tuple)
        entries = value if is_list else [value]
        is_unfit = (is_list and not _takes_lists(hint)) or any(_is_unfit(entry, kinds) for entry in entries)
        if kinds and is_unfit:
            raise ValueError(f"{owner}: {option} is {value!r}; it must be {_in_words(hint, kinds)}.")


def _number_types(hint: Any) -> set[type]:
    """Return the types that an annotation of numbers names, in sequences too; none if it allows anything else."""
    if hint in (int, float, bool, NoneType):
        return {hint}
    if get_origin(hint) not in (Union, UnionType, Sequence, tuple, list):
        return set()
    parts = [_number_types(part) for part in get_args(hint) if part is not Ellipsis]
    return set().union(*parts) if all(parts) else set()


def _is_unfit(value: Any, kinds: set[type]) -> bool:
    if isinstance(value, float):
        return float not in kinds or not math.isfinite(value)
    if isinstance(value, bool) or value is None:
        return type(value) not in kinds
    return isinstance(value, str)


def _takes_lists(hint: Any) -> bool:
    return any(get_origin(part) in (Sequence, tuple, list) for part in _parts(hint))


def _in_words(hint: Any, kinds: set[type]) -> str:
    number = "finite number" if float in kinds else "whole number" if int in kinds else "truth value"
    words = [f"a {number}"] if {int, float, bool} & set(_parts(hint)) else []
    words += [f"a list of {number}s"] if _takes_lists(hint) else []
    return " or ".join([*words, *(["null"] if NoneType in _parts(hint) else [])])


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _origin(entry: Callable[..., Any]) -> tuple[str, str]:
    return entry.__module__, getattr(entry, "__qualname__", repr(entry))
