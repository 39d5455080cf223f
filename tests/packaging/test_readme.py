"""The README says what is so: its table is the recorded one, its commands exist, its Python runs."""

import json
import re
import sys

import pytest


@pytest.fixture
def readme(repository):
    return (repository / "README.md").read_text(encoding="utf-8")


def test_the_results_table_is_the_recorded_one(repository, readme, monkeypatch):
    monkeypatch.syspath_prepend(str(repository))
    from benchmarks.quickstart import RECORD, write_readme

    assert write_readme(readme, json.loads(RECORD.read_text(encoding="utf-8"))) == readme


def test_every_make_target_that_is_named_exists(repository, readme):
    makefile = (repository / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z]+)", readme)) - {"and"}:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_override_that_is_shown_composes(readme, monkeypatch):
    from hydra import compose, initialize_config_dir

    from pdesurrogate.cli import _register_resolvers, conf_dir

    monkeypatch.setenv("PDESURROGATE_RUN_ID", "test")
    _register_resolvers()
    shown = re.findall(r"python (?:data/)?(train|evaluate|generate)\.py ([^`\n]+)", readme)
    assert len(shown) > 6
    for command, text in shown:
        overrides = [o for o in text.split() if "=" in o and not o.startswith("--")]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            compose(command, overrides=[o.split(",")[0] if "[" not in o else o for o in overrides])


def test_the_pictures_and_pages_it_links_to_are_there(repository, readme):
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (repository / link).exists(), link


def test_the_store_example_writes_a_file_that_trains(readme, tmp_path, monkeypatch):
    import numpy as np

    (example,) = [
        b for b in re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL) if "StoreWriter" in b
    ]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    runs = np.random.default_rng(0).normal(size=(2, 50, 1, 128, 64)).astype(np.float32)
    exec(compile(example, "README.md", "exec"), {"runs": runs})
    from pdesurrogate.data.store import StoredTrajectories

    stored = StoredTrajectories(tmp_path / "mine" / "train.h5")
    assert stored.spec.channel_names == ("temperature",)
    np.testing.assert_array_equal(stored.frames(1, 0, 50), runs[1])
