"""House rules that a reader relies on, checked on the source itself."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

FOURIER = Path("pdesurrogate/fields/fourier")
MAX_LINES = 400
SWAMPS = {"utils", "util", "helpers", "helper", "common", "misc"}
HYDRA_FILES = {
    Path(f"pdesurrogate/{name}.py") for name in ("cli", "config_errors", "submission", "sweeps/sweepers")
}
FOURIER_CODE = re.compile(
    r"\b(?:torch|np|numpy|scipy|jnp|cupy)\.fft\b"
    r"|^\s*(?:from|import) .*\b(?:i?[rh]?fft(?:n|2|pack|w|freq|shift|convolve)?|pyfftw|mkl_fft|i?stft)\b"
    r"|\.(?:i?stft|fftconvolve|oaconvolve|spectrogram|periodogram|welch)\b"
    r"|\b_fft_[rc]2[rc]\b",
    re.MULTILINE,
)
# The parts are spelt out so that this file does not name the paths it forbids.
MACHINE_PATH = re.compile(
    r"(?:^|[^A-Za-z0-9._/-])/(?:" + "|".join(["work", "farm", "root", "home/[a-z]+", "Users/[a-z]+"]) + ")/"
)


def code_of(path: Path, repository: Path) -> str:
    """The source without comments and docstrings, one statement a line."""
    bare = ast.parse((repository / path).read_text(encoding="utf-8"))
    for node in ast.walk(bare):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                body[0] = ast.Pass()
    return ast.unparse(bare)


def test_fourier_code_lives_in_one_place(tracked_files, repository):
    """In the package, the programs beside it and the scripts of the data; tests and benchmarks may compare with it."""
    files = [path.relative_to(repository) for path in tracked_files if path.suffix == ".py"]
    bound = [path for path in files if path.parts[0] not in ("tests", "benchmarks")]
    assert {Path("train.py"), Path("evaluate.py"), FOURIER / "truncated.py"} <= set(bound)
    found = {
        str(path): [match.group().strip() for match in FOURIER_CODE.finditer(code_of(path, repository))]
        for path in bound
    }
    homes = {path for path, lines in found.items() if lines and Path(path).is_relative_to(FOURIER)}
    assert str(FOURIER / "truncated.py") in homes
    assert {path: lines for path, lines in found.items() if lines and path not in homes} == {}


@pytest.mark.parametrize(
    "line",
    [
        "u_hat = torch.fft.rfft(u)",
        "np.fft.fftfreq(8)",
        "from torch import fft",
        "from numpy.fft import rfft",
        "from scipy import fft",
        "import scipy.fft",
        "torch.stft(u, 8)",
        "u.istft(8)",
        "from torch.fft import irfftn",
        "import numpy.fft as transforms",
        "from scipy.signal import stft",
        "from scipy.signal import convolve, fftconvolve",
        "signal.welch(u)",
        "from scipy.fftpack import dct",
        "torch.ops.aten._fft_r2c(u, [0], 0, True)",
        "import pyfftw",
    ],
)
def test_every_way_to_write_fourier_code_is_seen(line):
    assert FOURIER_CODE.search("import math\n" + line)


@pytest.mark.parametrize(
    "line",
    ['backend = "fft"', "from .fourier import FFTTransform", "from ..fields.fourier import pruned_forward"],
)
def test_names_of_our_own_are_no_fourier_code(line):
    assert not FOURIER_CODE.search(line)


def test_the_package_speaks_through_logging_and_not_print(package_files):
    prints = [
        f"{path}:{node.lineno}"
        for path, tree in package_files.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert prints == []


def test_no_error_is_an_assert_or_swallowed_unnamed(package_files):
    found = [
        f"{path}:{node.lineno}"
        for path, tree in package_files.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert) or (isinstance(node, ast.ExceptHandler) and node.type is None)
    ]
    assert found == []


def test_files_are_short_enough_to_hold_one_idea(package_files, repository):
    lengths = {str(path): len((repository / path).read_text().splitlines()) for path in package_files}
    assert {path: n for path, n in lengths.items() if n > MAX_LINES} == {}


def test_files_are_named_after_what_they_hold(tracked_files):
    assert [str(path) for path in tracked_files if path.stem in SWAMPS and path.suffix == ".py"] == []


def test_nobody_below_the_command_line_sees_a_hydra_container(package_files):
    seen = [
        str(path)
        for path, tree in package_files.items()
        if path not in HYDRA_FILES
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
        if name.split(".")[0] in {"omegaconf", "hydra"}
    ]
    assert seen == []


def test_no_file_knows_the_machine_it_was_written_on(tracked_files, repository):
    found = []
    for path in tracked_files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # images and arrays
        for number, line in enumerate(text.splitlines(), 1):
            if MACHINE_PATH.search(line):
                found.append(f"{path.relative_to(repository)}:{number}: {line.strip()[:80]}")
    assert found == []
