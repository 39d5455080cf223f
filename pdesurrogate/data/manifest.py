"""The manifest of public data sets: where they come from, what their files are, how they are split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pdesurrogate.registry import did_you_mean

KEYS = {"title", "source", "licence", "reader", "split", "files"}


@dataclass(frozen=True)
class ListedFile:
    """A file, or a pattern of files, of a public data set.

    Attributes:
        name: its name as it is distributed; ``*`` and ``?`` stand for what varies.
        size: bytes, exact where known, else None.
        about: size in words where the bytes are not known.
        sha256: checksum where it is known, else None.
    """

    name: str
    size: int | None = None
    about: str = ""
    sha256: str | None = None


@dataclass(frozen=True)
class ListedSet:
    """A public data set: title, source, licence, reader (``data=...``), rule of its split, files."""

    name: str
    title: str
    source: str
    licence: str
    reader: str
    split: str
    files: tuple[ListedFile, ...]


def manifest_path() -> Path:
    """Return the manifest: inside the wheel, or in the checkout's ``data`` folder."""
    inside = Path(__file__).with_name("manifest.yaml")
    return inside if inside.is_file() else Path(__file__).resolve().parents[2] / "data" / "manifest.yaml"


def read_manifest(path: Path | None = None) -> dict[str, ListedSet]:
    """Return all listed sets by name.

    Raises:
        ValueError: if the manifest is missing, or an entry lacks a key or has an unknown one.
    """
    path = path or manifest_path()
    if not path.is_file():
        raise ValueError(f"there is no manifest at {path}.")
    content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: _entry(path, str(name), entry) for name, entry in content.items()}


def check_files(listed: ListedSet, folder: Path) -> list[tuple[str, str]]:
    """Compare the files of a set that are somewhere below a folder with the manifest.

    Returns:
        (name, finding) of each: ``"ok"``, ``"missing"``, or what is wrong in a sentence.
    """
    findings = []
    for file in listed.files:
        found = sorted(folder.rglob(file.name)) if folder.is_dir() else []
        if not found:
            findings.append((file.name, "missing"))
        for path in found:
            size = path.stat().st_size
            if file.size is not None and size != file.size:
                finding = f"has {size} bytes and should have {file.size}: download it again"
            elif file.sha256 is not None and _sha256(path) != file.sha256:
                finding = "has another checksum than the manifest: download it again"
            else:
                known = file.size is not None or file.sha256 is not None
                finding = "ok" if known else "there; neither its size nor its checksum is known"
            findings.append((str(path), finding))
    return findings


def find_listed(name: str, sets: Mapping[str, ListedSet]) -> ListedSet:
    """Return a listed set.

    Raises:
        ValueError: if there is none of that name; the nearest is named.
    """
    if name not in sets:
        raise ValueError(
            f"the manifest lists no data set {name!r}.{did_you_mean(name, sets)} Listed: {', '.join(sets)}."
        )
    return sets[name]


def _entry(path: Path, name: str, entry: Any) -> ListedSet:
    if not isinstance(entry, Mapping) or set(entry) != KEYS:
        odd = sorted(KEYS ^ set(entry)) if isinstance(entry, Mapping) else sorted(KEYS)
        raise ValueError(f"{path}: the entry {name!r} needs the keys {sorted(KEYS)}; odd are {odd}.")
    files = tuple(ListedFile(**file) for file in entry["files"])
    return ListedSet(name, files=files, **{key: str(entry[key]) for key in KEYS - {"files"}})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
