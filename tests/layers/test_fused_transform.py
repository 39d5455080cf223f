"""The fused kernels against the products that they fuse: in Triton's interpreter, and compiled for Hopper."""

import json
import os
import subprocess
import sys

import pytest
import torch

from pdesurrogate.fields.fourier import DFTTransform, FusedTransform, kept_shape, reason_without_fused
from pdesurrogate.layers import FourierLayerWeights, fourier_layer, spectral_conv

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CASES = [  # grid, modes, channels: even, odd, unequal, all modes, one mode, several tiles of everything
    ((12, 10), (6, 5), 3),
    ((9, 14), (9, 14), 2),
    ((8, 11), (1, 11), 2),
    ((7, 8), (7, 1), 9),
    ((35, 70), (34, 40), 5),
    ((6, 5, 8), (4, 5, 8), 2),
    ((7, 6, 5), (3, 6, 3), 3),
]
SHARED_MEMORY = 227 * 1024


def field(grid, channels, batch=2):
    return torch.randn(batch, grid[-1], *grid[:-1], channels, device=DEVICE)


def spectrum(num_modes, channels, batch=2):
    num_kept = torch.Size(kept_shape(num_modes)).numel()
    return torch.randn(num_kept, batch, channels, dtype=torch.complex64, device=DEVICE)


def both(grid, num_modes):
    return [route(grid, num_modes, torch.float32, str(DEVICE)) for route in (FusedTransform, DFTTransform)]


def close(ours, theirs):
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


@pytest.mark.triton
@pytest.mark.parametrize(("grid", "num_modes", "channels"), CASES)
def test_both_transforms_and_their_adjoints_equal_the_products_they_fuse(grid, num_modes, channels):
    fused, dft = both(grid, num_modes)
    u, u_hat = field(grid, channels), spectrum(num_modes, channels)
    close(fused.analyse(u), dft.analyse(u))
    close(fused.synthesise_adjoint(u), dft.synthesise_adjoint(u))
    close(fused.synthesise(u_hat), dft.synthesise(u_hat))
    close(fused.analyse_adjoint(u_hat), dft.analyse_adjoint(u_hat))


@pytest.mark.triton
@pytest.mark.parametrize(("grid", "num_modes"), [((12, 10), (6, 5)), ((7, 6, 5), (3, 6, 3))])
def test_results_go_into_slices_and_onto_fields_that_are_there(grid, num_modes):
    fused, dft = both(grid, num_modes)
    u, base = field(grid, 3), field(grid, 3, batch=4)
    u_hat = spectrum(num_modes, 3, batch=4)
    expected, before = dft.analyse(u), u_hat.clone()
    found = fused.analyse(u, out=u_hat[:, 1:3])
    assert found.data_ptr() == u_hat[:, 1:3].data_ptr()
    close(u_hat[:, 1:3], expected)
    assert torch.equal(u_hat[:, ::3], before[:, ::3])
    for strided in (base, base.movedim(0, -1).contiguous().movedim(-1, 0)):
        summed = strided.clone(memory_format=torch.preserve_format)
        assert fused.synthesise(u_hat, accumulate=summed) is summed
        close(summed, base + dft.synthesise(u_hat))
    close(fused.synthesise(u_hat.conj()), dft.synthesise(u_hat.conj().resolve_conj()))


@pytest.mark.triton
@pytest.mark.parametrize(("grid", "num_modes"), [((9, 10), (6, 7)), ((5, 4, 6), (3, 4, 5))])
@pytest.mark.parametrize("out_grid", [None, 2])
def test_a_convolution_and_its_gradients_equal_those_of_the_dft_backend(grid, num_modes, out_grid):
    inside, outside = 3, 2
    out_grid = None if out_grid is None else tuple(n + out_grid for n in grid)
    num_kept = torch.Size(kept_shape(num_modes)).numel()
    u = field(grid, inside).requires_grad_()
    weight = torch.randn(num_kept, inside, outside, 2, device=DEVICE, requires_grad=True)
    base = field(out_grid or grid, outside).requires_grad_()
    results = []
    for backend in ("triton", "dft"):
        v = spectral_conv(u, weight, num_modes, base=base, out_grid=out_grid, backend=backend)
        gradients = torch.autograd.grad(v.sin().sum(), (u, weight, base), create_graph=True)
        second = torch.autograd.grad(gradients[0].square().sum(), (u, weight))
        results.append((v, *gradients, *second))
    for ours, theirs in zip(*results, strict=True):
        close(ours, theirs)


@pytest.mark.triton
@pytest.mark.parametrize("hidden", [0, 4])
def test_a_fourier_layer_runs_on_the_fused_kernels(hidden):
    width, num_modes = 6, (4, 5)
    shapes = [(12, width, width, 2), (width, width), (width,)]
    if hidden:
        shapes += [(hidden, width), (hidden,), (width, hidden), (width,), (width,)]
    inputs = [torch.randn(shape, device=DEVICE, requires_grad=True) for shape in ((2, 8, 7, width), *shapes)]
    results = []
    for backend in ("triton", "dft"):
        y = fourier_layer(inputs[0], FourierLayerWeights(*inputs[1:]), num_modes, backend=backend)
        results.append((y, *torch.autograd.grad(y.sin().sum(), inputs)))
    for ours, theirs in zip(*results, strict=True):
        close(ours, theirs)


COMPILE = """
import json, subprocess, sys, tempfile, re
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from pdesurrogate.fields.fourier import fused_kernels, fused_transform

found = {}
for way, kernel in (("analysis", fused_kernels.analysis_kernel), ("synthesis", fused_kernels.synthesis_kernel)):
    for dtype, precision in (("fp32", "tf32x3"), ("fp32", "tf32"), ("bf16", "tf32x3")):
        channels = fused_transform.SECTOR_BYTES // (4 if dtype == "fp32" else 2)
        fixed = {**fused_transform.TILES[way], "BLOCK_CHANNELS": channels, "PRECISION": precision}
        if way == "synthesis":
            fixed["ACCUMULATE"] = True
        kinds = {name: "constexpr" for name in fixed}
        kinds |= {"u": "*" + dtype, "half_table": "*" + dtype, "full_table": "*" + dtype, "planes": "*fp32"}
        signature = {name: kinds.get(name, "i32") for name in kernel.arg_names}
        # Memory is aligned; grids and widths are multiples of 16, as they usually are.
        even = {"u", "half_table", "full_table", "planes", "size_x", "size_y", "channels"}
        aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(signature) if name in even}
        source = ASTSource(kernel, signature, fixed, aligned)
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=fused_transform.LAUNCH[way])
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(compiled.asm["cubin"])
            file.flush()
            tool = triton.knobs.nvidia.cuobjdump.path
            usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True)
        stack = int(re.search(r"STACK:(\\d+)", usage.stdout).group(1))
        found[f"{way} {dtype} {precision}"] = [compiled.metadata.shared, stack, "mma" in compiled.asm["ptx"]]
print(json.dumps(found))
"""


@pytest.mark.triton
def test_the_kernels_compile_for_hopper_without_spilling_and_within_its_shared_memory(repository, tmp_path):
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)  # in its interpreter there is nothing to compile
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 6
    for name, (shared, stack, has_tensor_cores) in found.items():
        assert shared <= SHARED_MEMORY, name
        assert stack == 0, name
        assert has_tensor_cores, name


@pytest.mark.parametrize(
    ("dtype", "ndim", "reason"),
    [
        (torch.float32, 1, "two or three dimensions and this grid has 1"),
        (torch.float64, 2, "float32 and bfloat16 fields, and these are torch.float64"),
    ],
)
def test_what_the_kernels_do_not_take_is_said(dtype, ndim, reason):
    assert reason in reason_without_fused(DEVICE, dtype, ndim)


@pytest.mark.triton
def test_without_a_gpu_the_backend_is_refused_with_those_that_are_there(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    u, weight = torch.randn(1, 8, 8, 2), torch.randn(12, 2, 2, 2)
    with pytest.raises(
        ValueError, match=r"'triton' cannot run here: it needs an NVIDIA GPU.*on cpu.*auto, dft, fft, ref"
    ):
        spectral_conv(u, weight, (4, 4), backend="triton")
    with pytest.raises(ValueError, match="no fused transform here: it needs an NVIDIA GPU"):
        FusedTransform((8, 8), (4, 4), torch.float32, "cpu")


def test_without_the_package_the_backend_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert reason_without_fused(DEVICE, torch.float32, 2) == "the package triton is not installed"


@pytest.mark.triton
def test_a_gpu_that_is_too_old_is_refused(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert "capability 8.0 and this one has 7.5" in reason_without_fused(
        torch.device("cuda"), torch.float32, 2
    )


@pytest.mark.triton
def test_a_spectrum_beyond_32_bit_counting_is_refused(monkeypatch):
    monkeypatch.setattr("pdesurrogate.fields.fourier.fused_transform.MAX_ENTRIES", 100)
    fused, _ = both((8, 8), (4, 4))
    with pytest.raises(ValueError, match=r"count up to 2\^31 entries and here .* has 128"):
        fused.analyse(field((8, 8), 2))
