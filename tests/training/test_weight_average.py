import lightning
import pytest
import torch

from pdesurrogate.interruption import Interrupted
from pdesurrogate.layers.derived_weights import DerivedWeight
from pdesurrogate.surrogate import Surrogate
from pdesurrogate.training.module import SurrogateTraining
from pdesurrogate.training.run import train
from pdesurrogate.training.weight_average import WeightAverage

EMA = ("optim.ema=0.6", "data.batch_size=7")  # 5 steps an epoch


def read(run, name="last.ckpt"):
    return torch.load(run / "checkpoints" / name, weights_only=True)


def average_of(checkpoint):
    return checkpoint["callbacks"]["WeightAverage"]["average"]


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def trained_weights(module):
    return {k: v.detach().clone() for k, v in module.named_parameters()}


def test_the_average_is_the_recursion_and_is_validated_and_kept(compose_train, tmp_path, monkeypatch):
    history, validated = [], []
    for name, diary in (("on_train_batch_start", history), ("on_validation_epoch_end", validated)):
        original = getattr(SurrogateTraining, name)

        def noting(module, *args, original=original, diary=diary):
            diary.append(trained_weights(module))
            original(module, *args)

        monkeypatch.setattr(SurrogateTraining, name, noting)
    train(compose_train(*EMA))
    last = read(tmp_path / "run")
    history.append({k: v for k, v in last["state_dict"].items() if k in history[0]})
    average, after_epoch = history[0], []
    for n, weights in enumerate(history[1:], start=1):
        decay = min(0.6, (1 + n) / (10 + n))
        average = {k: decay * v + (1 - decay) * weights[k] for k, v in average.items()}
        if n % 5 == 0:
            after_epoch.append(average)
    for found, expected in zip([*validated, average_of(last)], [*after_epoch, average], strict=True):
        for name, weight in expected.items():
            torch.testing.assert_close(found[name], weight, rtol=1e-5, atol=1e-6)
            assert not torch.equal(found[name], history[-1][name])
    saved = Surrogate.load(tmp_path / "run" / "artifact.pt").state_dict()
    best = average_of(read(tmp_path / "run", "best.ckpt"))
    assert all(torch.equal(saved[k.removeprefix("surrogate.")], v) for k, v in best.items())


def test_the_average_resumes_bit_for_bit_inside_an_epoch(compose_train, tmp_path, monkeypatch):
    import signal

    whole, parts, original = tmp_path / "whole", tmp_path / "parts", SurrogateTraining.training_step
    train(compose_train(*EMA, run_dir=whole))

    def training_step(module, batch, batch_idx):
        if module.global_step == 6:
            signal.raise_signal(signal.SIGTERM)
        return original(module, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SurrogateTraining, "training_step", training_step)
        with pytest.raises(Interrupted):
            train(compose_train(*EMA, run_dir=parts))
    train(compose_train(*EMA, f"resume={parts}", run_dir=parts))
    assert equal(average_of(read(whole)), average_of(read(parts)))
    assert equal(read(whole)["state_dict"], read(parts)["state_dict"])
    assert equal(*(Surrogate.load(run / "artifact.pt").state_dict() for run in (whole, parts)))


@pytest.mark.parametrize(("first", "then"), [("null", "0.6"), ("0.6", "null")])
def test_a_run_resumed_with_another_average_keeps_the_weights_that_were_validated(
    compose_train, tmp_path, first, then
):
    run, batch = tmp_path / "run", "data.batch_size=20"
    score = train(compose_train(batch, f"optim.ema={first}"))
    assert train(compose_train(batch, f"optim.ema={then}", f"resume={run}")) == score
    best = read(run, "best.ckpt")
    validated = best["state_dict"] | (average_of(best) if first != "null" else {})
    saved = Surrogate.load(run / "artifact.pt").state_dict()
    assert equal(saved, {k.removeprefix("surrogate."): v for k, v in validated.items()})


class OneWeight(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))


def test_weights_derived_from_parameters_follow_the_average():
    module = OneWeight()
    derived, average = DerivedWeight(lambda w: 2 * w), WeightAverage(0.9)
    average.on_fit_start(lightning.Trainer(accelerator="cpu", logger=False), module)
    with torch.no_grad():
        module.weight.add_(1.0)
        assert derived(module.weight).tolist() == [4, 4]
        with average.in_place(module):
            assert derived(module.weight).tolist() == [2, 2]
        assert derived(module.weight).tolist() == [4, 4]
