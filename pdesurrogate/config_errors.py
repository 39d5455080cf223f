"""Configuration mistakes, told in a sentence that says what was given and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .registry import did_you_mean

_OPEN_KINDS = frozenset({"neuralop"})  # their options are checked against the peer's own constructor


def explain(error: Exception, conf: Path, command: str, overrides: Sequence[str]) -> str:
    """Return a sentence for an error of Hydra or OmegaConf, with the nearest allowed name."""
    text = str(error)
    if found := re.search(r"Could not find '([\w/.-]+)'", text):
        group, _, name = found.group(1).rpartition("/")
        options = re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE)
        if "/" in group and (conf / group).is_dir():  # Hydra lists the files of the group's own folder alone
            options = sorted(path.stem for path in (conf / group).glob("*.yaml"))
        return (
            f"unknown {group or 'configuration'} {name!r}.{did_you_mean(name, options)} "
            f"Available: {', '.join(options)}."
        )
    if found := re.search(r"Could not override '([\w/.@-]+)'", text):
        key = found.group(1)
        parent, _, name = key.rpartition(".")
        allowed = _allowed_keys(conf, command, key, parent, overrides)
        if parent and not allowed:
            near = did_you_mean(key.replace(".", "_"), _allowed_keys(conf, command, key, "", overrides))
            return f"there is no option {name!r} in {parent!r}, of which none is chosen: add {parent}=NAME.{near}"
        where = f" in {parent!r}" if parent else ""
        return (
            f"there is no option {name!r}{where}.{did_you_mean(name, allowed)} Allowed: {', '.join(allowed)}."
        )
    first_line = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return f"{first_line} (HYDRA_FULL_ERROR=1 shows more)"


def check_group_options(config: Mapping[str, Any], choices: Mapping[str, Any], conf: Path) -> None:
    """Refuse options that were added with ``+group.name=value`` and that the chosen file does not list.

    Raises:
        ValueError: naming the option, the nearest allowed one and all allowed ones.
    """
    for group, choice in choices.items():
        file = conf / group / f"{choice}.yaml"
        section = config.get(group)
        if group.startswith("hydra") or not isinstance(section, Mapping) or not file.is_file():
            continue
        if section.get("kind") in _OPEN_KINDS:
            continue
        allowed = _listed_keys(conf, group, file)
        for key in section:
            if key not in allowed:
                raise ValueError(
                    f"{group}={choice} has no option {key!r}.{did_you_mean(key, allowed)} "
                    f"Allowed: {', '.join(allowed)}."
                )


def _listed_keys(conf: Path, group: str, file: Path) -> list[str]:
    """Return the keys of a file and of those that its defaults name, which hold what it does not repeat."""
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    entries = [entry for entry in content.pop("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    if file.read_text().startswith("# @package _global_"):  # a file of several sections
        content = content.get(group, {})
    keys = [str(key) for key in content]
    for name in (entry.split("@")[0] for entry in entries):
        base = conf / f"{name.lstrip('/') if name.startswith('/') else f'{group}/{name}'}.yaml"
        if base.is_file():
            keys += [key for key in _listed_keys(conf, group, base) if key not in keys]
    return keys


def _allowed_keys(conf: Path, command: str, key: str, parent: str, overrides: Sequence[str]) -> list[str]:
    """Return what may stand in the place of ``key``, from the configuration composed without it."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig, OmegaConf

    GlobalHydra.instance().clear()
    others = [o for o in overrides if "=" in o and not o.startswith("-") and not _sets(o, key)]
    try:
        with initialize_config_dir(str(conf), version_base="1.3"):
            cfg = compose(command, overrides=others, return_hydra_config=False)
    except HydraException:
        return []
    node = OmegaConf.select(cfg, parent) if parent else cfg
    return [str(k) for k in _keys(node)] if isinstance(node, DictConfig) else []


def _sets(override: str, key: str) -> bool:
    return override.split("=", 1)[0].lstrip("+~") == key or "," in override


def _keys(node: Iterable[Any]) -> list[Any]:
    return list(node)
