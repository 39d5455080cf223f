"""``pdesurrogate data list | check | info`` and the manifest behind it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import yaml

from pdesurrogate.cli import conf_dir, main
from pdesurrogate.data.command import describe, thumbnail
from pdesurrogate.data.manifest import check_files, read_manifest


def run(capsys, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["pdesurrogate", "data", *words])
    main()
    return capsys.readouterr().out


def test_every_listed_set_names_a_configuration_that_there_is(monkeypatch):
    for listed in read_manifest().values():
        assert (conf_dir() / "data" / f"{listed.reader.split()[0]}.yaml").is_file(), listed.name
        assert listed.files
        assert listed.licence
        assert all(len(file.sha256 or "0" * 64) == 64 for file in listed.files)


def test_list_prints_every_set(capsys, monkeypatch):
    text = run(capsys, monkeypatch, "list")
    for name, listed in read_manifest().items():
        assert name in text
        assert listed.source in text


def test_check_finds_what_is_damaged(capsys, monkeypatch, shared_data, tmp_path):
    assert "darcy_train_16.pt: ok" in run(
        capsys, monkeypatch, "check", "neuralop_darcy_small", f"in={shared_data}"
    )
    listed = read_manifest()["neuralop_darcy_small"]
    good = (shared_data / "neuralop" / "darcy_test_16.pt").read_bytes()
    (tmp_path / "darcy_test_16.pt").write_bytes(good[:-1])
    (tmp_path / "darcy_test_32.pt").write_bytes(b"\0" * 256999)
    findings = {name.rsplit("/", 1)[-1]: finding for name, finding in check_files(listed, tmp_path)}
    assert findings["darcy_train_16.pt"] == "missing"
    assert "has 64998 bytes and should have 64999" in findings["darcy_test_16.pt"]
    assert "another checksum" in findings["darcy_test_32.pt"]
    with pytest.raises(SystemExit):
        run(capsys, monkeypatch, "check", "neuralop_darcy_small", f"in={tmp_path}")
    assert "3 file(s) are missing or damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lst"], "Did you mean 'list'"),
        (["info"], "data info needs a path"),
        (["info", "nowhere.h5"], "there is no file nowhere.h5"),
        (["check", "li_v1e3", "in=."], "Did you mean 'li_v1e-3'"),
        (["check", "in=nowhere"], "there is no folder nowhere"),
    ],
)
def test_mistakes_are_told_in_a_sentence(capsys, monkeypatch, words, message):
    with pytest.raises(SystemExit):
        run(capsys, monkeypatch, *words)
    assert message in capsys.readouterr().err


def test_info_describes_every_layout_by_its_content(made):
    for name, case in made.items():
        text = describe(case.path)
        if case.kind == "custom":
            assert "in no format that a reader knows" in text
            continue
        assert f"format {case.kind}" in text, name
        assert f"{case.channels[0]}: mean" in text or "the content does not tell" in text, name


def test_info_of_what_no_reader_knows_says_how_to_read_it(made, tmp_path):
    case = made["custom"]
    text = describe(case.path)
    assert f"data=custom data.path={case.path} data.layout=LAYOUT.yaml" in text
    assert "omega (10, 5, 8, 6): stored, float32" in text
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(case.options["layout"]))
    text = describe(case.path, {"layout": str(tmp_path / "mine.yaml")})
    assert "vorticity: s-1, pseudoscalar" in text
    assert "train: 8 trajectories of 5 frames on 6 x 8" in text
    assert "axis y: 0 to 1, wall" in text  # no unit is printed where there is none
    assert f"a folder with {case.path.name}" in describe(case.path.parent)
    zarr = pytest.importorskip("zarr")
    zarr.open_group(str(tmp_path / "u.zarr"), mode="w").create_array("u", data=np.zeros((3, 4, 5)))
    assert "u (3, 4, 5): chunks" in describe(tmp_path / "u.zarr")


def test_info_knows_our_own_store(made, tmp_path):
    from pdesurrogate.data.opening import open_dataset
    from pdesurrogate.data.rechunked import write_store

    case = made["gfno"]
    paths = write_store(open_dataset({"kind": case.kind, **case.options}), tmp_path)
    assert "format store" in describe(paths["valid"])
    text = describe(tmp_path)
    assert "train: 4 trajectories" in text
    assert "test: 2 trajectories" in text


def test_info_takes_what_the_content_does_not_tell(made, tmp_path):
    path = tmp_path / "renamed.mat"
    path.symlink_to(made["li_v5"].path)
    assert "the content does not tell viscosity; give viscosity=VALUE" in describe(path)
    text = describe(path, {"viscosity": 1e-3, "split": None, "train": 5, "valid": 1, "test": 1})
    assert "train: 5 trajectories of 5 frames on 6 x 8" in text
    assert "viscosity: from 0.001 to 0.001" in text


def test_a_thumbnail_is_dark_where_the_field_is_low():
    field = np.zeros((4, 5))
    field[3, 4] = 1.0
    assert thumbnail(field).splitlines() == ["    @", "     ", "     ", "     "]
    assert thumbnail(np.ones((3, 2, 2))).splitlines() == ["  ", "  "]


def test_list_answers_at_once(repository):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "import sys; sys.argv = ['p', 'data', 'list']\nfrom pdesurrogate.cli import main\nmain()\n"
    code += "assert 'torch' not in sys.modules"
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=repository,
        check=True,
        capture_output=True,
        env=dict(os.environ, PYTHONPATH=str(repository)),
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.0
