"""Build and load the C++ sources of this folder for the processor that runs them.

The library is compiled once per source, compiler and instruction set (a few seconds) and kept in the
user's cache folder, ``$XDG_CACHE_HOME/pdesurrogate`` or ``~/.cache/pdesurrogate``. The file is written
beside its final name and renamed, so that processes that build at the same time do not disturb each other.
Without a C++ compiler, with one that fails, or with ``PDESURROGATE_NATIVE=0`` in the environment there is
no library and PyTorch operations do the work; `reason_without_native` says why.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import time
from functools import lru_cache
from pathlib import Path

log = logging.getLogger(__name__)

SOURCES = tuple(
    Path(__file__).with_name(f"{name}.cpp") for name in ("pointwise", "filters", "fft", "transfer", "waves")
)
HEADERS = (Path(__file__).with_name("tiles.h"),)
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-std=c++17", "-fopenmp")
# Not -ffast-math: its start-up code switches denormal numbers off in the whole process, and NaN must stay NaN.


class NoNativeLibraryError(RuntimeError):
    """The library cannot be built or loaded; the message says why."""


def native_library() -> ctypes.CDLL | None:
    """Return the compiled library, built on the first call of this process, or None where there is none."""
    return _load()[0]


def reason_without_native() -> str:
    """Return why `native_library` is None, or an empty string."""
    return _load()[1]


@lru_cache(maxsize=1)
def _load() -> tuple[ctypes.CDLL | None, str]:
    try:
        return ctypes.CDLL(str(build())), ""
    except (NoNativeLibraryError, OSError) as error:
        log.info("Pointwise operations run in PyTorch: %s", error)
        return None, str(error)


def build(cache: Path | None = None, compiler: str | None = None) -> Path:
    """Return the path of the library, compiled now unless the cache has it.

    Args:
        cache: folder of compiled libraries; the user's cache folder if not given.
        compiler: command; ``$CXX``, ``g++``, ``clang++`` or ``c++`` if not given.

    Raises:
        NoNativeLibraryError: if there is no compiler, it fails, or another user could write to the folder.
    """
    if os.environ.get("PDESURROGATE_NATIVE") == "0":
        raise NoNativeLibraryError("PDESURROGATE_NATIVE is 0.")
    command = _compiler(compiler)
    folder = _private(cache or _cache_folder())
    # The predefined macros name the compiler's version and every instruction set that it found here.
    macros = _run([command, "-march=native", "-dM", "-E", "-x", "c++", os.devnull])
    key = hashlib.sha256(
        b"".join(source.read_bytes() for source in (*SOURCES, *HEADERS))
        + repr(FLAGS).encode()
        + macros.encode()
    ).hexdigest()[:16]
    library = folder / f"pointwise-{key}.so"
    if not library.is_file():
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / library.name
            _run([command, *FLAGS, "-shared", "-fPIC", "-o", str(made), *map(str, SOURCES)])
            made.replace(library)
        log.info("Compiled the native kernels in %.1f s: %s", time.perf_counter() - start, library)
    return library


def _compiler(wanted: str | None) -> str:
    for name in [wanted] if wanted else [os.environ.get("CXX"), "g++", "clang++", "c++"]:
        found = shutil.which(name) if name else None
        if found:
            return found
    raise NoNativeLibraryError(f"there is no C++ compiler ({wanted or 'CXX, g++, clang++, c++'}).")


def _cache_folder() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pdesurrogate"
    except RuntimeError as error:
        raise NoNativeLibraryError("the home folder is unknown; set XDG_CACHE_HOME.") from error


def _private(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise NoNativeLibraryError(f"no library can be kept in {folder}: {error}.") from error
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise NoNativeLibraryError(
            f"{folder} can be written by other users, who could put code there. Take their permission away "
            "(chmod go-w) or set XDG_CACHE_HOME."
        )
    return folder


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoNativeLibraryError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")
    return done.stdout
