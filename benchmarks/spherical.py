"""Layers and models of the sphere against torch-harmonics.

    python -m benchmarks.spherical packages=FOLDER name=spherical

The spectral layer and the local operator compute the same with the same weights, which is checked before anything is
timed. The models have the same width, depth, degrees and filters; theirs lift and project by one linear map and
have no biases, so that their times are those of two operators of one size, not of one function.
``packages=FOLDER`` names a folder of ``pip install --target`` with torch-harmonics; without it ours is timed alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pdesurrogate.fields import DataSpec, Field
from pdesurrogate.fields.spherical.grid import SphericalGrid, spherical_axes
from pdesurrogate.layers import SphericalConv, SphericalDisco
from pdesurrogate.models import MODELS

from .harness import CLOCKS, compare, interleave, require_equal
from .options import parse_options, require_at_least_1, run_command
from .record import Record, check_name
from .spherical_peers import SpectralPeer, find_torch_harmonics, local_peer, model_peer

OURS, THEIRS = "pdesurrogate", "torch-harmonics"
FIELDS = tuple(Field(name) for name in ("geopotential", "vorticity", "divergence"))


@dataclass(frozen=True)
class SphericalOptions:
    """What can be given as ``key=value``."""

    num_lat: int = 64
    width: int = 32
    depth: int = 4
    max_degree: int = 42
    cutoff: float = 0.2
    batch: int = 4
    threads: int = 1
    repeats: int = 15
    packages: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        require_at_least_1(self, "num_lat", "width", "depth", "max_degree", "batch", "threads", "repeats")
        SphericalGrid(*self.sizes).require(self.max_degree)
        check_name(self.name)

    @property
    def sizes(self) -> tuple[int, int]:
        """Latitudes and longitudes."""
        return self.num_lat, 2 * self.num_lat


def main(words: Sequence[str]) -> None:
    """Measure, print, and write the result if it has a name."""
    options = parse_options(SphericalOptions, words)
    torch.set_num_threads(options.threads)
    clock = "thread" if options.threads == 1 else "wall"
    settings = {
        "threads": options.threads, "clock": clock, "allocator": "default", "repeats": options.repeats,
        "precision": "float32",
    }  # fmt: skip
    size = " x ".join(map(str, options.sizes))
    # Where somebody keeps other packages is their own affair.
    shown = ["packages=FOLDER" if word.startswith("packages=") else word for word in words]
    title = f"Operators on the sphere, {size}, width {options.width}, batch {options.batch}"
    record = Record("spherical", title, shown, settings)
    library = find_torch_harmonics(options.packages)
    if library is None:
        print("torch-harmonics is not installed: ours is timed alone.")
    torch.manual_seed(0)
    phases = {
        "spectral layer": _layer(options, library, clock, local=False),
        "local operator": _layer(options, library, clock, local=True),
        "SFNO, forward + backward": _model(options, library, clock, "sfno"),
        "LSNO, forward + backward": _model(options, library, clock, "lsno"),
    }
    record.add("phases", phases)
    for phase, table in phases.items():
        print(phase)
        for name, row in table.items():
            _print(name, row)
    if options.name:
        print(f"written to {record.write(options.name).name}")


def _layer(options: SphericalOptions, library: Any, clock: str, *, local: bool) -> dict[str, Any]:
    grid, width = SphericalGrid(*options.sizes), options.width
    ours: nn.Module = (
        SphericalDisco(width, width, options.cutoff, basis_shape=(3, 4))
        if local
        else SphericalConv(width, width, options.max_degree, isotropic=False)
    )
    u = torch.randn(options.batch, grid.num_lon, grid.num_lat, width)
    runs: dict[str, Callable[[], object]] = {OURS: _step(lambda u: ours(u, grid), ours, u)}
    if library is not None:
        build = local_peer if local else SpectralPeer
        peer = build(library, ours, options.sizes)  # type: ignore[operator]
        v = u.permute(0, 3, 2, 1).contiguous()
        with torch.no_grad():
            theirs = {"output": peer(v)}
            require_equal("the layer", {"output": ours(u, grid).permute(0, 3, 2, 1)}, theirs, 1e-5)
        runs[THEIRS] = _step(peer, peer, v)
    return _timed(runs, options, clock)


def _model(options: SphericalOptions, library: Any, clock: str, kind: str) -> dict[str, Any]:
    spec = DataSpec(FIELDS, spherical_axes(), 1.0, geometry="sphere")
    shared = {"width": options.width, "depth": options.depth, "max_degree": options.max_degree}
    shared |= {"coordinates": "none"}
    # Theirs follow from the grid: half of one more than the radii, in rows of latitude, and twice that in blocks.
    reach = 2 * math.pi / (options.num_lat - 1)
    filters = {"cutoff": 2 * reach, "encoder_cutoff": reach, "basis_shape": (3, 4)}
    ours = MODELS.build(kind, spec, 1, 1, **shared, **(filters if kind == "lsno" else {}))
    frames, parameters = torch.randn(options.batch, 1, 3, *options.sizes), torch.zeros(options.batch, 0)
    runs: dict[str, Callable[[], object]] = {OURS: _step(lambda u: ours(u, parameters), ours, frames)}
    if library is not None:
        # They keep a fraction of min(num_lat, num_lon / 2) degrees.
        fraction = (options.max_degree + 1) / options.num_lat
        theirs: dict[str, Any] = {"embed_dim": options.width, "num_layers": options.depth}
        theirs |= {"in_chans": 3, "out_chans": 3, "hard_thresholding_fraction": fraction}
        if kind == "lsno":
            theirs |= {"kernel_shape": (3, 4), "encoder_kernel_shape": (3, 4)}
            theirs |= {"filter_basis_type": "piecewise linear"}
        peer = model_peer(library, kind, options.sizes, **theirs)
        runs[THEIRS] = _step(peer, peer, frames[:, 0])
    return _timed(runs, options, clock)


def _step(function: Callable[[Tensor], Tensor], module: nn.Module, u: Tensor) -> Callable[[], object]:
    """Return a call that goes forward and backward."""
    u = u.clone().requires_grad_()

    def run() -> None:
        module.zero_grad(set_to_none=True)
        u.grad = None
        function(u).square().mean().backward()

    return run


def _timed(runs: dict[str, Callable[[], object]], options: SphericalOptions, clock: str) -> dict[str, Any]:
    seconds = interleave(runs, repeats=options.repeats, clock=CLOCKS[clock])
    return compare(seconds, THEIRS if THEIRS in runs else None)


def _print(name: str, row: Any) -> None:
    speedup = row.get("speedup")
    ratio = f"  {speedup['median']:.2f}x {speedup['interval']}" if speedup else ""
    print(f"  {name:18s} {row['milliseconds']['median']:9.2f} ms {row['milliseconds']['quartiles']}{ratio}")


if __name__ == "__main__":
    run_command(main)
