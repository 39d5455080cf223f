"""What cannot work with a grid is refused before any frame of the data is read."""

import pytest

from pdesurrogate.data.datamodule import TrajectoryDataModule
from pdesurrogate.data.held import HeldSplits
from pdesurrogate.training.run import train


@pytest.fixture
def nothing_is_read(monkeypatch):
    def read(*_, **__):
        raise AssertionError("the data were read")

    for owner, name in ((TrajectoryDataModule, "fit_normaliser"), (HeldSplits, "open")):
        monkeypatch.setattr(owner, name, read)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("model=t1", "model.num_modes=20"), r"axis 'y' go up to number 19.*num_modes of at most 15"),
        (
            ("model=t1", "model.waves=energy", "model.num_modes=20"),
            r"t1: num_modes is 20 and the 16 points of axis 'y' carry 15 fourier waves\. Use num_modes of at most 15",
        ),
        (
            ("model=t1", "model.waves=energy", "model.num_modes=[3,16]"),
            r"t1: num_modes is \[3, 16\] and the 16 points of axis 'x' carry 15 fourier waves",
        ),
        (("model=t1", "model.waves=energy", "model.num_modes=[3]"), r"num_modes is \[3\]; give .* axes y, x"),
        (
            ("model=t1", "model.waves=energy", "model.num_modes=0"),
            r"t1: num_modes is 0; give one positive number",
        ),
        (
            ("model=t1", "model.waves=energy", "model.num_modes=many"),
            r"num_modes is 'many'; it must be a whole",
        ),
        (("model=t1", "model.waves=energy", "model.time=axes"), r"time is 'axes'\. Did you mean 'axis'"),
        (("model=t1", "model.num_modes=0"), r"t1: num_modes is 0; give one positive number, or 2 of them"),
        (
            ("model=t1", "model.num_modes=0", "model.time=axis"),
            r"t1: num_modes is 0; give one positive number",
        ),
        (("model=t1", "model.tolerance=0"), r"t1: tolerance is 0; it is a relative error above 0"),
        (
            ("model=t1", "model.tolerance=0.1", "model.waves=lowst"),
            r"waves is 'lowst'\. Did you mean 'lowest'",
        ),
        (("model=unet", "data.grid=15"), r"a multiple of 8 points on axis 'y' and the grid has 15"),
        (("model=fno", "model.num_modes=0"), r"fno: num_modes is 0; give one positive number"),
        (("model=fno", "model.num_modes=17"), r"17 modes on axis 'y'.*num_modes of at most 16"),
        (("model=persistence",), r"model 'persistence' has nothing to train"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("nothing_is_read", "as_users_run")
def test_it_is_refused_before_the_data_are_read(compose_train, overrides, sentence):
    with pytest.raises(ValueError, match=sentence):
        train(compose_train(*overrides))


@pytest.mark.usefixtures("nothing_is_read")
def test_what_fits_goes_on_to_the_data(compose_train):
    for waves in ("lowest", "energy"):
        with pytest.raises(AssertionError, match="the data were read"):
            train(compose_train("model=t1", "model.num_modes=15", f"model.waves={waves}", "model.width=2"))


def test_waves_in_time_are_those_of_one_model_step(compose_train):
    terms = ("model.waves=energy", "model.time=axis", "model.width=2", "model.depth=1", "model.num_modes=4")
    unroll = ("data.horizon=2", "unroll=k_step", "unroll.num_steps=2", "trainer.max_epochs=1")
    assert train(compose_train("model=t1", *terms, *unroll)) < 2
