import os
import pickle
from pathlib import Path

import pytest
import torch

from pdesurrogate.deploy import load_artifact, save_artifact
from pdesurrogate.fields import Axis, DataSpec, Field, Normaliser
from pdesurrogate.models import MODELS
from pdesurrogate.surrogate import Surrogate

SPEC = DataSpec(
    fields=(Field("vorticity", kind="pseudoscalar"),), axes=(Axis("y", 1.0), Axis("x", 1.0)), dt=0.5
)
OPTIONS = {"width": 6, "num_modes": 4, "depth": 1}


def surrogate() -> Surrogate:
    torch.manual_seed(0)
    model = MODELS.build("fno", SPEC, 1, 1, **OPTIONS)
    provenance = {"config": {"model": {"kind": "fno", **OPTIONS}}, "data": {"checksum": "abc"}}
    return Surrogate(SPEC, Normaliser([0.3], [2.0]), model, history=1, horizon=1, provenance=provenance)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return save_artifact(surrogate(), tmp_path / "artifact.pt")


def test_a_saved_surrogate_predicts_the_same_bit_for_bit(artifact):
    history = torch.randn(2, 1, 1, 8, 8)
    loaded = Surrogate.load(artifact)
    expected = surrogate().eval().step(history, torch.zeros(2, 0))
    assert torch.equal(loaded.step(history, torch.zeros(2, 0)), expected)
    assert loaded.spec == SPEC
    assert loaded.provenance["data"] == {"checksum": "abc"}
    assert not loaded.training


def test_the_file_is_plain_data(artifact):
    content = torch.load(artifact, weights_only=True)
    assert content["format"] == "pdesurrogate-artifact"
    assert DataSpec.from_dict(content["spec"]) == SPEC


class Malicious:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, how):
    path, witness = tmp_path / "evil.pt", tmp_path / "witness"
    if how == "pickle":
        path.write_bytes(pickle.dumps({"format": "pdesurrogate-artifact", "model": Malicious(witness)}))
    else:
        torch.save({"format": "pdesurrogate-artifact", "model": Malicious(witness)}, path)
    with pytest.raises(ValueError, match="nothing in it was run"):
        load_artifact(path)
    assert not witness.exists()


def test_a_truncated_file_is_refused(artifact):
    artifact.write_bytes(artifact.read_bytes()[:-200])
    with pytest.raises(ValueError, match="truncated or not a torch file"):
        load_artifact(artifact)


def test_a_training_checkpoint_is_told_from_an_artifact(tmp_path):
    torch.save({"pytorch-lightning_version": "2.6", "state_dict": {}}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=r"a training checkpoint.*artifact\.pt"):
        load_artifact(tmp_path / "last.ckpt")


def test_a_missing_file_names_its_neighbours(artifact):
    with pytest.raises(FileNotFoundError, match=r"Near it: artifact\.pt"):
        load_artifact(artifact.with_name("artefact.pt"))


def test_an_artifact_of_a_newer_format_asks_for_an_upgrade(artifact):
    content = torch.load(artifact, weights_only=True)
    torch.save({**content, "format_version": 99}, artifact)
    with pytest.raises(ValueError, match="Upgrade"):
        load_artifact(artifact)


def test_weights_of_another_width_are_refused(artifact):
    content = torch.load(artifact, weights_only=True)
    content["model"]["width"] = 7
    torch.save(content, artifact)
    with pytest.raises(ValueError, match="weights do not fit"):
        load_artifact(artifact)


def test_a_full_disk_leaves_the_older_artifact(artifact, monkeypatch):
    before = artifact.read_bytes()

    def no_space(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", no_space)
    with pytest.raises(OSError, match="unchanged"):
        save_artifact(surrogate(), artifact)
    assert artifact.read_bytes() == before
    assert list(artifact.parent.iterdir()) == [artifact]
