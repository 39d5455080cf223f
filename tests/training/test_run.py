import csv
import importlib
import json
import logging
import re
import resource
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from pdesurrogate.models import MODELS
from pdesurrogate.surrogate import Surrogate
from pdesurrogate.training.loggers import wandb_id
from pdesurrogate.training.run import train


def weights(surrogate: Surrogate) -> dict[str, torch.Tensor]:
    return dict(surrogate.state_dict())


def assert_bitwise(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    differing = [k for k in a if not torch.equal(a[k], b[k])]
    assert not differing


def read_checkpoint(run_dir):
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)


def test_a_surrogate_learns_travelling_waves_and_becomes_an_artifact(compose_train, tmp_path):
    error = train(compose_train("trainer.max_epochs=50", "optim.lr=1e-2", "data.batch_size=20"))
    surrogate = Surrogate.load(tmp_path / "run" / "artifact.pt")
    assert error < 0.25  # an untrained model is off by about 1, persistence by more
    assert surrogate.provenance["metrics"]["valid/relative_l2"] == pytest.approx(error)


def test_the_artifact_holds_the_best_weights_not_the_last(compose_train, tmp_path):
    # A huge constant learning rate makes later epochs worse than the best one.
    error = train(
        compose_train(
            "trainer.max_epochs=12", "optim.lr=0.3", "optim.schedule=constant", "trainer.gradient_clip=null"
        )
    )
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    saved = weights(Surrogate.load(tmp_path / "run" / "artifact.pt"))
    assert_bitwise({k.removeprefix("surrogate."): v for k, v in best["state_dict"].items()}, saved)
    last = read_checkpoint(tmp_path / "run")
    assert error <= float(last["callbacks"][best_key(last)]["current_score"])


def best_key(checkpoint):
    (key,) = [k for k in checkpoint["callbacks"] if k.startswith("ModelCheckpoint")]
    return key


FNO = ("width=8", "num_modes=6", "depth=2")
SMALL_OPTIONS = {
    "fno": FNO,
    "t1": ("width=4", "depth=2", "num_modes=4", "head_width=8"),
    "tfno": (*FNO, "rank=0.5", "joint=true"),
    "localno": (*FNO, "radius=0.3", "reference_grid=16"),
    "factformer": ("width=8", "depth=1", "heads=2", "head_dim=4", "rotary_frequency=8"),
    "ffno": ("width=8", "num_modes=6", "depth=2"),
    "dilated_resnet": ("width=4", "depth=1", "dilations=[1,2]"),
    "unet": ("width=4", "multipliers=[1,2]", "num_blocks=1"),
    "gfno": ("width=3", "num_modes=6", "depth=2", "group=p4m"),
    "mgtfno": ("base=fno", "base_options={width: 4, depth: 2, num_modes: 4}"),
    "sfno": ("width=4", "depth=1", "max_degree=5"),
    "lsno": ("width=4", "depth=1", "max_degree=5", "cutoff=0.8", "encoder_cutoff=0.5"),
}
"""Options for the suite's speed; a model without an entry runs with its defaults."""
STAGED = {"specboost", "ensemble"}
"""A longer run has longer stages from the first on, so that a shorter one is no part of it; see test_stages.py."""
RESUMED = [kind for kind in MODELS.names() if kind not in {"persistence", "neuralop"} | STAGED]


@pytest.mark.parametrize("kind", RESUMED)
def test_resuming_between_epochs_equals_no_interruption_bit_for_bit(
    kind, compose_train, sphere_store, tmp_path
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    terms = [f"model={kind}", *(f"++model.{option}" for option in SMALL_OPTIONS.get(kind, ()))]
    if "plane" not in MODELS.get(kind).geometries:
        terms += [f"data.root={sphere_store}", "data.grid=null"]
    # A constant schedule, so that the first half does not depend on the length of the run.
    terms += ["optim.schedule=constant", "optim.warmup=0"]
    train(compose_train("trainer.max_epochs=4", *terms, run_dir=whole))
    train(compose_train("trainer.max_epochs=2", *terms, run_dir=parts))
    train(compose_train("trainer.max_epochs=4", *terms, f"resume={parts}", run_dir=parts))
    a, b = read_checkpoint(whole), read_checkpoint(parts)
    assert a["global_step"] == b["global_step"]
    assert_bitwise(a["state_dict"], b["state_dict"])


MARCHING = (
    "unroll=latent_marching",
    "unroll.curriculum_steps=3",
    "unroll.push_after=4",
    "unroll.push_every=2",
    "data.horizon=2",
    "data.history=2",
    "model=factformer",
    *(f"model.{option}" for option in SMALL_OPTIONS["factformer"]),
)


@pytest.mark.parametrize(
    "unroll",
    [
        (*MARCHING[:4], "data.horizon=2"),
        ("unroll=k_step", "unroll.num_steps=2", "unroll.curriculum_steps=9"),
        ("unroll=pushforward",),
        ("unroll=noise",),
    ],
    ids=lambda words: words[0],
)
def test_steps_that_change_are_not_captured(compose_train, unroll):
    with pytest.raises(ValueError, match=r"steps of this unroll change .* trainer\.capture=false"):
        train(compose_train(*unroll, "trainer.capture=true"))


def test_marching_with_a_single_frame_is_refused_before_anything_is_read(compose_train):
    with pytest.raises(ValueError, match=r"unroll=latent_marching .* data\.horizon is 1"):
        train(compose_train("unroll=latent_marching", "data.root=nowhere"))


def test_a_curriculum_that_a_run_does_not_finish_is_said(compose_train, caplog):
    options = "unroll=k_step", "unroll.num_steps=2", "unroll.curriculum_steps=5000", "trainer.max_epochs=1"
    with caplog.at_level("WARNING", "pdesurrogate"):
        train(compose_train(*options))
    (said,) = [r.getMessage() for r in caplog.records if "curriculum" in r.getMessage()]
    assert said.startswith("unroll.curriculum_steps is 5000 and this run has ")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
    ],
    ids=["GPU", "CPU"],
)
def test_when_memory_runs_out_the_estimate_and_what_lowers_it_are_said(error, compose_train, monkeypatch):
    from pdesurrogate.models.factformer import FactFormer

    def forward(*_):
        raise error

    monkeypatch.setattr(FactFormer, "forward", forward)
    message = r"factformer on 16 x 16 points with data.batch_size=\d+ takes about .* GB \(estimate\)"
    with pytest.raises(ValueError, match=message) as caught:
        train(compose_train(*MARCHING[-6:]))
    assert "Set model.memory=minimal, or lower one of data.batch_size" in str(caught.value)
    with pytest.raises(ValueError, match=r"Lower one of data\.batch_size"):
        train(compose_train(*MARCHING[-6:], "model.memory=minimal"))


def test_another_failure_of_a_step_stays_what_it_is(compose_train, monkeypatch):
    from pdesurrogate.models.fno import FNO

    def forward(*_):
        raise RuntimeError("some other failure")

    monkeypatch.setattr(FNO, "forward", forward)
    with pytest.raises(RuntimeError, match="some other failure"):
        train(compose_train())


@contextmanager
def no_file_larger_than(num_bytes):
    """What a full disk does, by a limit of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_previous_checkpoint_and_later_the_run_goes_on(compose_train, tmp_path):
    train(compose_train("trainer.max_epochs=1"))
    run = tmp_path / "run"
    last, artifact = run / "checkpoints" / "last.ckpt", run / "artifact.pt"
    before = last.read_bytes()
    artifact.unlink()
    for epochs, name in ((3, r"(best|last)\.ckpt"), (1, r"artifact\.pt")):
        longer = compose_train(f"trainer.max_epochs={epochs}", f"resume={run}")
        with no_file_larger_than(5000), pytest.raises(OSError, match=rf"could not write .*{name}: File too"):
            train(longer)
        assert last.read_bytes() == before
        assert not artifact.exists()
        assert not list(run.rglob(".*tmp"))
    train(compose_train("trainer.max_epochs=2", f"resume={run}"))
    assert artifact.exists()


def test_predicting_increments_starts_from_persistence(compose_train, tmp_path):
    """With hardly any training the error is of the size of the increments, not of the field."""
    train(compose_train("predict=increment", "optim.lr=1e-3", "trainer.max_epochs=3"))
    surrogate = Surrogate.load(tmp_path / "run" / "artifact.pt")
    assert surrogate.predicts == "increment"
    torch.manual_seed(0)
    history = torch.randn(1, 1, 1, 16, 16)
    change = surrogate.step(history, torch.zeros(1, 0)) - history[:, -1:]
    state = Surrogate(
        surrogate.spec, surrogate.normaliser, surrogate.model, history=1, horizon=1, predict="state"
    ).step(history, torch.zeros(1, 0))
    scale = surrogate.normaliser.increment_std / surrogate.normaliser.std
    assert torch.allclose(change, scale * (state - surrogate.normaliser.mean), atol=1e-5)


def test_k_step_training_reads_as_many_future_frames(compose_train):
    assert train(compose_train("unroll=k_step", "unroll.num_steps=3")) > 0


@pytest.mark.parametrize(
    ("unroll", "option"),
    [
        (["k_step", "num_steps=4"], "unroll.num_steps"),
        (["k_step", "num_steps=4", "curriculum_steps=5"], "unroll.num_steps"),
        (["noise", "num_steps=4"], "unroll.num_steps"),
        (["pushforward", "pushes=3"], "unroll.pushes"),
        (["latent_marching", "pushes=3"], "unroll.pushes"),
    ],
)
def test_too_short_trajectories_are_refused_with_both_factors_and_what_lowers_them(
    compose_train, unroll, option
):
    kind, *options = unroll
    config = compose_train(f"unroll={kind}", *(f"unroll.{word}" for word in options), "data.horizon=2")
    with pytest.raises(
        ValueError, match=r"history=1, 4 model steps of horizon=2 each and stride=1 "
    ) as caught:
        train(config)
    assert "at least 9 frames; there are 6. " in str(caught.value)
    assert f"Lower data.horizon, {option}, data.history" in str(caught.value)


def test_the_metric_names_in_the_csv_file_are_the_documented_ones(compose_train, tmp_path):
    train(compose_train("logger=csv", "trainer.log_every=1"))
    with (tmp_path / "run" / "csv" / "version_0" / "metrics.csv").open() as file:
        names = set(next(csv.reader(file)))
    assert names >= {
        "train/loss",
        "train/learning_rate",
        "speed/samples_per_second",
        "speed/data_wait",
        "memory/resident_mib",
        "valid/loss",
        "valid/relative_l2",
        "valid/relative_l2/tracer",
    }


def read_store(path):
    """The records of a W&B transaction log: 7 bytes of header, then LevelDB's blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, position, parts = path.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:  # too little for another header
            position += left
            continue
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        if position + 7 + length > len(content):
            return  # it is being written
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(parts)
            parts = b""


def items_of(record):
    """What a record of the history holds, by name."""
    return {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}


def test_an_offline_wandb_run_needs_no_account_and_holds_every_metric(compose_train, tmp_path, monkeypatch):
    """What is read back from the run's own store has the names of the CSV file, and the best error."""
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    terms = ("trainer.log_every=1", "trainer.max_epochs=1")
    train(compose_train("logger=csv", *terms, run_dir=tmp_path / "csv"))
    with (tmp_path / "csv" / "csv" / "version_0" / "metrics.csv").open() as file:
        shown = set(next(csv.reader(file))) - {"epoch", "step"}
    wanted = ("logger=wandb", "logger.watch=gradients", "trainer.figure_every=1")
    error = train(compose_train(*wanted, *terms))
    wandb.finish()
    (folder,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    (store,) = folder.glob("*.wandb")
    deadline = time.monotonic() + 60
    while True:  # the service of wandb writes the file in its own time
        records = list(read_store(store))
        if any(r.WhichOneof("record_type") == "exit" for r in records) or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    history = [items for record in records if (items := items_of(record))]
    names = {name for items in history for name in items}
    assert shown <= names
    assert "valid/forecast" in names
    assert "gradients/lift.0.weight" in names
    (best,) = [items["valid/relative_l2"] for items in history if "valid/relative_l2" in items]
    assert best == pytest.approx(error)
    assert not [
        r for r in records if r.WhichOneof("record_type") == "stats"
    ]  # of the machine, on request only
    (run,) = [r.run for r in records if r.WhichOneof("record_type") == "run"][:1]
    assert (run.run_id, run.run_group) == ((tmp_path / "run" / "wandb_run").read_text().strip(), "test")
    (artifact,) = [
        r.request.log_artifact.artifact for r in records if r.request.HasField("log_artifact")
    ] or [r.artifact for r in records if r.WhichOneof("record_type") == "artifact"]
    checksum = json.loads(artifact.metadata)["data"]["checksum"]
    surrogate = Surrogate.load(tmp_path / "run" / "artifact.pt")
    assert checksum == surrogate.provenance["data"]["checksum"]
    assert f"data-{checksum[:12]}" in artifact.aliases


@pytest.mark.parametrize(
    ("every", "sentence"),
    [("3", "is 3 and training ends after 2 epochs"), ("0", "is 0; give a whole number")],
)
def test_a_training_without_a_validation_is_refused_before_it_starts(
    compose_train, tmp_path, every, sentence
):
    with pytest.raises(ValueError, match=rf"trainer\.validate_every {sentence}"):
        train(compose_train(f"trainer.validate_every={every}"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("optim.ema=long", r"optim: ema is 'long'; it must be a finite number or null"),
        ("optim.max_skipped=null", r"optim: max_skipped is None; it must be a whole number"),
        ("trainer.timeout_minutes=null", r"trainer\.timeout_minutes is None; give a positive time"),
        ("trainer.checkpoint_steps=1.5", r"trainer\.checkpoint_steps is 1\.5; give a positive number"),
        ("trainer.checkpoint_minutes=-1", r"trainer\.checkpoint_minutes is -1; give a number from 0"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_what_is_no_number_is_refused(compose_train, override, sentence):
    with pytest.raises(ValueError, match=sentence):
        train(compose_train(override))


def test_a_resumed_run_and_no_other_has_the_identifier_of_before(tmp_path):
    first = wandb_id(tmp_path / "a")
    assert wandb_id(tmp_path / "a") == first
    assert wandb_id(tmp_path / "b") != first


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["logger.watch=gradient"], r"logger.watch is 'gradient'. Did you mean 'gradients'"),
        (["logger.mode=onlin"], r"logger.mode is 'onlin'. Did you mean 'online'"),
        (
            ["logger.watch=all", "trainer.strategy=fsdp", "trainer.devices=2"],
            r"logger.watch=all looks at whole gradients .* trainer.strategy=fsdp does not show",
        ),
    ],
)
def test_what_wandb_cannot_log_is_refused_before_training(overrides, message, compose_train, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(compose_train("logger=wandb", *overrides))
    assert not (tmp_path / "run").exists()


def test_spectral_products_stay_in_float32_when_a_run_is_in_mixed_precision(compose_train, monkeypatch):
    layer = importlib.import_module(
        "pdesurrogate.layers.fourier_layer"
    )  # the package has a function of that name
    seen, original = set(), layer.FourierLayerNode.apply

    def apply(u, *others):
        v = original(u, *others)
        seen.add((u.dtype, v.dtype, torch.is_autocast_enabled("cpu")))
        return v

    surrounding, forward = [], Surrogate.step
    monkeypatch.setattr(layer.FourierLayerNode, "apply", apply)
    monkeypatch.setattr(
        Surrogate, "step", lambda *a: surrounding.append(torch.is_autocast_enabled("cpu")) or forward(*a)
    )
    assert train(compose_train("trainer.precision=bf16-mixed", "trainer.max_epochs=1")) < 2
    assert seen == {(torch.float32, torch.float32, False)}
    assert any(surrounding)  # autocast was on, up to the layers


def test_the_log_says_what_a_model_says_of_itself(compose_train, caplog):
    with caplog.at_level(logging.INFO):
        train(
            compose_train(
                "trainer.max_epochs=1", "model=tfno", *(f"model.{o}" for o in SMALL_OPTIONS["tfno"])
            )
        )
    (line,) = [r.getMessage() for r in caplog.records if "spectral weights" in r.getMessage()]
    assert re.search(
        r"[\d,]+ real numbers for [\d,]+ \([\d.]+ times fewer; the whole model [\d.]+ times", line
    )


def test_a_checkpoint_holds_plain_types_only(compose_train, tmp_path):
    train(compose_train())
    assert read_checkpoint(tmp_path / "run")["global_step"] == 10  # weights_only=True has read it


def test_resuming_with_another_model_or_other_data_is_refused_before_training(compose_train, tmp_path):
    train(compose_train("trainer.max_epochs=1"))
    with pytest.raises(ValueError, match="is of another model"):
        train(compose_train("model.width=4", f"resume={tmp_path / 'run'}"))
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    torch.save(read_checkpoint(tmp_path / "run") | {"spec": {"dt": 3.0}}, path)
    with pytest.raises(ValueError, match=r"is of other data: axes is None there and \["):
        train(compose_train(f"resume={tmp_path / 'run'}"))


def test_too_many_modes_for_the_grid_are_refused_with_the_largest_number(compose_train):
    with pytest.raises(ValueError, match="at most 16"):
        train(compose_train("model.num_modes=20"))


def test_a_nan_in_the_data_stops_with_the_trajectory_and_frame(compose_train, wave_store, tmp_path):
    import h5py

    root = tmp_path / "broken"
    root.mkdir()
    for split in ("train", "valid", "test"):
        (root / f"{split}.h5").write_bytes((wave_store / f"{split}.h5").read_bytes())
    with h5py.File(root / "train.h5", "r+") as file:
        file["tracer"][2, 4, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"trajectory 2.*frame 4"):
        train(compose_train(f"data.root={root}"))


def test_progress_is_told_soon_and_with_the_time_left(compose_train, caplog):
    with caplog.at_level(logging.INFO):
        train(compose_train())
    lines = [r.getMessage() for r in caplog.records if "samples/s" in r.getMessage()]
    assert "step 1/10" in lines[0]
    assert "left" in lines[0]
    assert any("validation relative L2" in line for line in lines)
