"""The commands of the benchmarks on the smallest cases, their messages, and the generated page."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import torch

from benchmarks import (
    calibrate,
    factformer,
    gfno,
    gpu,
    halo_error,
    loading,
    machine,
    multigrid,
    optimiser,
    record,
    specboost,
    spectral,
    step,
    tables,
    throughput,
    transform_once,
)
from benchmarks.harness import NotEqualError
from benchmarks.memory import peaks_in_new_process
from benchmarks.models import activation_bytes
from benchmarks.options import OptionError
from pdesurrogate.fields.fourier import forward_transform, mode_numbers
from pdesurrogate.layers.native import native_library

TINY = ["grid=8", "num_modes=4", "width=4", "batch=2", "repeats=2", "model.depth=2"]


@pytest.fixture(autouse=True)
def _results_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    for module in (calibrate, record):
        monkeypatch.setattr(module, "tune_allocator", lambda kind: kind)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def result(tmp_path, name):
    return json.loads((tmp_path / f"{name}.json").read_text())


def test_a_step_is_measured_against_neuraloperator_and_recorded(tmp_path):
    step.main([*TINY, "peak=false", "name=tiny"])
    found = result(tmp_path, "tiny")
    assert set(found["phases"]) == {"forward", "forward + backward", "step"}
    assert found["phases"]["step"]["pdesurrogate"]["speedup"]["median"] > 0
    assert found["equality"]["output"] < 1e-5
    assert found["equality"]["gradient"] < 1e-4
    assert found["command"].startswith("python -m benchmarks.step grid=8")
    assert set(found["startup_seconds"]) == {"neuraloperator", "pdesurrogate"}
    assert {"threads", "clock", "allocator", "repeats"} <= set(found["settings"])
    assert found["machine"]["processor"]
    assert len(found["load_average"]) == 2
    assert "pdesurrogate" in tables.page({"tiny": found})


ONCE = [
    "grid=16,20",
    "num_modes=5",
    "width=4",
    "depth=2",
    "batch=2",
    "fno_modes=6",
    "fno_depth=2",
    "repeats=2",
]
ONCE += ["papers_modes=6", "papers_width=4", "papers_depth=2", "peak=false"]


def test_t1_is_measured_by_resolution_against_fnos_of_its_size_and_of_the_paper_s(tmp_path):
    transform_once.main([*ONCE, "name=once"])
    found = result(tmp_path, "once")
    assert list(found["cases"]) == ["16 x 16", "20 x 20"]
    case = found["cases"]["16 x 16"]
    assert set(case["phases"]["step"]) == {transform_once.T1, transform_once.FNO, transform_once.PAPERS}
    assert case["t1 is faster than"][transform_once.FNO]["median"] > 0
    sizes = case["parameters"]
    assert 0.5 < sizes[transform_once.FNO] / sizes[transform_once.T1] < 2
    assert "pdesurrogate, t1" in tables.page({"once": found})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["released=/nowhere"], "has no src/models/t1.py"),
        (["against=released"], "needs the folder of the authors' code"),
        (["depth=0"], "depth is 0"),
    ],
)
def test_a_comparison_of_t1_that_cannot_be_is_refused(words, message):
    with pytest.raises(OptionError, match=message):
        transform_once.main([*ONCE, *words])


def test_a_model_without_a_peer_is_measured_alone(tmp_path):
    step.main(["model=unet", "grid=16", "batch=2", "width=4", "repeats=2", "peak=false", "name=tiny"])
    phases = result(tmp_path, "tiny")["phases"]
    assert list(phases["step"]) == ["pdesurrogate"]
    assert "speedup" not in phases["step"]["pdesurrogate"]


def test_low_rank_weights_are_measured_against_neuraloperator_with_the_dense_model_along(tmp_path):
    step.main([*TINY, "model=tfno", "model.rank=0.5", "along=fno", "peak=false", "name=tiny"])
    found = result(tmp_path, "tiny")
    assert found["equality"]["output"] < 1e-5
    assert found["equality"]["gradient"] < 1e-4
    assert {"neuraloperator", "pdesurrogate", "pdesurrogate, fno"} <= set(found["phases"]["step"])


def test_joint_weights_have_no_peer_and_are_measured_alone(tmp_path):
    step.main([*TINY, "model=tfno", "model.rank=0.5", "model.joint=true", "peak=false", "name=tiny"])
    assert list(result(tmp_path, "tiny")["phases"]["step"]) == ["pdesurrogate"]


def test_contestants_that_differ_are_not_timed(monkeypatch):
    original = step.build_peer

    def wrong_peer(*args, **options):
        peer = original(*args, **options)
        with torch.no_grad():
            next(peer.module.parameters()).mul_(1.01)
        return peer

    monkeypatch.setattr(step, "build_peer", wrong_peer)
    monkeypatch.setattr(step, "interleave", lambda *args, **options: pytest.fail("something was timed"))
    with pytest.raises(NotEqualError, match="Nothing was timed"):
        step.main([*TINY, "peak=false"])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("gird=8", "no option 'gird'. Did you mean 'grid'"),
        ("grid=eight", "give one whole number or several"),
        ("grid", "options are written key=value"),
        ("batch=0", "batch is 0; it must be at least 1"),
        ("compile=maybe", "give true or false"),
        ("precision=fp8", "precision is 'fp8'"),
        ("model=fmo", "Unknown model 'fmo'. Did you mean 'fno'"),
        ("model.depht=2", "has no option 'depht'. Did you mean 'depth'"),
        ("num_modes=4,4,4", "grid has 2 axes and num_modes 3"),
        ("grid=2", "4 modes"),
        ("model=persistence", "has no weights"),
        ("name=../x", "it becomes a file name"),
        ("threads=2 clock=thread", "give clock=wall or threads=1"),
        ("model.channel_mlp=0", "neuraloperator's FNO has no such architecture"),
    ],
)
def test_a_bad_option_is_answered_with_a_sentence(word, message, as_users_run):
    words = [] if word == "model=persistence" else TINY
    with pytest.raises(ValueError, match=re.escape(message)):
        step.main([*words, *word.split()])


def test_a_bad_option_ends_the_command_without_a_traceback(repository):
    command = [sys.executable, "-m", "benchmarks.step", "gird=8"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: There is no option 'gird'")


def test_the_peak_memory_is_that_of_a_process_of_its_own():
    words = [*TINY, "grid=64", "batch=8", "width=16", "peak_only=true"]
    peaks = peaks_in_new_process("benchmarks.step", words)
    assert set(peaks) == {"neuraloperator", "pdesurrogate"}
    if sys.platform == "linux" and None not in peaks.values():
        field = activation_bytes(8, 16, (64, 64))
        assert all(field < peak < 100 * field for peak in peaks.values())


def test_gradients_count_among_the_peak_memory():
    words = ["grid=16", "batch=1", "num_modes=12", "depth=2", "against=fno", "fno_modes=4", "peak_only=true"]
    (peak,) = [
        p for name, p in peaks_in_new_process("benchmarks.transform_once", words).items() if "t1" in name
    ]
    of_weights = 4 * 2 * 12**2 * 48**2  # what a step with a single sample keeps besides is far less
    assert peak is None or of_weights < peak < 2 * of_weights


def test_a_spectral_case_is_measured_and_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(
        spectral, "CASES", (spectral.Case((8, 10), 3, 2, 4), spectral.Case((6, 6, 8), 2, 1, 3))
    )
    spectral.main(["repeats=2", "backends=dft,fft", "name=tiny"])
    found = result(tmp_path, "tiny")
    assert list(found["cases"]) == ["8x10 m3 B2 C4", "6x6x8 m2 B1 C3"]
    assert found["cases"]["8x10 m3 B2 C4"]["equality"]["gradient"] < 1e-4
    assert "8x10 m3 B2 C4" in tables.page({"tiny": found})


def test_an_unknown_spectral_case_lists_the_known_ones():
    with pytest.raises(OptionError, match="64x64 m12 B16 C32"):
        spectral.main(["only=65x65"])


def test_the_optimiser_step_is_measured_and_equal_to_adam_on_complex_weights(tmp_path):
    optimiser.main(["width=4", "num_modes=4", "repeats=2", "name=tiny"])
    found = result(tmp_path, "tiny")
    assert found["equality"]["weights"] < 1e-6
    assert len(found["phases"]["optimiser step"]) == 4
    assert "optimiser step" in tables.page({"tiny": found})


def test_regions_are_measured_against_the_whole_box_and_the_error_by_halo(tmp_path):
    sizes = ["grid=16", "regions=2", "halos=0,16", "width=4", "num_modes=4", "repeats=1", "peak=false"]
    error = ["error_grid=16", "error_regions=2", "error_halos=0,16", "error_width=4", "error_modes=4"]
    multigrid.main([*sizes, *error, "error_steps=2", "error_seeds=2", "name=tiny"])
    found = result(tmp_path, "tiny")
    assert list(found["memory"]["16"])[:2] == ["plain", "4 regions, halo 0/128, sequential"]
    assert found["memory"]["16"]["4 regions, halo 16/128, batch"]["window"] == 12
    assert found["equality"]["gradient"] < 1e-4
    rows = found["error"]["rows"]
    assert [(row["levels"], row["halo"]) for row in rows] == [(None, None), (0, 0), (0, 16), (1, 0), (1, 16)]
    assert all(row["least"] < row["mean"] < row["largest"] for row in rows)
    page = tables.page({"tiny": found})
    assert "| halo | 0 coarser views | 1 coarser view |" in page
    assert "| plain | 16 |" in page


def test_a_step_of_gfno_is_measured_against_an_fno_as_large_and_its_symmetry_checked(tmp_path):
    gfno.main(["grid=8", "num_modes=4", "width=2", "history=1", "batch=1", "repeats=2", "name=tiny"])
    found = result(tmp_path, "tiny")
    assert found["equality"]["after rotation"] < 1e-5
    ours, fno = (found["parameters"][name] for name in (gfno.OURS, gfno.PLAIN))
    assert 0.5 < ours / fno < 2
    assert "pdesurrogate, fno" in tables.page({"tiny": found})
    with pytest.raises(OptionError, match=r"holds no models/GFNO.py.*divelab/AIRS"):
        gfno.main([f"release={tmp_path}"])


def test_the_problem_of_the_halo_is_advection_with_diffusion():
    """After n periods of travel a wave is where it was, and weaker by the exponential of its wavenumber."""
    states, futures = halo_error.advected(3, 32, seed=0)
    spectrum = [forward_transform(u[:, 0, 0].double(), 2) for u in (states, futures)]
    ky = mode_numbers(32, half=False)[:, None]
    kx = mode_numbers(32, half=True)
    decay = torch.exp(-0.5 * (2 * torch.pi * halo_error.DIFFUSION_LENGTH) ** 2 * (ky**2 + kx**2))
    turn = torch.exp(-2j * torch.pi * (ky * halo_error.TRAVEL[0] + kx * halo_error.TRAVEL[1]))
    torch.testing.assert_close(spectrum[1], spectrum[0] * decay * turn, rtol=0, atol=1e-6)


def test_the_allocator_setting_says_what_is_in_force():
    assert machine.tune_allocator("default") == "default"


def test_the_committed_page_is_what_the_results_give(repository):
    committed = (repository / "docs" / "benchmarks.md").read_text()
    results = tables.load(repository / "benchmarks" / "results")
    assert committed == tables.page(results), "run: python -m benchmarks.tables"


def test_every_committed_result_names_its_conditions(repository):
    for name, found in tables.load(repository / "benchmarks" / "results").items():
        assert {"command", "revision", "machine", "versions", "settings", "load_average"} <= set(found), name


GPU_TINY = ["grid=12", "num_modes=4", "width=4", "batch=2", "repeats=2", "name=tiny"]


def test_the_gpu_comparison_checks_every_side_and_says_what_cannot_run(tmp_path):
    gpu.main(["device=cpu", "precisions=full,bf16", "backends=dft,fft", *GPU_TINY])
    found = result(tmp_path, "tiny")
    assert set(found["phases"]["full"]) == {"neuraloperator", "pdesurrogate, dft", "pdesurrogate, fft"}
    assert found["phases"]["full"]["pdesurrogate, dft"]["speedup"]["median"] > 0
    assert 0 < found["phases"]["full"]["neuraloperator"]["of the byte floor"] < 1
    assert 0 < found["equality"]["output"] < 1e-2
    assert "GPU" in found["refused"]["full"]["pdesurrogate, dft, CUDA graph"]
    assert "bfloat16" in found["refused"]["bf16"]["pdesurrogate, fft"]
    assert "of the byte floor" in tables.page({"tiny": found})


@pytest.mark.gpu
def test_on_a_gpu_every_contestant_is_also_timed_as_a_graph(tmp_path):
    gpu.main(["precisions=full,tf32,bf16", *GPU_TINY])
    found = result(tmp_path, "tiny")
    for precision in ("full", "tf32", "bf16"):
        assert "pdesurrogate, dft, CUDA graph" in found["phases"][precision]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("command", [gpu, calibrate])
def test_without_a_gpu_the_commands_for_it_say_what_runs_here(command):
    with pytest.raises(OptionError, match="no CUDA device here"):
        command.main(["device=cuda"])


def test_calibration_prints_an_entry_of_the_cost_model(capsys):
    calibrate.main(["cases=4", "repeats=1"])
    printed = capsys.readouterr().out
    found = json.loads(printed[: printed.index("the entry in force")])
    assert set(found["cpu"]) == {"dft", "fft", *(["native"] if native_library() else [])}
    assert all(set(costs) == {"work", "bytes", "far_bytes", "calls"} for costs in found["cpu"].values())
    assert all(value >= 0 for costs in found["cpu"].values() for value in costs.values())
    assert all(sum(costs.values()) > 0 for costs in found["cpu"].values())


def test_a_boosted_forecast_is_measured_against_the_sum_of_its_stages(tmp_path):
    specboost.main(["grid=8", "num_modes=4", "width=4", "batch=2", "repeats=2", "peak=false", "name=boost"])
    found = result(tmp_path, "boost")
    assert list(found["phases"]["forecast"]) == ["sum of its stages", "specboost", "stage 1", "stage 2"]
    assert found["phases"]["forecast"]["specboost"]["speedup"]["median"] > 0
    assert set(found["phases"]["forward + backward"]) == {
        "stage 1", "stage 2, forecasts from memory", "stage 2, forecasts anew", "one model of all parameters",
    }  # fmt: skip
    sizes = found["parameters"]
    assert sizes["one model of all parameters"] == pytest.approx(sizes["stage 1"] + sizes["stage 2"], rel=0.4)
    assert found["equality"]["output"] < 1e-5
    assert "specboost" in tables.page({"boost": found})


SMALL_WINDOWS = ["grid=8", "trajectories=2", "frames=6", "history=2", "windows=6", "batch=4"]


def test_loading_is_measured_on_windows_that_are_equal(tmp_path):
    loading.main(
        [
            "grid=8",
            "trajectories=2",
            "frames=6",
            "history=2",
            "windows=6",
            "batch=4",
            "repeats=2",
            "name=tiny",
        ]
    )
    found = result(tmp_path, "tiny")
    assert {"PDEArena", "neuraloperator"} <= set(found["phases"])
    assert set(found["equality"].values()) == {0.0}
    for table in found["phases"].values():
        assert table[loading.HELD]["speedup"]["median"] > 0
        assert table[loading.FLOOR]["speedup"]["median"] > 0
    assert loading.READER in tables.page({"tiny": found})


def test_the_wait_for_data_is_measured_in_a_training(tmp_path):
    throughput.main(["data=navier_stokes", "small=true", "steps=1", "epochs=1", "name=tiny"])
    found = result(tmp_path, "tiny")["phases"]["navier_stokes"]
    assert set(found) == {"ram", "none"}
    assert all(0 <= row["data wait"]["median"] < 1 for row in found.values())
    assert "waiting for data" in tables.page({"tiny": result(tmp_path, "tiny")})


@pytest.mark.parametrize("word", ["grid=0", "frames=4", "clock=moon"])
def test_loading_refuses_options_that_make_no_measurement(word):
    with pytest.raises(OptionError):
        loading.main([word])


FACTORISED = [
    "width=8",
    "depth=1",
    "heads=1",
    "head_dim=8",
    "history=1",
    "horizon=1",
    "repeats=1",
    "peak=false",
]


def test_the_memory_modes_of_attention_along_axes_are_compared_and_measured(tmp_path):
    factformer.main([*FACTORISED, "grid=8", "name=tiny"])
    found = result(tmp_path, "tiny")
    assert set(found["phases"]["step"]) == {f"pdesurrogate, {mode}" for mode in ("speed", "lean", "minimal")}
    assert found["equality"]["gradient"] < 1e-3
    assert "pdesurrogate, minimal" in tables.page({"tiny": found})


def test_the_cost_of_attention_along_axes_is_followed_as_the_grid_is_refined(tmp_path):
    factformer.main([*FACTORISED, "scaling=8,16", "name=tiny"])
    found = result(tmp_path, "tiny")
    assert found["phases"]["forward + backward"]["16 x 16"]["nanoseconds a point"] > 0
    assert "With the number of points grow time as its power" in tables.page({"tiny": found})


def test_a_folder_without_the_authors_code_is_refused(tmp_path):
    with pytest.raises(OptionError, match=r"a clone of github\.com/BaratiLab/FactFormer"):
        factformer.main([*FACTORISED, "grid=8", f"factformer={tmp_path}"])
