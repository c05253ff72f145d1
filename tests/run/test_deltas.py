"""The deltas of a profile: kept whole, undone and redone, bounded, and refused on another base."""

import json
import os
import stat

import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.model import delta as deltas
from bitzero.run import deltas as store
from bitzero.run import workdir
from bitzero.run.deltas import Deltas
from bitzero.run.workdir import RunError

TREE = {
    "layers": {"attn_norm": {"gain": jnp.ones((2, 8))}},
    "final_norm": {"gain": jnp.ones(8)},
    "embedding": jnp.ones(3),
}
ROW = {"n": 9, "before": 0.1, "after": 0.5, "gain": 0.4, "ci_low": 0.1, "ci_high": 0.7}


def delta_of(value):
    return {path: jnp.full(leaf.shape, value, jnp.float32) for path, leaf in deltas.zero(TREE).items()}


def value_in_use(found):
    loaded = found.load(TREE)
    return None if loaded is None else round(float(loaded["final_norm/gain"][0]), 3)


@pytest.fixture
def found(tmp_path):
    base = tmp_path / "base.npz"
    base.write_bytes(b"the base")
    found = Deltas(tmp_path / "deltas", base)
    found.folder.mkdir(parents=True)
    return found


def test_the_last_one_kept_is_in_use_and_can_be_undone_and_redone(found):
    assert value_in_use(found) is None and not found.move(-1) and not found.move(1)
    found.keep(delta_of(0.1), {"own": ROW})
    found.keep(delta_of(0.2), {})
    assert value_in_use(found) == 0.2 and found.current() == 2
    assert found.move(-1) and value_in_use(found) == 0.1
    assert found.move(-1) and value_in_use(found) is None and not found.move(-1)
    assert found.move(1) and found.move(1) and value_in_use(found) == 0.2 and not found.move(1)


def test_what_was_undone_goes_when_another_is_kept(found):
    for value in (0.1, 0.2):
        found.keep(delta_of(value), {})
    found.move(-1)
    found.keep(delta_of(0.3), {})
    assert [entry["file"] for entry in found.entries()] == ["0001.npz", "0003.npz"]
    assert sorted(file.name for file in found.folder.glob("*.npz")) == ["0001.npz", "0003.npz"]


def test_files_are_the_owners_alone_and_the_oldest_go_at_the_limit(found, monkeypatch):
    found.keep(delta_of(0.1), {})
    one = found.entries()[0]["bytes"]
    monkeypatch.setattr(store, "MOST_BYTES", int(2.5 * one))
    for value in (0.2, 0.3):
        found.keep(delta_of(value), {})
    assert value_in_use(found) == 0.3 and found.current() == 2
    assert sum(file.stat().st_size for file in found.folder.glob("*.npz")) <= 2.5 * one
    for file in found.folder.iterdir():
        assert stat.S_IMODE(os.stat(file).st_mode) == 0o600, file
    monkeypatch.setattr(store, "MOST_BYTES", one - 1)
    with pytest.raises(RunError, match="is not kept"):
        found.keep(delta_of(0.4), {})


def test_another_base_has_none_and_cannot_take_one_over(found, tmp_path):
    found.keep(delta_of(0.1), {})
    other_base = tmp_path / "other.npz"
    other_base.write_bytes(b"another base")
    other = Deltas(tmp_path / "deltas", other_base)
    assert other.load(TREE) is None and other.others() == 1 and found.others() == 0
    other.folder.mkdir()
    for file in found.folder.iterdir():
        (other.folder / file.name).write_bytes(file.read_bytes())
    with pytest.raises(RunError, match=r"0001.npz was learned on another base model \(.{16}\); it is not used"):
        other.load(TREE)


def test_what_is_no_delta_is_refused_in_one_line(found):
    found.keep(delta_of(0.1), {})
    file = found.folder / "0001.npz"
    whole = file.read_bytes()
    for content in (b"", whole[:-30], b"x" * 100, whole.replace(b"final_norm", b"other_norm")):
        file.write_bytes(content)
        with pytest.raises(RunError) as caught:
            found.load(TREE)
        assert len(str(caught.value).splitlines()) == 1 and str(file) in str(caught.value)
    pickled = np.array([{"a": 1}], dtype=object)
    header = np.frombuffer(json.dumps({"base": found.base, "format": 1}).encode(), np.uint8)
    np.savez(file, header=header, **{"final_norm/gain": pickled}, allow_pickle=True)
    with pytest.raises(RunError, match="is no delta of this model"):
        found.load(TREE)
    file.unlink()
    with pytest.raises(RunError, match="cannot read"):
        found.load(TREE)


@pytest.mark.parametrize(
    "index", ["{}", "[]", '{"deltas": [], "current": 3}', '{"deltas": [{"file": "../x"}], "current": 1}']
)
def test_an_index_that_is_none_is_a_line(found, index):
    (found.folder / "index.json").write_text(index)
    with pytest.raises(RunError, match="is no index of deltas; remove"):
        found.load(TREE)


@pytest.mark.parametrize("why", ["Permission denied", "File name too long"])
def test_a_folder_that_cannot_be_entered_is_a_line(found, why, monkeypatch):
    if why == "Permission denied":

        def refuse(path, **options):
            raise PermissionError(13, why)

        monkeypatch.setattr(type(found._index), "stat", refuse)
        refused = found
    else:
        refused = Deltas(found.home / ("x" * 300), found.home.parent / "base.npz")
    for ask in (refused.entries, refused.current, lambda: refused.load(TREE)):
        with pytest.raises(RunError, match=rf"^cannot read .*index.json: {why}$"):
            ask()


def test_an_index_without_sizes_still_takes_another_delta(found):
    found.keep(delta_of(0.1), {})
    index = found.folder / "index.json"
    content = json.loads(index.read_text())
    del content["deltas"][0]["bytes"]
    index.write_text(json.dumps(content))
    found.keep(delta_of(0.2), {})
    assert value_in_use(found) == 0.2 and found.current() == 2


def test_its_folder_is_the_owners_alone(tmp_path):
    (tmp_path / "base.npz").write_bytes(b"the base")
    found = Deltas(tmp_path / "profile" / "deltas", tmp_path / "base.npz")
    found.make_folder()
    for folder in (found.folder, found.home, found.home.parent):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700, folder
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write to .*: .*; --profile_dir names another"):
        Deltas(tmp_path / "file" / "deltas", tmp_path / "base.npz").make_folder()


def test_a_folder_that_another_process_learns_in_is_a_line(found):
    with workdir.owned(found.folder):
        with pytest.raises(RunError, match=r"another run is using .*; wait for it, or choose another --profile_dir$"):
            with workdir.owned(found.folder, store.MODE, "--profile_dir"):
                pass


def test_an_entry_is_told_with_both_differences():
    line = store.told({"own": ROW, "general": ROW | {"gain": -0.01}})
    assert line == (
        "your held-back tasks 10.0 → 50.0 % (+40.0 points, 95 % +10.0 to +70.0, 9 tasks); "
        "held-out tasks of the generator 10.0 → 50.0 % (-1.0 points, 95 % +10.0 to +70.0, 9 tasks)"
    )
    assert store.told({"own": {"n": "x"}}) == ""
