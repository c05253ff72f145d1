"""The profile folder: nothing is lost, whatever is killed, torn, shared or full."""

import json
import os
import signal
import stat
import subprocess
import sys

import pytest

from bitzero.chat.profile import Profile, ProfileError


def test_what_is_kept_comes_back_and_is_the_owners_alone(tmp_path):
    profile = Profile(tmp_path / "p")
    profile.append({"kind": "question", "question": "1 -> ü\n"})
    profile.keep_settings({"tries": 3})
    assert profile.records() == ([{"v": 1, "kind": "question", "question": "1 -> ü\n"}], 0)
    assert profile.settings() == {"tries": 3}
    for file in (profile.history, profile.preferences):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_damaged_line_is_skipped_counted_and_stays(tmp_path):
    profile = Profile(tmp_path)
    profile.append({"kind": "a"})
    with open(profile.history, "ab") as file:
        file.write(b'{"kind": "torn')  # no line end: a kill in the middle
    profile.append({"kind": "b"})
    profile.append({"kind": "c"})
    found, broken = profile.records()
    assert ([record["kind"] for record in found], broken) == (["a", "b", "c"], 1)
    assert profile.remove(lambda record: record["kind"] == "b") == 1
    found, broken = profile.records()
    assert ([record["kind"] for record in found], broken) == (["a", "c"], 1)


WRITER = """
import pathlib, sys
from bitzero.chat.profile import Profile
profile, name = Profile(pathlib.Path(sys.argv[1])), sys.argv[2]
for number in range(20):
    profile.append({"kind": name, "number": number, "text": "x" * 5000})
    if number % 10 == 9:
        profile.remove(lambda record: record["kind"] == name and record["number"] == number - 1)
"""


def test_two_chats_do_not_corrupt_it(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in ("a", "b")]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    found, broken = Profile(tmp_path).records()
    assert broken == 0
    for name in ("a", "b"):
        numbers = [record["number"] for record in found if record["kind"] == name]
        assert numbers == [number for number in range(20) if number % 10 != 8]


def test_a_kill_loses_nothing_that_was_kept(tmp_path):
    code = (
        "import sys; from bitzero.chat.profile import Profile; p = Profile(__import__('pathlib').Path(sys.argv[1]))\n"
        "for n in range(10**6): p.append({'kind': 'k', 'n': n}); print(n, flush=True)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    for _ in range(20):
        last = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    found, _ = Profile(tmp_path).records()
    assert [record["n"] for record in found][: last + 1] == list(range(last + 1))


def test_a_folder_that_cannot_be_written_is_said_in_a_line(tmp_path):
    (tmp_path / "file").write_text("")
    profile = Profile(tmp_path / "file")
    with pytest.raises(ProfileError, match=r"not kept, .* cannot be written: .*; --profile_dir names another") as said:
        profile.append({"kind": "a"})
    assert "\n" not in str(said.value)
    assert profile.records() == ([], 0) and profile.settings() == {}


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    profile = Profile(tmp_path)
    profile.append({"kind": "a"})
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
    with pytest.raises(ProfileError, match="no space left"):
        profile.append({"kind": "b"})
    monkeypatch.undo()
    profile.append({"kind": "c"})
    found, broken = profile.records()
    assert ([record["kind"] for record in found], broken) == (["a", "c"], 0)


def test_sessions_and_exports(tmp_path):
    profile = Profile(tmp_path / "p")
    profile.append({"kind": "a"})
    profile.save_session("mine", {"settings": {"tries": 2}})
    assert profile.load_session("mine")["settings"] == {"tries": 2} and profile.sessions() == ["mine"]
    with pytest.raises(ProfileError, match="no name of a session"):
        profile.save_session("../x", {})
    with pytest.raises(ProfileError, match="no session 'other' is saved; there are: mine"):
        profile.load_session("other")
    assert profile.export(tmp_path / "out.jsonl") == 1
    assert json.loads((tmp_path / "out.jsonl").read_text())["kind"] == "a"
    with pytest.raises(ProfileError, match="File exists"):
        profile.export(tmp_path / "out.jsonl")


@pytest.mark.parametrize("content", [b"{damaged", b"[]", b"[" * 100_000])
def test_damaged_preferences_are_left_out_with_a_line_and_replaced_by_the_next(tmp_path, content):
    profile = Profile(tmp_path)
    assert profile.trouble() is None
    profile.preferences.write_bytes(content)
    assert profile.settings() == {}
    assert profile.trouble() == (
        f"{profile.preferences} is damaged and was left out; the next setting that is changed replaces it"
    )
    profile.keep_settings({"tries": 3})
    assert profile.settings() == {"tries": 3} and profile.trouble() is None


def test_a_folder_that_cannot_be_entered_is_a_line_and_reads_as_empty(tmp_path, monkeypatch):
    long = Profile(tmp_path / ("x" * 300))
    assert long.trouble() == (
        f"cannot read {long.history}: File name too long; this chat goes on without what is kept there"
    )
    assert long.records() == ([], 0) and long.settings() == {} and long.sessions() == []
    assert long.remove(lambda record: True) == 0 and long.clear() == 0
    with pytest.raises(ProfileError, match=r"not kept, .*: File name too long"):
        long.keep_settings({"tries": 3})


def test_what_cannot_be_read_is_not_replaced(tmp_path, monkeypatch):
    profile = Profile(tmp_path)
    profile.keep_settings({"tries": 3})

    def refuse(file, *rest, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert "cannot read" in profile.trouble()
    with pytest.raises(ProfileError, match="Permission denied"):
        profile.keep_settings({"bits": "all"})
    monkeypatch.undo()
    assert profile.settings() == {"tries": 3}


def test_a_session_that_is_nested_too_deeply_is_none(tmp_path):
    profile = Profile(tmp_path)
    profile.save_session("deep", {})
    (tmp_path / "sessions" / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ProfileError, match="is not a session; remove it"):
        profile.load_session("deep")
