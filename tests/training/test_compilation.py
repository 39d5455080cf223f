import pytest
import torch
from torch import nn

from pdesurrogate.models.fno import FNOBlock
from pdesurrogate.surrogate import Surrogate
from pdesurrogate.training.run import train

SMALL_STAGES = "++model.base_options={width: 4, depth: 1, num_modes: 6}"


@pytest.fixture
def compiled(monkeypatch):
    """In place of compiling, which takes minutes, count the calls that reach a part through what was compiled."""
    calls = {}

    def compile_part(module):
        def call(*args, **kwargs):
            calls[module] = calls.get(module, 0) + 1
            return module._call_impl(*args, **kwargs)

        module._compiled_call_impl = call  # what `torch.nn.Module.compile` sets

    monkeypatch.setattr(nn.Module, "compile", compile_part)
    return calls


def test_compiled_parts_train_alike_and_leave_no_trace_in_checkpoints_and_artifacts(
    compose_train, tmp_path, compiled
):
    plain, other = tmp_path / "plain", tmp_path / "compiled"
    train(compose_train("trainer.max_epochs=1", run_dir=plain))
    assert not compiled
    train(compose_train("trainer.max_epochs=1", "trainer.compile=true", run_dir=other))
    assert {type(part) for part in compiled} == {FNOBlock}
    assert len(compiled) == 2
    assert all(count >= 5 for count in compiled.values())
    weights = [
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in (plain, other)
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[1][name], weight) for name, weight in weights[0].items())
    loaded = Surrogate.load(other / "artifact.pt")
    assert loaded.state_dict().keys() == Surrogate.load(plain / "artifact.pt").state_dict().keys()


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (("model=specboost", SMALL_STAGES), r"compile=true .* model=specboost has stages"),
        (("trainer.precision=16-mixed",), r"precision is '16-mixed'\. Did you mean 'bf16-mixed'"),
    ],
)
def test_what_cannot_be_compiled_or_computed_is_refused_before_training(
    compose_train, compiled, terms, message
):
    with pytest.raises(ValueError, match=message):
        train(compose_train(*terms, "trainer.compile=true"))
