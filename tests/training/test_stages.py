"""Stages are trained one after the other in one run: frozen bit for bit, resumed anywhere, cached where valid."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from pdesurrogate.data.opening import open_data
from pdesurrogate.interruption import Interrupted
from pdesurrogate.models import MODELS
from pdesurrogate.surrogate import Surrogate
from pdesurrogate.training.corrections import choose_shrinkage
from pdesurrogate.training.module import SurrogateTraining
from pdesurrogate.training.run import train
from pdesurrogate.training.stages import Boosting

BASE = "base_options={width: 4, depth: 1, num_modes: 6}"
BOOST = ("model=specboost", f"++model.{BASE}", "trainer.max_epochs=2", "optim.lr=1e-2", "optim.ema=0.5")


def finished(run, name):
    return torch.load(run / "checkpoints" / name / "finished.pt", weights_only=True)


def weights_of(run):
    return Surrogate.load(run / "artifact.pt").state_dict()


def differing(a, b):
    assert a.keys() == b.keys()
    return [k for k in a if not torch.equal(a[k], b[k])]


@pytest.fixture(scope="module")
def boosted_run(tmp_path_factory, wave_store):
    """One run of two stages with all of its files, and what was seen of the model in every step."""
    run = tmp_path_factory.mktemp("boosted") / "run"
    seen = {"modes": set(), "graded": set(), "optimised": set()}
    original = SurrogateTraining.on_before_optimizer_step

    def look(module, optimizer):
        stages, active = module.surrogate.model.stages, module.surrogate.model.active
        seen["modes"].add((active, tuple(stage.training for stage in stages)))
        graded = tuple(any(p.grad is not None for p in stage.parameters()) for stage in stages)
        seen["graded"].add((active, graded))
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        seen["optimised"].add((active, held == {id(p) for p in stages[active].parameters()}))
        return original(module, optimizer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SurrogateTraining, "on_before_optimizer_step", look)
        train(composed(wave_store, run, *BOOST, "logger=csv", "trainer.log_every=1"))
    return run, seen


@pytest.fixture(scope="module")
def boosted(boosted_run):
    return boosted_run[0]


@pytest.fixture(scope="module")
def watched(boosted_run):
    return boosted_run[1]


def composed(wave_store, run, *terms):
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from pdesurrogate.cli import conf_dir

    small = [
        f"data.root={wave_store}", "data.grid=16", "data.batch_size=8", "trainer.figure_every=0",
        f"run_dir={run}", "run_id=test",
    ]  # fmt: skip
    if not any(term.startswith("logger=") for term in terms):
        small.append("logger=none")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return OmegaConf.to_container(compose("train", overrides=[*small, *terms]), resolve=True)


def test_after_the_later_stages_the_earlier_ones_are_what_they_were_bit_for_bit(boosted):
    final = weights_of(boosted)
    for stage in (1, 2):
        then = finished(boosted, f"stage{stage}")["weights"]
        kept = {k for k in final for i in range(stage) if k.startswith(f"model.stages.{i}.")}
        assert kept
        assert not [k for k in kept if not torch.equal(final[k], then[k])]
    first = finished(boosted, "stage1")["weights"]
    assert any(not torch.equal(final[k], first[k]) for k in final if k.startswith("model.stages.1."))


def test_only_the_stage_in_training_has_gradients_an_optimiser_and_training_mode(watched):
    def only(active):
        return active, tuple(i == active for i in range(2))

    assert watched["modes"] == watched["graded"] == {only(active) for active in range(2)}
    assert watched["optimised"] == {(active, True) for active in range(2)}


def test_every_stage_starts_its_schedule_and_its_optimiser_anew(boosted):
    for stage in (1, 2):
        last = torch.load(boosted / "checkpoints" / f"stage{stage}" / "last.ckpt", weights_only=True)
        assert last["global_step"] == 10
        assert last["lr_schedulers"][0]["last_epoch"] == 10
        assert {int(s["step"]) for s in last["optimizer_states"][0]["state"].values()} == {10}
    assert Surrogate.load(boosted / "artifact.pt").provenance["steps"] == 20


def test_every_stage_keeps_the_average_of_its_weights(boosted):
    for stage in (1, 2):
        best = torch.load(boosted / "checkpoints" / f"stage{stage}" / "best.ckpt", weights_only=True)
        average, kept = best["callbacks"]["WeightAverage"]["average"], finished(boosted, f"stage{stage}")
        assert {name.split(".")[3] for name in average} == {str(stage - 1)}
        assert all(torch.equal(kept["weights"][k.removeprefix("surrogate.")], v) for k, v in average.items())
        assert any(not torch.equal(best["state_dict"][k], v) for k, v in average.items())


def test_one_logger_holds_the_metrics_of_every_stage_under_its_name(boosted):
    with (boosted / "csv" / "version_0" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for stage in ("stage1", "stage2"):
        for name in ("train/loss", "valid/relative_l2", "valid/nmse/high", "valid/unlearned/low"):
            assert any(row[f"{stage}/{name}"] for row in rows), (stage, name)
    assert not [name for name in rows[0] if name.startswith(("train/", "valid/"))]


def test_each_stage_leaves_its_spectral_errors_and_they_add_up_to_its_error(boosted):
    facts = Surrogate.load(boosted / "artifact.pt").provenance["stages"]
    assert len(facts) == 2
    for found in facts:
        total = sum(found["spectra"]["nmse"][0])
        assert total == pytest.approx(
            sum(found["valid"][f"valid/nmse/{r}"] for r in ("low", "middle", "high"))
        )
    assert facts[1]["scale"][0] < 1
    json.dumps(facts)


def test_the_residual_of_the_training_windows_gives_the_scale(boosted, wave_store):
    surrogate = Surrogate.load(boosted / "artifact.pt")
    windows = open_data({"kind": "store", "root": str(wave_store), "grid": 16}).windows("train")
    batch = windows.batch(range(len(windows)))
    with torch.no_grad():
        first = surrogate.members()["stage 1 of 2"].step(batch.history, batch.parameters)
    residual = (batch.future - first) / surrogate.normaliser.std.view(-1, 1, 1)
    expected = residual.double().square().mean().sqrt()
    assert float(surrogate.model.correction(1).scale) == pytest.approx(float(expected), rel=1e-5)


def test_forecasts_of_earlier_stages_from_memory_and_anew_give_the_same_losses(wave_store, tmp_path):
    losses = {}
    for cache in ("ram", "none"):
        run = tmp_path / cache
        train(
            composed(wave_store, run, *BOOST, f"boosting.cache={cache}", "logger=csv", "trainer.log_every=1")
        )
        with (run / "csv" / "version_0" / "metrics.csv").open() as file:
            losses[cache] = [
                row["stage2/train/loss"] for row in csv.DictReader(file) if row["stage2/train/loss"]
            ]
    assert len(losses["ram"]) == 10
    assert losses["ram"] == losses["none"]


def test_forecasts_for_windows_that_augmentation_transforms_are_computed_anew(
    wave_store, tmp_path, monkeypatch
):
    from pdesurrogate.training.corrections import CorrectionTraining

    held = []
    monkeypatch.setattr(
        CorrectionTraining,
        "on_train_start",
        spied(CorrectionTraining.on_train_start, lambda module: held.append(set(module._known))),
    )
    train(composed(wave_store, tmp_path / "run", *BOOST, "trainer.max_epochs=1", "augment.shift=true"))
    assert held == [{"valid"}]


class Interrupt:
    """Ctrl-C at a step of a stage."""

    def __init__(self, stage, step):
        self.stage, self.step = stage, step

    def __call__(self, original):
        def training_step(module, batch, batch_idx):
            import signal

            if (module.surrogate.model.active, module.global_step) == (self.stage, self.step):
                signal.raise_signal(signal.SIGINT)
            return original(module, batch, batch_idx)

        return training_step


@pytest.mark.parametrize(("stage", "step"), [(0, 6), (0, 9), (1, 7)])
def test_resuming_in_the_middle_of_a_stage_and_between_two_equals_no_interruption(
    stage, step, boosted, wave_store, tmp_path, monkeypatch
):
    run, terms = tmp_path / "parts", BOOST
    with monkeypatch.context() as patch:
        patch.setattr(
            SurrogateTraining, "training_step", Interrupt(stage, step)(SurrogateTraining.training_step)
        )
        with pytest.raises(Interrupted, match=r"python train\.py resume="):
            train(composed(wave_store, run, *terms))
    assert not (run / "artifact.pt").exists()
    train(composed(wave_store, run, *terms, f"resume={run}"))
    assert not differing(weights_of(boosted), weights_of(run))


def test_a_run_that_was_killed_after_a_stage_goes_on_with_the_next(
    boosted, wave_store, tmp_path, monkeypatch
):
    from pdesurrogate.training.stages import StagedRun

    run, terms, original = tmp_path / "killed", BOOST, StagedRun._stage
    with monkeypatch.context() as patch:

        def stage(self, number, *rest):
            if number == 1:
                raise RuntimeError("killed")
            return original(self, number, *rest)

        patch.setattr(StagedRun, "_stage", stage)
        with pytest.raises(RuntimeError, match="killed"):
            train(composed(wave_store, run, *terms))
    trained = []
    monkeypatch.setattr(
        StagedRun,
        "_module",
        spied(StagedRun._module, lambda self, surrogate, number, known: trained.append(number)),
    )
    train(composed(wave_store, run, *terms, f"resume={run}"))
    assert trained == [1]
    assert not differing(weights_of(boosted), weights_of(run))


def spied(original, look):
    def call(*arguments):
        look(*arguments)
        return original(*arguments)

    return call


def test_another_number_of_stages_is_refused_on_resuming(boosted, wave_store):
    with pytest.raises(ValueError, match="of a model of 2 stages, and the model has 3 here"):
        train(composed(wave_store, boosted, *BOOST, "model.num_stages=3", f"resume={boosted}"))


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (("boosting.folds=9",), "there are 8 training trajectories"),
        (("boosting.epochs=[3]",), "1 entries and the model 2 stages"),
        (("boosting.folds=2", "unroll=k_step"), "use unroll=one_step"),
        (("boosting.cache=ram", "unroll=k_step"), "needs unroll=one_step"),
        (("boosting.cache=ram", "augment.shift=true"), "and no augment"),
    ],
)
def test_ways_of_boosting_that_cannot_work_are_refused_before_training(terms, message, wave_store, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(composed(wave_store, tmp_path / "run", *BOOST, *terms))
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shrinkage": "valdation"}, "Did you mean 'validation'"),
        ({"cache": "disk"}, r"boosting\.cache is 'disk'"),
        ({"folds": 1}, "at least 2, or 0"),
        ({"epochs": [3, 0]}, "a positive number for every stage"),
    ],
)
def test_options_of_boosting_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Boosting(**options)


@pytest.mark.parametrize(
    ("model", "size", "term", "message"),
    [
        ("fno", ["model.num_modes=6"], "boosting.folds=2", "the model has one stage"),
        ("ensemble", [f"++model.{BASE}"], "boosting.shrinkage=validation", "the stages correct nothing"),
    ],
)
def test_boosting_of_a_model_that_does_not_boost_is_refused(model, size, term, message, wave_store, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(composed(wave_store, tmp_path / "run", f"model={model}", *size, term))


def test_a_base_that_fails_on_the_further_frames_fails_before_training(wave_store, tmp_path, monkeypatch):
    class OneFrame(torch.nn.Module):
        """A model whose channels do not follow the number of frames."""

        geometries, symmetries, grids = frozenset({"plane"}), frozenset(), "any"

        def __init__(self, spec, history, horizon):
            super().__init__()
            self.map = torch.nn.Conv2d(spec.num_channels, spec.num_channels, 1)

        def check_grid(self, grid):
            pass

        def forward(self, history, parameters):
            return self.map(history.flatten(1, 2)).unflatten(1, (1, -1))

    MODELS.names()
    monkeypatch.setitem(MODELS._entries, "one_frame", OneFrame)
    with pytest.raises(ValueError, match="gets the forecast as 1 further frames"):
        train(composed(wave_store, tmp_path / "run", "model=specboost", "model.base=one_frame"))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_the_unrolled_sum_is_trained_where_forecasts_are_fed_back(wave_store, tmp_path):
    """Three steps in a row: earlier forecasts depend on what was fed back and are computed anew."""
    error = train(composed(wave_store, tmp_path / "run", *BOOST, "unroll=k_step", "unroll.num_steps=2"))
    assert 0 < error < 1.5


def test_stages_have_epochs_of_their_own(wave_store, tmp_path):
    train(composed(wave_store, tmp_path / "run", *BOOST, "boosting.epochs=[2,1]"))
    assert [finished(tmp_path / "run", f"stage{s}")["steps"] for s in (1, 2)] == [10, 5]


def test_an_ensemble_trains_its_members_on_the_target_and_forecasts_their_mean(wave_store, tmp_path):
    run = tmp_path / "run"
    terms = ("model=ensemble", f"++model.{BASE}", "trainer.max_epochs=2", "optim.lr=1e-2")
    train(composed(wave_store, run, *terms))
    surrogate = Surrogate.load(run / "artifact.pt")
    history = torch.randn(2, 1, 1, 16, 16)
    with torch.no_grad():
        forecasts = [m.step(history, torch.zeros(2, 0)) for m in surrogate.members().values()]
        torch.testing.assert_close(surrogate.step(history, torch.zeros(2, 0)), torch.stack(forecasts).mean(0))
    alone = tmp_path / "alone"
    train(
        composed(
            wave_store, alone, "model=fno", "model.width=4", "model.depth=1", "model.num_modes=6", *terms[2:]
        )
    )
    single = weights_of(alone)
    member = {
        k.replace("model.stages.0.", "model."): v for k, v in weights_of(run).items() if "stages.1" not in k
    }
    assert not differing(single, member)


@torch.no_grad()
def test_the_shrinkage_of_a_random_correction_is_zero_and_of_a_perfect_one_is_one(boosted, wave_store):
    surrogate = Surrogate.load(boosted / "artifact.pt")
    windows = open_data({"kind": "store", "root": str(wave_store), "grid": 16}).windows("valid")
    correction = surrogate.model.correction(1)
    correction.scale.fill_(1.0)
    for parameter in correction.parameters():
        parameter.copy_(torch.randn_like(parameter))
    eta, errors = choose_shrinkage(surrogate, 1, windows, 4, torch.device("cpu"))
    assert eta == 0
    assert errors[0.0] == min(errors.values())
    exact = windows.batch(range(len(windows)))

    class Perfect(torch.nn.Module):
        def forward(self, history, parameters):
            target = surrogate.normaliser.normalise(exact.future)
            return target - history[:, -1:]

    correction.model = Perfect()
    eta, errors = choose_shrinkage(surrogate, 1, windows, len(windows), torch.device("cpu"))
    assert eta == 1
    assert errors[1.0] < 1e-5


def test_validation_shrinkage_is_kept_with_the_weights(wave_store, tmp_path):
    run = tmp_path / "run"
    error = train(composed(wave_store, run, *BOOST, "boosting.shrinkage=validation"))
    surrogate = Surrogate.load(run / "artifact.pt")
    assert float(surrogate.model.correction(1).shrinkage) in (0, 0.25, 0.5, 0.75, 1)
    assert error <= finished(run, "stage1")["score"] * (1 + 1e-6)


def test_out_of_fold_residuals_are_those_of_models_that_have_not_seen_a_trajectory(
    wave_store, tmp_path, monkeypatch
):
    from pdesurrogate.training.corrections import CorrectionTraining

    run, used = tmp_path / "run", []
    original = CorrectionTraining.on_fit_start
    monkeypatch.setattr(
        CorrectionTraining,
        "on_fit_start",
        spied(original, lambda module: used.append(module._known["train"])),
    )
    terms = (*BOOST, "boosting.folds=2", "trainer.max_epochs=1")
    train(composed(wave_store, run, *terms))
    (known,) = used
    surrogate = Surrogate.load(run / "artifact.pt")
    data = open_data({"kind": "store", "root": str(wave_store), "grid": 16})
    batch = data.windows("train").batch(range(len(data.windows("train"))))
    held = known.of(batch)
    for fold in (0, 1):
        best = torch.load(run / "checkpoints" / f"stage1_fold{fold + 1}" / "best.ckpt", weights_only=True)
        twin = Surrogate.load(run / "artifact.pt")
        weights = {**best["state_dict"], **best["callbacks"]["WeightAverage"]["average"]}
        twin.load_state_dict({k.removeprefix("surrogate."): v for k, v in weights.items()})
        rows = batch.trajectory % 2 == fold
        with torch.no_grad():
            own = twin.model.stages[0](*twin.normalised(batch.history[rows], batch.parameters[rows]))
            seen = surrogate.model.stages[0](*twin.normalised(batch.history[rows], batch.parameters[rows]))
        torch.testing.assert_close(held[rows], own)
        assert not torch.allclose(held[rows], seen)
    # Finished folds are not trained again.
    (run / "artifact.pt").unlink()
    (run / "checkpoints" / "stage2" / "finished.pt").unlink()
    train(composed(wave_store, run, *terms, f"resume={run}"))
    assert torch.equal(used[1].values, known.values)


def test_all_stages_are_one_run_of_weights_and_biases_with_their_spectra_as_curves(
    wave_store, tmp_path, monkeypatch
):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    logged = []
    original = wandb.plot.line_series
    monkeypatch.setattr(
        wandb.plot, "line_series", lambda **given: logged.append(given["title"]) or original(**given)
    )
    run = tmp_path / "run"
    terms = ("trainer.max_epochs=1", "logger=wandb", "trainer.log_every=1")
    train(composed(wave_store, run, *BOOST[:2], *terms))
    names = set(wandb.run.summary.keys())
    wandb.finish()
    assert len(list((run / "wandb").glob("offline-run-*"))) == 1
    for stage in ("stage1", "stage2"):
        assert {f"{stage}/train/loss", f"{stage}/valid/relative_l2", f"{stage}/valid/nmse/low"} <= names
        assert f"{stage}: nmse by wavenumber" in logged
