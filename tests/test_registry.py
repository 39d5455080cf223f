from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence

import pytest

from pdesurrogate.registry import Registry, check_options, did_you_mean, load_plugins


class Heat:
    def __init__(self, spec, diffusivity: float = 1.0, order: int = 2):
        self.spec, self.diffusivity, self.order = spec, diffusivity, order


def read(path, *, scale=1.0):
    return path, scale


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write a package of modules that share one registry; returns a function that makes the registry."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def build(name, **modules):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").write_text(
            f"from pdesurrogate.registry import Registry\nTHINGS = Registry('thing', '{name}')\n"
        )
        for module, source in modules.items():
            (folder / f"{module}.py").write_text(f"from {name} import THINGS\n{source}\n")
        made.append(name)
        return __import__(name).THINGS

    yield build
    for module in [m for m in sys.modules if m.split(".")[0] in made]:
        del sys.modules[module]


@pytest.fixture
def things(package):
    registry = package("empty_things")
    registry.register("heat")(Heat)
    registry.register("file")(read)
    return registry


def test_a_file_dropped_into_the_package_is_found_without_another_line(package):
    registry = package(
        "dropped_things",
        wave="@THINGS.register('wave')\ndef wave(speed=1.0):\n    return speed",
        advection="@THINGS.register('advection')\ndef advection():\n    return 'advected'",
    )
    assert registry.names() == ["advection", "wave"]
    assert registry.build("wave", speed=3.0) == 3.0


def test_modules_are_imported_on_first_use_only(package):
    registry = package("late_things", wave="THINGS.register('wave')(dict)")
    assert "late_things.wave" not in sys.modules
    registry.names()
    assert "late_things.wave" in sys.modules


def test_a_broken_module_is_told_on_every_use_and_not_only_the_first(package):
    registry = package("broken_things", wave="import no_such_library")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_library"):
            registry.get("wave")


def test_entries_are_built_with_positional_arguments_and_options(things):
    heat = things.build("heat", "spec", order=4)
    assert (heat.spec, heat.diffusivity, heat.order) == ("spec", 1.0, 4)


def test_an_option_may_be_called_name(things):
    things.register("peer")(lambda spec, *, name="FNO": name)
    assert things.build("peer", "spec", name="UNO") == "UNO"


def test_an_unknown_name_gets_the_nearest_one_and_the_list(things):
    with pytest.raises(
        ValueError, match=r"Unknown thing 'haet'. Did you mean 'heat'. Available: file, heat."
    ):
        things.get("haet")


def test_an_unknown_option_gets_the_nearest_one_and_the_list(things):
    message = "thing 'heat' has no option 'ordr'. Did you mean 'order'. Its options: diffusivity, order."
    with pytest.raises(ValueError, match=message):
        things.build("heat", "spec", ordr=4)


def test_what_is_given_by_position_is_not_an_option(things):
    with pytest.raises(ValueError, match="has no option 'spec'"):
        things.build("heat", "spec", spec="another")


def test_an_option_without_default_must_be_given(things):
    with pytest.raises(ValueError, match=r"thing 'file' needs the option 'path'. Its options: path, scale."):
        things.build("file")
    assert things.build("file", path="a.mat") == ("a.mat", 1.0)


def numbers(
    count: int = 1,
    rate: int | float = 0.5,
    sizes: int | Sequence[int] = 1,
    radii: tuple[float, ...] = (),
    steps: int | None = None,
    kernel: str | Sequence[int] = "all",
    smooth: bool = False,
) -> str:
    return "built"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": "abc"}, "count is 'abc'; it must be a whole number."),
        ({"count": 32.5}, "count is 32.5; it must be a whole number."),
        ({"count": None}, "count is None; it must be a whole number."),
        ({"count": True}, "count is True; it must be a whole number."),
        ({"count": [16, 32]}, "count is [16, 32]; it must be a whole number."),
        ({"rate": "fast"}, "rate is 'fast'; it must be a finite number."),
        ({"rate": math.nan}, "rate is nan; it must be a finite number."),
        ({"rate": math.inf}, "rate is inf; it must be a finite number."),
        ({"rate": (0.1, 0.2)}, "rate is (0.1, 0.2); it must be a finite number."),
        ({"sizes": [4, "b"]}, "sizes is [4, 'b']; it must be a whole number or a list of whole numbers."),
        ({"radii": "1"}, "radii is '1'; it must be a list of finite numbers."),
        ({"radii": [1, math.inf]}, "radii is [1, inf]; it must be a list of finite numbers."),
        ({"steps": 1.5}, "steps is 1.5; it must be a whole number or null."),
        ({"smooth": None}, "smooth is None; it must be a truth value."),
    ],
)
def test_a_number_that_is_none_is_refused_with_what_it_must_be(things, options, message):
    strict = Registry("thing", things._package, checks_numbers=True)
    strict.register("numbers")(numbers)
    with pytest.raises(ValueError, match=re.escape(f"thing 'numbers': {message}")):
        strict.build("numbers", **options)
    things.register("numbers")(numbers)
    assert things.build("numbers", **options) == "built"


@pytest.mark.parametrize(
    "options",
    [
        {"count": 2, "rate": 1, "steps": None},
        {"sizes": (4, 4), "radii": [1, 2.5]},
        {"kernel": "energy", "smooth": True},
    ],
)
def test_numbers_that_fit_and_options_that_may_be_words_are_taken(things, options):
    strict = Registry("thing", things._package, checks_numbers=True)
    strict.register("numbers")(numbers)
    assert strict.build("numbers", **options) == "built"


def test_entries_with_free_keywords_take_any_option(things):
    things.register("free")(lambda spec, **options: options)
    assert things.build("free", "spec", anything=1) == {"anything": 1}


def test_a_taken_name_is_refused_even_for_a_class_of_the_same_name_elsewhere(things):
    other = type("Heat", (), {"__module__": "somewhere.else"})
    with pytest.raises(
        ValueError, match=r"thing 'heat' is already registered by .*; somewhere.else must choose"
    ):
        things.register("heat")(other)
    assert things.get("heat") is Heat


def test_the_same_class_may_register_again_after_a_reload(things):
    assert things.register("heat")(Heat) is Heat


def test_options_are_checked_without_the_arguments_that_the_caller_supplies():
    check_options("heat", Heat, {"order": 4})
    with pytest.raises(ValueError, match="heat has no option 'spec'"):
        check_options("heat", Heat, {"spec": 1})


@pytest.mark.parametrize(("name", "near"), [("fn0", " Did you mean 'fno'?"), ("transformer", ""), (None, "")])
def test_only_a_near_name_is_suggested(name, near):
    assert did_you_mean(name, ["fno", "unet"]) == near


def test_a_plugin_module_registers_its_entries(things, tmp_path):
    (tmp_path / "my_plugin.py").write_text(
        "from empty_things import THINGS\n@THINGS.register('mine')\ndef mine():\n    return 'mine'\n"
    )
    load_plugins(["my_plugin"])
    del sys.modules["my_plugin"]
    assert things.build("mine") == "mine"


@pytest.mark.parametrize("module", ["no_such_plugin", "no_such_plugin.deeper", "empty_things.nothing"])
def test_a_plugin_that_is_not_there_is_told_with_a_way_out(things, module):
    with pytest.raises(ValueError, match=rf"no module named '{module}' .* on PYTHONPATH"):
        load_plugins([module])


def test_what_a_plugin_misses_is_not_blamed_on_the_plugin(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plugin_that_imports.py").write_text("import plugin_th\n")
    with pytest.raises(ModuleNotFoundError, match="plugin_th"):
        load_plugins(["plugin_that_imports"])
