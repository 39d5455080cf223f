"""Words on the command line that stand for keys."""

import pytest

from pdesurrogate.cli import named


@pytest.mark.parametrize(
    ("command", "given", "meant"),
    [
        ("predict", ["in.nc", "out.nc", "steps=3"], ["input='in.nc'", "output='out.nc'", "steps=3"]),
        ("predict", ["steps=3", "a b,c.nc"], ["steps=3", "input='a b,c.nc'"]),
        ("predict", ["it's.nc"], [r"input='it\'s.nc'"]),
        ("predict", ["input=in.nc", "--help"], ["input=in.nc", "--help"]),
        ("export", ["a.pt", "--format", "onnx"], ["artifact='a.pt'", "format='onnx'"]),
        ("export", ["--format=onnx", "a.pt"], ["format='onnx'", "artifact='a.pt'"]),
        ("train", ["model=fno", "--multirun"], ["model=fno", "--multirun"]),
    ],
)
def test_words_become_values_of_keys(command, given, meant):
    assert named(command, given) == meant
